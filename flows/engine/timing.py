"""連携タイミング: at what time and on which days a connection runs by itself.

The time is Prefect's: a cron line, as narrow as cron can be. Which of those days are meant is
decided here, when a scheduled run begins (`flows.engine.resting`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import Any

from prefect.client.schemas.schedules import CronSchedule

from blocks import TIMEZONE, Days
from connectors.kit import SettingsError
from connectors.kit.text import to_half_alnum
from flows.engine.business_days import (
    NONE,
    CompanyHolidays,
    closed_because,
    company_holidays,
    days_from,
    neighbour,
)
from flows.engine.clock import JST, business_date, now

_TIME = re.compile(r"(?P<hour>\d{1,2})(?::(?=\d\d$)|時(?=$|.+分$))(?P<minute>\d{1,2})?分?")
_DAILY = re.compile(r"(?P<minute>\d{1,2})\s+(?P<hour>\d{1,2})\s+\*\s+\*\s+\*")
"""The cron line of a time of day: how connections were saved before they had 処理する日."""

_YEARS = 28
"""After so many years every day of the year has been every day of the week."""

_SPARE = 3
"""Days that cron looks further than the calendar of today says: holidays are added by law."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When a connection runs by itself.

    Attributes:
        at: The time of day in Japan; ``None`` = ``line`` says when.
        line: A cron line, where that is what was typed; empty otherwise.
        days: 処理する日.
        closing_day: 締め日, 1–31; a month that is shorter closes on its last day.
        company: 会社の休業日.
    """

    at: time | None
    line: str = ""
    days: Days = "毎日"
    closing_day: int = 31
    company: CompanyHolidays = NONE

    def words(self, mark: str = "") -> str:
        """``毎日 5:00``, ``締め日（月末）の翌営業日 5:00``; a cron line as it is, in ``mark``."""
        if self.at is None:
            rule = "" if self.days == "毎日" else f"{self._rule()} "
            return f"{rule}{mark}{self.line}{mark}"
        return f"{self._rule()} {self.at.hour}:{self.at.minute:02}"

    def _rule(self) -> str:
        closing = "月末" if self.closing_day == 31 else f"{self.closing_day}日"
        return self.days.removesuffix("のみ").replace("締め日", f"締め日（{closing}）")

    def is_day(self, day: date) -> bool:
        """Whether the connection is to run on this day."""
        return not self.resting(day)

    def resting(self, day: date) -> str:
        """Why the connection does not run on this day; empty = it does."""
        if self.days == "毎日":
            return ""
        if self.days == "平日のみ":
            return closed_because(day) if day.weekday() >= 5 else ""
        if closed := closed_because(day, self.company):
            return closed
        if self.days == "営業日のみ":
            return ""
        step = -1 if self.days == "締め日の翌営業日" else 1
        other = neighbour(day, step, self.company)
        between = range(1, abs((day - other).days) + 1)
        if any(self._closes(day + timedelta(days=step * n)) for n in between):
            return ""
        return f"{self._rule()}ではない日"

    def _closes(self, day: date) -> bool:
        last = (day + timedelta(days=1)).month != day.month
        return day.day == self.closing_day or (last and day.day < self.closing_day)

    def next_day(self, after: date) -> date:
        """The next day on which the connection runs.

        Raises:
            SettingsError: ``AC-205``, there is none.
        """
        found = next((day for day in days_from(after, 1) if self.is_day(day)), None)
        if found is None:
            raise SettingsError("AC-205", "「会社の休業日」のため、処理する日が1日もありません")
        return found

    def last_due(self, moment: datetime) -> datetime | None:
        """The latest time, at ``moment`` or before it, at which a run was due.

        Of a cron line: the beginning of that day. ``None`` = none for more than a year.
        """
        today = business_date(moment)
        for day in (today, *days_from(today, -1)):
            due = datetime.combine(day, self.at or time(), JST)
            if due <= moment and self.is_day(day):
                return due
        return None

    def cron(self) -> str:
        """The cron line; its day of the month and its day of the week have *both* to fit."""
        if self.at is None:
            return self.line
        when = f"{self.at.minute} {self.at.hour}"
        if self.days == "毎日":
            return f"{when} * * *"
        if self.days in ("平日のみ", "営業日のみ"):
            return f"{when} * * 1-5"
        return f"{when} {_spans(self._days_of_month())} * 1-5"

    @property
    def day_or(self) -> bool:
        """Prefect's ``day_or`` for `cron`; of a line that a person wrote it is cron's own habit."""
        return self.at is None or not self.days.startswith("締め日")

    def _days_of_month(self) -> set[int]:
        step = 1 if self.days == "締め日の翌営業日" else -1
        closings = list(self._closings(now().year))
        far = max(abs(neighbour(day, step, self.company) - day) for day in closings)
        offsets = range(1, far.days + _SPARE + 1)
        return {(day + timedelta(days=step * n)).day for day in closings for n in offsets}

    def _closings(self, year: int) -> Iterator[date]:
        first = date(year, 1, 1)
        days = (first + timedelta(days=n) for n in range(_YEARS * 366))
        return (day for day in days if self._closes(day))


def _spans(days: Iterable[int]) -> str:
    """``1-7,29-31``."""
    found: list[list[int]] = []
    for day in sorted(days):
        if found and day == found[-1][1] + 1:
            found[-1][1] = day
        else:
            found.append([day, day])
    return ",".join(f"{first}-{last}" if first < last else f"{first}" for first, last in found)


def timing_of(connection: Any) -> Timing:
    """When a connection runs, as it was typed.

    Raises:
        SettingsError: ``AC-205``, something cannot be read: the subject says what.
    """
    return _timing(
        connection.schedule.strip(),
        connection.days,
        connection.closing_day,
        connection.company_holidays,
    )


@cache
def _timing(schedule: str, days: Days, closing_day: int, holidays: str) -> Timing:
    company = company_holidays(holidays)
    at = _time(schedule)
    made = Timing(at, "" if at else schedule, days, closing_day, company)
    if at is None:
        _check(schedule)
    if days != "毎日":
        made.next_day(business_date(now()))
    return made


def _time(typed: str) -> time | None:
    found = _TIME.fullmatch(to_half_alnum(typed).replace(" ", "")) or _DAILY.fullmatch(typed)
    if found is None:
        return None
    try:
        return time(int(found["hour"]), int(found["minute"] or 0))
    except ValueError:
        return None


def _check(line: str) -> None:
    try:
        CronSchedule(cron=line, timezone=TIMEZONE)
    except ValueError:
        why = f"「処理する時刻」の「{line[:40]}」を読めません。5:00 のように書きます"
        raise SettingsError("AC-205", why) from None
