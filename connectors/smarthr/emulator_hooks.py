"""Webhooks of an emulated SmartHR, and the routes with which another process steers it.

A webhook carries the secret of its registration in ``X-SmartHR-Token`` as it was typed; there is no
signature. The attributes of a registration beyond ``url`` are [inferred].
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.kit.emulator import CONTROL
from connectors.smarthr.emulator_errors import SmartHRError
from connectors.smarthr.emulator_store import stamp

if TYPE_CHECKING:
    from connectors.smarthr.emulator import SmartHREmulator

EVENTS = ("crew_created", "crew_updated", "crew_deleted", "crew_imported")
TRIES = 17
"""How often in all a webhook is sent before its registration is disabled."""

_TIMEOUT = 60.0  # seconds; success is a 2xx within them
_SETTABLE = ("url", "description", "secret_token", "expose_only_id", *EVENTS)


class Webhooks:
    """The registrations of one customer.

    Args:
        clock: Aware time, for ``triggered_at``.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._hooks: dict[str, dict[str, Any]] = {}

    def add(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Register one.

        Raises:
            SmartHRError: 422, no usable address or an unknown attribute.
        """
        hook = dict.fromkeys(EVENTS, False) | {"id": str(uuid.uuid4()), "disabled_at": None}
        hook |= {"description": "", "secret_token": None, "expose_only_id": False}
        self._hooks[str(hook["id"])] = {**hook, **_checked(values, needs_url=True)}
        return self.shown(str(hook["id"]))

    def change(self, hook_id: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Change one.

        Raises:
            SmartHRError: 404, or 422 as in `add`.
        """
        self.shown(hook_id)
        self._hooks[hook_id] |= _checked(values, needs_url=False)
        return self.shown(hook_id)

    def remove(self, hook_id: str) -> None:
        """Forget one.

        Raises:
            SmartHRError: 404.
        """
        self.shown(hook_id)
        del self._hooks[hook_id]

    def shown(self, hook_id: str) -> dict[str, Any]:
        """One registration, without its secret.

        Raises:
            SmartHRError: 404.
        """
        if hook_id not in self._hooks:
            raise SmartHRError("not_found")
        return {k: v for k, v in self._hooks[hook_id].items() if k != "secret_token"}

    def listed(self) -> list[dict[str, Any]]:
        """All registrations."""
        return [self.shown(hook_id) for hook_id in self._hooks]

    async def send(self, event: str, crew: Mapping[str, Any], tries: int = 1) -> list[int]:
        """Send ``event`` to every registration that wants it, until each has said 2xx.

        Args:
            event: One of `EVENTS`.
            crew: The crew that it is about.
            tries: How often at most; the waits between (three days at the vendor) are left out.

        Returns:
            The statuses, 0 for no answer.
        """
        statuses: list[int] = []
        for hook in self._hooks.values():
            if not hook[event] or hook["disabled_at"]:
                continue
            payload = {"id": crew["id"]} if hook["expose_only_id"] else dict(crew)
            body = {"event": event, "triggered_at": stamp(self._clock()), "sender": None}
            said = await _deliver(hook, {**body, "crew": payload}, tries)
            statuses += said
            if not 200 <= said[-1] < 300 and tries >= TRIES:
                hook["disabled_at"] = stamp(self._clock())
        return statuses


async def _deliver(hook: Mapping[str, Any], body: Mapping[str, Any], tries: int) -> list[int]:
    headers = {"content-type": "application/json"}
    if hook["secret_token"]:
        headers["X-SmartHR-Token"] = hook["secret_token"]
    statuses: list[int] = []
    async with httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False) as client:
        for _ in range(tries):
            try:
                answer = await client.post(hook["url"], content=orjson.dumps(body), headers=headers)
                statuses.append(answer.status_code)
            except httpx.TransportError:
                statuses.append(0)
            if 200 <= statuses[-1] < 300:
                break
    return statuses


def _checked(values: Mapping[str, Any], *, needs_url: bool) -> dict[str, Any]:
    wrong = [name for name in values if name not in _SETTABLE]
    url = str(values.get("url") or "")
    if (needs_url or "url" in values) and urlsplit(url).scheme not in ("http", "https"):
        wrong.append("url")
    if wrong:
        errors = [{"field": name, "message": f"{name} が正しくありません"} for name in wrong]
        raise SmartHRError("bad_request", status=422, errors=errors)
    return dict(values)


def control_routes(emulator: SmartHREmulator) -> list[Route]:
    """The routes of one emulator.

    - ``POST crews`` ``{"crews": [{attribute: value}], "updated_at": ISO or null}``
      -> ``{"ids": […]}``
    - ``PATCH crews/{id}`` ``{"values": {attribute: value}, "at": ISO or null}``
    - ``DELETE crews/{id}``
    - ``POST webhooks/send`` ``{"event": …, "crew": id, "tries": n or null}``
      -> ``{"statuses": […]}``

    A name that does not exist is 404.
    """

    async def seed(request: Request) -> Response:
        said = orjson.loads(await request.body())
        return _answer(lambda: {"ids": emulator.seed(said["crews"], _at(said, "updated_at"))})

    async def change(request: Request) -> Response:
        crew_id = request.path_params["id"]
        if request.method == "DELETE":
            return _answer(lambda: emulator.delete(crew_id))
        said = orjson.loads(await request.body())
        return _answer(lambda: emulator.update(crew_id, said["values"], _at(said, "at")))

    async def send(request: Request) -> Response:
        said = orjson.loads(await request.body())
        crew = emulator.crews.rows.get(said["crew"])
        if crew is None or said["event"] not in EVENTS:
            return Response("no such crew or event", 404, media_type="text/plain")
        statuses = await emulator.webhooks.send(said["event"], crew, said.get("tries") or 1)
        return _answer(lambda: {"statuses": statuses})

    return [
        Route(f"{CONTROL}/crews", seed, methods=["POST"]),
        Route(f"{CONTROL}/crews/{{id}}", change, methods=["PATCH", "DELETE"]),
        Route(f"{CONTROL}/webhooks/send", send, methods=["POST"]),
    ]


def _at(said: Mapping[str, Any], name: str) -> datetime | None:
    return datetime.fromisoformat(said[name]) if said.get(name) else None


def _answer(act: Callable[[], Any]) -> Response:
    try:
        result = act()
    except KeyError as error:
        return Response(f"{type(error).__name__}: {error}", 404, media_type="text/plain")
    return Response(orjson.dumps(result or {}), media_type="application/json")
