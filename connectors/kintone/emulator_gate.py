"""What stands before kintone's API: the host name, and the limit on requests at once."""

from __future__ import annotations

import re
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.kintone.emulator_errors import KintoneError, no_such_host
from connectors.kit.emulator import CONTROL

_PORT = re.compile(r":\d+$")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "testserver", "[::1]"})


class Gate:
    """ASGI middleware: unknown hosts get a page, the 101st request of the domain a 429.

    Args:
        app: What is behind it.
        hosts: The customer's host names; loopback names stand for them.
        limit: Requests at once.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], limit: int) -> None:
        self._app, self._hosts, self._limit = app, frozenset(hosts) | _LOOPBACK, limit
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].startswith(CONTROL):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if _PORT.sub("", headers.get("host", "")).lower() not in self._hosts:
            await no_such_host()(scope, receive, send)
            return
        self._running += 1
        running = self._running

        async def counted(message: Message) -> None:
            # kintone says on every answer, good or bad, how near the limit is.
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                out["x-concurrencylimit-limit"] = str(self._limit)
                out["x-concurrencylimit-running"] = str(running)
            await send(message)

        try:
            if running > self._limit:
                language = "en" if headers.get("accept-language", "").startswith("en") else "ja"
                answer = KintoneError("GAIA_TO04").response(language)
                await answer(scope, receive, counted)
            else:
                await self._app(scope, receive, counted)
        finally:
            self._running -= 1
