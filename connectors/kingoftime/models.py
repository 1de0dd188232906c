"""What KING OF TIME answers, as values.

A property whose value is null is left out of the answer, so every one may be missing, whatever the
vendor's own schema calls required. Times are whole minutes; counts of days may be halves.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Minutes = Annotated[int | None, Field(default=None)]
Days = Annotated[Decimal | None, Field(default=None)]


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True
    )


class Named(_Model):
    """Something with a code: a division, an employee group, a kind of holiday."""

    code: str = ""
    name: str = ""


class Employee(_Model):
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


class HolidayObtained(Named):
    """休暇取得: days and minutes of one kind."""

    day_count: Days
    minutes: Minutes


class HolidayWork(_Model):
    """休日労働, in minutes; ``count`` and ``day_count`` are days."""

    normal: Minutes
    night: Minutes
    overtime: Minutes
    night_overtime: Minutes
    extra: Minutes
    night_extra: Minutes
    count: Days
    day_count: Days


class CustomWorking(Named):
    """A カスタム項目; its unit is minutes, days or times."""

    calculation_result: Decimal | None = None


class _Working(_Model):
    employee_key: str
    is_closing: bool = False
    assigned: Minutes
    unassigned: Minutes
    overtime: Minutes
    late: Minutes
    early_leave: Minutes
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
    working_day_count: Days
    # The vendor's spelling, with a small d.
    weekday_working_day_count: Days = Field(
        default=None,
        validation_alias=AliasChoices("weekdayWorkingdayCount", "weekdayWorkingDayCount"),
    )
    absent_day_count: Days = Field(
        default=None, validation_alias=AliasChoices("absentdayCount", "absentDayCount")
    )
    late_count: Days
    early_leave_count: Days
    holidays_obtained: tuple[HolidayObtained, ...] = ()
    night: Minutes
    night_unassigned: Minutes
    night_overtime: Minutes
    break_sum: Minutes
    holiday_work: HolidayWork = HolidayWork()
    legal_holiday_work: HolidayWork = HolidayWork()
    general_holiday_work: HolidayWork = HolidayWork()
    bind: Minutes
    regarding: Minutes
    custom: tuple[CustomWorking, ...] = Field(
        default=(), validation_alias=AliasChoices("customMonthlyWorkings", "custom")
    )


class DailyWorking(_Working):
    """日別勤怠 of one employee; it says ``lateNight…`` where the month says ``night…``."""

    # Not named `date`: in the body of a class that would hide the type.
    day: date = Field(validation_alias=AliasChoices("date", "day"))
    is_error: bool = False
    late_night: Minutes
    late_night_unassigned: Minutes
    late_night_overtime: Minutes
    break_time: Minutes
    total_work: Minutes
    holidays_obtained: dict[str, Any] = Field(default_factory=dict)
    custom: tuple[CustomWorking, ...] = Field(
        default=(), validation_alias=AliasChoices("customDailyWorkings", "custom")
    )
