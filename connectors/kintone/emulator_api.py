"""The calls of kintone's REST API: parameters in, bytes out."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from connectors.kintone.emulator_access import Access, Visitor
from connectors.kintone.emulator_errors import (
    BAD_QUERY,
    JSON,
    KintoneError,
    Text,
    bad_query,
    missing,
    no_such_host,
)
from connectors.kintone.emulator_functions import Caller
from connectors.kintone.emulator_query import DEFAULT_LIMIT, MAX_LIMIT, parse
from connectors.kintone.emulator_store import App, Record, Selection, minute
from connectors.kintone.emulator_writes import Writer

MAX_CURSORS = 10
CURSOR_LIFE = timedelta(minutes=10)
MAX_BULK = 20
_FIELD_PARAMETER = re.compile(r"(fields|ids)(\[(\d+)\])?")

Arguments = dict[str, Any]


@dataclass(slots=True)
class _Cursor:
    app: App
    numbers: list[int]
    codes: tuple[str, ...] | None
    size: int
    until: datetime
    position: int = 0


@dataclass(frozen=True, slots=True)
class _Call:
    """One request, or one of those inside a bulk request."""

    visitor: Visitor
    space: int | None
    arguments: Arguments = field(repr=False)


class Api:
    """Every call of the emulated API.

    Args:
        apps: The domain's apps by id; filled from outside.
        access: Who may come in.
        clock: Aware time.
        zone: Time zone of the users.
        index_delay: Seconds until the search index knows a fresh record.
    """

    def __init__(
        self,
        apps: Mapping[str, App],
        access: Access,
        clock: Callable[[], datetime],
        zone: tzinfo,
        index_delay: float,
    ) -> None:
        self.apps, self.access = apps, access
        self.clock, self._zone, self._index_delay = clock, zone, index_delay
        self.cursors_opened = 0
        self._cursors: dict[str, _Cursor] = {}
        self._handlers: dict[tuple[str, str], Callable[[_Call], bytes]] = {
            ("GET", "records.json"): self._get_records,
            ("POST", "records.json"): self._add_records,
            ("PUT", "records.json"): self._change_records,
            ("DELETE", "records.json"): self._delete_records,
            ("GET", "record.json"): self._get_record,
            ("POST", "record.json"): self._add_record,
            ("PUT", "record.json"): self._change_record,
            ("POST", "records/cursor.json"): self._open_cursor,
            ("GET", "records/cursor.json"): self._read_cursor,
            ("DELETE", "records/cursor.json"): self._close_cursor,
            ("GET", "app/form/fields.json"): self._form_fields,
            ("GET", "app.json"): self._app,
            ("POST", "bulkRequest.json"): self._bulk,
        }

    async def serve(self, request: Request) -> Response:
        """Answer one request."""
        language = "en" if request.headers.get("accept-language", "").startswith("en") else "ja"
        method = request.method
        if method == "POST":
            method = request.headers.get("x-http-method-override", method).upper()
        handler = self._handlers.get((method, request.path_params["resource"]))
        if handler is None:
            return no_such_host()
        try:
            visitor = self.access.visitor(request.headers, self.apps)
            arguments = await _arguments(request)
            call = _Call(visitor, request.path_params.get("space"), arguments)
            return Response(handler(call), media_type=JSON)
        except BulkError as error:
            return error.response(language)
        except KintoneError as error:
            return error.response(language)

    def indexed_at(self) -> float:
        """When a record that is written now can be found by ``like``."""
        return time.monotonic() + self._index_delay

    def open_cursors(self) -> int:
        """Cursors that neither ended nor expired."""
        self._drop_expired()
        return len(self._cursors)

    def _require(self, call: _Call, permission: str, name: str = "app") -> App:
        app_id = call.arguments.get(name)
        if app_id in (None, ""):
            raise missing(name)
        app = self.apps.get(str(app_id))
        if app is None:
            raise KintoneError("GAIA_AP01", app=app_id)
        if app.guest_space != call.space:
            raise KintoneError("CB_NO02")
        call.visitor.require(app, permission)
        return app

    def _select(self, app: App, call: _Call, *, cursor: bool) -> Selection:
        query = parse(str(call.arguments.get("query") or ""))
        if cursor and (query.limit is not None or query.offset is not None):
            raise KintoneError("CB_VA01", errors={"query": BAD_QUERY})
        caller = Caller(call.visitor.login, "", self._zone, self.clock())
        total = cursor or str(call.arguments.get("totalCount", "")).lower() == "true"
        return app.select(query, caller, time.monotonic(), all_of_them=cursor, total=total)

    def _get_records(self, call: _Call) -> bytes:
        app = self._require(call, "view")
        found = self._select(app, call, cursor=False)
        total = b"null" if found.total is None else b'"%d"' % found.total
        records = _joined(app, found.records, _codes(call))
        return b'{"records":[' + records + b'],"totalCount":' + total + b"}"

    def _get_record(self, call: _Call) -> bytes:
        app = self._require(call, "view")
        return b'{"record":' + app.get(_record_id(call)).encoded(app.types, None) + b"}"

    def _form_fields(self, call: _Call) -> bytes:
        app = self._require(call, "form")
        return orjson.dumps({"properties": app.fields, "revision": "1"})

    def _app(self, call: _Call) -> bytes:
        app = self._require(call, "view", "id")
        space = None if app.guest_space is None else str(app.guest_space)
        body = {"appId": app.id, "code": "", "name": app.name, "description": ""}
        return orjson.dumps({**body, "spaceId": space, "threadId": None})

    def _writer(self, call: _Call) -> Writer:
        at = minute(self.clock().astimezone(UTC))
        indexed = self.indexed_at()
        login = call.visitor.login

        def look_up(app_id: str, key: str, value: str, mapping: Mapping[str, str]) -> Arguments:
            related = self.apps[app_id]
            call.visitor.require(related, "view")
            index = related.by_value.get(key)
            if index is None:
                index = {record.values[key]: number for number, record in related.records.items()}
            number = index[value]
            there = related.records[number].values
            return {own: there[code] for own, code in mapping.items()}

        return Writer(
            lambda app, values: app.insert(values, login, at, indexed),
            lambda app, number, values: app.replace(number, values, login, at, indexed),
            look_up,
        )

    def _add_records(self, call: _Call) -> bytes:
        app = self._require(call, "add")
        added = self._writer(call).add(app, call.arguments.get("records") or [])
        ids = [str(record.id) for record in added]
        return orjson.dumps({"ids": ids, "revisions": [str(record.revision) for record in added]})

    def _add_record(self, call: _Call) -> bytes:
        app = self._require(call, "add")
        body = [call.arguments.get("record") or {}]
        record = self._writer(call).add(app, body, "record")[0]
        return orjson.dumps({"id": str(record.id), "revision": str(record.revision)})

    def _change_records(self, call: _Call) -> bytes:
        app = self._require(call, "edit")
        upsert = call.arguments.get("upsert") is True
        if upsert:
            call.visitor.require(app, "add")
        changed = self._writer(call).change(app, call.arguments.get("records") or [], upsert=upsert)
        entries = [
            {"id": str(record.id), "revision": str(record.revision)}
            | ({"operation": operation} if upsert else {})
            for record, operation in changed
        ]
        return orjson.dumps({"records": entries})

    def _change_record(self, call: _Call) -> bytes:
        app = self._require(call, "edit")
        record, _ = self._writer(call).change(app, [call.arguments], upsert=False)[0]
        return orjson.dumps({"revision": str(record.revision)})

    def _delete_records(self, call: _Call) -> bytes:
        app = self._require(call, "delete")
        self._writer(call).remove(app, call.arguments.get("ids") or [])
        return b"{}"

    # -- cursors -------------------------------------------------------------------------------

    def _drop_expired(self) -> None:
        now = self.clock()
        for name in [name for name, cursor in self._cursors.items() if cursor.until <= now]:
            del self._cursors[name]

    def _open_cursor(self, call: _Call) -> bytes:
        app = self._require(call, "view")
        self._drop_expired()
        size = call.arguments.get("size", DEFAULT_LIMIT)
        if not str(size).isdigit() or not 1 <= int(size) <= MAX_LIMIT:
            text = Text("1から500の数値を指定してください。", "Must be between 1 and 500.")
            raise KintoneError("CB_VA01", errors={"size": text})
        found = self._select(app, call, cursor=True)
        if len(self._cursors) >= MAX_CURSORS:
            raise KintoneError("GAIA_TM12")
        name = secrets.token_hex(16)
        numbers = [record.id for record in found.records]
        until = self.clock() + CURSOR_LIFE
        self._cursors[name] = _Cursor(app, numbers, _codes(call), int(size), until)
        self.cursors_opened += 1
        return orjson.dumps({"id": name, "totalCount": str(len(numbers))})

    def _cursor(self, call: _Call) -> tuple[str, _Cursor]:
        self._drop_expired()
        name = str(call.arguments.get("id", ""))
        if not name:
            raise missing("id")
        cursor = self._cursors.get(name)
        if cursor is None:
            raise KintoneError("GAIA_CN01")
        call.visitor.require(cursor.app, "view")
        return name, cursor

    def _read_cursor(self, call: _Call) -> bytes:
        name, cursor = self._cursor(call)
        numbers = cursor.numbers[cursor.position : cursor.position + cursor.size]
        cursor.position += cursor.size
        cursor.until = self.clock() + CURSOR_LIFE
        more = cursor.position < len(cursor.numbers)
        if not more:
            # kintone releases a cursor with its last page; deleting it then is GAIA_CN01 [3rd].
            del self._cursors[name]
        there = [cursor.app.records[n] for n in numbers if n in cursor.app.records]
        records = _joined(cursor.app, there, cursor.codes)
        return b'{"records":[' + records + b'],"next":' + (b"true}" if more else b"false}")

    def _close_cursor(self, call: _Call) -> bytes:
        del self._cursors[self._cursor(call)[0]]
        return b"{}"

    # -- bulk ----------------------------------------------------------------------------------

    def _bulk(self, call: _Call) -> bytes:
        requests = call.arguments.get("requests")
        if not isinstance(requests, list) or not requests:
            raise missing("requests")
        if len(requests) > MAX_BULK:
            raise KintoneError("CB_VA01", errors={"requests": f"{MAX_BULK}件までです。"})
        undo = [app.snapshot() for app in self.apps.values()]
        results: list[bytes] = []
        for index, request in enumerate(requests):
            try:
                results.append(self._one_of_bulk(call, request))
            except KintoneError as error:
                for restore in undo:
                    restore()
                raise BulkError(error, index, len(requests)) from None
        return b'{"results":[' + b",".join(results) + b"]}"

    def _one_of_bulk(self, call: _Call, request: Any) -> bytes:
        path = str(request.get("api", "")) if isinstance(request, dict) else ""
        found = re.fullmatch(r"/k/(?:guest/(\d+)/)?v1/(records?\.json)", path)
        method = str(request["method"]).upper() if found and "method" in request else ""
        handler = self._handlers.get((method, found[2])) if found else None
        if found is None or handler is None or method == "GET":
            raise KintoneError("CB_IL02")
        space = int(found[1]) if found[1] else None
        return handler(_Call(call.visitor, space, dict(request.get("payload") or {})))


class BulkError(Exception):
    """A bulk request of which one part failed: nothing of it was done."""

    def __init__(self, error: KintoneError, index: int, count: int) -> None:
        super().__init__(error.code)
        self._error, self._index, self._count = error, index, count

    def response(self, language: str) -> Response:
        """The error at its place among the results, all others empty."""
        results: list[dict[str, Any]] = [{} for _ in range(self._count)]
        results[self._index] = self._error.body(language)
        body = orjson.dumps({"results": results})
        return Response(body, self._error.status, media_type=JSON)


async def _arguments(request: Request) -> Arguments:
    """Parameters from the query string or a JSON body, in one shape."""
    if body := await request.body():
        try:
            said = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise KintoneError("CB_IJ01") from None
        if not isinstance(said, dict):
            raise KintoneError("CB_IJ01")
        return said
    arguments: Arguments = {}
    lists: dict[str, list[tuple[int, str]]] = {}
    for name, value in request.query_params.multi_items():
        if found := _FIELD_PARAMETER.fullmatch(name):
            members = lists.setdefault(found[1], [])
            members.append((int(found[3]) if found[3] else len(members), value))
        else:
            arguments[name] = value
    return arguments | {name: [v for _, v in sorted(items)] for name, items in lists.items()}


def _codes(call: _Call) -> tuple[str, ...] | None:
    codes = call.arguments.get("fields")
    return tuple(map(str, codes)) if codes else None


def _record_id(call: _Call) -> int:
    number = str(call.arguments.get("id", ""))
    if not number.isdigit():
        raise missing("id") if not number else bad_query()
    return int(number)


def _joined(app: App, records: list[Record], codes: tuple[str, ...] | None) -> bytes:
    types = app.types
    return b",".join([record.encoded(types, codes) for record in records])
