"""The brake: ends a run before its work is done, between two requests and never inside one.

It is pulled by a deadline, by SIGTERM (the worker stops, Cancel), and by a lost lease. From then on
no request leaves. A batch that is on its way may get its answer, which is written; then the run is
ended. What is left is resumable: nothing of it is unknown unless its answer did not come.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from connectors.kit import AppConnectError, Failure, FaultError, WaitError
from flows.engine.lease import Lease
from flows.engine.ledger import PENDING

HOURS_VARIABLE = "APP_CONNECT_RUN_HOURS"
"""After how many hours a run is ended, whatever it is doing; 4 when it is not set."""

_DEFAULT_HOURS = 4.0
_LONGEST_HOURS = 24.0 * 7
_GRACE_SECONDS = 30.0
_LOOK_SECONDS = 0.25
_PENDING = text(
    "SELECT 1 FROM ledger WHERE connection = :connection AND run_id = :run AND state = :state "
    "LIMIT 1"
)


def run_limit() -> timedelta:
    """How long a run may take, from `HOURS_VARIABLE`; a value that is no such number counts as 4.

    A run without an end would keep all later ones from starting, so there is no "unlimited".
    """
    try:
        hours = float(os.environ.get(HOURS_VARIABLE) or _DEFAULT_HOURS)
    except ValueError:
        hours = _DEFAULT_HOURS
    if not 0 < hours <= _LONGEST_HOURS:  # also refuses "nan"
        hours = _DEFAULT_HOURS
    return timedelta(hours=hours)


def stopped(why: str) -> FaultError:
    """The error of a run that was stopped: 中断, and certain that nothing more was sent."""
    return FaultError("AC-602", why, failure=Failure.REFUSED)


def out_of_time(limit: timedelta) -> FaultError:
    """The error of a run that reached its deadline."""
    hours = limit.total_seconds() / 3600
    return FaultError("AC-604", f"{hours:.3g} 時間", failure=Failure.REFUSED)


def in_flight(db: Connection, connection: str, run_id: UUID) -> bool:
    """Whether the answer to a request of this run may still be due."""
    where = {"connection": connection, "run": run_id, "state": PENDING}
    return db.execute(_PENDING, where).first() is not None


@contextlib.asynccontextmanager
async def lapse_is_a_stop() -> AsyncIterator[None]:
    """A run that loses its lease while it is at work is 中断, not スキップ: it may have posted.

    Raises:
        FaultError: ``AC-602`` in place of ``AC-601``.
    """
    problem: FaultError | None = None
    try:
        yield
    except WaitError as error:
        if error.code != "AC-601":
            raise
        problem = stopped(error.subject)
    if problem is not None:
        raise problem


class Brake:
    """One run's brake.

    Attributes:
        error: Why it was pulled; ``None`` = it was not.
        ended: Whether the run is over, however it went.
    """

    def __init__(self) -> None:
        self.error: AppConnectError | None = None
        self.ended = False
        self._seconds = _GRACE_SECONDS
        self._pulled = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lease: Lease | None = None
        self._in_flight: Callable[[], Awaitable[bool]] | None = None

    def pull(self, error: AppConnectError, seconds: float = _GRACE_SECONDS) -> bool:
        """End the run; safe in a signal handler.

        Args:
            error: Why. It is what the run ends with.
            seconds: How long an answer that is due may take.

        Returns:
            Whether it was this call that pulled it, with a run at work to be ended.
        """
        if self.error is not None or self._loop is None:
            return False
        self.error, self._seconds = error, seconds
        if self._lease is not None:
            self._lease.stop(error)
        self._loop.call_soon_threadsafe(self._pulled.set)
        return True

    def engage(self, lease: Lease, in_flight: Callable[[], Awaitable[bool]]) -> None:
        """From here on requests may leave.

        Args:
            lease: Asked before each; a lease that is lost pulls the brake.
            in_flight: Whether the answer to a request may still be due.
        """
        self._lease, self._in_flight = lease, in_flight
        lease.on_lost = self.pull
        if self.error is not None:
            lease.stop(self.error)

    @contextlib.asynccontextmanager
    async def over(self, limit: timedelta | None) -> AsyncIterator[None]:
        """Let the body run until it ends, the brake ends it, or ``limit`` has passed.

        Raises:
            AppConnectError: the brake's error, when it had to cancel the body.
        """
        self._loop = loop = asyncio.get_running_loop()
        alarm = None
        if limit is not None:
            alarm = loop.call_later(limit.total_seconds(), self.pull, out_of_time(limit))
        try:
            async with asyncio.timeout(None) as timer:
                watch = asyncio.create_task(self._end(timer))
                try:
                    yield
                finally:
                    self._loop, self.ended = None, True
                    watch.cancel()
                    if alarm is not None:
                        alarm.cancel()
        except (TimeoutError, asyncio.CancelledError):
            # Also as what it was: a TaskGroup of the body that failed may have left its own
            # cancellation of the task counted (seen with Python 3.11), and then the time-out does
            # not know this one for its own.
            if self.error is None or not timer.expired():
                raise
            raise self.error from None

    async def _end(self, timer: asyncio.Timeout) -> None:
        await self._pulled.wait()
        loop = asyncio.get_running_loop()
        latest = loop.time() + self._seconds
        while self._in_flight is not None and loop.time() < latest:
            # Should even the books not answer, it ends like an answer that does not come.
            with contextlib.suppress(AppConnectError, TimeoutError):
                async with asyncio.timeout(latest - loop.time()):
                    if not await self._in_flight():
                        break
            await asyncio.sleep(_LOOK_SECONDS)
        timer.reschedule(loop.time())
