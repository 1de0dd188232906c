"""Scheduled runs that are not needed: missed ones, and those that the scheduler started twice.

After days without the server every missed 05:00 run is started at once. The newest reads what all
of them would have read, so it works and the others are スキップ, with the reason. One that is meant
for a day on which the connection rests is no reason to leave anything to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Connection

from connectors.kit import WaitError
from flows.engine import history
from flows.engine.clock import business_date, jst_text

Newer = Callable[[], Awaitable[list[datetime]]]
"""Tells which later scheduled runs of the same connection are due, too: for which times."""


def make_way(
    scheduled_for: datetime | None, others: Iterable[datetime], works: Callable[[date], bool]
) -> None:
    """Leave the work to a newer run that is due as well.

    Args:
        scheduled_for: The time that this run is meant for; ``None`` = it is no scheduled run.
        others: What `Newer` says.
        works: Whether the connection is processed on a day.

    Raises:
        WaitError: ``AC-605``, there is one.
    """
    if scheduled_for is None:
        return
    due = [moment for moment in others if works(business_date(moment))]
    later = max(due, default=scheduled_for)
    if later > scheduled_for:
        raise WaitError("AC-605", f"{jst_text(later)} の予定の処理")


def not_needed(
    db: Connection, run_id: UUID, connection: str, scheduled_for: datetime | None
) -> None:
    """The same from our own history: a run for this time, or for a later one, ended well.

    Called by the holder of the lease, so that no other run of the connection is about to end.

    Raises:
        WaitError: ``AC-605``, one for a later time; ``AC-606``, the scheduler started this twice.
    """
    if scheduled_for is None:
        return
    found = history.ended_well_since(db, run_id, connection, scheduled_for)
    if found is None:
        return
    meant_for, started_at, ended_at = found
    if meant_for > scheduled_for:
        raise WaitError("AC-605", f"{jst_text(meant_for)} の予定の処理")
    words = f"{jst_text(started_at)} に始まり、{jst_text(ended_at)} に終わった処理"
    raise WaitError("AC-606", words)
