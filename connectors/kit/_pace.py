"""When the next request may start: the limits that a service names, and what its answers say."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

from connectors.kit._retry import RateLimit


@dataclass(frozen=True, slots=True)
class Timer:
    """The time that a client waits by.

    Attributes:
        now: Seconds that only grow.
        sleep: Waits so many seconds.
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class FullError(Exception):
    """The next request would have to wait longer than anybody is ready to.

    Attributes:
        seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Pace:
    """Concurrency and rate of one client. All limits hold at once.

    Args:
        limit: The limits.
        patience: Longest wait in seconds; a longer one is not begun.
        timer: The time to wait by.
    """

    def __init__(self, limit: RateLimit, patience: float, timer: Timer) -> None:
        self._gate = asyncio.Semaphore(limit.concurrency) if limit.concurrency else None
        self._interval = 1.0 / limit.per_second if limit.per_second else 0.0
        # Of each quota the latest starts: the oldest of a full window says when there is room.
        self._windows = [(deque[float](maxlen=q.requests), q.seconds) for q in limit.quotas]
        self._families = limit.headers
        self._patience, self._timer = patience, timer
        self._latest: float | None = None
        self._closed_until = -math.inf
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one request's turn, and hold its place while it is at work.

        Raises:
            FullError: its turn is further away than our patience.
        """
        if self._interval or self._windows or self._families:
            async with self._lock:
                # Again and again: answers that arrive meanwhile may say that it takes longer.
                while (wait := self._wait()) > 0:
                    if wait > self._patience:
                        raise FullError(wait)
                    await self._timer.sleep(wait)
                self._start()
        if self._gate is None:
            yield
            return
        async with self._gate:
            yield

    def learn(self, headers: Mapping[str, str]) -> float | None:
        """Read what an answer says about the limits, other programs' requests included.

        Returns:
            Seconds until requests are let in again; ``None`` = now.
        """
        closed = None
        for family in self._families:
            with contextlib.suppress(KeyError, ValueError):
                left = float(headers[f"{family}remaining"])
                seconds = float(headers[f"{family}reset"])
                if left < 1 and 0 < seconds < math.inf:
                    closed = max(closed or 0.0, seconds)
        if closed is not None:
            self._closed_until = max(self._closed_until, self._timer.now() + closed)
        return closed

    def _wait(self) -> float:
        now = self._timer.now()
        moments = [self._closed_until]
        moments += [w[0] + seconds for w, seconds in self._windows if len(w) == w.maxlen]
        if self._interval and self._latest is not None:
            moments.append(self._latest + self._interval)
        return max(moments) - now

    def _start(self) -> None:
        self._latest = self._timer.now()
        for window, _ in self._windows:
            window.append(self._latest)
