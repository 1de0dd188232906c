"""``/webhooks/{connection}``: a service tells of an event, and the connection's run is started.

An event proves where it comes from (``webhooks.toml`` says how), is written down, and only then
answered with 202. What it says is not kept: the run reads the service, which knows better, so
events out of order do no harm. `deployments.gateway.sweeper` makes runs of them.
"""

from __future__ import annotations

import hashlib
import hmac
import time
import tomllib
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from sqlalchemy import Connection, text
from starlette.datastructures import Headers

from blocks.webhook import WebhookSettings
from connectors.kit import SettingsError
from flows.engine.clock import now
from flows.engine.store import Store

router = APIRouter(include_in_schema=False)

_STORE = text(
    "INSERT INTO webhook_event (connection, event_id, event, received_at) "
    "VALUES (:connection, :id, :event, :at) ON CONFLICT DO NOTHING RETURNING seq"
)
_KNOWN_SECONDS = 10.0
_KNOWN_MANY = 1000


@cache
def schemes() -> dict[str, dict[str, Any]]:
    """How each service proves that an event is its own."""
    return tomllib.loads(
        resources.files("deployments.gateway").joinpath("webhooks.toml").read_text("utf-8")
    )


class Secrets:
    """Settings by connection, read again every few seconds: a flood asks Prefect for little."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, WebhookSettings | None]] = {}

    async def of(self, connection: str) -> WebhookSettings | None:
        """The settings of a connection; ``None`` = it takes no events."""
        moment = time.monotonic()
        known = self._known.get(connection)
        if known is not None and moment - known[0] < _KNOWN_SECONDS:
            return known[1]
        try:
            found = await WebhookSettings.aload(connection)
        except ValueError:
            found = None
        if len(self._known) >= _KNOWN_MANY:
            self._known.clear()
        self._known[connection] = moment, found
        return found


@router.post("/webhooks/{connection}")
@router.post("/webhooks/{connection}/{token}")
async def receive(request: Request, connection: str, token: str = "") -> JSONResponse:
    """Write an event down.

    Raises:
        SettingsError: ``AC-213``, it does not prove where it comes from, or it is old.
    """
    state, body, at = request.app.state, await request.body(), now()
    settings = await state.webhooks.of(connection)
    # The same work and the same answer where there is nothing: nobody can list connections.
    service = settings.service if settings is not None else "その他"
    secret = settings.secret.get_secret_value() if settings is not None else ""
    scheme = schemes()[service]
    if not (_proven(scheme, secret, request.headers, token, body, at) and secret):
        raise SettingsError("AC-213", service="Webhook")
    content = _content(body)
    if _too_old(scheme, content, at):
        return JSONResponse({"accepted": False, "reason": "old"}, 200)
    event_id = _id(scheme, request.headers, content, body)
    event = _first(content, scheme.get("event", []))[:100].replace("\0", "")
    store: Store = state.store
    new = await store.do(_remember, connection, event_id, event, at)
    if not new:
        return JSONResponse({"accepted": False, "reason": "duplicate"}, 200)
    state.sweeper.wake()
    return JSONResponse({"accepted": True}, 202)


def _proven(
    scheme: dict[str, Any], secret: str, headers: Headers, token: str, body: bytes, at: datetime
) -> bool:
    if scheme["scheme"] == "token":
        given = headers.get(scheme["token"], "") or (token if scheme.get("in_path") else "")
        return hmac.compare_digest(_digest(given), _digest(secret))
    stamp = headers.get(scheme["timestamp"], "")
    signed = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    given = headers.get(scheme["signature"], "").removeprefix("sha256=").lower()
    right = hmac.compare_digest(given.encode(), signed.encode())
    moment = _seconds(stamp)
    window: float = scheme["seconds"]
    return right and moment is not None and abs(at.timestamp() - moment) <= window


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _seconds(stamp: str) -> float | None:
    """Seconds since 1970 of a signed timestamp: digits only, as seconds or milliseconds."""
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 13):
        return None
    return int(stamp) / 1000 if len(stamp) == 13 else float(stamp)


def _content(body: bytes) -> dict[str, Any]:
    """The body as an object; what is none has no names, and is told apart by its hash."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _first(content: dict[str, Any], names: list[str]) -> str:
    found = (content[name] for name in names if isinstance(content.get(name), str | int))
    return str(next(found, ""))


def _too_old(scheme: dict[str, Any], content: dict[str, Any], at: datetime) -> bool:
    """Of a service that signs no time: whether the event itself is older than it would repeat."""
    try:
        moment = datetime.fromisoformat(str(content[scheme["moment"]]))
    except (KeyError, ValueError):
        return False
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    window: float = scheme["seconds"]
    return (at - moment).total_seconds() > window


def _id(scheme: dict[str, Any], headers: Headers, content: dict[str, Any], body: bytes) -> str:
    """The service's name for an event, else a hash of what was sent.

    Never a name from a header: nobody signs it, and the same event would come in under another.
    """
    if named := _first(content, scheme.get("id", [])):
        return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()
    stamp = headers.get(scheme.get("timestamp", "-"), "")
    return hashlib.sha256(stamp.encode() + b"." + body).hexdigest()


def _remember(db: Connection, connection: str, event_id: str, event: str, at: datetime) -> bool:
    values = {"connection": connection, "id": event_id, "event": event, "at": at}
    return db.execute(_STORE, values).first() is not None
