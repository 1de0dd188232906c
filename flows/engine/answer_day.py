"""When a person who asks may expect an answer, by the hours of ``inquiries.toml``."""

from __future__ import annotations

import tomllib
from datetime import date, datetime, timedelta
from functools import cache
from importlib import resources

from flows.engine.business_days import closed_because
from flows.engine.clock import JST


@cache
def _hours() -> tuple[int, frozenset[str]]:
    data = resources.files("flows.engine").joinpath("inquiries.toml").read_text("utf-8")
    raw = tomllib.loads(data)
    return raw["closing_hour"], frozenset(raw["closed_days"])


def closing_hour() -> int:
    """Asked at this hour (Japan) or later counts as asked on the next business day."""
    return _hours()[0]


def is_business_day(day: date) -> bool:
    """Whether the support desk works: not on weekends, holidays of Japan and closed days."""
    return day.strftime("%m-%d") not in _hours()[1] and not closed_because(day)


def answer_day(received: datetime) -> date:
    """The day on which an answer may be expected: the same, or the next business day."""
    local = received.astimezone(JST)
    day = local.date()
    if local.hour >= closing_hour():
        day += timedelta(days=1)
    while not is_business_day(day):
        day += timedelta(days=1)
    return day
