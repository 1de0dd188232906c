"""What people call the items of a 勤怠, and where they are; sums of them, as settings write them.

An expression is names joined with ``+``: ``所定外時間+残業時間``. ``休暇:1`` is the days of the
holiday with code 1, ``カスタム:c1`` the カスタム項目 with code c1. That 所定・所定外・残業 are
without the hours of the night, which have items of their own, is [I]: the vendor's screens name
them so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from connectors.kingoftime.models import DailyWorking, MonthlyWorking

Unit = Literal["minutes", "days", "times", "any"]
Working = MonthlyWorking | DailyWorking

HOLIDAY, CUSTOM = "休暇:", "カスタム:"
_PARTS = ("normal", "night", "overtime", "night_overtime", "extra", "night_extra")


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One item: the attributes that are added up, and what they count."""

    unit: Unit
    paths: tuple[str, ...]


def _minutes(*paths: str) -> WorkItem:
    return WorkItem("minutes", paths)


def _days(*paths: str) -> WorkItem:
    return WorkItem("days", paths)


def _work_on(name: str) -> WorkItem:
    return _minutes(*(f"{name}.{part}" for part in _PARTS))


_BOTH: Final = {
    "所定時間": _minutes("assigned"),
    "所定外時間": _minutes("unassigned"),
    "残業時間": _minutes("overtime"),
    "遅刻時間": _minutes("late"),
    "早退時間": _minutes("early_leave"),
}
MONTHLY: Final[Mapping[str, WorkItem]] = {
    **_BOTH,
    "深夜所定時間": _minutes("night"),
    "深夜所定外時間": _minutes("night_unassigned"),
    "深夜残業時間": _minutes("night_overtime"),
    "休憩時間": _minutes("break_sum"),
    "拘束時間": _minutes("bind"),
    "みなし時間": _minutes("regarding"),
    "休日労働時間": _work_on("holiday_work"),
    "法定休日労働時間": _work_on("legal_holiday_work"),
    "法定外休日労働時間": _work_on("general_holiday_work"),
    "出勤日数": _days("working_day_count"),
    "平日出勤日数": _days("weekday_working_day_count"),
    "欠勤日数": _days("absent_day_count"),
    "法定休日出勤日数": _days("legal_holiday_work.day_count"),
    "法定外休日出勤日数": _days("general_holiday_work.day_count"),
    "遅刻回数": WorkItem("times", ("late_count",)),
    "早退回数": WorkItem("times", ("early_leave_count",)),
}
"""Items of 月別勤怠."""

DAILY: Final[Mapping[str, WorkItem]] = {
    **_BOTH,
    "深夜所定時間": _minutes("late_night"),
    "深夜所定外時間": _minutes("late_night_unassigned"),
    "深夜残業時間": _minutes("late_night_overtime"),
    "休憩時間": _minutes("break_time"),
    "総労働時間": _minutes("total_work"),
}
"""Items of 日別勤怠."""


def unit_of(expression: str, items: Mapping[str, WorkItem]) -> Unit:
    """What an expression counts; ``any`` = only カスタム項目, whose unit the record knows.

    Raises:
        ValueError: a name that there is not, or things that cannot be added; the message says it.
    """
    units = {_unit(term, items) for term in terms(expression)} - {"any"}
    if len(units) > 1:
        raise ValueError(f"「{expression}」は、時間と日数・回数を足しています")
    return units.pop() if units else "any"


def _unit(term: str, items: Mapping[str, WorkItem]) -> Unit:
    if term in items:
        return items[term].unit
    for prefix, unit in ((HOLIDAY, "days"), (CUSTOM, "any")):
        if term.startswith(prefix) and len(term) > len(prefix):
            return unit  # type: ignore[return-value]
    raise ValueError(f"「{term}」という項目はありません")


def terms(expression: str) -> list[str]:
    """The names of an expression; a full-width ＋ or ： is understood."""
    text = expression.replace("＋", "+").replace("：", ":")
    return [term.strip() for term in text.split("+") if term.strip()]


def value_of(
    working: Working, names: Iterable[str], items: Mapping[str, WorkItem]
) -> Decimal | None:
    """The sum of what is there; ``None`` = nothing is: every part of it is null."""
    found = [amount for name in names for amount in _amounts(working, name, items)]
    present = [Decimal(amount) for amount in found if amount is not None]
    return sum(present, Decimal(0)) if present else None


def _amounts(
    working: Working, name: str, items: Mapping[str, WorkItem]
) -> list[Decimal | int | None]:
    if name.startswith(CUSTOM):
        code = name.removeprefix(CUSTOM)
        return [each.calculation_result for each in working.custom if each.code == code]
    if name.startswith(HOLIDAY):
        if isinstance(working, DailyWorking):
            return []
        code = name.removeprefix(HOLIDAY)
        return [each.day_count for each in working.holidays_obtained if each.code == code]
    return [_at(working, path) for path in items[name].paths]


def _at(working: object, path: str) -> Decimal | int | None:
    value = working
    for part in path.split("."):
        value = getattr(value, part)
    return value  # type: ignore[return-value]
