"""Reading スマレジ: stores, daily closings, sales.

Two rules of the service shape every list: a range of dates is mandatory and at most 31 days long,
and pages are numbered, so that a row which leaves the range shifts all that follow. Lists are read
by seeking instead: the next request begins at the last value of the ranged field.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any, TypeVar, Unpack
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ValidationError

from connectors.kit import Answer, Failure, FaultError, Masker, ServiceClient, Wiring
from connectors.kit.app_tokens import AppTokens
from connectors.kit.paging import ensure_increasing
from connectors.smaregi._errors import ERRORS
from connectors.smaregi._facts import FACTS, SERVICE, WINDOW_DAYS, Environment
from connectors.smaregi.models import HEAD_FIELDS, Closing, Store, Transaction

_LISTS: Mapping[str, Any] = FACTS["lists"]
_Row = TypeVar("_Row", bound=BaseModel)
_Moment = TypeVar("_Moment", date, datetime)


def windows(since: _Moment, until: _Moment) -> Iterator[tuple[_Moment, _Moment]]:
    """Ranges of at most 31 days that cover ``since`` to ``until``, both inclusive.

    Of dates no day comes twice; of moments each range begins where the one before it ended.
    """
    step = timedelta(days=WINDOW_DAYS)
    inclusive = timedelta(0) if isinstance(since, datetime) else timedelta(days=1)
    start = since
    while start <= until:
        end = min(until, start + step - inclusive)
        yield start, end
        if end == until:
            return
        start = end + inclusive


class SmaregiClient(ServiceClient):
    """One contract. An async context manager.

    Args:
        place: Which スマレジ.
        contract: 契約ID.
        client_id: クライアントID.
        client_secret: クライアントシークレット.
        wiring: See `connectors.kit.Wiring`; addresses and limits are those of ``place``.
    """

    def __init__(
        self,
        place: Environment,
        contract: str,
        client_id: str,
        client_secret: str,
        **wiring: Unpack[Wiring],
    ) -> None:
        path = FACTS["token"]["path"].format(contract=quote(contract, safe=""))
        wiring.setdefault("masker", Masker())  # one, which learns the tokens, too
        wiring["endpoint"] = place.id_base
        tokens = AppTokens(
            place.profile,
            urlsplit(place.id_base).netloc,
            path,
            client_id,
            client_secret,
            FACTS["token"]["scopes"],
            f"契約ID {contract}",
            **wiring,
        )
        self._root = f"/{contract}/pos"
        wiring["endpoint"] = place.api_base
        host, classify = urlsplit(place.api_base).netloc, ERRORS.classifier(self._root)
        super().__init__(place.profile, host, classify, tokens.authorizer(), **wiring)

    async def stores(self) -> dict[str, Store]:
        """Every store, by 店舗ID.

        Raises:
            AppConnectError: by the contract's errors: ``AC-102``, ``AC-201``, ``AC-203``,
                ``AC-301``, ``AC-303``, ``AC-50x``.
        """
        found: dict[str, Store] = {}
        size, page = _LISTS["stores"]["limit"], 1
        while True:
            rows, _ = await self._get("stores", Store.model_validate, {"limit": size, "page": page})
            found |= {row.id: row for row in rows}
            if len(rows) < size:
                return found
            page += 1

    def closings(self, field: str, since: date, until: date, **more: str) -> AsyncIterator[Closing]:
        """日次締め of a range of at most 31 days; one may come twice.

        Args:
            field: ``sum_date``, or ``upd_date_time`` with aware moments.
            since: First value.
            until: Last value.
            more: Further conditions, e.g. ``store_id``.
        """
        return self._seek("closings", Closing.model_validate, field, since, until, more)

    def changed_sales(self, since: datetime, until: datetime) -> AsyncIterator[Transaction]:
        """Heads of transactions that were written or changed in a range of at most 31 days."""
        more = {"fields": ",".join(HEAD_FIELDS)}
        read = Transaction.tolerant
        return self._seek("transactions", read, "upd_date_time", since, until, more)

    async def sales_of(self, day: date, store: str = "") -> AsyncIterator[Transaction]:
        """Transactions of one 締め日 with details and payments, by ascending id.

        Args:
            day: 締め日.
            store: 店舗ID; empty = of all stores.

        Raises:
            FaultError: ``AC-302``, the ids do not grow.
        """
        size = _LISTS["transactions"]["limit_with_details"]
        params: dict[str, Any] = {
            "sum_date": day.isoformat(),
            "sort": "transactionHeadId:asc",
            "limit": size,
            "with_details": "all",
            "with_deposit_others": "all",
        }
        if store:
            params["store_id"] = store
        last = 0
        while True:
            begin = {"transaction_head_id-from": last + 1} if last else {}
            rows, _ = await self._get("transactions", Transaction.tolerant, params | begin)
            last = ensure_increasing(last, [row.id for row in rows], SERVICE)
            for row in rows:
                yield row
            if len(rows) < size:
                return

    async def _seek(
        self,
        which: str,
        read: Callable[[Any], _Row],
        field: str,
        since: date,
        until: date,
        more: Mapping[str, str],
    ) -> AsyncIterator[_Row]:
        attribute, sort = {
            "sum_date": ("day", "sumDate"),
            "upd_date_time": ("updated", "updDateTime"),
        }[field]
        size = _LISTS[which]["limit"]
        start, page = since, 1
        seen: set[str] = set()  # of one value that fills more than a page
        fresh = False
        while True:
            params = {
                f"{field}-from": _wire(start),
                f"{field}-to": _wire(until),
                "sort": f"{sort}:asc",
                "limit": size,
                "page": page,
                **more,
            }
            rows, answer = await self._get(which, read, params)
            for row in rows:
                if (word := repr(row)) not in seen:
                    seen.add(word)
                    fresh = True
                    yield row
            if len(rows) < size:
                if page == 1 or not fresh:
                    return
                # Paged by number: what moved up over a page's end meanwhile was skipped. Once
                # more, until a pass brings nothing new.
                page, fresh = 1, False
                continue
            reached = getattr(rows[-1], attribute)
            if reached < start:
                words = f"{sort} が {_wire(start)} から {_wire(reached)} に戻りました"
                raise FaultError("AC-302", words, detail=answer.detail, failure=Failure.UNREADABLE)
            # A whole page of one and the same value: only its number leads on.
            if reached > start:
                start, page = reached, 1
                seen.clear()
            else:
                page += 1

    async def _get(
        self, which: str, read: Callable[[Any], _Row], params: Mapping[str, Any]
    ) -> tuple[list[_Row], Answer]:
        path = self._root + _LISTS[which]["path"]
        answer = await self._http.request("GET", path, kind="read", params=params)
        said = answer.json()
        try:
            return [read(row) for row in said], answer
        except (ValidationError, TypeError):  # their words would carry what people bought
            raise answer.unreadable() from None


def _wire(moment: date) -> str:
    if isinstance(moment, datetime):
        return moment.isoformat(timespec="seconds")
    return moment.isoformat()
