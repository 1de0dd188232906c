"""The forty people of KING OF TIME's sample, and their work in three months; always the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any, Final

SEED: Final = 20261125
COUNT: Final = 40
MONTHS: Final = ("2026-09", "2026-10", "2026-11")
OPEN: Final = "2026-11"
"""The month that is not closed yet."""

UNKNOWN: Final = (17, 33)
"""Positions of people whom 奉行クラウド does not know: they become エラー明細."""

STILL_OPEN: Final = 21
"""Position of the one person whose October is not closed yet."""

_SURNAMES = ("佐藤", "鈴木", "髙橋", "田中", "伊藤", "渡邊", "山本", "中村")
_GIVEN = ("太郎", "花子", "一郎", "陽子", "健")
_DIVISIONS = (("1000", "営業部", "0010"), ("2000", "管理部", "0020"), ("3000", "製造部", "0030"))


def code_of(position: int) -> str:
    """従業員コード; the 社員番号 is the same with six digits."""
    return str(2001 + position)


def key_of(position: int) -> str:
    """KING OF TIME's stable key."""
    return f"{position + 1:064x}"


def staff() -> Iterator[dict[str, Any]]:
    """The people as KING OF TIME shows them."""
    for position in range(COUNT):
        division = _DIVISIONS[position % len(_DIVISIONS)]
        yield {
            "key": key_of(position),
            "code": code_of(position),
            "lastName": _SURNAMES[position % len(_SURNAMES)],
            "firstName": _GIVEN[position % len(_GIVEN)],
            "divisionCode": division[0],
            "divisionName": division[1],
            "typeCode": "2" if position % 5 == 4 else "1",
            "typeName": "パート" if position % 5 == 4 else "正社員",
        }


def divisions() -> list[dict[str, Any]]:
    """The 所属."""
    return [{"code": code, "name": name, "dayBorderTime": "04:00"} for code, name, _ in _DIVISIONS]


def employees() -> list[dict[str, str]]:
    """Those of them whom 奉行クラウド knows, as 社員."""
    return [
        {
            "code": code_of(position).zfill(6),
            "last_name": person["lastName"],
            "first_name": person["firstName"],
            "department": _DIVISIONS[position % len(_DIVISIONS)][2],
        }
        for position, person in enumerate(staff())
        if position not in UNKNOWN
    ]


def months() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """月別勤怠: month, key, values; half days, nights, holidays, and null here and there."""
    dice = random.Random(SEED)  # noqa: S311 (a sample, not cryptography)
    for month in MONTHS:
        for position in range(COUNT):
            halves = dice.choice((0, 0, 0, 1))
            days = dice.randint(18, 21)
            holiday = {"code": "1", "name": "有休", "dayCount": 0.5 * halves, "minutes": 0}
            yield (
                month,
                key_of(position),
                {
                    "isClosing": month != OPEN and (month, position) != ("2026-10", STILL_OPEN),
                    "workingDayCount": days + 0.5 * halves,
                    "absentdayCount": int(dice.random() < 0.05),
                    "assigned": days * 480 + 240 * halves,
                    "unassigned": dice.randint(0, 90),
                    "overtime": dice.randint(0, 2700),
                    "nightOvertime": dice.choice((None, None, dice.randint(1, 300))),
                    "late": (late := dice.choice((0, 0, 0, 7))),
                    "lateCount": int(late > 0),
                    "earlyLeave": 0,
                    "earlyLeaveCount": 0,
                    "holidaysObtained": [holiday] if halves else None,
                    "legalHolidayWork": dice.choice((None, {"normal": 480, "dayCount": 1})),
                },
            )


def days(month: str) -> Iterator[tuple[date, str, dict[str, Any]]]:
    """日別勤怠 of one month: day, key, values; the first person forgot to clock out once."""
    first = date.fromisoformat(f"{month}-01")
    for number in range(28):
        day = first + timedelta(days=number)
        if day.weekday() >= 5:
            continue
        for position in range(COUNT):
            error = (number, position) == (8, 0)
            yield (
                day,
                key_of(position),
                {
                    "isClosing": month != OPEN,
                    "isError": error,
                    "workdayTypeName": "平日",
                    "assigned": None if error else 480,
                    "overtime": None if error else position % 4 * 15,
                },
            )
