"""What SmartHR answers, as far as 社員 needs it (contract, partners.md 5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypedDict


class Address(TypedDict, total=False):
    """A Japanese address; every part may be ``None``."""

    zip_code: str | None
    pref: str | None
    city: str | None
    street: str | None
    building: str | None


class Department(TypedDict, total=False):
    """A department of a crew. ``code`` is what an administrator typed; often there is none."""

    id: str
    name: str
    full_name: str
    code: str | None


class EmploymentType(TypedDict, total=False):
    """雇用形態. ``code`` exists since 2024-09 and may be ``None``."""

    id: str
    name: str
    code: str | None


class Crew(TypedDict, total=False):
    """従業員, with the attributes that were asked for and that the token's role may see."""

    id: str
    emp_code: str | None
    emp_status: Literal["employed", "absent", "retired"]
    last_name: str
    first_name: str
    last_name_yomi: str
    first_name_yomi: str
    business_last_name: str | None
    business_first_name: str | None
    business_last_name_yomi: str | None
    business_first_name_yomi: str | None
    gender: Literal["male", "female"] | None
    birth_at: str | None
    tel_number: str | None
    email: str | None
    address: Address | None
    departments: list[Department]
    employment_type: EmploymentType | None
    entered_at: str | None
    resigned_at: str | None
    updated_at: str


@dataclass(frozen=True, slots=True)
class CrewPage:
    """One answer with crews.

    Attributes:
        raw: The body as received: a bare JSON array.
        crews: The same, decoded.
        total: How many crews the question has in all, at the moment of the answer.
        last: Whether no page follows.
        server_date: SmartHR's own clock when it answered, ``None`` when it did not say.
    """

    raw: bytes
    crews: list[Crew]
    total: int
    last: bool
    server_date: datetime | None
