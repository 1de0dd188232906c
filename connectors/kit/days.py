"""Days in portions, for services that take so many days or months in one request."""

from __future__ import annotations

import calendar
from collections.abc import Callable, Iterator
from datetime import date, timedelta


def months_later(day: date, months: int) -> date:
    """The same day so many months later (or earlier), or the last day of a shorter month."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return date(year, month + 1, min(day.day, last))


def month_end(day: date) -> date:
    """The last day of the month of ``day``."""
    return months_later(day.replace(day=1), 1) - timedelta(days=1)


def portions(
    first: date, last: date, end_of: Callable[[date], date]
) -> Iterator[tuple[date, date]]:
    """The days from ``first`` to ``last``, both included, in order; no day comes twice.

    Args:
        first: First day; later than ``last`` = there is no day.
        last: Last day.
        end_of: The last day that a portion may have which begins on a day.
    """
    while first <= last:
        end = min(last, end_of(first))
        yield first, end
        first = end + timedelta(days=1)
