"""The emulator's 仕訳伝票 of one tenant: imported at once or later, exported with a lag or not."""

from __future__ import annotations

import itertools
import operator
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors.bugyo._emulator_masters import Masters
from connectors.bugyo._emulator_query import Query
from connectors.bugyo._emulator_settings import EmulatorSettings
from connectors.bugyo._emulator_slip_rules import (
    CODE,
    DATE,
    HEADER,
    JOURNAL,
    NUMBER,
    SEPARATOR,
    VOUCHER,
    Error,
    named,
    slip_errors,
    split,
    totals,
)
from connectors.bugyo._emulator_values import (
    ImportResult,
    Refusal,
    Row,
    data_list,
    padded,
    refusal,
)

_NUMBER_DIGITS = 6


@dataclass(slots=True)
class StoredSlip:
    """One slip: its rows with the header on each, and from when on exports show it."""

    rows: list[Row]
    visible_at: float = 0.0
    visible_after: int = -1

    @property
    def header(self) -> Row:
        """The first row."""
        return self.rows[0]


@dataclass(slots=True)
class Job:
    """An accepted import: stored when it is due, told when it was asked for often enough."""

    rows: list[Any]
    due: float = 0.0
    asked: int = 0
    outcome: ImportResult | list[Error] | None = None


@dataclass(slots=True)
class JournalBook:
    """仕訳伝票 of one tenant.

    Attributes:
        masters: The tenant's, whose codes slips may use.
        slips: In the order of their storing.
        imports: Calls that stored something.
        exports: Export calls so far.
        jobs: Accepted key -> import.
        version: Changes with every change of the book.
    """

    masters: Masters
    slips: list[StoredSlip] = field(default_factory=list)
    imports: int = 0
    exports: int = 0
    jobs: dict[str, Job] = field(default_factory=dict)
    version: int = 0
    _by_voucher: dict[str, list[StoredSlip]] = field(default_factory=lambda: defaultdict(list))
    _numbers: set[str] = field(default_factory=set)
    _last_number: int = 0
    _at_work: threading.Lock = field(default_factory=threading.Lock)

    # --- import -------------------------------------------------------------------------------

    def take(self, body: Any, settings: EmulatorSettings) -> ImportResult | str:
        """``ImportJournalSlip``: what it did, or the accepted key under which it will.

        Raises:
            Refusal: nothing was stored.
        """
        self.run_due(settings)
        rows = data_list(body, settings.max_rows)
        if settings.slip_import == "sync":
            return self._import(rows, settings, at=time.monotonic())
        key = f"ACCEPT{len(self.jobs) + 1:08}"
        self.jobs[key] = Job(rows, due=time.monotonic() + settings.slip_async_seconds)
        self.version += 1
        return key

    def result(self, body: Any, settings: EmulatorSettings) -> ImportResult | list[Error] | None:
        """``ImportJournalSlipResult``: what the import did, its refusal, or ``None`` = not yet.

        Raises:
            Refusal: no such key.
        """
        self.run_due(settings)
        key = body.get("acceptKey") if isinstance(body, dict) else None
        job = self.jobs.get(key) if isinstance(key, str) else None
        if job is None or settings.slip_result == "unknown":
            raise refusal("E3090", "受付キーが見つかりません。")
        job.asked += 1
        return job.outcome if job.asked > settings.slip_result_polls else None

    def run_due(self, settings: EmulatorSettings) -> None:
        """Do the accepted imports whose time has come."""
        now = time.monotonic()
        with self._at_work:  # a test asks for the books from another thread
            for job in list(self.jobs.values()):
                if job.outcome is None and job.due <= now:
                    # It was done when it was due, whenever somebody asks.
                    job.outcome = self._do(job.rows, settings, at=job.due)
                    job.rows = []

    def _do(
        self, rows: list[Any], settings: EmulatorSettings, *, at: float
    ) -> ImportResult | list[Error]:
        if settings.slip_result == "failed":
            return [{"code": "E3091", "message": "受入処理に失敗しました。"}]
        try:
            return self._import(rows, settings, at=at)
        except Refusal as refused:
            return refused.errors

    def _import(self, rows: list[Any], settings: EmulatorSettings, *, at: float) -> ImportResult:
        errors: list[Error] = []
        good: list[list[Row]] = []
        vouchers: set[str] = set()
        numbers: set[str] = set()
        for first, part in split(rows):
            found = slip_errors(first, part, self.masters, settings)
            found = found or self._taken(first, part[0], vouchers, numbers, settings)
            errors += found
            if not found:
                good.append(part)
                vouchers.add(part[0].get(VOUCHER, ""))
                numbers.add(part[0].get(NUMBER, ""))
        if errors and settings.import_mode == "bare_400":
            raise refusal("E0009", "受入データに誤りがあります。")
        if errors and settings.import_mode == "all_or_nothing":
            raise Refusal(errors)
        for part in good:
            self._store(part, settings, at)
        self.imports += bool(good)
        return ImportResult(rows=len(rows), errors=errors)

    def _taken(
        self,
        first: int,
        header: Row,
        vouchers: set[str],
        numbers: set[str],
        settings: EmulatorSettings,
    ) -> list[Error]:
        """Numbers that another slip has already, stored or earlier in this call."""
        voucher, number = header.get(VOUCHER, ""), header.get(NUMBER, "")
        code, message, item = "", "", ""
        if number and (number in self._numbers or number in numbers):
            code, message, item = "E3008", f"伝票番号「{number}」は使用されています。", NUMBER
        if (
            settings.duplicate_voucher == "refuse"
            and voucher
            and (self._by_voucher.get(voucher) or voucher in vouchers)
        ):
            code, message, item = "E3010", f"証憑番号「{voucher}」は既に登録されています。", VOUCHER
        if not code:
            return []
        return [{"code": code, "message": message, "rowNo": first, "itemKey": item}]

    def _store(self, rows: list[Row], settings: EmulatorSettings, at: float) -> None:
        header = {code: value for code, value in rows[0].items() if code in HEADER and value}
        header[DATE] = padded(header[DATE])
        if NUMBER not in header:
            header[NUMBER] = self._next_number()
        full = [{**row, **header, SEPARATOR: "" if n else "*"} for n, row in enumerate(rows)]
        self._add(
            StoredSlip(
                full,
                visible_at=at + settings.slip_lag_seconds,
                visible_after=self.exports + settings.slip_lag_lookups,
            )
        )

    def _next_number(self) -> str:
        for number in itertools.count(self._last_number + 1):
            if (text := f"{number:0{_NUMBER_DIGITS}}") not in self._numbers:
                self._last_number = number
                return text
        raise AssertionError("unreachable: count() has no end")

    def _add(self, slip: StoredSlip) -> None:
        self.slips.append(slip)
        self._by_voucher[slip.header.get(VOUCHER, "")].append(slip)
        self._numbers.add(slip.header[NUMBER])
        self.version += 1

    def remove(self, voucher_number: str) -> int:
        """Slips with this 証憑番号 are deleted by a person; returns how many there were."""
        gone = self._by_voucher.pop(voucher_number, [])
        self.slips = [slip for slip in self.slips if slip.header.get(VOUCHER, "") != voucher_number]
        self._numbers -= {slip.header[NUMBER] for slip in gone}
        self.version += bool(gone)
        return len(gone)

    # --- export -------------------------------------------------------------------------------

    def export(self, body: Any, settings: EmulatorSettings) -> list[Row]:
        """``ExportJournalSlip``.

        Raises:
            Refusal: the request is not one that the contract allows.
        """
        self.run_due(settings)
        query = Query.of(JOURNAL, body)
        self.exports += 1
        now = time.monotonic()
        candidates: Iterable[StoredSlip] = self.slips
        if query.keys is not None:
            candidates = [slip for key in query.keys for slip in self._by_voucher.get(key, ())]
        found = [
            slip
            for slip in candidates
            if slip.visible_at <= now
            and slip.visible_after < self.exports
            and query.matches(slip.header)
        ]
        found.sort(key=lambda slip: operator.itemgetter(DATE, NUMBER)(slip.header))
        for code, descending in reversed(query.order):
            found.sort(key=lambda slip, code=code: slip.header.get(code, ""), reverse=descending)  # type: ignore[misc]
        return [{c: row.get(c, "") for c in query.columns} for slip in found for row in slip.rows]

    # --- for checkers -------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Everything the book holds, as JSON can hold it; what is accepted stays accepted."""
        return {
            "slips": [slip.rows for slip in self.slips],
            "imports": self.imports,
            "waiting": {key: job.rows for key, job in self.jobs.items() if job.outcome is None},
        }

    def restore(self, held: Mapping[str, Any]) -> None:
        """Hold what another book dumped, an empty book before."""
        self.imports = int(held["imports"])
        self.jobs = {key: Job(rows) for key, rows in held["waiting"].items()}
        for rows in held["slips"]:
            self._add(StoredSlip(rows))
        numbers = [int(number) for number in self._numbers if number.isdigit()]
        self._last_number = max((n for n in numbers if n < 10**_NUMBER_DIGITS), default=0)

    def vouchers(self) -> list[dict[str, Any]]:
        """Every slip with its totals, hidden by a lag or not."""
        return [
            {
                "voucher_number": slip.header.get(VOUCHER, ""),
                "number": slip.header[NUMBER],
                "date": slip.header[DATE],
                "description": slip.header.get(CODE["description"], ""),
                "rows": len(slip.rows),
                **totals(slip.rows),
            }
            for slip in list(self.slips)
        ]

    def rows(self) -> list[Row]:
        """Every row in our field names."""
        return [named(row) for slip in list(self.slips) for row in slip.rows]
