"""What KING OF TIME answers, as values: employees, and what a 勤怠 says of itself.

A property whose value is null is left out of the answer, so every one may be missing, whatever the
vendor's own schema calls required. The amounts of a 勤怠 are `connectors.kingoftime.items`.
"""

from __future__ import annotations

from datetime import date

from pydantic import AliasChoices, Field
from pydantic.alias_generators import to_camel

from connectors.kit.wire import Wire


class Employee(Wire, alias_generator=to_camel):
    """An employee, or what ``currentDateEmployee`` says of one (without ``key``).

    Attributes:
        code: 従業員コード, which people see and may change.
        key: Stable id, 64 hexadecimal digits.
    """

    code: str = ""
    key: str = ""
    last_name: str = ""
    first_name: str = ""

    @property
    def name(self) -> str:
        """Family name and given name."""
        return f"{self.last_name} {self.first_name}".strip()


class _Working(Wire, alias_generator=to_camel):
    employee_key: str
    is_closing: bool = False
    # One public typing calls it ``currentEmployee``.
    employee: Employee | None = Field(
        default=None,
        validation_alias=AliasChoices("currentDateEmployee", "currentEmployee", "employee"),
    )


class MonthlyWorking(_Working):
    """月別勤怠 of one employee. ``start_date`` to ``end_date`` is the period that is closed."""

    year: int
    month: int
    start_date: date
    end_date: date


class DailyWorking(_Working):
    """日別勤怠 of one employee."""

    # Not named `date`: in the body of a class that would hide the type.
    day: date = Field(validation_alias=AliasChoices("date", "day"))
    is_error: bool = False
