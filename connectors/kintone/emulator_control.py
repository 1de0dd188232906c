"""Routes below ``/__emulator__/`` that change kintone's state from another process."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.kintone.emulator_errors import KintoneError
from connectors.kit.emulator import CONTROL

if TYPE_CHECKING:
    from connectors.kintone.emulator import KintoneEmulator


def control_routes(emulator: KintoneEmulator) -> list[Route]:
    """The routes of one emulator.

    - ``POST apps/{app}/records`` ``{"records": [{code: value}], "updated_at": ISO or null}``
      -> ``{"ids": […]}``
    - ``PUT apps/{app}/records/{id}`` ``{"values": {code: value}, "at": ISO or null}``
      -> ``{"revision": n}``
    - ``DELETE apps/{app}/records/{id}``
    - ``POST oauth/expire``, ``POST oauth/revoke``

    A name that does not exist is 404.
    """

    async def seed(request: Request) -> Response:
        said = await _body(request)
        records, at = said["records"], _moment(said.get("updated_at"))
        return _answer(lambda: {"ids": emulator.seed(request.path_params["app"], records, at)})

    async def update(request: Request) -> Response:
        said = await _body(request)
        app, number = request.path_params["app"], request.path_params["id"]
        at = _moment(said.get("at"))
        return _answer(lambda: {"revision": emulator.update(app, number, said["values"], at)})

    async def delete(request: Request) -> Response:
        app, number = request.path_params["app"], request.path_params["id"]
        return _answer(lambda: emulator.delete(app, number))

    async def expire(_: Request) -> Response:
        return _answer(emulator.access.expire)

    async def revoke(_: Request) -> Response:
        return _answer(emulator.access.revoke)

    one = f"{CONTROL}/apps/{{app}}/records/{{id:int}}"
    return [
        Route(f"{CONTROL}/apps/{{app}}/records", seed, methods=["POST"]),
        Route(one, update, methods=["PUT"]),
        Route(one, delete, methods=["DELETE"]),
        Route(f"{CONTROL}/oauth/expire", expire, methods=["POST"]),
        Route(f"{CONTROL}/oauth/revoke", revoke, methods=["POST"]),
    ]


async def _body(request: Request) -> dict[str, Any]:
    said: dict[str, Any] = orjson.loads(await request.body())
    return said


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _answer(act: Any) -> Response:
    try:
        result = act()
    except (KeyError, KintoneError) as error:
        return Response(f"{type(error).__name__}: {error}", 404, media_type="text/plain")
    return Response(orjson.dumps(result or {}), media_type="application/json")
