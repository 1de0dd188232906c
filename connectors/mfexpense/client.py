"""Reading マネーフォワード クラウド経費: offices, masters, journals; one request at a time.

Journals are found by 計上日 only, three months at most at once (quirk 8): one that is approved late
appears with an old date. Who reads must therefore read a window again and again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal, Unpack

from pydantic import TypeAdapter, ValidationError

from connectors.kit import AppConnectError, Authorizer, FaultError, ServiceClient, Wiring
from connectors.kit.days import months_later, portions
from connectors.kit.paging import NoRepeat
from connectors.mfexpense._errors import ERRORS
from connectors.mfexpense._host import HOST, PROFILE, ROOT
from connectors.mfexpense.facts import fact
from connectors.mfexpense.models import Masters, Office

Unit = Literal["transaction", "report"]
"""What a journal belongs to: an expense (経費明細), or a report of several (経費申請)."""

MONTHS: int = fact("window_months")
"""Months of 計上日 that one request may ask for."""

_LISTS = {
    "excise": "excises",
    "dept": "depts",
    "project_code": "project_codes",
    "ex_destination": "ex_destinations",
}
"""Masters that have a list of their own; 勘定科目 and 補助科目 come inside of ex_items."""

_OFFICES = TypeAdapter(list[Office])


def windows(first: date, last: date) -> Iterator[tuple[date, date]]:
    """The days from ``first`` to ``last`` in portions that one request may ask for."""
    # A day less than three months: whether both ends count is not known (facts.toml).
    return portions(first, last, lambda day: months_later(day, MONTHS) - timedelta(days=1))


@dataclass(frozen=True, slots=True)
class JournalPage:
    """One answer with journals.

    Attributes:
        number: Page number, from 1.
        journals: As the service sent them.
        server_date: The service's own clock when it answered.
    """

    number: int
    journals: list[dict[str, Any]]
    server_date: datetime | None


class ExpenseClient(ServiceClient):
    """One user's クラウド経費. An async context manager; its requests wait for each other.

    Args:
        authorizer: A `connectors.kit.TokenAuthorizer`.
        wiring: See `connectors.kit.Wiring`.
    """

    def __init__(self, *, authorizer: Authorizer, **wiring: Unpack[Wiring]) -> None:
        super().__init__(PROFILE, HOST, ERRORS.classify, authorizer, **wiring)

    async def offices(self) -> list[Office]:
        """The offices (事業所) that the user belongs to.

        Raises:
            AppConnectError: as `journals`.
        """
        found = [entry async for page in self._list("/offices", "offices") for entry in page[1]]
        try:
            return _OFFICES.validate_python(found)
        except ValidationError:
            raise FaultError("AC-303", service=self.service) from None

    async def masters(self, office: str) -> Masters:
        """Every master that a journal's ids point to.

        Args:
            office: Office id.

        Raises:
            AppConnectError: as `journals`.
        """
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for kind, resource in _LISTS.items():
            pages = self._list(f"/offices/{office}/{resource}", resource)
            found[kind] = {str(entry["id"]): entry async for page in pages for entry in page[1]}
        found["item"], found["sub_item"] = {}, {}
        async for _, entries, _ in self._list(f"/offices/{office}/ex_items", "ex_items"):
            for entry in entries:
                for kind in ("item", "sub_item"):
                    if inner := entry.get(kind):
                        found[kind][str(inner["id"])] = inner
        return Masters(found)

    async def journals(
        self, office: str, unit: Unit, first: date, last: date, *, page: int = 1
    ) -> AsyncGenerator[JournalPage, None]:
        """Journals whose 計上日 is in a window, page by page.

        Args:
            office: Office id.
            unit: One journal per expense, or one per report.
            first: First 計上日.
            last: Last 計上日, at most three months later (see `windows`).
            page: Where to begin.

        Yields:
            Pages with at least one journal.

        Raises:
            ReauthorizeError: ``AC-101``, the grant is gone.
            SettingsError: ``AC-203`` permission, ``AC-205`` anything that the service refuses.
            WaitError: ``AC-502`` maintenance, ``AC-503`` too many requests.
            FaultError: ``AC-301``/``AC-303``/``AC-501``, or ``AC-302`` when a page repeats.
        """
        asked = {
            "query_object[recognized_at_from]": first.isoformat(),
            "query_object[recognized_at_to]": last.isoformat(),
        }
        path = f"/offices/{office}/ex_journals_by_ex_{unit}s"
        async for number, entries, moment in self._list(path, "ex_journals", asked, page=page):
            yield JournalPage(number, entries, moment)

    async def recognized_at(self, office: str, unit: Unit, record: str) -> date | None:
        """計上日 of the journal of one expense or report; ``None`` = there is none (any more).

        The lists name more of a journal than this call does, so only its date is taken from here.

        Args:
            office: Office id.
            unit: Kind of record.
            record: Id of the expense or report.

        Raises:
            AppConnectError: as `journals`.
        """
        path = f"{ROOT}/offices/{office}/ex_{unit}s/{record}/ex_journal"
        try:
            answer = await self._http.request("GET", path, kind="read")
        except AppConnectError as error:
            if error.detail.status == 404:
                return None
            raise
        try:
            return date.fromisoformat(answer.json()["recognized_at"])
        except (KeyError, TypeError, ValueError):
            raise answer.unreadable() from None

    async def _list(
        self, path: str, key: str, asked: Mapping[str, str] | None = None, *, page: int = 1
    ) -> AsyncGenerator[tuple[int, list[dict[str, Any]], datetime | None], None]:
        """The pages of a list: their number, entries, and the service's clock.

        Raises:
            FaultError: ``AC-302``, a page came twice, or an empty one announces another.
        """
        guard = NoRepeat(self.service)
        while True:
            params = {"page": str(page), **(asked or {})}
            answer = await self._http.request("GET", f"{ROOT}{path}", kind="read", params=params)
            said = answer.json()
            entries = said.get(key)
            if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
                raise answer.unreadable()
            # Without the links (they are not documented everywhere) an empty page is the end.
            more = bool(said["next"]) if "next" in said else bool(entries)
            if not entries:
                if more:
                    empty = f"{page} ページ目は空なのに、続きがあるとされています"
                    raise FaultError("AC-302", empty, detail=answer.detail)
                return
            guard.check(tuple(entry.get("id") for entry in entries))
            yield page, entries, answer.date
            if not more:
                return
            page += 1
