"""What holds for every request: how much may be sent, and what a browser may do with an answer."""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.kit import SettingsError

BODY_LIMIT = 1_000_000
"""Bytes of a request's body; the largest event of a partner is a record, and far smaller."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The code of a consent is in the address of the page that is shown.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}


class _TooLargeError(Exception):
    pass


class Door:
    """ASGI middleware around everything.

    Args:
        app: What it is around.
        told: Makes the answer to an error.
    """

    def __init__(self, app: ASGIApp, told: Callable[[Exception], ASGIApp]) -> None:
        self._app, self._told = app, told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless it is too large; mark its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen, begun, problem = 0, False, _announced(scope)

        async def marked(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        async def unless_too_large(message: Message) -> None:
            # Whoever reads the body may take the error for a body that is no JSON.
            if problem is None:
                await marked(message)

        async def counted() -> Message:
            nonlocal seen, problem
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > BODY_LIMIT:
                problem = _too_large()
                raise _TooLargeError
            return message

        if problem is None:
            try:
                await self._app(scope, counted, unless_too_large)
            except _TooLargeError:
                pass
            except ClientDisconnect:
                return
            except Exception as error:  # noqa: BLE001 (no traceback: a message may quote a secret)
                problem = error
        if problem is not None and not begun:
            await self._told(problem)(scope, receive, marked)


def _too_large() -> Exception:
    return SettingsError("AC-214", f"{BODY_LIMIT:,} バイトまで")


def _announced(scope: Scope) -> Exception | None:
    length = Headers(scope=scope).get("content-length", "0")
    fits = length.isascii() and length.isdigit() and int(length) <= BODY_LIMIT
    return None if fits else _too_large()
