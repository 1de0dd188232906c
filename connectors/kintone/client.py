"""Reading kintone: by record id, by cursor, the form of an app.

Two ways to read everything, because an offset ends at 10,000 (``GAIA_QU02``):

- `KintoneClient.records_by_id` seeks on ``$id``: any number of records, any number of readers, and
  it may be repeated. The way to read, unless another order is needed.
- `KintoneClient.records_by_cursor` keeps the order of its query; a domain has ten cursors in all.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, TypeVar, Unpack
from urllib.parse import urlencode

from pydantic import TypeAdapter, ValidationError

from connectors.kintone._errors import ERRORS, reworded
from connectors.kintone._host import PROFILE, host_of
from connectors.kintone.models import FieldProperty, RecordPage
from connectors.kit import (
    Answer,
    AppConnectError,
    Authorizer,
    Failure,
    FaultError,
    Kind,
    ServiceClient,
    SettingsError,
    Wiring,
)
from connectors.kit.paging import ensure_increasing, read_pages

MAX_SIZE = 500
"""Records that one request may ask for."""

_MAX_URL = 8192  # bytes; above it kintone wants POST with X-HTTP-Method-Override
_ALWAYS = ("$id", "$revision")
_FORM = TypeAdapter(dict[str, FieldProperty])
# The resolver's definite no. A resolver that is down (EAI_AGAIN) says nothing about the name.
_NO_SUCH_HOST = tuple(
    f"[Errno {int(number)}]"
    for number in {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
)

_T = TypeVar("_T")


class KintoneClient(ServiceClient):
    """One customer's kintone. An async context manager; safe to use from several tasks at once.

    Args:
        subdomain: ``example`` for ``https://example.cybozu.com``; a pasted URL is understood.
        authorizer: `api_token` or a `TokenAuthorizer`.
        guest_space: Id of the guest space that the apps are in.
        wiring: See `connectors.kit.Wiring`.

    Raises:
        SettingsError: ``AC-201``, the subdomain cannot be one.
    """

    def __init__(
        self,
        subdomain: str,
        *,
        authorizer: Authorizer,
        guest_space: int | None = None,
        **wiring: Unpack[Wiring],
    ) -> None:
        host = host_of(subdomain)
        super().__init__(PROFILE, host, ERRORS.classifier(host), authorizer, **wiring)
        self._root = f"/k/guest/{guest_space}/v1" if guest_space is not None else "/k/v1"
        self._direct = not wiring.get("endpoint")

    async def app_name(self, app: str) -> str:
        """The name of an app, e.g. 顧客管理.

        Raises:
            AppConnectError: by the contract's errors, see `records_by_id`.
        """
        answer = await self._get("app.json", {"id": app}, app=app)
        return _member(answer, "name", str)

    async def form_fields(self, app: str) -> dict[str, FieldProperty]:
        """The fields of an app by field code, the built-in ones included.

        Raises:
            AppConnectError: by the contract's errors, see `records_by_id`.
        """
        answer = await self._get("app/form/fields.json", {"app": app, "lang": "ja"}, app=app)
        try:
            return _FORM.validate_python(_member(answer, "properties", dict))
        except ValidationError:
            raise answer.unreadable() from None

    async def count(self, app: str, condition: str = "") -> int:
        """How many records meet ``condition``.

        Raises:
            AppConnectError: by the contract's errors, see `records_by_id`.
        """
        body = {
            "app": app,
            "query": f"{condition} limit 1".strip(),
            "fields": ["$id"],
            "totalCount": True,
        }
        answer = await self._get_records(body, app)
        return _number(answer, "totalCount")

    async def records_by_id(
        self,
        app: str,
        *,
        condition: str = "",
        fields: Sequence[str] = (),
        after: int = 0,
        size: int = MAX_SIZE,
        prefetch: bool = True,
    ) -> AsyncGenerator[RecordPage, None]:
        """All records that meet ``condition``, by ascending ``$id``.

        Ends at an empty page: a page that is merely short is not trusted to be the last. Records
        added while it reads are read as well, as their ids are greater. Close it
        (`contextlib.aclosing`) when you leave early.

        Args:
            app: App id.
            condition: A condition (see `connectors.kintone.query`), without order and limit.
            fields: Field codes; none = all. ``$id`` and ``$revision`` always come.
            after: Read only ids greater than this one, to go on where a run stopped.
            size: Records per request, 1 to 500.
            prefetch: Ask for the next page while the caller works on this one.

        Yields:
            Pages with at least one record.

        Raises:
            SettingsError: ``AC-102`` credentials, ``AC-201`` subdomain, ``AC-202`` app,
                ``AC-203`` permission, ``AC-205`` condition.
            ReauthorizeError: ``AC-101``, the OAuth consent is gone.
            WaitError: ``AC-502`` maintenance, ``AC-503`` too many requests in the domain.
            FaultError: ``AC-301``/``AC-303``/``AC-501``, or ``AC-302`` when the ids do not grow.
        """
        wanted = _with_ids(fields)

        async def page(last: int) -> RecordPage:
            seek = f"$id > {last} order by $id asc limit {size}"
            query = f"({condition}) and {seek}" if condition.strip() else seek
            answer = await self._get_records({"app": app, "query": query, "fields": wanted}, app)
            return self._page(answer, last)

        def following(read: RecordPage) -> int | None:
            return read.last_id if read.records else None

        async with contextlib.aclosing(read_pages(page, after, following, ahead=prefetch)) as pages:
            async for each in pages:
                yield each

    async def records_by_cursor(
        self,
        app: str,
        *,
        query: str = "",
        fields: Sequence[str] = (),
        size: int = MAX_SIZE,
    ) -> AsyncGenerator[RecordPage, None]:
        """All records of ``query`` in its own order, through a cursor.

        The cursor is deleted whatever happens, as a domain has only ten: at the end, on an error,
        and when the caller is cancelled or leaves early (use `contextlib.aclosing`). A fetch moves
        the cursor, so it is never repeated after a lost answer: the next one would skip a page.

        Args:
            app: App id.
            query: A condition and an order, without limit and offset.
            fields: Field codes; none = all. ``$id`` and ``$revision`` always come.
            size: Records per fetch, 1 to 500.

        Yields:
            Pages with at least one record.

        Raises:
            AppConnectError: as `records_by_id`; ``AC-302`` also when the pages do not hold as many
                records as kintone announced, ``AC-503`` also when all ten cursors are taken.
        """
        body = {"app": app, "query": query, "fields": _with_ids(fields), "size": size}
        cursor, total = await self._open_cursor(body, app)
        seen = 0
        try:
            more = True
            while more:
                answer = await self._send(
                    "GET", "records/cursor.json", kind="post", params={"id": cursor}, app=app
                )
                more = _member(answer, "next", bool)
                current = self._page(answer, None)
                seen += len(current.records)
                if seen > total or (more and not current.records):
                    break  # "next" for ever: what does not add up is told below
                if current.records:
                    yield current
        finally:
            await self._delete_cursor(cursor)
        if seen != total:
            raise FaultError(
                "AC-302",
                f"{total} 件のはずが {seen} 件",
                service=self.service,
                detail=answer.detail,
                failure=Failure.UNREADABLE,
            )

    async def _open_cursor(self, body: dict[str, Any], app: str) -> tuple[str, int]:
        # A creation that is cancelled half-way would leave a cursor that nobody knows: it is
        # waited for, and deleted.
        creation = asyncio.create_task(
            self._send("POST", "records/cursor.json", kind="post", json=body, app=app)
        )
        try:
            answer = await asyncio.shield(creation)
        except asyncio.CancelledError:
            done, _ = await asyncio.wait({creation}, timeout=10)
            if done and not creation.cancelled() and creation.exception() is None:
                await self._delete_cursor(_member(creation.result(), "id", str))
            raise
        return _member(answer, "id", str), _number(answer, "totalCount")

    async def _delete_cursor(self, cursor: str) -> None:
        # What was read is good whether or not the cursor goes: it expires by itself in 10 minutes.
        with contextlib.suppress(AppConnectError):
            await self._send("DELETE", "records/cursor.json", kind="read", json={"id": cursor})

    async def _get_records(self, body: Mapping[str, Any], app: str) -> Answer:
        """``GET records.json``, as a POST when its URL would be longer than kintone takes."""
        params = {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in body.items()
            if name != "fields"
        }
        params |= {f"fields[{index}]": code for index, code in enumerate(body["fields"])}
        if len(urlencode(params)) + len(self.host) + len(self._root) + 32 <= _MAX_URL:
            return await self._get("records.json", params, app=app)
        override = {"X-HTTP-Method-Override": "GET"}
        return await self._send(
            "POST", "records.json", kind="read", json=dict(body), headers=override, app=app
        )

    async def _get(self, resource: str, params: Mapping[str, Any], *, app: str) -> Answer:
        return await self._send("GET", resource, kind="read", params=params, app=app)

    async def _send(
        self, method: str, resource: str, *, kind: Kind, app: str = "", **sent: Any
    ) -> Answer:
        try:
            return await self._http.request(method, f"{self._root}/{resource}", kind=kind, **sent)
        except AppConnectError as error:
            raise self._named(error, app) from error.__cause__

    def _named(self, error: AppConnectError, app: str) -> AppConnectError:
        """The error with what only the caller knows: the app, and whose name was not found."""
        error = reworded(error)
        if error.code == "AC-202":
            error.subject = error.subject or app
        elif error.code == "AC-203":
            error.subject = error.subject or f"アプリ {app}"
        elif (
            error.code == "AC-501"
            and self._direct
            and any(number in str(error.__cause__) for number in _NO_SUCH_HOST)
        ):
            return SettingsError("AC-201", self.host, detail=error.detail, failure=Failure.REFUSED)
        return error

    def _page(self, answer: Answer, last: int | None) -> RecordPage:
        """A page of records; ``last`` = the id before it, ``None`` when ids need not grow."""
        records = _member(answer, "records", list)
        if last is None:
            return RecordPage(answer.body, records, 0, answer.date)
        try:
            ids = [int(record["$id"]["value"]) for record in records]
        except (KeyError, TypeError, ValueError):
            raise answer.unreadable() from None
        last = ensure_increasing(last, ids, self.service)
        return RecordPage(answer.body, records, last, answer.date)


def _with_ids(fields: Sequence[str]) -> list[str]:
    """``fields`` with the record's identity; nothing stays nothing, which means all fields."""
    if not fields:
        return []
    return [*(code for code in _ALWAYS if code not in fields), *fields]


def _member(answer: Answer, name: str, kind: type[_T]) -> _T:
    """A member of the answer's object, of the type that the contract gives it."""
    value = answer.json().get(name)
    if not isinstance(value, kind):
        raise answer.unreadable()
    return value


def _number(answer: Answer, name: str) -> int:
    text = _member(answer, name, str)
    if not text.isascii() or not text.isdigit():
        raise answer.unreadable()
    return int(text)
