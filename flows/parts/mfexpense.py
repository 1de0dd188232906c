"""マネーフォワード クラウド経費 as a source of the engine: a window, read again every run.

Journals can be found by 計上日 only, and one that is approved late appears with an old date. So
every run reads the last months again; what is known is 変更なし by the ledger's content hash.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import orjson

from blocks import MfExpenseCredentials
from connectors.kit import ReauthorizeError, SettingsError, TokenAuthorizer
from connectors.kit.days import months_later
from connectors.mfexpense import (
    SERVICE,
    ExpenseClient,
    Masters,
    OAuthClient,
    Unit,
    windows,
)
from flows.engine.handover import ParsedPage
from flows.engine.model import Mode, SourcePage, Window
from flows.engine.pipeline import Tools

OAUTH_BLOCK = MfExpenseCredentials

DUPLICATE = "duplicate"
"""Member of a record that is the second journal of its expense or report."""

_RETRIED = {"retried": True}


def oauth_app(credentials: MfExpenseCredentials, tools: Tools) -> OAuthClient:
    """The OAuth client of a block."""
    return OAuthClient(
        credentials.client_id,
        credentials.client_secret.get_secret_value(),
        credentials.redirect_uri,
        endpoint=credentials.endpoint,
        masker=tools.masker,
    )


def open_expenses(credentials: MfExpenseCredentials, tools: Tools) -> ExpenseClient:
    """A client for the credentials of a block.

    Raises:
        ReauthorizeError: ``AC-101``, nobody has pressed 許可する yet.
    """
    if not credentials.uses_oauth:
        raise ReauthorizeError("AC-101", credentials._block_document_name or "", service=SERVICE)
    app = oauth_app(credentials, tools)
    authorizer = TokenAuthorizer(tools.vault.keeper(credentials), app.refresh, masker=tools.masker)
    return ExpenseClient(authorizer=authorizer, endpoint=credentials.endpoint, masker=tools.masker)


async def office_of(client: ExpenseClient, wanted: str | None) -> str:
    """The office (事業所) that is read: the one that is named, or the only one.

    Raises:
        SettingsError: ``AC-205``, there are several and none is named, or it is not among them.
    """
    offices = await client.offices()
    named = (wanted or "").strip()
    if named and any(office.id == named for office in offices):
        return named
    if not named and len(offices) == 1:
        return offices[0].id
    listed = "、".join(f"{office.name}: {office.id}" for office in offices) or "なし"
    what = "に使えない値が入っています" if named else "が空欄です"
    raise SettingsError(
        "AC-205", f"接続情報の「事業所ID」{what}。使える事業所 = {listed}", service=SERVICE
    )


@dataclass(frozen=True)
class ExpenseSource:
    """The journals of one office, by expense or by report.

    A record's key is the id of its expense or report, and not of the journal: a journal that the
    service makes anew must not be posted again.

    Attributes:
        client: Open client.
        office: Office id.
        unit: What a journal belongs to.
        masters: What is put beside the ids of a journal, so that the transform stays pure.
        start: Journals of earlier days are never read.
        today: Journals of later days are not read yet.
        months: How far back a run reads that does not read everything.
    """

    client: ExpenseClient
    office: str
    unit: Unit
    masters: Masters
    start: date
    today: date
    months: int
    _seen: dict[str, str] = field(default_factory=dict)

    async def count(self, window: Window) -> int | None:  # noqa: ARG002 (the service does not say)
        """Not known."""
        return None

    async def pages(self, window: Window, position: Any) -> AsyncGenerator[SourcePage, None]:
        """The window's journals, then those that are to be tried again and were not in it.

        ``position`` is the portion at work and its next page: ``{"first", "last", "page"}``.
        """
        wanted: Sequence[str] = window.retry
        if window.mode is Mode.ONE:
            wanted = [window.key or ""]
        elif window.mode is not Mode.REJECTS:
            for first, last, page in self._portions(window, position):
                pages = self.client.journals(self.office, self.unit, first, last, page=page)
                async with contextlib.aclosing(pages):
                    async for found in pages:
                        where = {
                            "first": first.isoformat(),
                            "last": last.isoformat(),
                            "page": found.number + 1,
                        }
                        yield self._page(found.journals, where, found.server_date)
        missing = [key for key in wanted if key not in self._seen]
        async with contextlib.aclosing(self._by_key(missing)) as singly:
            async for each in singly:
                yield each

    def records(self, body: bytes) -> Iterable[tuple[str, Mapping[str, Any]]]:
        """The records of a page, as they were staged: with what their ids mean."""
        records: list[tuple[str, Mapping[str, Any]]] = orjson.loads(body)
        return records

    def whole_days(self, window: Window) -> tuple[date, date] | None:
        """The days that are read whole: see `flows.engine.pipeline.Recurring`."""
        if window.mode in (Mode.ONE, Mode.REJECTS):
            return None
        begin = self.start
        if window.mode is Mode.INCREMENTAL:
            begin = max(begin, months_later(self.today, -self.months))
        return window.days(begin, date.max)  # later ones are asked for by key

    async def gone(self, keys: Sequence[str]) -> set[str]:
        """Which records have no journal any more."""
        asked = {key: await self._day(key) for key in keys}
        return {key for key, day in asked.items() if day is None}

    async def _day(self, key: str) -> date | None:
        record = key.partition("/")[0]
        return await self.client.recognized_at(self.office, self.unit, record)

    def _portions(self, window: Window, position: Any) -> Iterator[tuple[date, date, int]]:
        """What is left to be read: days and the first page."""
        if position == _RETRIED:
            return
        begin, end = self.whole_days(window) or (self.today, self.today)
        end = min(end, self.today)
        if position:
            last = date.fromisoformat(position["last"])
            yield date.fromisoformat(position["first"]), last, position["page"]
            begin = last + timedelta(days=1)
        for first, last in windows(begin, end):
            yield first, last, 1

    async def _by_key(self, keys: Sequence[str]) -> AsyncGenerator[SourcePage, None]:
        """Records by their keys, from the lists of their days: what is gone is left out."""
        days: dict[date, set[str]] = {}
        for key in keys:
            day = await self._day(key)
            if day is not None:
                days.setdefault(day, set()).add(key.partition("/")[0])
        for day, records in sorted(days.items()):
            pages = self.client.journals(self.office, self.unit, day, day)
            async with contextlib.aclosing(pages):
                async for page in pages:
                    found = [j for j in page.journals if j.get(f"ex_{self.unit}_id") in records]
                    if found:
                        yield self._page(found, _RETRIED, page.server_date)

    def _page(
        self, journals: list[dict[str, Any]], position: Any, moment: datetime | None
    ) -> ParsedPage:
        records = [self._record(journal) for journal in journals]
        return ParsedPage(
            parsed=records,
            body=orjson.dumps(records),
            records=len(records),
            position=position,
            server_time=moment,
        )

    def _record(self, journal: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        record = self.masters.complete(journal)
        key, own = str(record[f"ex_{self.unit}_id"]), str(record["id"])
        if self._seen.setdefault(key, own) != own:
            # Expected is one journal of each (facts.toml). Which of two is right, a person decides.
            key = f"{key}/{own}"
            self._seen[key] = own
            record = {**record, DUPLICATE: True}
        return key, record
