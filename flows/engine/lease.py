"""The lease: at most one run of a connection loads, whatever the scheduler does (design 6.6).

The lease row lives in the store and is judged by the database's clock alone. `Ledger.intend`
checks it in the same transaction as the intent rows; `Lease.assert_current` is the last look
before a request leaves, for a process that was frozen in between. It judges by a clock that nobody
sets and that goes on while the machine sleeps, and gives up before the database does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from connectors.kit import AppConnectError, Failure, FaultError, WaitError
from flows.engine.clock import jst_text
from flows.engine.store import Store

LEASE_SECONDS = 60.0
RENEW_SECONDS = 10.0
_MARGIN = 1 / 12
"""Part of the lease that we do not use: clocks of two machines do not run at the same speed."""

_LOOK_SECONDS = 0.5
_LAPSED = "この処理の持ち時間が切れました"
# Linux' CLOCK_MONOTONIC, and with it Python's, stands still while the machine sleeps; macOS' does
# not.
_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))

_log = logging.getLogger(__name__)

_TAKE = text(
    "UPDATE connection SET lease_owner = :run, fence = fence + 1, "
    "lease_expires = clock_timestamp() + make_interval(secs => :seconds) "
    "WHERE name = :connection AND (lease_owner IS NULL OR lease_owner = :run "
    "OR lease_expires <= clock_timestamp()) RETURNING fence"
)
# Who has not renewed for longer than a lease lasts is dead, also when the database's clock was set
# back and the lease seems to last for hours.
_SEIZE = text(
    "UPDATE connection SET lease_owner = :run, fence = fence + 1, "
    "lease_expires = clock_timestamp() + make_interval(secs => :seconds) "
    "WHERE name = :connection AND lease_owner = :owner AND lease_expires = :expires "
    "RETURNING fence"
)
_HOLDER = text(
    "SELECT c.lease_owner, c.lease_expires, r.started_at, r.trigger, c.fence FROM connection c "
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


def elapsed() -> float:
    """Seconds of a clock that nobody sets and that counts the sleep of the machine."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class Lease:
    """A lease that is held; ``fence`` is the number every write is checked against.

    Attributes:
        on_lost: Called with the error when the lease turns out to be lost.
    """

    def __init__(
        self, store: Store, connection: str, run_id: UUID, fence: int, asked: float
    ) -> None:
        self.store = store
        self.connection = connection
        self.run_id = run_id
        self.fence = fence
        self.on_lost: Callable[[AppConnectError], object] = lambda _: None
        self._stop: AppConnectError | None = None
        self._renewed(asked)

    def _renewed(self, asked: float) -> None:
        # From before the database was asked: its own count began later than ours.
        self._valid_until = asked + LEASE_SECONDS * (1 - _MARGIN)

    def stop(self, error: AppConnectError) -> None:
        """Let no request leave any more."""
        self._stop = error

    def assert_current(self) -> None:
        """The last look before a request leaves; costs nothing.

        Raises:
            WaitError: ``AC-601``, the lease has lapsed on our own clock (the process was frozen,
                or the machine slept).
            AppConnectError: the run was stopped.
        """
        if elapsed() >= self._valid_until:
            raise WaitError("AC-601", _LAPSED)
        if self._stop is not None:
            raise self._stop

    def _renew(self, db: Connection) -> bool:
        parameters = {
            "seconds": LEASE_SECONDS,
            "connection": self.connection,
            "run": self.run_id,
            "fence": self.fence,
        }
        return db.execute(_RENEW, parameters).rowcount == 1

    async def keep(self) -> None:
        """Renew until cancelled, or until the lease is lost."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            asked = elapsed()
            lost = asked >= self._valid_until
            try:
                if await self.store.do(self._renew):
                    self._renewed(asked)
                    continue
                lost = True
            except AppConnectError as error:
                _log.warning("The lease of %s was not renewed: %s", self.connection, error.code)
            if lost:
                self.on_lost(FaultError("AC-602", _LAPSED, failure=Failure.REFUSED))
                return


def _take(db: Connection, connection: str, run_id: UUID) -> tuple[int | None, Row[Any]]:
    """The fence and who held the lease before; or ``None`` and who holds it."""
    holder = db.execute(_HOLDER, {"connection": connection}).one()
    row = db.execute(
        _TAKE, {"connection": connection, "run": run_id, "seconds": LEASE_SECONDS}
    ).first()
    if row is None:  # perhaps it was taken between the two statements
        return None, db.execute(_HOLDER, {"connection": connection}).one()
    return int(row[0]), holder


def _seize(db: Connection, connection: str, run_id: UUID, holder: Row[Any]) -> int | None:
    row = db.execute(
        _SEIZE,
        {
            "connection": connection,
            "run": run_id,
            "seconds": LEASE_SECONDS,
            "owner": holder[0],
            "expires": holder[1],
        },
    ).first()
    return None if row is None else int(row[0])


async def _acquire(
    store: Store, connection: str, run_id: UUID, limit: timedelta | None
) -> tuple[int, float]:
    """The fence, at once or when the lease of a dead holder has lapsed; and when we asked.

    A holder that lives renews its lease every `RENEW_SECONDS`, so a short look tells the two
    apart: behind a living run we do not queue, after a killed one we go on by ourselves.
    """
    asked = elapsed()
    fence, first = await store.do(_take, connection, run_id)
    deadline = asked + LEASE_SECONDS + RENEW_SECONDS
    while fence is None:
        await asyncio.sleep(_LOOK_SECONDS)
        asked = elapsed()
        fence, holder = await store.do(_take, connection, run_id)
        if (holder[0], holder[1]) != (first[0], first[1]):
            if fence is not None and _was_evicted(first, holder):
                break
            if fence is not None:
                await store.do(_drop, connection, run_id, fence)
            raise WaitError("AC-601", _describe(first[2], first[3], first[1], limit))
        if fence is None and asked > deadline:
            fence = await store.do(_seize, connection, run_id, first)
    return fence, asked


def _was_evicted(first: Row[Any], now: Row[Any]) -> bool:
    """Whether a worker has just declared the holder dead (`history.mark_lapsed`).

    That moves the fence; a run that ends gives its lease back and leaves the fence where it is.
    """
    return now[0] is None and now[4] == first[4] + 1


def _drop(db: Connection, connection: str, run_id: UUID, fence: int) -> None:
    db.execute(_DROP, {"connection": connection, "run": run_id, "fence": fence})


def _describe(
    started: datetime | None,
    trigger: str | None,
    expires: datetime | None,
    limit: timedelta | None,
) -> str:
    """Who is at work: since when, until when at the latest, and what if it is dead."""
    if started is None or trigger is None:
        since = until = ""
    else:
        since = f"{jst_text(started)} に始まった{trigger}の処理"
        until = f"。遅くとも {jst_text(started + limit)} に終わります" if limit else ""
    takeover = f"。応答がなければ {jst_text(expires)} に引き継げます" if expires else ""
    return (since or "別の処理") + until + takeover


@contextlib.asynccontextmanager
async def lease(
    store: Store, connection: str, run_id: UUID, limit: timedelta | None = None
) -> AsyncIterator[Lease]:
    """Hold the lease of ``connection`` while the body runs.

    Args:
        store: Our books.
        connection: Name of the connection.
        run_id: Who holds it.
        limit: How long a run takes at most, for the message about another one.

    Raises:
        WaitError: ``AC-601``, another run holds it; the subject says which and until when.
    """
    fence, asked = await _acquire(store, connection, run_id, limit)
    held = Lease(store, connection, run_id, fence, asked)
    keeper = asyncio.create_task(held.keep())
    try:
        yield held
    finally:
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper
        with contextlib.suppress(AppConnectError):
            await store.do(_drop, connection, run_id, fence)
