"""The run at work: what the stages share without passing it through Prefect.

Prefect walks every task argument, so tasks get a `RunHandle` and find the rest here.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from connectors.kit import AppConnectError, Masker
from flows.engine.code_table import Unmapped
from flows.engine.lease import Lease
from flows.engine.ledger import Ledger, reversal_entity
from flows.engine.model import Changed, Counts, Mode, RunHandle, Window
from flows.engine.pipeline import DocumentSink, Pipeline, Sink, Source, Transformer
from flows.engine.store import Store

_RECENT = 20
"""In how many batches before it a record is recognised that was read twice: memory stays flat."""

_log = logging.getLogger(__name__)

Report = Callable[[str, int, int | None], Awaitable[None]]
"""Tells a person how far a stage is: stage, records done, records in all (``None`` = unknown)."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A row that a dry run would send, for the preview."""

    action: str
    key: str
    values: dict[str, str]


@dataclass
class RunContext:
    """One run.

    Attributes:
        resumed: The same flow run was at work before and left staged pages.
        open_rejects: Source key -> holder, of every reject that was open when the run began.
        seen_retries: Those of the retried source keys that the source returned.
        nothing: Source keys of records of which there is nothing to post.
        newest: Latest modification time that was read.
        server_time: The source's clock when extraction began.
        settled: Rows of earlier runs whose outcome was found out at the start.
        planned: The preview of a dry run (the first rows only).
        error: The error that ended a stage.
        changed: Of documents: what happens when a record changes after it was posted.
        destination: Which 法人 the books of this connection are about.
        posted_yen: Of documents: yen of those that this run posted or found, for the
            reconciliation with the books.
        unmapped: What コード変換表 lacks for what was read, known when it is converted.
        recent: Source keys of the last batches.
        log: Tells the operator something, in Prefect's log of the run when there is one.
    """

    handle: RunHandle
    store: Store
    pipeline: Pipeline[Any]
    source: Source
    sink: Any
    transformer: Transformer
    lease: Lease
    ledger: Ledger
    window: Window
    mode: Mode
    dry_run: bool
    masker: Masker
    report: Report
    resumed: bool = False
    position: dict[str, Any] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    open_rejects: dict[str, str | None] = field(default_factory=dict)
    seen_retries: set[str] = field(default_factory=set)
    nothing: list[str] = field(default_factory=list)
    newest: datetime | None = None
    server_time: datetime | None = None
    total: int | None = None
    planned: list[Planned] = field(default_factory=list)
    planned_keys: set[str] = field(default_factory=set)
    error: AppConnectError | None = None
    changed: Changed | None = None
    destination: str = ""
    posted_yen: int = 0
    unmapped: Unmapped = field(default_factory=Unmapped)
    recent: deque[set[str]] = field(default_factory=lambda: deque(maxlen=_RECENT))
    log: Callable[..., None] = _log.info
    _reported: float = 0.0

    @property
    def masters(self) -> Sink:
        """The sink of a connector that moves masters."""
        sink: Sink = self.sink
        return sink

    @property
    def documents(self) -> DocumentSink:
        """The sink of a connector that moves documents."""
        sink: DocumentSink = self.sink
        return sink

    @property
    def reversals(self) -> Ledger:
        """The books of reversed documents."""
        return Ledger(self.ledger.connection, reversal_entity(self.ledger.entity))

    @property
    def run_id(self) -> UUID:
        """Prefect's flow run id."""
        return self.handle.run_id

    async def progress(self, stage: str, done: int) -> None:
        """Show how far the stage is, at most every two seconds."""
        if time.monotonic() - self._reported >= 2.0:
            self._reported = time.monotonic()
            await self.report(stage, done, self.total)


_current: ContextVar[RunContext] = ContextVar("app_connect_run")


def enter(context: RunContext) -> None:
    """Make ``context`` the run at work, for the tasks called from here on."""
    _current.set(context)


def current(handle: RunHandle) -> RunContext:
    """The run at work.

    Raises:
        RuntimeError: the handle belongs to another run: a stage was called on its own.
    """
    context = _current.get(None)
    if context is None or context.handle != handle:
        raise RuntimeError(f"no run {handle.run_id} is at work here")
    return context
