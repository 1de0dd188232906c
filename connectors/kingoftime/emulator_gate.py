"""What stands before the API: the service's own clock, who may ask, when, and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.kingoftime import emulator_errors as wrong
from connectors.kingoftime._facts import PERIOD, ROOT
from connectors.kit import closed_until
from connectors.kit.emulator import CONTROL, dated

if TYPE_CHECKING:
    from connectors.kingoftime.emulator import KingOfTimeEmulator


class Gate:
    """ASGI middleware of one emulator; whoever passes may read what the path names."""

    def __init__(self, app: ASGIApp, *, emulator: KingOfTimeEmulator) -> None:
        self._app, self._emulator = app, emulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].startswith(CONTROL):
            await self._app(scope, receive, send)
            return
        now = self._emulator.clock()

        async def on_time(message: Message) -> None:
            start = message["type"] == "http.response.start"
            await send(dated(message, receive, now.timestamp()) if start else message)

        try:
            self._admit(scope)
        except wrong.KingOfTimeError as error:
            answer = error.response(self._emulator.shape)
            # Only the answer about too many requests is known to be flat [3rd].
            await (error.response("flat") if error.code == 303 else answer)(scope, receive, on_time)
            return
        await self._app(scope, receive, on_time)

    def _admit(self, scope: Scope) -> None:
        """Let the request pass.

        Raises:
            KingOfTimeError: it may not.
        """
        emulator = self._emulator
        client = scope.get("client")
        if emulator.allowed_ips and (client is None or client[0] not in emulator.allowed_ips):
            raise wrong.forbidden("IP address is not allowed.")
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        rights = emulator.tokens.get(token) if scheme == "Bearer" else None
        if rights is None:
            raise wrong.bad_login()
        if closed_until(emulator.closed, emulator.clock()) is not None:
            raise wrong.closed(emulator.closed_code)
        self._count()
        resource = scope["path"].removeprefix(f"{ROOT}/").split("/")[0]
        if resource != "tokens" and resource not in rights:
            raise wrong.forbidden(f"No right to {resource}.")

    def _count(self) -> None:
        now, asked = self._emulator.clock().timestamp(), self._emulator.asked
        while asked and asked[0] <= now - PERIOD.total_seconds():
            asked.popleft()
        if len(asked) >= self._emulator.limit:
            raise wrong.throttled()
        asked.append(now)
