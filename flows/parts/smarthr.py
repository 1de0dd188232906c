"""SmartHR as a source of the engine: a scan from the newest change down, while crews move.

There is no filter on ``updated_at``, so crews are read newest change first until they are older
than the window. Between two requests people go on working, and every page is counted anew:

- *A crew is changed or added*: it goes to the front, and those before it move back by one. What
  moves over a page's end is met twice; it is recognised by its id and change, and passed over. The
  crew itself is now on a page that was read: when a scan took more than one request, another one
  reads from the top down to where the first began, until one page shows all of it in one moment.
- *A crew is deleted*: those behind it move forward, over a page's end onto a page that was read,
  and would be skipped. That takes more deletions than additions, so the total of all crews, which
  every answer tells, is smaller than before: then the scan steps back by as many pages.

So the first page of a scan is also the upper end of what it knows; the watermark is the newest
change that was read, which the engine keeps when the whole run has ended well. A position in the
middle holds the total as it was, and a resumed scan steps back like any other.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from typing import Any

import orjson

from blocks import SmartHRCredentials
from connectors.kit import Failure, FaultError, SettingsError, Timer
from connectors.kit.paging import chunks
from connectors.smarthr import PAGE_SIZE, PROFILE, Crew, CrewPage, SmartHRClient
from flows.engine.handover import ParsedPage
from flows.engine.model import Mode, SourcePage, Window
from flows.engine.pipeline import Tools

LABELS: Mapping[str, str] = {
    "emp_code": "社員番号",
    "emp_status": "在籍状況",
    "entered_at": "入社年月日",
    "resigned_at": "退職年月日",
    "last_name": "姓",
    "first_name": "名",
    "last_name_yomi": "姓（カタカナ）",
    "first_name_yomi": "名（カタカナ）",
    "business_last_name": "ビジネスネーム：姓",
    "business_first_name": "ビジネスネーム：名",
    "business_last_name_yomi": "ビジネスネーム：姓（カタカナ）",
    "business_first_name_yomi": "ビジネスネーム：名（カタカナ）",
    "gender": "戸籍上の性別",
    "birth_at": "生年月日",
    "tel_number": "電話番号",
    "email": "メールアドレス",
    "address": "現住所",
    "departments": "部署",
    "employment_type": "雇用形態",
}
"""What SmartHR's own screens call the attributes."""


def open_smarthr(
    credentials: SmartHRCredentials,
    tools: Tools,
    timer: Timer = Timer(),  # noqa: B008 (frozen)
) -> SmartHRClient:
    """A client for the credentials of a block.

    Raises:
        SettingsError: ``AC-102``, there is no token; ``AC-201`` sub-domain; ``AC-205`` address.
    """
    token = credentials.access_token.get_secret_value().strip()
    if not token:
        raise SettingsError("AC-102", service=PROFILE.name)
    return SmartHRClient(
        credentials.subdomain,
        token=token,
        endpoint=credentials.endpoint,
        masker=tools.masker,
        timer=timer,
    )


@dataclass(frozen=True, slots=True)
class _Scan:
    """How far a scan is: the position that a resumed run begins with.

    Attributes:
        floor: Oldest change that is wanted, ISO; empty = everything.
        page: The page that comes next.
        top: Newest change when the scan began, ISO; empty = it has not begun.
        total: Crews in all, when the page before was read.
    """

    floor: str = ""
    page: int = 1
    top: str = ""
    total: int = 0


@dataclass
class SmartHRSource:
    """The crews of one customer.

    Attributes:
        client: Open client.
        fields: Attributes that the transform reads.
        width: Digits of 社員番号 at 奉行クラウド; ``None`` = as many as there are.
        retired_since: Crews who retired before this day are passed over.
        size: Crews per request.
    """

    client: SmartHRClient
    fields: Sequence[str]
    width: int | None = None
    retired_since: date | None = None
    size: int = PAGE_SIZE
    _first: CrewPage | None = field(default=None, init=False)

    async def count(self, window: Window) -> int | None:
        """How many crews there are, when all of them are read; it costs no request of its own."""
        if not _reads_all(window):
            return None
        self._first = await self._ask()
        return None if self.retired_since else self._first.total

    async def pages(self, window: Window, position: Any) -> AsyncGenerator[SourcePage, None]:
        """Single crews first (retried ones, or the one asked for), then the scan.

        ``position`` is ``["single", n]`` (n requests of single crews are done), ``["scan", …]`` or
        ``["end"]``.
        """
        kind: str
        where: Any
        kind, where = position or ("single", 0)
        if kind == "single":
            for number, asked in enumerate(self._single(window)):
                if number >= where:
                    page = await self._ask(**asked)
                    # What changed within the window comes with the scan.
                    crews = [c for c in page.crews if not _within(c, window.since)]
                    yield self._page(page, crews, window, ("single", number + 1))
        if kind == "end" or window.mode in (Mode.ONE, Mode.REJECTS):
            return
        oldest = window.moments[0] if window.moments else window.since
        floor = oldest.isoformat() if oldest else ""
        scan = _Scan(**where) if kind == "scan" else _Scan(floor)
        async with contextlib.aclosing(self._scan(scan, window)) as scanned:
            async for each in scanned:
                yield each

    async def _scan(self, scan: _Scan, window: Window) -> AsyncGenerator[SourcePage, None]:
        whole = _reads_all(window) and scan == _Scan()
        seen: dict[str, str] = {}
        going: _Scan | None = scan
        while going is not None:
            page = await self._next_page(going.page)
            if going.page > 1 and page.total < going.total:
                back = math.ceil((going.total - page.total) / self.size)
                going = replace(going, page=max(1, going.page - back), total=page.total)
                continue
            since = datetime.fromisoformat(going.floor) if going.floor else None
            wanted = [c for c in page.crews if since is None or _within(c, since)]
            crews = [c for c in wanted if seen.get(c["id"]) != c["updated_at"]]
            seen |= {c["id"]: c["updated_at"] for c in crews}
            if window.moments:
                # Newer changes are read on the way down, and are the next run's.
                crews = [c for c in crews if _moment(c) < window.moments[1]]
            going = _after(going, page, end=page.last or len(wanted) < len(page.crews))
            position = ("end", None) if going is None else ("scan", asdict(going))
            yield self._page(page, crews, window, position)
        if whole and len(seen) < page.total:
            # Crews without 社員番号 that one import changed in the same moment are in no order.
            raise FaultError(
                "AC-302",
                f"{page.total:,} 件のはずが {len(seen):,} 件",
                service=PROFILE.name,
                failure=Failure.UNREADABLE,
            )

    async def _next_page(self, number: int) -> CrewPage:
        page, self._first = self._first, None
        if page is not None and number == 1:
            return page
        return await self._ask(page=number)

    async def _ask(self, **asked: Any) -> CrewPage:
        return await self.client.crews(fields=self.fields, size=self.size, **asked)

    def _single(self, window: Window) -> list[dict[str, Any]]:
        """What to ask for crews that are not found by their change."""
        if window.mode is Mode.ONE:
            key = window.key or ""
            # However many zeros SmartHR has on its left.
            spellings = (key, key.lstrip("0") or "0", key.zfill(self.width or 0))
            return [{"emp_code": code} for code in dict.fromkeys(spellings)]
        if window.mode is Mode.REJECTS or window.since is not None:
            return [{"ids": ids} for ids in chunks(window.retry, self.size)]
        return []

    def _page(self, page: CrewPage, crews: list[Crew], window: Window, position: Any) -> ParsedPage:
        """A page for the engine, of those crews that are to be moved.

        Raises:
            SettingsError: ``AC-203``, the token may not see an attribute. It does not come as
                empty then but not at all, and must not empty it at 奉行クラウド.
        """
        hidden = [name for name in self.fields if any(name not in crew for crew in crews)]
        if hidden:
            names = "、".join(LABELS[name] for name in hidden)
            raise SettingsError("AC-203", names, service=PROFILE.name)
        moved = crews
        if self.retired_since is not None and window.mode is not Mode.ONE:
            limit = self.retired_since.isoformat()
            moved = [c for c in crews if not _retired_before(c, limit)]
        newest = max((_moment(c) for c in crews), default=None)
        return ParsedPage(
            parsed=[(crew["id"], crew) for crew in moved],
            body=page.raw if moved == page.crews else orjson.dumps(moved),
            records=len(moved),
            position=position,
            newest=newest if window.mode in (Mode.INCREMENTAL, Mode.FULL) else None,
            server_time=page.server_date,
        )

    def records(self, body: bytes) -> Iterable[tuple[str, Mapping[str, Any]]]:
        """The crews of a page; their key is SmartHR's own id."""
        for crew in orjson.loads(body):
            yield crew["id"], crew


def _reads_all(window: Window) -> bool:
    return window.mode in (Mode.INCREMENTAL, Mode.FULL) and window.since is None


def _after(scan: _Scan, page: CrewPage, *, end: bool) -> _Scan | None:
    """Where reading goes on behind ``page``; ``None`` = everything is read."""
    top = scan.top or (page.crews[0]["updated_at"] if page.crews else scan.floor)
    if not end:
        return replace(scan, page=scan.page + 1, top=top, total=page.total)
    # One page shows one moment: nothing moved behind it. Otherwise look at what changed since.
    return None if scan.page == 1 else _Scan(floor=top)


def _moment(crew: Crew) -> datetime:
    return datetime.fromisoformat(crew["updated_at"])


def _within(crew: Crew, since: datetime | None) -> bool:
    return since is not None and _moment(crew) >= since


def _retired_before(crew: Mapping[str, Any], day: str) -> bool:
    return crew["emp_status"] == "retired" and (crew["resigned_at"] or "9999") < day
