"""What stands before SmartHR's API: the sub-domain, and two limits for each token."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.kit.emulator import CONTROL
from connectors.smarthr.emulator_errors import SmartHRError, no_such_host

_PORT = re.compile(r":\d+$")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "testserver", "[::1]"})


@dataclass(slots=True)
class Limit:
    """A limit that is counted in fixed windows, for each token.

    Attributes:
        family: Prefix of its headers.
        requests: How many a window lets through.
        seconds: How long a window is.
    """

    family: str
    requests: int
    seconds: float


HOUR = Limit("x-rate-limit-", 5000, 3600.0)
SECOND = Limit("x-intensive-rate-limit-", 10, 1.0)
"""Which family belongs to which limit is [inferred]; that there are two is the vendor's."""


class Limits:
    """What the tokens of one customer have used up.

    Args:
        limits: All of them hold at once.
        ticks: Seconds that only grow.

    Attributes:
        refused: How many requests got a 429.
    """

    def __init__(
        self,
        limits: Collection[Limit] = (HOUR, SECOND),
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits, self._ticks = limits, ticks
        self.refused = 0
        self._used: dict[tuple[str, str], tuple[float, int]] = {}

    def use(self, token: str, requests: int) -> None:
        """Count requests of another program that has the same token."""
        for _ in range(requests):
            self.count(f"Bearer {token}")

    def count(self, who: str) -> tuple[dict[str, str], bool]:
        """Count one request; the headers that tell about it, and whether it is one too many."""
        now, full = self._ticks(), False
        said: dict[str, str] = {}
        for limit in self._limits:
            number = math.floor(now / limit.seconds)
            window, used = self._used.get((limit.family, who), (number, 0))
            used = used + 1 if window == number else 1
            self._used[limit.family, who] = (number, used)
            full = full or used > limit.requests
            said |= {
                f"{limit.family}limit": str(limit.requests),
                f"{limit.family}remaining": str(max(0, limit.requests - used)),
                # Whole seconds, rounded up: asking again after them is never too early.
                f"{limit.family}reset": str(math.ceil((number + 1) * limit.seconds - now)),
            }
        return said, full


class Gate:
    """ASGI middleware: unknown hosts get a page, a token beyond a limit a 429; headers for all.

    Args:
        app: What is behind it.
        hosts: The customer's host names; loopback names stand for them.
        limits: The limits.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], limits: Limits) -> None:
        self._app, self._hosts = app, frozenset(hosts) | _LOOPBACK
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].startswith(CONTROL):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if _PORT.sub("", headers.get("host", "")).lower() not in self._hosts:
            await no_such_host()(scope, receive, send)
            return
        said, full = self._limits.count(headers.get("authorization", ""))

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(said)
            await send(message)

        if full:
            self._limits.refused += 1
            await SmartHRError("too_many_requests").response()(scope, receive, told)
        else:
            await self._app(scope, receive, told)
