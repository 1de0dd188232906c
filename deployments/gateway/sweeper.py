"""Makes runs of events: those of a few seconds together, each once, whatever is killed when.

1. Events that nobody has taken up get a batch, in one statement, a little after the first came.
2. The run is asked for under the batch's name as idempotency key: asked again, it is the same run.
3. Its id is written beside the events.

A process that dies between 1 and 3 leaves a batch without a run; the next look, of whatever
gateway, goes on with 2. Events that come while their connection's run has not ended wait for its
end: it may have read past them already.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import get_client
from sqlalchemy import Connection, text

from flows.engine.clock import now
from flows.engine.store import Store

GATHER = timedelta(seconds=3)
"""How long after the first event others are waited for."""

LOOK_SECONDS = 1.0
KEPT = timedelta(days=30)
"""How long an event is remembered: nothing repeats for longer."""

_PATIENCE = timedelta(minutes=15)
"""How long a run that may never have begun is waited for."""

_PAUSE = timedelta(seconds=10)

_READY = text(
    "WITH b AS MATERIALIZED (SELECT connection, gen_random_uuid() AS batch FROM webhook_event "
    "WHERE batch IS NULL GROUP BY connection HAVING min(received_at) <= :due) "
    "UPDATE webhook_event e SET batch = b.batch FROM b "
    "WHERE e.connection = b.connection AND e.batch IS NULL AND NOT EXISTS ("
    "SELECT 1 FROM webhook_event s LEFT JOIN run r ON r.id = s.run_id "
    "WHERE s.connection = e.connection AND s.batch IS NOT NULL AND s.received_at > :lost "
    "AND (s.run_id IS NULL OR r.id IS NULL OR r.result IS NULL))"
)
_OPEN = text(
    "SELECT DISTINCT connection, batch FROM webhook_event "
    "WHERE batch IS NOT NULL AND run_id IS NULL"
)
_STARTED = text("UPDATE webhook_event SET run_id = :run WHERE batch = :batch")
_FORGET = text("DELETE FROM webhook_event WHERE received_at < :before AND run_id IS NOT NULL")

_log = logging.getLogger(__name__)


class Sweeper:
    """Looks for events without a run, every second and whenever one comes in."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._woken = asyncio.Event()
        self._later: dict[str, datetime] = {}
        self._forgotten = now()

    def wake(self) -> None:
        """An event has come in."""
        self._woken.set()

    async def work(self) -> None:
        """Look until cancelled; what goes wrong is tried again."""
        trouble = ""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), LOOK_SECONDS)
            self._woken.clear()
            try:
                await self.sweep(now())
                trouble = ""
            except Exception as error:  # noqa: BLE001 (the database may be away for a while)
                if trouble != (trouble := type(error).__name__):
                    _log.warning("events wait: %s", trouble)
                await asyncio.sleep(LOOK_SECONDS)
            await asyncio.sleep(LOOK_SECONDS / 4)

    async def sweep(self, at: datetime) -> None:
        """Take up what is due, and ask for the runs of every batch that has none."""
        for connection, batch in await self._store.do(_take_up, at):
            if at < self._later.get(connection, at):
                continue
            try:
                run = await _start(connection, batch)
            except Exception as error:  # noqa: BLE001 (one connection must not stop the others)
                # No deployment yet, or Prefect is away: the events are kept.
                self._later[connection] = at + _PAUSE
                _log.warning("events of %s wait: %s", connection, type(error).__name__)
                continue
            self._later.pop(connection, None)
            await self._store.do(_started, batch, run)
        if at - self._forgotten > timedelta(hours=1):
            self._forgotten = at
            await self._store.do(_forget, at)


async def _start(connection: str, batch: UUID) -> UUID:
    from deployments.cli.running import start

    async with get_client() as client:
        key = f"webhook-{batch}"
        tags = ("api", "webhook")
        return (await start(client, connection, {}, tags=tags, idempotency_key=key)).id


def _take_up(db: Connection, at: datetime) -> list[tuple[str, UUID]]:
    db.execute(_READY, {"due": at - GATHER, "lost": at - _PATIENCE})
    return [(row.connection, row.batch) for row in db.execute(_OPEN)]


def _started(db: Connection, batch: UUID, run: UUID) -> None:
    db.execute(_STARTED, {"batch": batch, "run": run})


def _forget(db: Connection, at: datetime) -> None:
    db.execute(_FORGET, {"before": at - KEPT})
