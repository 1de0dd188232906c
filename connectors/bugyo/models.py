"""The domain objects that the client speaks. Item codes never appear in them."""

# No `from __future__ import annotations` here: it would hide Required[] from the TypedDict.

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Required, TypedDict

from connectors.kit import ErrorDetail

OTHER_CUSTOMER_CODE = "0"
"""得意先コード of the built-in その他, in every tenant. Callers exclude it from exports."""


class Customer(TypedDict, total=False):
    """得意先. Every value is a string as the API carries it; a key that is absent is not sent.

    An import updates what is there: items that are not sent stay untouched. The fields are those
    of ``registry/customer.csv``; ``updated_at`` (``YYYY/MM/DD HH:MM:SS``, Japan time) is read only.
    """

    code: Required[str]
    name: str
    short_name: str
    kana: str
    postal_code: str
    address1: str
    address2: str
    phone: str
    fax: str
    contact: str
    memo1: str
    memo2: str
    memo3: str
    billing_code: str
    updated_at: str


class Employee(TypedDict, total=False):
    """社員. Dates are ``YYYY/MM/DD``; never has a マイナンバー.

    ``gender`` and ``status`` hold codes: ``resource("employee").words`` translates.
    """

    code: Required[str]
    last_name: str
    first_name: str
    last_name_kana: str
    first_name_kana: str
    gender: str
    birth_date: str
    hire_date: str
    leave_date: str
    status: str
    department: str
    position: str
    employment_type: str
    postal_code: str
    prefecture: str
    city: str
    street: str
    building: str
    phone: str
    email: str
    updated_at: str


class Attendance(TypedDict, total=False):
    """勤怠 of one 社員 in one month (``YYYY/MM``). Days are decimal, times ``H:MM`` or decimal."""

    employee: Required[str]
    month: Required[str]
    work_days: str
    absence_days: str
    paid_leave_days: str
    special_leave_days: str
    holiday_work_days: str
    late_early_count: str
    late_early_time: str
    work_time: str
    scheduled_time: str
    overtime_time: str
    late_night_time: str
    holiday_time: str
    legal_holiday_time: str
    updated_at: str


class AttendanceDay(TypedDict, total=False):
    """日別勤怠 of one 社員 on one day (``YYYY/MM/DD``). Times as in `Attendance`."""

    employee: Required[str]
    date: Required[str]
    late_early_time: str
    work_time: str
    scheduled_time: str
    overtime_time: str
    late_night_time: str
    updated_at: str


class Department(TypedDict, total=False):
    """部門; it can be used until ``valid_until`` (``YYYY/MM/DD``, empty = no end)."""

    code: Required[str]
    name: str
    short_name: str
    valid_from: str
    valid_until: str
    updated_at: str


class AccountItem(TypedDict, total=False):
    """勘定科目; ``tax_category`` is what a slip's line begins with."""

    code: Required[str]
    name: str
    short_name: str
    side: str
    tax_category: str
    updated_at: str


class SubAccountItem(TypedDict, total=False):
    """補助科目 of one 勘定科目."""

    account: Required[str]
    code: Required[str]
    name: str
    updated_at: str


class BusinessPartner(TypedDict, total=False):
    """取引先; ``invoice_number`` is T and 13 digits."""

    code: Required[str]
    name: str
    short_name: str
    kana: str
    invoice_number: str
    updated_at: str


class TaxCategory(TypedDict, total=False):
    """消費税区分, read only; ``rate`` is the standard rate in percent, ``0`` = there is no tax."""

    code: Required[str]
    name: str
    rate: str


@dataclass(frozen=True, slots=True)
class Tenant:
    """法人: one company inside a 奉行クラウド contract.

    Attributes:
        id: テナントID, opaque.
        code: 法人コード, may be empty.
        name: 法人名.
        name_kana: フリガナ.
        memo: メモ, may be empty.
    """

    id: str
    code: str
    name: str
    name_kana: str
    memo: str


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row, or a whole call, was refused.

    Attributes:
        message: The vendor's own words, secrets removed.
        code: The vendor's code, empty when it names none.
        field: Our field name, ``None`` when the vendor names no item (or one we do not know).
        label: The item's Japanese name; empty when ``field`` is ``None``.
    """

    message: str
    code: str = ""
    field: str | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """The definite answer to one import call.

    Attributes:
        refused: Index in the rows sent -> why that row was refused.
        others_stored: ``True``: the rows not in ``refused`` are stored. ``False``: nothing of this
            call is stored; the rows not in ``refused`` may be sent again.
        whole: Why the call was refused, when no row was named.
        detail: Where the answer came from.
    """

    refused: Mapping[int, RowError] = field(default_factory=dict)
    others_stored: bool = True
    whole: RowError | None = None
    detail: ErrorDetail = field(default_factory=ErrorDetail)
