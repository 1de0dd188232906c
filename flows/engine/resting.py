"""Scheduled runs on days that are not to be processed: they end before anything is opened.

Cron knows no holidays, so Prefect starts such runs; they read nothing, send nothing and are not in
処理履歴. Two rules keep that from making data wait in silence:

- A run is judged by the day that it is *meant for*, not by the day on which it begins. Friday's run
  that begins on Saturday, because the server was off, does Friday's work.
- A day's work that nobody began, or that was 中断, is made up for by the next scheduled run,
  whatever its day. Prefect writes a few runs ahead only: after a long stop the run of the day that
  matters may never have existed. A run that ended ERROR was seen, and is a person's to repeat.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from connectors.kit import WaitError
from flows.engine.business_days import day_text
from flows.engine.clock import business_date, jst_text
from flows.engine.store import Store
from flows.engine.timing import Timing, timing_of

RESTS = "AC-607"

_log = logging.getLogger(__name__)

_OWN = text("SELECT 1 FROM run WHERE id = :id")
_HANDLED = text(
    "SELECT 1 FROM run WHERE connection = :connection AND id <> :id AND started_at >= :due "
    "AND mode IN ('差分', '全件') AND NOT dry_run AND result IS NOT NULL AND result <> 'スキップ' "
    "AND coalesce(error ->> 'code', '') <> 'AC-602' LIMIT 1"
)
_THERE = text(
    "SELECT 1 FROM run WHERE connection = :connection "
    "AND (started_at < :due OR scheduled_for <= :due) LIMIT 1"
)
_LAST = text(
    "SELECT started_at, result, error ->> 'code' FROM run WHERE connection = :connection "
    "AND result <> 'スキップ' AND NOT dry_run ORDER BY started_at DESC LIMIT 1"
)


async def awake(
    store: Store,
    run_id: UUID,
    connection: str,
    meant_for: datetime | None,
    load: Callable[[], Awaitable[Any]],
) -> tuple[Any, Callable[[date], bool]]:
    """See that a scheduled run does not rest, before 処理履歴 knows of it.

    Whatever else is wrong is met again, and told, by the run that is open.

    Args:
        store: Our books.
        run_id: Of this run.
        connection: Name of the connection.
        meant_for: The time that it is meant for; ``None`` = a person, or a system, asked for it.
        load: Loads the connection.

    Returns:
        The connection (``None`` = not loaded), and whether it is processed on a day.

    Raises:
        WaitError: ``AC-607``, it rests.
    """
    block = None
    works: Callable[[date], bool] = lambda _: True  # noqa: E731
    if meant_for is not None:
        try:
            block = await load()
            timing = timing_of(block)
            await store.do(rest, run_id, connection, timing, meant_for)
            works = timing.is_day
        except WaitError:
            raise
        except Exception as error:  # noqa: BLE001 (told by the run that is open)
            _log.warning("Not known whether %s rests: %s", connection, type(error).__name__)
    return block, works


def rest(
    db: Connection, run_id: UUID, connection: str, timing: Timing, scheduled_for: datetime
) -> None:
    """End a scheduled run that is meant for no processing day, unless one is to be made up for.

    Raises:
        WaitError: ``AC-607``, it rests: why, until when, and what an earlier run left open.
        SettingsError: ``AC-205``, there is no processing day any more.
    """
    day = business_date(scheduled_for)
    reason = timing.resting(day)
    if not reason or db.execute(_OWN, {"id": run_id}).first():
        return
    due = timing.last_due(scheduled_for)
    where = {"id": run_id, "connection": connection, "due": due}
    if (
        due is not None
        and db.execute(_THERE, where).first()
        and not db.execute(_HANDLED, where).first()
    ):
        return
    words = f"{day_text(day)}は{reason}。次に処理する日は {day_text(timing.next_day(day))}"
    last = db.execute(_LAST, where).first()
    if last is not None and last[1] in ("ERROR", "一部エラー"):
        code = f" {last[2]}" if last[2] else ""
        words += f"。前回 {jst_text(last[0])} の処理は {last[1]}{code} で終わっています"
    raise WaitError(RESTS, words)
