"""The lease: at most one run of a connection loads, whatever the scheduler does (design 6.6).

The lease row lives in the store and is judged by the database's clock alone. `Ledger.intend`
checks it in the same transaction as the intent rows; `Lease.assert_current` is the last look
before a request leaves, for a process that was frozen in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from connectors.kit import AppConnectError, WaitError
from flows.engine.clock import jst_text
from flows.engine.store import Store

LEASE_SECONDS = 60.0
RENEW_SECONDS = 10.0
_LOOK_SECONDS = 0.5

_log = logging.getLogger(__name__)

_TAKE = text(
    "UPDATE connection SET lease_owner = :run, fence = fence + 1, "
    "lease_expires = clock_timestamp() + make_interval(secs => :seconds) "
    "WHERE name = :connection AND (lease_owner IS NULL OR lease_owner = :run "
    "OR lease_expires <= clock_timestamp()) RETURNING fence"
)
_HOLDER = text(
    "SELECT c.lease_owner, c.lease_expires, r.started_at, r.trigger FROM connection c "
    "LEFT JOIN run r ON r.id = c.lease_owner WHERE c.name = :connection"
)
_RENEW = text(
    "UPDATE connection SET lease_expires = clock_timestamp() + make_interval(secs => :seconds) "
    "WHERE name = :connection AND lease_owner = :run AND fence = :fence "
    "AND lease_expires > clock_timestamp()"
)
_DROP = text(
    "UPDATE connection SET lease_owner = NULL, lease_expires = NULL "
    "WHERE name = :connection AND lease_owner = :run AND fence = :fence"
)


class Lease:
    """A lease that is held; ``fence`` is the number every write is checked against."""

    def __init__(self, store: Store, connection: str, run_id: UUID, fence: int) -> None:
        self.store = store
        self.connection = connection
        self.run_id = run_id
        self.fence = fence
        self._valid_until = time.monotonic() + LEASE_SECONDS

    def assert_current(self) -> None:
        """The last look before a request leaves; costs nothing.

        Raises:
            WaitError: ``AC-601``, the lease has lapsed on our own clock (the process was frozen).
        """
        if time.monotonic() >= self._valid_until:
            raise WaitError("AC-601", "この処理の持ち時間が切れました")

    def _renew(self, db: Connection) -> bool:
        parameters = {
            "seconds": LEASE_SECONDS,
            "connection": self.connection,
            "run": self.run_id,
            "fence": self.fence,
        }
        return db.execute(_RENEW, parameters).rowcount == 1

    async def keep(self) -> None:
        """Renew until cancelled. A lost lease is only noted here: the next write refuses."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            asked = time.monotonic()
            try:
                if await self.store.do(self._renew):
                    self._valid_until = asked + LEASE_SECONDS
            except AppConnectError as error:
                _log.warning("The lease of %s was not renewed: %s", self.connection, error.code)


def _take(db: Connection, connection: str, run_id: UUID) -> tuple[int | None, Row[Any]]:
    """The fence, or ``None``; and who held the lease before."""
    holder = db.execute(_HOLDER, {"connection": connection}).one()
    row = db.execute(
        _TAKE, {"connection": connection, "run": run_id, "seconds": LEASE_SECONDS}
    ).first()
    return (None if row is None else int(row[0])), holder


async def _acquire(store: Store, connection: str, run_id: UUID) -> int:
    """The fence, at once or when the lease of a dead holder has lapsed.

    A holder that lives renews its lease every `RENEW_SECONDS`, so a short look tells the two
    apart: behind a living run we do not queue, after a killed one we go on by ourselves.
    """
    fence, first = await store.do(_take, connection, run_id)
    deadline = time.monotonic() + LEASE_SECONDS + RENEW_SECONDS
    while fence is None:
        await asyncio.sleep(_LOOK_SECONDS)
        fence, holder = await store.do(_take, connection, run_id)
        lapsed = (holder[0], holder[1]) == (first[0], first[1])
        if not lapsed or (fence is None and time.monotonic() > deadline):
            if fence is not None:
                await store.do(_drop, connection, run_id, fence)
            raise WaitError("AC-601", _describe(first[2], first[3], first[1]))
    return fence


def _drop(db: Connection, connection: str, run_id: UUID, fence: int) -> None:
    db.execute(_DROP, {"connection": connection, "run": run_id, "fence": fence})


def _describe(started: datetime | None, trigger: str | None, expires: datetime | None) -> str:
    since = f"{jst_text(started)} に始まった{trigger}の処理" if started and trigger else "別の処理"
    until = f"。応答がなければ {jst_text(expires)} に引き継げます" if expires else ""
    return since + until


@contextlib.asynccontextmanager
async def lease(store: Store, connection: str, run_id: UUID) -> AsyncIterator[Lease]:
    """Hold the lease of ``connection`` while the body runs.

    Raises:
        WaitError: ``AC-601``, another run holds it; the subject says which and until when.
    """
    fence = await _acquire(store, connection, run_id)
    held = Lease(store, connection, run_id, fence)
    keeper = asyncio.create_task(held.keep())
    try:
        yield held
    finally:
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper
        with contextlib.suppress(AppConnectError):
            await store.do(_drop, connection, run_id, fence)
