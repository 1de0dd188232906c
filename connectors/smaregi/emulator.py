"""スマレジ on loopback: tokens, stores, sales, daily closings; strict where they are strict.

Facts and quirks are the contract's (partners.md 8, 13.7). Besides the vendor's paths there are
routes below ``/__emulator__/`` with which another process sells, cancels and closes days.
"""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.kit.emulator import CONTROL, Emulator
from connectors.smaregi.emulator_book import Book, Wire

DEMO_CONTRACT = "skdemo01"
DEMO_CLIENT_ID = "demo-smaregi-client"
DEMO_CLIENT_SECRET = "demo-smaregi-secret"  # noqa: S105 (of the emulator)

_SCOPES = {
    "transactions": "pos.transactions:read",
    "daily_summaries": "pos.transactions:read",
    "stores": "pos.stores:read",
}
_RANGES: Mapping[str, Mapping[str, str]] = {
    "transactions": {
        "transaction_date_time": "transactionDateTime",
        "terminal_tran_date_time": "terminalTranDateTime",
        "sum_date": "sumDate",
        "upd_date_time": "updDateTime",
    },
    "daily_summaries": {"sum_date": "sumDate", "upd_date_time": "updDateTime"},
    "stores": {},
}
"""Parameters that make a range, with the field that they look at."""
_EQUALS: Mapping[str, Mapping[str, str]] = {
    "transactions": {
        "sum_date": "sumDate",
        "store_id": "storeId",
        "transaction_head_division": "transactionHeadDivision",
    },
    "daily_summaries": {
        "sum_date": "sumDate",
        "store_id": "storeId",
        "cash_drawer_id": "cashDrawerId",
    },
    "stores": {},
}
_KEYS = {
    "transactions": ("transactionHeadId",),
    "daily_summaries": ("sumDate", "storeId", "cashDrawerId"),
    "stores": ("storeId",),
}
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(Z|[+-]\d{2}:\d{2})")
_LONGEST = timedelta(days=31)


class _ProblemError(Exception):
    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers

    def response(self) -> Response:
        titles = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}
        body = {
            "type": f"https://developers.smaregi.jp/problems/{self.status}",
            "title": titles.get(self.status, "Too Many Requests"),
            "detail": self.detail,
            "status": self.status,
        }
        return _json(body, self.status, self.headers)


class SmaregiEmulator(Emulator):
    """One contract.

    Args:
        contract: 契約ID.
        client_id: Of the app.
        client_secret: Of the app.
        scopes: What the app may ask for.
        clock: Aware time, for updDateTime and for tokens.
        token_seconds: How long a token lives.
        reads_per_second: Requests in any one second before 429; ``None`` = no limit.
    """

    name = "smaregi"

    def __init__(
        self,
        contract: str = DEMO_CONTRACT,
        client_id: str = DEMO_CLIENT_ID,
        client_secret: str = DEMO_CLIENT_SECRET,
        *,
        scopes: frozenset[str] = frozenset(_SCOPES.values()),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        token_seconds: int = 3600,
        reads_per_second: int | None = None,
    ) -> None:
        super().__init__()
        self.clock = clock
        self.book = Book(clock)
        self.scopes, self.token_seconds = scopes, token_seconds
        self.reads_per_second = reads_per_second
        self.tokens: dict[str, tuple[datetime, frozenset[str]]] = {}
        self._contract = contract
        self._basic = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        self._recent: deque[float] = deque()
        self.api.router.routes += [
            Route("/app/{contract}/token", self._token, methods=["POST"]),
            Route("/{contract}/pos/{resource}", self._list, methods=["GET"]),
            *self._control_routes(),
        ]

    def expire_tokens(self) -> None:
        """Every token that was issued is good no more."""
        self.tokens.clear()

    def books(self) -> dict[str, Any]:
        """Counts, and the yen of 純売上 by payment method, store and tax rate."""
        paid: dict[str, int] = {}
        by_store: dict[str, int] = {}
        taxes: dict[str, int] = {}
        for sale in self.book.net_sales():
            pays = [("cash", sale.head["cashTotal"]), ("credit", sale.head["creditTotal"])]
            pays += [(o["paymentMethodId"], o["depositOthers"]) for o in sale.others]
            for method, yen in pays:
                paid[method] = paid.get(method, 0) + int(yen)
            store = sale.head["storeId"]
            by_store[store] = by_store.get(store, 0) + int(sale.head["total"])
            for line in sale.details:
                tax = int(line["taxIncludeProportional"]) + int(line["taxExcludeProportional"])
                taxes[line["taxRate"]] = taxes.get(line["taxRate"], 0) + tax
        counts = {"stores": len(self.book.stores), "sales": len(self.book.sales)}
        return {
            **counts,
            "closings": len(self.book.closings),
            "paid": paid,
            "by_store": by_store,
            "taxes": taxes,
        }

    # --- the vendor's routes ------------------------------------------------------------------

    async def _token(self, request: Request) -> Response:
        form = await request.form()
        asked = frozenset(str(form.get("scope", "")).split())
        if request.headers.get("authorization") != f"Basic {self._basic}":
            return _oauth(401, "invalid_client", "Client authentication failed")
        if request.path_params["contract"] != self._contract:
            return _oauth(404, "not_found", "Contract not found")
        if form.get("grant_type") != "client_credentials":
            return _oauth(400, "unsupported_grant_type", "The grant type is not supported")
        if not asked or not asked <= self.scopes:
            return _oauth(400, "invalid_scope", "The requested scope is invalid")
        token = secrets.token_urlsafe(24)
        self.tokens[token] = (self.clock() + timedelta(seconds=self.token_seconds), asked)
        return _json(
            {
                "scope": " ".join(sorted(asked)),
                "token_type": "Bearer",
                "expires_in": self.token_seconds,
                "access_token": token,
            }
        )

    async def _list(self, request: Request) -> Response:
        resource = request.path_params["resource"]
        try:
            self._admit(request, resource)
            return _json(self._rows(resource, dict(request.query_params)))
        except _ProblemError as problem:
            return problem.response()

    def _admit(self, request: Request, resource: str) -> None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        until, granted = self.tokens.get(token, (self.clock(), frozenset()))
        if until <= self.clock():
            raise _ProblemError(401, "The access token is invalid or has expired")
        if request.path_params["contract"] != self._contract or resource not in _SCOPES:
            raise _ProblemError(404, "The requested resource was not found")
        if _SCOPES[resource] not in granted:
            raise _ProblemError(403, f"The scope {_SCOPES[resource]} is required")
        now = time.monotonic()
        while self._recent and now - self._recent[0] > 1:
            self._recent.popleft()
        if self.reads_per_second is not None and len(self._recent) >= self.reads_per_second:
            raise _ProblemError(429, "Too many requests", **{"retry-after": "1"})
        self._recent.append(now)

    def _rows(self, resource: str, query: dict[str, str]) -> list[Wire]:
        page = _number(query.pop("page", "1"), 1, None, "page")
        details = _choice(query, "with_details", ("none", "summary", "all"))
        others = _choice(query, "with_deposit_others", ("none", "all"))
        longest = {"daily_summaries": 100}.get(resource, 100 if details != "none" else 1000)
        limit = _number(query.pop("limit", "100"), 1, longest, "limit")
        wanted = [name for name in query.pop("fields", "").split(",") if name]
        order = query.pop("sort", "")
        rows = self._filtered(resource, query)
        for part in reversed(order.split(",") if order else []):
            name, _, direction = part.partition(":")
            if (rows and name not in rows[0]) or direction not in ("", "asc", "desc"):
                raise _ProblemError(400, f"sort: {part}")
            rows = _sorted(rows, [name], reverse=direction == "desc")
        rows = rows[(page - 1) * limit : page * limit]
        if wanted:
            return [{name: row[name] for name in wanted if name in row} for row in rows]
        if resource != "transactions" or (details == "none" and others == "none"):
            return rows
        return [self._whole(row, details, others) for row in rows]

    def _whole(self, head: Wire, details: str, others: str) -> Wire:
        sale = self.book.sales[int(head["transactionHeadId"])]
        whole = dict(head)
        if details == "all":
            whole["details"] = sale.details
        elif details == "summary":
            names = ("transactionDetailId", "productName", "quantity", "unitDiscountedSum")
            whole["details"] = [{n: line[n] for n in names} for line in sale.details]
        if others == "all":
            whole["depositOthers"] = sale.others
        return whole

    def _filtered(self, resource: str, query: dict[str, str]) -> list[Wire]:
        ranges: list[tuple[str, Any, Any]] = []
        exact: dict[str, str] = {}
        for name, field in _EQUALS[resource].items():
            if name in query:
                exact[field] = query.pop(name)
        for name, field in _RANGES[resource].items():
            low, high = query.pop(f"{name}-from", None), query.pop(f"{name}-to", None)
            if low is None and high is None:
                continue
            if low is None or high is None:
                raise _ProblemError(400, f"{name}-from and {name}-to are required together")
            first, last = _value(name, low), _value(name, high)
            if first > last or last - first > _LONGEST - timedelta(days=name == "sum_date"):
                raise _ProblemError(400, f"{name}: the range must be within 31 days")
            ranges.append((field, first, last))
        first_id = int(query.pop("transaction_head_id-from", "0"))
        if query:
            raise _ProblemError(400, f"unknown parameter: {', '.join(sorted(query))}")
        if _RANGES[resource] and not ranges and "sumDate" not in exact:
            raise _ProblemError(400, "A date range is required")
        rows = self._candidates(resource, exact.get("sumDate"), first_id)
        return [
            row
            for row in rows
            if all(row[field] == value for field, value in exact.items())
            and all(low <= _value_of(row[f]) <= high for f, low, high in ranges)
        ]

    def _candidates(self, resource: str, day: str | None, first_id: int) -> list[Wire]:
        """Rows by ascending key; sales of one day are at hand without looking at all of them."""
        book = self.book
        if resource == "transactions":
            sales = book.by_day.get(day, []) if day else list(book.sales.values())
            rows = [sale.head for sale in sales]
            rows = [row for row in rows if int(row["transactionHeadId"]) >= first_id]
        else:
            rows = [*(book.stores if resource == "stores" else book.closings).values()]
        return _sorted(rows, _KEYS[resource])

    # --- ours ---------------------------------------------------------------------------------

    def _control_routes(self) -> list[Route]:
        """Routes that change the books from another process; a name that does not exist is 404.

        - ``POST stores`` ``{"number", "name", "code"?}``
        - ``POST sales``: the arguments of `Book.sell`, ``day`` and ``at`` as ISO -> ``{"id"}``
        - ``POST sales/{id}/cancel``
        - ``POST closings`` ``{"store", "day"}``: close or close again; ``DELETE``: take it back
        - ``POST tokens/expire``
        """
        book = self.book

        def sell(said: dict[str, Any]) -> dict[str, Any]:
            said["day"] = date.fromisoformat(said["day"])
            if said.get("at"):
                said["at"] = datetime.fromisoformat(said["at"])
            return {"id": book.sell(**said)}

        def closing(act: Callable[[str, date], None]) -> Callable[[dict[str, Any]], None]:
            return lambda said: act(said["store"], date.fromisoformat(said["day"]))

        def route(path: str, method: str, act: Callable[[dict[str, Any]], Any]) -> Route:
            async def serve(request: Request) -> Response:
                said = orjson.loads(await request.body() or b"{}") | request.path_params
                try:
                    return _json(act(said) or {})
                except KeyError as error:
                    return Response(f"no such thing: {error}", 404, media_type="text/plain")
                except (TypeError, ValueError) as error:
                    return Response(str(error), 400, media_type="text/plain")

            return Route(f"{CONTROL}/{path}", serve, methods=[method])

        return [
            route("stores", "POST", lambda said: book.add_store(**said)),
            route("sales", "POST", sell),
            route("sales/{id:int}/cancel", "POST", lambda said: book.cancel(said["id"])),
            route("closings", "POST", closing(book.close)),
            route("closings", "DELETE", closing(book.reopen)),
            route("tokens/expire", "POST", lambda _: self.expire_tokens()),
        ]


def _json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    content = orjson.dumps(body)
    return Response(content, status, headers=headers, media_type="application/json")


def _oauth(status: int, error: str, words: str) -> Response:
    return _json({"error": error, "error_description": words}, status)


def _choice(query: dict[str, str], name: str, choices: tuple[str, ...]) -> str:
    value = query.pop(name, "none")
    if value not in choices:
        raise _ProblemError(400, f"{name}: {value}")
    return value


def _number(text: str, low: int, high: int | None, name: str) -> int:
    if not text.isdigit() or int(text) < low or (high is not None and int(text) > high):
        raise _ProblemError(400, f"{name}: {text}")
    return int(text)


def _value(name: str, text: str) -> date:
    try:
        if name == "sum_date" and _DAY.fullmatch(text):
            return date.fromisoformat(text)
        if name != "sum_date" and _MOMENT.fullmatch(text):
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    raise _ProblemError(400, f"{name}: {text}")


def _value_of(text: str) -> date:
    return datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)


def _sorted(rows: list[Wire], names: Sequence[str], *, reverse: bool = False) -> list[Wire]:
    return sorted(rows, key=lambda row: [_sortable(row[n]) for n in names], reverse=reverse)


def _sortable(value: str | None) -> tuple[int, str]:
    """Numbers by size, everything else by its text."""
    text = value or ""
    return (int(text), "") if text.isdigit() else (-1, text)
