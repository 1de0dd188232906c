"""スマレジ as a source of the engine: which store-days a window means, and what they hold."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import orjson

from blocks import SmaregiCredentials
from connectors.kit import SettingsError
from connectors.smaregi import (
    SERVICE,
    Closing,
    SmaregiClient,
    Store,
    Transaction,
    windows,
)
from flows.engine.clock import business_date, now
from flows.engine.handover import ParsedPage
from flows.engine.model import Mode, SourcePage, Window
from flows.engine.pipeline import Tools
from flows.parts.smaregi_till import Till
from flows.parts.store_days import key_of, parse_key


def open_smaregi(credentials: SmaregiCredentials, tools: Tools) -> SmaregiClient:
    """A client for the credentials of a block.

    Raises:
        SettingsError: ``AC-205``/``AC-207``, the addresses.
    """
    return SmaregiClient(
        credentials.place(),
        credentials.contract,
        credentials.client_id,
        credentials.client_secret.get_secret_value(),
        masker=tools.masker,
    )


@dataclass
class _Day:
    """The stores of one 締め日 that have to be read, and the latest change among them."""

    stores: set[str] = field(default_factory=set)
    newest: datetime | None = None

    def note(self, store: str, updated: datetime | None = None) -> None:
        self.stores.add(store)
        if updated is not None:
            self.newest = max(self.newest or updated, updated)


@dataclass(frozen=True)
class StoreDays:
    """Store-days that are closed; a page is one 締め日, with those of its stores that changed.

    What changed is found by updDateTime of the closings (締め, 締め直し) *and* of the transactions
    (取消 after the closing); each store-day found is then read whole.

    Attributes:
        client: Open client.
        stores: By 店舗ID.
        start: The first 締め日 that is moved.
    """

    client: SmaregiClient
    stores: Mapping[str, Store]
    start: date

    async def count(self, window: Window) -> int | None:  # noqa: ARG002
        """Not known before the days are read."""
        return None

    async def pages(self, window: Window, position: Any) -> AsyncGenerator[SourcePage, None]:
        """The window's days in order; ``position`` is the last one that was read."""
        days = await self._days(window)
        for day in sorted(days):
            if position is not None and day.isoformat() <= position:
                continue
            records = await self._records(day, days[day].stores)
            if records:
                yield ParsedPage(
                    parsed=records,
                    body=orjson.dumps(records),
                    records=len(records),
                    position=day.isoformat(),
                    # Of the lists only: what changes while the days are read is the next run's.
                    newest=days[day].newest,
                )

    def records(self, body: bytes) -> Iterable[tuple[str, Mapping[str, Any]]]:
        """The records of a page."""
        return [(key, record) for key, record in orjson.loads(body)]

    async def _days(self, window: Window) -> dict[date, _Day]:
        days: dict[date, _Day] = {}

        def note(row: Closing | Transaction) -> None:
            if row.day is not None and row.day >= self.start:
                days.setdefault(row.day, _Day()).note(row.store, row.updated)

        if window.mode is Mode.ONE:
            store, day = _asked(window.key or "")
            return {day: _Day({store})}
        if window.mode in (Mode.INCREMENTAL, Mode.REJECTS):
            for store, day in map(parse_key, window.retry):
                if day >= self.start:
                    days.setdefault(day, _Day()).note(store)
        if window.mode is Mode.REJECTS:
            return days
        until = now()
        if window.since is None:
            for first, last in windows(*window.days(self.start, business_date(until))):
                async for closing in self.client.closings("sum_date", first, last):
                    note(closing)
            return days
        for begin, end in windows(window.since, until):
            async for closing in self.client.closings("upd_date_time", begin, end):
                note(closing)
            async for sale in self.client.changed_sales(begin, end):
                note(sale)
        return days

    async def _records(self, day: date, stores: set[str]) -> list[tuple[str, dict[str, Any]]]:
        """The store-days that are closed; the others come when they are."""
        only = {"store_id": min(stores)} if len(stores) == 1 else {}
        closings: dict[tuple[str, str], Closing] = {}  # one may come twice
        async for closing in self.client.closings("sum_date", day, day, **only):
            if closing.store in stores:
                closings[closing.store, closing.drawer] = closing
        tills = {store: Till() for store, _ in sorted(closings)}
        if tills:
            async for sale in self.client.sales_of(day, only.get("store_id", "")):
                if (till := tills.get(sale.store)) is not None:
                    till.add(sale)
        return [
            (key_of(store, day), till.result(self._store(store), day, mine).record())
            for store, till in tills.items()
            for mine in [[c for (of, _), c in closings.items() if of == store]]
        ]

    def _store(self, number: str) -> Store:
        return self.stores.get(number) or Store(id=number, name=f"店舗{number}")


def _asked(key: str) -> tuple[str, date]:
    try:
        return parse_key(key)
    except ValueError:
        wrong = f"「{key}」: 店舗IDと締め日を「12:2026-11-20」のように指定します"
        raise SettingsError("AC-205", wrong, service=SERVICE) from None
