"""KING OF TIME as a source of the engine: which months or days a window means.

There is no 更新日時 and no paging. What is closed (締め) is a record; what is still open is not one
yet: it is left out and said so. The watermark is the day up to which everything was closed, so a
run goes on reading what was open, however old, and the last months in any case: a closing can be
taken back. The content hash keeps what did not change from being sent.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any

import orjson

from blocks import KingOfTimeCredentials
from connectors.kingoftime import PAST_YEARS, Employee, KingOfTimeClient, employee_of, slices
from connectors.kit import SettingsError
from connectors.kit.days import month_end, months_later, portions
from flows.engine.clock import JST
from flows.engine.handover import ParsedPage
from flows.engine.model import Mode, SourcePage, Window
from flows.engine.pipeline import Tools

_SURELY_OVER = timedelta(days=62)
"""A month without any record that is this long over was never worked in."""


def open_kingoftime(credentials: KingOfTimeCredentials, tools: Tools) -> KingOfTimeClient:
    """A client for the credentials of a block.

    Raises:
        SettingsError: ``AC-102``, the token is empty; ``AC-205``/``AC-207``, the address.
    """
    return KingOfTimeClient(
        credentials.access_token.get_secret_value(),
        endpoint=credentials.endpoint,
        masker=tools.masker,
    )


@dataclass(frozen=True, slots=True)
class _Span:
    """One request's worth of days; ``keys`` = only these records of it, ``None`` = all."""

    first: date
    last: date
    keys: frozenset[str] | None = None


@dataclass
class KingOfTimeSource:
    """月別勤怠 or 日別勤怠 of one company.

    A record's key is ``従業員コード/2026-10`` or ``従業員コード/2026-10-31``.

    Attributes:
        client: Open client.
        daily: Days instead of months.
        start: First day that is ever read, the first of a month.
        reread: How many months are read again even though they were closed, this one included.
        today: The day in Japan.
    """

    client: KingOfTimeClient
    daily: bool
    start: date
    reread: int
    today: date
    _employees: Mapping[str, Employee] | None = None
    _open: Counter[str] = field(default_factory=Counter)

    async def count(self, window: Window) -> int | None:  # noqa: ARG002
        """Unknown: it is known only when everything is read."""
        return None

    async def pages(self, window: Window, position: Any) -> AsyncGenerator[SourcePage, None]:
        """What is retried first, then the window: everything by ascending day."""
        position = position or {"read": "", "closed": True}
        whole, found_any = bool(position["closed"]), False
        for span in self._spans(window):
            if span.first.isoformat() <= position["read"]:
                continue
            found = await self._read(span)
            kept = [each for each in found if self._kept(*each, span, window)]
            newest = None
            if span.keys is None and whole:
                newest, whole = self._closed(span, [r for _, r in found])
            if kept:
                yield ParsedPage(
                    parsed=kept,
                    body=orjson.dumps([record for _, record in kept]),
                    records=len(kept),
                    position={"read": span.first.isoformat(), "closed": whole},
                    newest=None if newest is None else datetime.combine(newest, time(), JST),
                )
                found_any = True
        if window.mode is Mode.ONE and self._open and not found_any:
            raise SettingsError("AC-205", f"「{window.key}」の勤怠は、まだ締められていません")

    def records(self, body: bytes) -> Iterable[tuple[str, Mapping[str, Any]]]:
        """The records of a page."""
        for record in orjson.loads(body):
            yield self._key(record), record

    def remarks(self) -> Sequence[str]:
        """What was left out because it is not closed yet."""
        unit = "件" if self.daily else "名"
        listed = "、".join(f"{period} {n:,}{unit}" for period, n in sorted(self._open.items()))
        return [f"未締めのため連携していません: {listed}"] if listed else []

    def _spans(self, window: Window) -> list[_Span]:
        ends = self.today if self.daily else month_end(self.today)
        # What lies further back is not kept by the service.
        oldest = months_later(self.today.replace(day=1), 1 - 12 * PAST_YEARS)
        begins = max(self.start, oldest)
        if window.mode is Mode.ONE:
            _, _, period = (window.key or "").rpartition("/")
            if not _is_period(period):
                return self._cut(begins, ends, frozenset({window.key or ""}))
            return self._retries([window.key or ""], oldest, ends)
        if window.mode is Mode.REJECTS:
            return self._retries(window.retry, oldest, ends)
        if window.since is not None:
            again = months_later(self.today.replace(day=1), 1 - self.reread)
            begins = max(begins, min(window.since.astimezone(JST).date(), again))
        begins, ends = window.days(begins, ends)
        if not self.daily:
            begins = begins.replace(day=1)
        return [
            *self._retries(window.retry, oldest, begins - timedelta(days=1)),
            *self._cut(begins, ends),
        ]

    def _cut(self, first: date, last: date, keys: frozenset[str] | None = None) -> list[_Span]:
        if self.daily:
            return [_Span(start, end, keys) for start, end in slices(first, last)]
        months = portions(first.replace(day=1), month_end(last), month_end)
        return [_Span(start, end, keys) for start, end in months]

    def _retries(self, keys: Iterable[str], first: date, last: date) -> list[_Span]:
        """Records that are asked for by key, within these days, a month of them at a time."""
        asked: dict[date, set[str]] = {}
        for key in keys:
            period = key.rpartition("/")[2]
            if _is_period(period):
                day = date.fromisoformat(period if self.daily else f"{period[:7]}-01")
                if first <= day <= last:
                    asked.setdefault(day.replace(day=1), set()).add(key)
        return [
            _Span(max(first, month), min(last, month_end(month)), frozenset(keys))
            for month, keys in sorted(asked.items())
        ]

    async def _read(self, span: _Span) -> list[tuple[str, dict[str, Any]]]:
        if self.daily:
            found = await self.client.daily_workings(span.first, span.last)
        else:
            found = await self.client.monthly_workings(span.first)
        known: Mapping[str, Employee] = {}
        if any(employee_of(record, {}) is None for record in found):
            if self._employees is None:
                self._employees = await self.client.employees()
            known = self._employees
        named = []
        for record in found:
            employee = employee_of(record, known)
            said = None if employee is None else employee.model_dump(mode="json", by_alias=True)
            whose = {**record, "currentDateEmployee": said}
            named.append((self._key(whose), whose))
        return named

    def _key(self, record: Mapping[str, Any]) -> str:
        employee = record.get("currentDateEmployee") or {}
        who = employee.get("code") or record.get("employeeKey", "")
        return f"{who}/{self._period(record)}"

    def _period(self, record: Mapping[str, Any]) -> str:
        if self.daily:
            return str(record.get("date", ""))
        year, month = record.get("year", 0), record.get("month", 0)
        return f"{year}-{month:02}" if isinstance(month, int) else f"{year}-{month}"

    def _kept(self, key: str, record: Mapping[str, Any], span: _Span, window: Window) -> bool:
        if span.keys is not None and key not in span.keys:
            one = window.mode is Mode.ONE
            if not (one and any(_same(key, asked) for asked in span.keys)):
                return False
        # A reject whose closing was taken back stays one: the transform says why.
        if record.get("isClosing") is True or key in window.retry:
            return True
        self._open[self._period(record)[:7]] += 1
        return False

    def _closed(self, span: _Span, records: Sequence[Mapping[str, Any]]) -> tuple[date, bool]:
        """Up to which day (that one not included) all is closed, and whether that is all of it."""
        after = span.last + timedelta(days=1)
        if not records and span.last >= self.today - _SURELY_OVER:
            return span.first, False
        still = [record for record in records if record.get("isClosing") is not True]
        if not still:
            return min(after, self.today), after <= self.today
        if not self.daily:
            return span.first, False
        return min(date.fromisoformat(str(record["date"])) for record in still), False


def _is_period(text: str) -> bool:
    with contextlib.suppress(ValueError):
        date.fromisoformat(text if len(text) > 7 else f"{text}-01")
        return True
    return False


def _same(key: str, asked: str) -> bool:
    """Whether a person who typed ``asked`` means this record: zeros in front do not count."""
    code, _, period = asked.rpartition("/")
    if not _is_period(period):
        code, period = asked, ""
    who, _, when = key.rpartition("/")
    return who.lstrip("0") == code.lstrip("0") and period in ("", when)
