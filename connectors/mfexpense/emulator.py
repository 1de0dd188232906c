"""クラウド経費 on loopback: offices, masters and journals, strict where the contract is.

Facts and quirks are the contract's (partners.md 7; quirk 8): three months at most, one request at a
time, opaque ids, codes that are null, two spellings of a branch's sides, ``{"messages": […]}``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.kit.days import months_later
from connectors.kit.emulator import Emulator
from connectors.kit.tokens import utc_now
from connectors.mfexpense._host import ROOT
from connectors.mfexpense.client import MONTHS, Unit
from connectors.mfexpense.emulator_access import Access
from connectors.mfexpense.emulator_books import KINDS, Book, Json, Kept, opaque

_MASTERS = {
    "excises": "excise",
    "depts": "dept",
    "project_codes": "project_code",
    "ex_destinations": "ex_destination",
}
_SCOPES = {
    "ex_journals_by_ex_transactions": "transaction:write",
    "ex_journals_by_ex_reports": "report:write",
    "ex_transactions": "transaction:write",
    "ex_reports": "report:write",
}
_LIST_UNITS: Mapping[str, Unit] = {
    "ex_journals_by_ex_transactions": "transaction",
    "ex_journals_by_ex_reports": "report",
}
_RECORD_UNITS: Mapping[str, Unit] = {"ex_transactions": "transaction", "ex_reports": "report"}


class Variants(BaseModel):
    """What differs between versions of the service, or is not known.

    Attributes:
        spelling: Name of a branch's sides: the specification of 2020, or a client of 2026.
        embed: Whether a side carries what its ids point to.
        links: Whether lists carry ``next`` and ``prev``.
        page_size: Entries of one page.
        crowded: Status for a request while another is at work.
        think: Seconds that every request takes, so that two can meet.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    spelling: Literal["journal_branch_sides", "ex_journal_branch_sides"] = "journal_branch_sides"
    embed: bool = True
    links: bool = True
    page_size: int = Field(default=100, ge=1)
    crowded: Literal[429, 400] = 429
    think: float = Field(default=0.0, ge=0)


class _RefusalError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class MfExpenseEmulator(Emulator):
    """One user's view of クラウド経費.

    Args:
        clock: Aware time, for tokens.

    Attributes:
        variants: See `Variants`.
        access: Applications and tokens.
        forbidden: Ids of offices that the user may not read.
    """

    name = "mfexpense"

    def __init__(self, *, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__()
        self.variants = Variants()
        self.access = Access(clock)
        self.forbidden: set[str] = set()
        self._offices: dict[str, Book] = {}
        self._running = 0
        self.api.router.routes += [
            *self.access.routes(),
            Route(f"{ROOT}/{{path:path}}", self._serve, methods=["GET"]),
        ]

    def add_office(self, name: str) -> Book:
        """Make a 事業所 with nothing in it."""
        book = Book(opaque("office", len(self._offices)), name)
        self._offices[book.id] = book
        return book

    def books(self) -> dict[str, Any]:
        """Counts and yen of each office's journals."""
        return {
            book.name: {
                unit: {"journals": len(held), "yen": sum(map(_debits, held.values()))}
                for unit, held in book.journals.items()
            }
            for book in self._offices.values()
        }

    async def _serve(self, request: Request) -> Response:
        self._running += 1
        try:
            if self._running > 1:
                crowded = "同時にリクエストを送ることはできません。"
                raise _RefusalError(self.variants.crowded, crowded)
            await asyncio.sleep(self.variants.think)
            return _json(self._answer(request))
        except _RefusalError as refusal:
            return _json({"messages": [refusal.message]}, refusal.status)
        finally:
            self._running -= 1

    def _answer(self, request: Request) -> Json:
        grant = self.access.grant_of(request)
        if grant is None:
            raise _RefusalError(401, "アクセストークンが無効です。")
        match request.path_params["path"].split("/"):
            case ["offices"]:
                self._require(grant.scopes, "office_setting:write")
                listed = [_office(book) for book in self._offices.values()]
                return self._page(request, "offices", listed)
            case ["offices", office, resource, *rest]:
                book = self._offices.get(office)
                if book is None:
                    raise _RefusalError(404, "事業所が見つかりません。")
                if book.id in self.forbidden:
                    raise _RefusalError(403, "この事業所を操作する権限がありません。")
                self._require(grant.scopes, _SCOPES.get(resource, "office_setting:write"))
                return self._resource(request, book, resource, rest)
        raise _RefusalError(404, "リソースが見つかりません。")

    def _resource(self, request: Request, book: Book, resource: str, rest: list[str]) -> Json:
        if not rest and (kind := _MASTERS.get(resource)):
            return self._page(request, resource, list(book.masters[kind].values()))
        if not rest and resource == "ex_items":
            return self._page(request, resource, list(book.ex_items.values()))
        if not rest and (listed := _LIST_UNITS.get(resource)):
            found = book.between(listed, *_window(request))
            return self._page(
                request, "ex_journals", found, lambda kept: self._listed(book, listed, kept)
            )
        unit = _RECORD_UNITS.get(resource)
        if unit is not None and len(rest) == 2 and rest[1] == "ex_journal":
            kept = book.journals[unit].get(rest[0])
            if kept is None:
                raise _RefusalError(404, "仕訳が見つかりません。")
            return self._journal(book, kept)
        raise _RefusalError(404, "リソースが見つかりません。")

    @staticmethod
    def _require(scopes: frozenset[str], needed: str) -> None:
        if needed not in scopes:
            raise _RefusalError(403, f"このアクセストークンには {needed} の権限がありません。")

    def _page(
        self,
        request: Request,
        key: str,
        entries: Sequence[Any],
        shown: Callable[[Any], Json] = lambda entry: entry,
    ) -> Json:
        text, size = request.query_params.get("page", "1"), self.variants.page_size
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise _RefusalError(400, "ページ番号が正しくありません。")
        number = int(text)
        start = (number - 1) * size
        answer: Json = {key: [shown(entry) for entry in entries[start : start + size]]}
        if self.variants.links:
            more = start + size < len(entries)
            answer["next"] = _link(request, number + 1) if more else None
            answer["prev"] = _link(request, number - 1) if number > 1 else None
        return answer

    def _listed(self, book: Book, unit: Unit, kept: Kept) -> Json:
        journal = {**self._journal(book, kept), f"ex_{unit}_id": kept.record}
        if unit == "transaction":
            journal["invoice_registration_number"] = kept.registration
            journal["special_exception_status"] = kept.exception
            journal["ex_transaction_custom_field_values"] = []
        return journal

    def _journal(self, book: Book, kept: Kept) -> Json:
        branches = [
            {
                "branch_number": branch["branch_number"],
                "remark": branch.get("remark"),
                self.variants.spelling: [self._side(book, side) for side in branch["sides"]],
            }
            for branch in kept.branches
        ]
        return {
            "id": kept.id,
            "office_id": book.id,
            "recognized_at": kept.day.isoformat(),
            "memo": kept.memo,
            "ex_journal_branches": branches,
        }

    def _side(self, book: Book, side: Json) -> Json:
        if not self.variants.embed:
            return side
        found = {kind: book.masters[kind].get(side[f"{kind}_id"] or "") for kind in KINDS}
        return {**side, **found}


def _window(request: Request) -> tuple[date | None, date | None]:
    bounds: list[date | None] = []
    for name in ("from", "to"):
        text = request.query_params.get(f"query_object[recognized_at_{name}]")
        try:
            bounds.append(date.fromisoformat(text) if text else None)
        except ValueError:
            raise _RefusalError(400, "計上日の形式が正しくありません。") from None
    first, last = bounds
    if first and last and last < first:
        raise _RefusalError(400, "計上日の開始日は終了日以前にしてください。")
    if first and last and last > months_later(first, MONTHS):
        raise _RefusalError(400, f"計上日の期間は最大{MONTHS}ヶ月で指定してください。")
    return first, last


def _link(request: Request, number: int) -> str:
    return str(request.url.replace(scheme="", netloc="").include_query_params(page=number))


def _office(book: Book) -> Json:
    return {
        "id": book.id,
        "identification_code": book.id[:8],
        "office_type_id": 2,
        "name": book.name,
    }


def _debits(kept: Kept) -> int:
    return sum(s["value"] for b in kept.branches for s in b["sides"] if s["side"] == 1)


def _json(body: Json, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
