"""仕訳伝票: the domain objects, and the flat rows as which the API carries them.

A slip is flattened: one row per line with a debit and a credit side, the header repeated, and the
item 区切 holding ``*`` on the first row of a slip (contract 0.3, 8.1). Amounts are whole yen.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

import orjson

from connectors.bugyo.registry import data, operation, resource

JOURNAL: Final = resource("journal_slip")
"""The registry of 仕訳伝票."""

FIRST: Final = "*"
"""区切 of the first row of a slip; the others have an empty one."""

_LIMITS: Final[dict[str, Any]] = data("operations")["ImportJournalSlip"]

MAX_SLIP_ROWS: Final[int] = _LIMITS["max_slip_rows"]
"""Lines that one slip may have."""
MAX_SLIPS: Final[int] = _LIMITS["max_slips"]
"""Slips that one import call should carry at most."""
MAX_ROWS: Final[int] = operation("ImportJournalSlip").max_rows or MAX_SLIP_ROWS
"""Rows that one import call should carry at most."""
VISIBLE_AFTER: Final[float] = _LIMITS["visible_after"]
"""Seconds after a request until a look-up that finds nothing may be believed (faults, row 7)."""

Row = dict[str, str]

_DATE = re.compile(r"([0-9]{4})[/-]([0-9]{1,2})[/-]([0-9]{1,2})(?:[ T].*)?")
_YEN = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.0*)?")


@dataclass(frozen=True, slots=True)
class JournalSide:
    """One side, debit or credit, of a line. Codes are strings; empty = not sent.

    Attributes:
        account: 勘定科目コード.
        amount: 本体金額, yen without the tax.
        tax: 消費税額, yen.
        sub_account: 補助科目コード.
        department: 部門コード.
        tax_code: 消費税区分コード; ``0000`` = 対象外.
        tax_rate: 消費税率 in percent, e.g. ``10``.
        tax_rate_kind: 税率種別, ``0`` 標準 / ``1`` 軽減.
        tax_auto: 消費税自動計算; ``0`` = 奉行クラウド keeps our ``tax``.
        rounding: 端数処理, a code of the registry; empty = the slip's own.
        partner: 取引先コード.
        project: プロジェクトコード.
        business_type: 事業区分コード.
    """

    account: str
    amount: int
    tax: int = 0
    sub_account: str = ""
    department: str = ""
    tax_code: str = ""
    tax_rate: str = ""
    tax_rate_kind: str = ""
    tax_auto: str = "0"
    rounding: str = ""
    partner: str = ""
    project: str = ""
    business_type: str = ""

    @property
    def total(self) -> int:
        """Yen with the tax."""
        return self.amount + self.tax


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One line: a debit, a credit, or both (compound entries leave one out).

    Attributes:
        debit: 借方.
        credit: 貸方.
        description: 摘要; empty = the slip's.
        sticky_color: 付箋色.
        sticky_note: 付箋.
    """

    debit: JournalSide | None = None
    credit: JournalSide | None = None
    description: str = ""
    sticky_color: str = ""
    sticky_note: str = ""


@dataclass(frozen=True, slots=True)
class JournalSlip:
    """仕訳伝票.

    Attributes:
        date: 伝票日付.
        voucher_number: 証憑番号; for slips of ours the `external_key` by which they are found.
        lines: In their order.
        description: 摘要 of the lines that have none. The API knows 摘要 of lines only, so a slip
            that was read has them there; see `canonical`.
        number: 伝票番号; empty = 奉行クラウド numbers it.
        department: 伝票部門コード.
        class_code: 整理区分.
        slip_type: 伝票区分コード.
        entry_form: 伝票入力形式; ``0`` = 通常.
        department_mode: 部門指定方法; ``1`` = by line.
    """

    date: dt.date
    voucher_number: str
    lines: tuple[JournalLine, ...]
    description: str = ""
    number: str = ""
    department: str = ""
    class_code: str = ""
    slip_type: str = ""
    entry_form: str = "0"
    department_mode: str = "1"

    @property
    def debit_total(self) -> int:
        """Yen of all debits, tax included."""
        return sum(line.debit.total for line in self.lines if line.debit is not None)

    @property
    def credit_total(self) -> int:
        """Yen of all credits, tax included."""
        return sum(line.credit.total for line in self.lines if line.credit is not None)

    def canonical(self) -> JournalSlip:
        """The same slip as `unflatten` reads it: each line with its own 摘要."""
        lines = tuple(
            line if line.description else replace(line, description=self.description)
            for line in self.lines
        )
        return replace(self, description="", lines=lines)


_HEADER = {
    "voucher_number": "voucher_number",
    "class_code": "class_code",
    "number": "number",
    "slip_type": "slip_type",
    "department_mode": "department_mode",
    "slip_department": "department",
    "entry_form": "entry_form",
}
"""Field of the registry -> attribute of `JournalSlip`, the date apart."""
HEADER_FIELDS: Final = frozenset({"date", *_HEADER})
"""Fields that every row of a slip repeats."""
# In the order of the dataclass: account, then what follows amount and tax.
_SIDE_TEXTS = tuple(
    name for name in JournalSide.__dataclass_fields__ if name not in ("amount", "tax")
)
_DEBIT = tuple(f"debit_{name}" for name in _SIDE_TEXTS)
_CREDIT = tuple(f"credit_{name}" for name in _SIDE_TEXTS)
_header_values = attrgetter(*_HEADER.values())
_side_values = attrgetter(*_SIDE_TEXTS)


def flatten(slip: JournalSlip) -> list[Row]:
    """The rows of a slip by English field names. Empty values are left out, 区切 never."""
    header = {
        name: value for name, value in zip(_HEADER, _header_values(slip), strict=True) if value
    }
    header["date"] = f"{slip.date.year:04}/{slip.date.month:02}/{slip.date.day:02}"
    rows: list[Row] = []
    for line in slip.lines:
        row = {"separator": "" if rows else FIRST, **header}
        if (side := line.debit) is not None:
            row |= {n: v for n, v in zip(_DEBIT, _side_values(side), strict=True) if v}
            row["debit_amount"], row["debit_tax"] = str(side.amount), str(side.tax)
        if (side := line.credit) is not None:
            row |= {n: v for n, v in zip(_CREDIT, _side_values(side), strict=True) if v}
            row["credit_amount"], row["credit_tax"] = str(side.amount), str(side.tax)
        if text := line.description or slip.description:
            row["description"] = text
        if line.sticky_color:
            row["sticky_color"] = line.sticky_color
        if line.sticky_note:
            row["sticky_note"] = line.sticky_note
        rows.append(row)
    return rows


def unflatten(rows: Iterable[Mapping[str, str]]) -> list[JournalSlip]:
    """The slips in flat rows, in `JournalSlip.canonical` form.

    Header values may stand on every row of a slip or on its first one only. Rows without the item
    区切 are told apart by date, number and 証憑番号.

    Raises:
        ValueError: a date or an amount is none.
    """
    return [_slip(part) for part in _documents(rows)]


def _documents(rows: Iterable[Mapping[str, str]]) -> Iterator[list[Mapping[str, str]]]:
    part: list[Mapping[str, str]] = []
    for row in rows:
        if part and _starts(row, part[0]):
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def _starts(row: Mapping[str, str], first: Mapping[str, str]) -> bool:
    if "separator" in row:
        return row["separator"] == FIRST
    return any(
        row.get(name) and row[name] != first.get(name)
        for name in ("date", "number", "voucher_number")
    )


def _slip(rows: Sequence[Mapping[str, str]]) -> JournalSlip:
    first = rows[0]
    header = {attribute: first.get(name, "") for name, attribute in _HEADER.items()}
    lines = tuple(
        JournalLine(
            debit=_side(row, "debit", _DEBIT),
            credit=_side(row, "credit", _CREDIT),
            description=row.get("description", ""),
            sticky_color=row.get("sticky_color", ""),
            sticky_note=row.get("sticky_note", ""),
        )
        for row in rows
    )
    return JournalSlip(date=parse_date(first.get("date", "")), lines=lines, **header)


def _side(row: Mapping[str, str], which: str, names: Sequence[str]) -> JournalSide | None:
    get = row.get
    amount = yen(get(which + "_amount") or 0)
    tax = yen(get(which + "_tax") or 0)
    if not (amount or tax or get(which + "_account")):
        return None  # a blank side may still carry 0000 as its department
    account, *others = [get(name, "") for name in names]
    return JournalSide(account, amount, tax, *others)


def parse_date(text: str) -> dt.date:
    """``2026/08/31``, also unpadded, with hyphens or with a time behind it.

    Raises:
        ValueError: it is no date of the calendar.
    """
    if match := _DATE.fullmatch(text.strip()):
        return dt.date(*map(int, match.groups()))
    raise ValueError(f"日付ではありません: {text[:40]!r}")


def yen(value: str | int | Decimal) -> int:
    """An amount as whole yen: ``"1,000"``, ``"1000.00"``, ``Decimal("1000")``, ``1000``.

    Raises:
        ValueError: it has a fraction, is no number, or is binary floating point.
    """
    if type(value) is int:
        return value
    if isinstance(value, str):
        if value.isdigit() and value.isascii():
            return int(value)
        if _YEN.fullmatch(text := value.strip()):
            return int(text.partition(".")[0].replace(",", ""))
    elif isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return int(value)
    raise ValueError(f"円未満の端数があるか、数ではありません: {str(value)[:40]!r}")


def external_key(connection: str, entity: str, source_key: str) -> str:
    """The 証憑番号 by which a slip of ours is found again: always the same for the same source.

    A second slip for one source record (a reversal, a new revision) needs a source key of its own.

    Args:
        connection: Name of the connection.
        entity: Kind of data.
        source_key: Key of the record in its source.

    Returns:
        A prefix and 60 bits of a hash in capital letters and digits (``operations.toml``).
    """
    shape = _LIMITS["external_key"]
    packed = orjson.dumps([connection, entity, source_key])
    letters = base64.b32encode(hashlib.blake2b(packed, digest_size=20).digest()).decode("ascii")
    return str(shape["prefix"]) + letters[: shape["characters"]]


def slip_batches(
    slips: Iterable[JournalSlip], *, max_slips: int = MAX_SLIPS, max_rows: int = MAX_ROWS
) -> Iterator[list[JournalSlip]]:
    """Slips in the portions of one import call each; a slip is never cut."""
    batch: list[JournalSlip] = []
    rows = 0
    for slip in slips:
        if batch and (len(batch) == max_slips or rows + len(slip.lines) > max_rows):
            yield batch
            batch, rows = [], 0
        batch.append(slip)
        rows += len(slip.lines)
    if batch:
        yield batch
