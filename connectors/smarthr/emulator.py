"""SmartHR on loopback: the part of its API that we use, strict and stateful.

Facts and quirks are the contract's (partners.md 5 and 13). Routes below ``/__emulator__/`` let
another process seed and change crews, and send a webhook.
"""

from __future__ import annotations

import base64
import binascii
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connectors.kit.emulator import Emulator
from connectors.smarthr.emulator_errors import SmartHRError, bad_request
from connectors.smarthr.emulator_gate import HOUR, SECOND, Gate, Limit, Limits
from connectors.smarthr.emulator_hooks import Webhooks, control_routes
from connectors.smarthr.emulator_store import ATTRIBUTES, Crew, Crews, wire

DEFAULT_PAGE, MAX_PAGE = 10, 100

Handler = Callable[[Request, "Role"], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Role:
    """What a token may do.

    Attributes:
        crews: Whether it may read crews at all.
        hidden: Attributes of a crew that its answers leave out.
    """

    crews: bool = True
    hidden: frozenset[str] = frozenset()


class SmartHREmulator(Emulator):
    """One customer's SmartHR.

    Args:
        subdomain: The name in ``{subdomain}.smarthr.jp``; every other name answers 404. Loopback
            names stand for it as well.
        clock: Aware time, for ``updated_at``.
        ticks: Seconds that only grow, for the limits.
        limits: The limits of each token.

    Attributes:
        asked: Every combination of ``fields`` that crews were asked for; "" = all attributes.
    """

    name = "smarthr"

    def __init__(
        self,
        subdomain: str = "example",
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ticks: Callable[[], float] = time.monotonic,
        limits: Collection[Limit] = (HOUR, SECOND),
    ) -> None:
        super().__init__()
        self.clock = clock
        self.tokens: dict[str, Role] = {}
        self.crews = Crews(clock)
        self.departments: dict[str, dict[str, Any]] = {}
        self.employment_types: dict[str, dict[str, Any]] = {}
        self.webhooks = Webhooks(clock)
        self.asked: set[str] = set()
        hosts = {f"{subdomain}.smarthr.jp", f"{subdomain}.daruma.space"}
        self.limits = Limits(limits, ticks)
        self.api.add_middleware(Gate, hosts=hosts, limits=self.limits)
        v1 = "/api/v1"
        self.api.router.routes += [
            Route(f"{v1}/crews", self._guard(self._list_crews)),
            Route(f"{v1}/crews/{{id}}", self._guard(self._one_crew)),
            Route(f"{v1}/departments", self._guard(self._list_departments)),
            Route(f"{v1}/employment_types", self._guard(self._list_employment_types)),
            Route(f"{v1}/webhooks", self._guard(self._hooks), methods=["GET", "POST"]),
            Route(
                f"{v1}/webhooks/{{id}}",
                self._guard(self._hook),
                methods=["GET", "PUT", "PATCH", "DELETE"],
            ),
            Route(f"{v1}/{{rest:path}}", self._guard(self._nothing)),
            *control_routes(self),
        ]

    # -- for tests and the stack ---------------------------------------------------------------

    def add_token(self, token: str, *, crews: bool = True, hidden: Collection[str] = ()) -> None:
        """Issue an access token; see `Role`."""
        self.tokens[token] = Role(crews, frozenset(hidden))

    def add_department(self, name: str, code: str | None, full_name: str = "") -> dict[str, Any]:
        """Make a department; returns what a crew carries of it."""
        made: dict[str, Any] = {"id": str(uuid.uuid4()), "name": name, "code": code, "position": 1}
        made |= {"full_name": full_name or name, "parent": None, "children": []}
        self.departments[made["id"]] = made
        return made

    def add_employment_type(
        self, name: str, code: str | None, preset_type: str | None = None
    ) -> dict[str, Any]:
        """Make an 雇用形態; returns what a crew carries of it."""
        made = {"id": str(uuid.uuid4()), "name": name, "code": code, "preset_type": preset_type}
        self.employment_types[str(made["id"])] = made
        return made

    def seed(
        self, crews: Iterable[Mapping[str, Any]], updated_at: datetime | None = None
    ) -> list[str]:
        """Add crews from the attributes that are set; returns their ids.

        Raises:
            KeyError: there is no such attribute.
        """
        return [self.crews.add(each, updated_at)["id"] for each in crews]

    def update(self, crew_id: str, values: Mapping[str, Any], at: datetime | None = None) -> Crew:
        """Change a crew as a person would.

        Raises:
            KeyError: there is no such crew or attribute.
        """
        return self.crews.change(crew_id, values, at)

    def delete(self, crew_id: str) -> None:
        """Delete a crew as a person would."""
        del self.crews.rows[crew_id]

    def books(self) -> dict[str, Any]:
        """Counts: crews, requests that were refused, webhooks; and which attributes were read."""
        return {
            "crews": len(self.crews.rows),
            "refused": self.limits.refused,
            "fields": sorted(self.asked),
            "webhooks": self.webhooks.listed(),
        }

    # -- the API -------------------------------------------------------------------------------

    def _guard(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            try:
                return await handler(request, self._role(request))
            except SmartHRError as error:
                return error.response()

        return guarded

    def _role(self, request: Request) -> Role:
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":  # the token as user name, without a password
            try:
                rest = base64.b64decode(rest).decode().partition(":")[0]
            except (binascii.Error, UnicodeDecodeError):
                rest = ""
        role = self.tokens.get(rest) if scheme.lower() in ("bearer", "basic") else None
        if role is None:
            raise SmartHRError("unauthorized_token")
        return role

    async def _list_crews(self, request: Request, role: Role) -> Response:
        if not role.crews:
            raise SmartHRError("forbidden")
        fields = self._fields(request)
        found = self.crews.select(dict(request.query_params))
        return _page(request, found, lambda crew: wire(crew, fields, role.hidden))

    async def _one_crew(self, request: Request, role: Role) -> Response:
        if not role.crews:
            raise SmartHRError("forbidden")
        crew = self.crews.rows.get(request.path_params["id"])
        if crew is None:
            raise SmartHRError("not_found")
        return JSONResponse(wire(crew, self._fields(request), role.hidden))

    def _fields(self, request: Request) -> frozenset[str]:
        asked = request.query_params.get("fields", "")
        self.asked.add(asked)
        fields = frozenset(filter(None, asked.split(",")))
        if unknown := fields - set(ATTRIBUTES):
            raise bad_request(f"fields に {min(unknown)} は指定できません")
        return fields

    async def _list_departments(self, request: Request, _: Role) -> Response:
        code = request.query_params.get("code")
        rows = [d for d in self.departments.values() if code is None or d["code"] == code]
        return _page(request, rows)

    async def _list_employment_types(self, request: Request, _: Role) -> Response:
        return _page(request, list(self.employment_types.values()))

    async def _hooks(self, request: Request, _: Role) -> Response:
        if request.method == "GET":
            return _page(request, self.webhooks.listed())
        return JSONResponse(self.webhooks.add(await _body(request)), 201)

    async def _hook(self, request: Request, _: Role) -> Response:
        hook_id = request.path_params["id"]
        if request.method == "DELETE":
            self.webhooks.remove(hook_id)
            return Response(status_code=204)
        if request.method == "GET":
            return JSONResponse(self.webhooks.shown(hook_id))
        return JSONResponse(self.webhooks.change(hook_id, await _body(request)))

    async def _nothing(self, *_: object) -> Response:
        raise SmartHRError("not_found")


async def _body(request: Request) -> dict[str, Any]:
    try:
        said = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        raise bad_request("不正なJSON文字列です")
    return said


def _page(
    request: Request,
    rows: list[dict[str, Any]],
    shown: Callable[[dict[str, Any]], Any] = dict,
) -> Response:
    """One page of ``rows``: a bare array; where the others are, and how many, is in headers.

    Raises:
        SmartHRError: ``page`` or ``per_page`` is no number that SmartHR takes.
    """
    page = _number(request, "page", 1, None)
    size = _number(request, "per_page", DEFAULT_PAGE, MAX_PAGE)
    last = max(1, -(-len(rows) // size))
    targets = {"first": 1, "last": last, "next": page + 1, "prev": page - 1}
    base = f"{request.url.scheme}://{request.headers['host']}{request.url.path}"
    links = [
        f'<{base}?{urlencode({**request.query_params, "page": number})}>; rel="{rel}"'
        for rel, number in targets.items()
        if 1 <= number <= last and not (rel == "prev" and page > last)
    ]
    body = orjson.dumps([shown(row) for row in rows[(page - 1) * size : page * size]])
    headers = {"link": ", ".join(links), "x-total-count": str(len(rows))}
    return Response(body, headers=headers, media_type="application/json")


def _number(request: Request, name: str, default: int, most: int | None) -> int:
    value = request.query_params.get(name)
    if value is None:
        return default
    if not value.isdigit() or int(value) < 1 or (most is not None and int(value) > most):
        raise bad_request(f"{name} が正しくありません")
    return int(value)
