"""営業日 of Japan: weekends, national holidays, the turn of the year, the days of a company."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

import holidays

from connectors.kit import SettingsError
from connectors.kit.text import normalise_code

WEEKDAYS = "月火水木金土日"

LONGEST = 400
"""Days that are looked at for a 営業日, at most."""

_TURN = frozenset({(12, 31), (1, 2), (1, 3)})
"""No national holidays, but banks are closed and hardly anybody closes books."""

_DATE = re.compile(r"(?:(\d{4})[-/.年])?(\d{1,2})[-/.月](\d{1,2})日?")
_RANGE = re.compile(r"\s*(?:~|〜|から)\s*")
_SEPARATORS = re.compile(r"[\s,、;]+")
_HOW = "2026-12-29 か 2026-12-29〜2027-01-03 のように書きます（毎年同じ日なら 12-29〜01-03）"

_MonthDay = tuple[int, int]


@cache
def _japan() -> holidays.HolidayBase:
    # One for all: it works a year out when it is first asked about it.
    return holidays.country_holidays("JP", language="ja")


def national_holiday(day: date) -> str | None:
    """Name of the national holiday of Japan; ``None`` = it is none."""
    return _japan().get(day)


def day_text(day: date) -> str:
    """``2026年11月26日（木）``."""
    return f"{day.year}年{day.month}月{day.day}日（{WEEKDAYS[day.weekday()]}）"


@dataclass(frozen=True, slots=True)
class CompanyHolidays:
    """会社の休業日.

    Attributes:
        once: First and last day of each span.
        yearly: Month and day of the first and the last day of each span of every year; the last
            may be earlier in the year than the first.
    """

    once: tuple[tuple[date, date], ...] = ()
    yearly: tuple[tuple[_MonthDay, _MonthDay], ...] = ()

    def __contains__(self, day: date) -> bool:
        if any(first <= day <= last for first, last in self.once):
            return True
        return any(_in_span((day.month, day.day), *span) for span in self.yearly)


NONE = CompanyHolidays()


def _in_span(day: _MonthDay, first: _MonthDay, last: _MonthDay) -> bool:
    return first <= day <= last if first <= last else day >= first or day <= last


def company_holidays(typed: str) -> CompanyHolidays:
    """会社の休業日 as a person types them: days and ranges, on lines or with commas.

    Raises:
        SettingsError: ``AC-205``, something cannot be read: the subject says what.
    """
    text = _RANGE.sub("~", normalise_code(typed, width=None))
    once: list[tuple[date, date]] = []
    yearly: list[tuple[_MonthDay, _MonthDay]] = []
    for part in filter(None, _SEPARATORS.split(text)):
        first, _, last = part.removesuffix("まで").partition("~")
        start = _read(first)
        end = _read(last) if "~" in part else start
        if start is None or end is None or (end[0] and not start[0]):
            raise SettingsError("AC-205", f"「会社の休業日」の「{part[:40]}」を読めません。{_HOW}")
        if not start[0]:
            yearly.append((start[1:], end[1:]))
            continue
        one = date(*start)
        # 「2026-12-29〜01-03」: the year goes on.
        other = date(end[0] or one.year + (end[1:] < start[1:]), *end[1:])
        if not timedelta(0) <= other - one < timedelta(days=LONGEST // 2):
            why = f"「会社の休業日」の「{part[:40]}」は期間が正しくありません"
            raise SettingsError("AC-205", why)
        once.append((one, other))
    return CompanyHolidays(tuple(once), tuple(yearly))


def _read(part: str) -> tuple[int, int, int] | None:
    """Year (0 = every), month, day; ``None`` = no day."""
    found = _DATE.fullmatch(part)
    if found is None:
        return None
    year, month, day = (int(group or 0) for group in found.groups())
    try:
        date(year or 2024, month, day)  # a leap year: every 29 February is one in four
    except ValueError:
        return None
    return year, month, day


def closed_because(day: date, company: CompanyHolidays = NONE) -> str:
    """Why a day is no 営業日, in a few words; empty = it is one."""
    if day.weekday() >= 5:
        return f"{WEEKDAYS[day.weekday()]}曜日"
    if name := national_holiday(day):
        return f"祝日（{name}）"
    if (day.month, day.day) in _TURN:
        return "年末年始"
    return "会社の休業日" if day in company else ""


def days_from(day: date, step: int) -> Iterator[date]:
    """The days after (``step`` 1) or before (-1) ``day``, `LONGEST` of them."""
    return (day + timedelta(days=step * n) for n in range(1, LONGEST + 1))


def neighbour(day: date, step: int, company: CompanyHolidays = NONE) -> date:
    """The next (``step`` 1) or previous (-1) 営業日.

    Raises:
        SettingsError: ``AC-205``, the company is always closed.
    """
    for other in days_from(day, step):
        if not closed_because(other, company):
            return other
    raise SettingsError("AC-205", "「会社の休業日」に、営業日が1日も残っていません")
