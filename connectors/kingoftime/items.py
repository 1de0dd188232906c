"""What people call the amounts of a 勤怠, and where they are; sums of them, as settings write them.

An expression is names joined with ``+``: ``所定外時間+残業時間``. ``休暇:1`` is the days of the
holiday with code 1, ``カスタム:c1`` the カスタム項目 with code c1. Times are whole minutes; counts
of days may be halves. That 所定・所定外・残業 are without the hours of the night, which have items
of their own, is [I]: the vendor's screens name them so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError

Unit = Literal["minutes", "days", "times", "any"]

HOLIDAY, CUSTOM = "休暇:", "カスタム:"
_HOLIDAY_MEMBERS = ["holidaysObtained"], "dayCount"
_CUSTOM_MEMBERS = ["customMonthlyWorkings", "customDailyWorkings"], "calculationResult"
_NO_AMOUNT = object()
_NUMBER = TypeAdapter(Annotated[Decimal, Field(gt=-(10**12), lt=10**12)] | None)
_PARTS = ("normal", "night", "overtime", "nightOvertime", "extra", "nightExtra")


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One item: what it counts, and the members of a record that are added up.

    ``a.b`` is member b of a; of ``a|b``, two spellings, the one that is there.
    """

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
    "早退時間": _minutes("earlyLeave"),
}
MONTHLY: Final[Mapping[str, WorkItem]] = {
    **_BOTH,
    "深夜所定時間": _minutes("night"),
    "深夜所定外時間": _minutes("nightUnassigned"),
    "深夜残業時間": _minutes("nightOvertime"),
    "休憩時間": _minutes("breakSum"),
    "拘束時間": _minutes("bind"),
    "みなし時間": _minutes("regarding"),
    "休日労働時間": _work_on("holidayWork"),
    "法定休日労働時間": _work_on("legalHolidayWork"),
    "法定外休日労働時間": _work_on("generalHolidayWork"),
    "出勤日数": _days("workingDayCount"),
    # The vendor's spelling has a small d.
    "平日出勤日数": _days("weekdayWorkingdayCount|weekdayWorkingDayCount"),
    "欠勤日数": _days("absentdayCount|absentDayCount"),
    "法定休日出勤日数": _days("legalHolidayWork.dayCount"),
    "法定外休日出勤日数": _days("generalHolidayWork.dayCount"),
    "遅刻回数": WorkItem("times", ("lateCount",)),
    "早退回数": WorkItem("times", ("earlyLeaveCount",)),
}
"""Items of 月別勤怠."""

DAILY: Final[Mapping[str, WorkItem]] = {
    **_BOTH,
    "深夜所定時間": _minutes("lateNight"),
    "深夜所定外時間": _minutes("lateNightUnassigned"),
    "深夜残業時間": _minutes("lateNightOvertime"),
    "休憩時間": _minutes("breakTime"),
    "総労働時間": _minutes("totalWork"),
}
"""Items of 日別勤怠, which says ``lateNight…`` where the month says ``night…``."""


def terms(expression: str) -> list[str]:
    """The names of an expression; a full-width ＋ or ： is understood."""
    text = expression.replace("＋", "+").replace("：", ":")
    return [term.strip() for term in text.split("+") if term.strip()]


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
    if term.startswith(HOLIDAY) and term != HOLIDAY:
        return "days"
    if term.startswith(CUSTOM) and term != CUSTOM:
        return "any"
    raise ValueError(f"「{term}」という項目はありません")


def value_of(
    record: Mapping[str, Any], names: Iterable[str], items: Mapping[str, WorkItem]
) -> Decimal | None:
    """The sum of what is there; ``None`` = nothing is: every part of it is null.

    Args:
        record: A 月別勤怠 or 日別勤怠, as it came.
        names: Of an expression: see `terms`.
        items: `MONTHLY` or `DAILY`.

    Raises:
        ValueError: what is there is no amount; the message is the item's name.
    """
    found = [
        _amount(name, value, whole=name in items and items[name].unit == "minutes")
        for name in names
        for value in _values(record, name, items)
    ]
    present = [amount for amount in found if amount is not None]
    return sum(present, Decimal(0)) if present else None


def _values(record: Mapping[str, Any], name: str, items: Mapping[str, WorkItem]) -> Iterator[Any]:
    if name in items:
        yield from (_at(record, path) for path in items[name].paths)
        return
    if name.startswith(HOLIDAY) and items is DAILY:  # there it is an object without counts
        return
    members, amount = _HOLIDAY_MEMBERS if name.startswith(HOLIDAY) else _CUSTOM_MEMBERS
    _, _, code = name.partition(":")
    for member in members:
        listed = record.get(member)
        for each in listed if isinstance(listed, list) else [listed]:
            if each is not None and not isinstance(each, Mapping):
                yield _NO_AMOUNT
            elif each and str(each.get("code")) == code:
                yield each.get(amount)


def _at(record: Mapping[str, Any], path: str) -> Any:
    value: Any = record
    for part in path.split("."):
        if value is None:
            return None
        if not isinstance(value, Mapping):
            return _NO_AMOUNT
        value = next((value[name] for name in part.split("|") if name in value), None)
    return value


def _amount(name: str, value: Any, *, whole: bool) -> Decimal | None:
    with contextlib.suppress(ValidationError):  # its words would carry what it is
        amount = _NUMBER.validate_python(value)
        if amount is None or not whole or amount == amount.to_integral_value():
            return amount
    raise ValueError(name)
