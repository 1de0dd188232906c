"""Hours in which a service does not answer, as data: a run in them is put off, it does not fail."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

JST = ZoneInfo("Asia/Tokyo")


@dataclass(frozen=True, slots=True)
class ClosedHours:
    """A daily window, from ``start`` (inside) to ``end`` (outside), in Japan's time.

    One that ends before it starts goes over midnight.
    """

    start: time
    end: time

    def until(self, moment: datetime) -> datetime | None:
        """When the window that ``moment`` (aware) lies in is over; ``None`` = it lies in none."""
        local = moment.astimezone(JST)
        clock, overnight = local.time(), self.end <= self.start
        after, before = clock >= self.start, clock < self.end
        if not (after or before if overnight else after and before):
            return None
        day = local.date() + timedelta(days=1 if overnight and after else 0)
        return datetime.combine(day, self.end, JST)


def closed_until(windows: Iterable[ClosedHours], moment: datetime) -> datetime | None:
    """When a service is open again, ``None`` = it is open at ``moment``."""
    ends = [end for window in windows if (end := window.until(moment)) is not None]
    return max(ends, default=None)
