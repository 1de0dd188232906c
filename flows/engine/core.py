"""One run from beginning to end: open, settle, extract, transform, load, close (design 4).

Nothing here knows Prefect: what a person sees of a run, and how its stages are shown, is a
`Surface`. `flows.engine.run` is the one that users meet.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from connectors.kit import AppConnectError, FaultError, Masker, SettingsError, WaitError
from flows.engine import history, licences, points, rejects, staging
from flows.engine.brake import Brake, in_flight, lapse_is_a_stop
from flows.engine.clock import now
from flows.engine.closing import close, close_cancelled, close_with_error, ending_words
from flows.engine.code_table import Unmapped, open_book
from flows.engine.collecting import fewer_collections
from flows.engine.context import Planned, Report, RunContext
from flows.engine.lease import lease
from flows.engine.ledger import (
    PENDING,
    UNCLEAR,
    UNSENT,
    Ledger,
    assert_fence,
)
from flows.engine.missed import Newer, make_way, not_needed
from flows.engine.model import Counts, Mode, Result, RunHandle, Trigger, Window
from flows.engine.opening import load_connection, secrets_of
from flows.engine.period import check_period
from flows.engine.pipeline import Pipeline, Tools
from flows.engine.postponing import Postponement, postponement
from flows.engine.resting import RESTS, awake
from flows.engine.settling import settle
from flows.engine.store import RunRow, Store
from flows.engine.timing import timing_of
from flows.engine.tokens import Vault

SKIPS = frozenset({"AC-601", "AC-605", "AC-606", RESTS})
"""Errors that mean: this run was not needed."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run.

    Attributes:
        run_id: Id of the run; the same id again resumes it.
        connection: Name of the connection.
        trigger: 実行種別.
        mode: What is read.
        record_key: Key of the one record (`Mode.ONE`).
        record_keys: Source keys of the rejects that are sent again (`Mode.REJECTS`); empty = all.
        begins: First day of the period (`Mode.PERIOD`), in Japan.
        ends: Its last day, included.
        dry_run: Show what would be sent, send nothing, keep no books but the history.
        started_at: Its business date is that of this moment, however long it takes.
        deadline: After how long it ends, whatever happens; ``None`` = no limit.
        scheduled_for: Of a scheduled run: the time that it is meant for.
        attempt: Which time it is at work, from 1; see `flows.engine.postponing`.
        postponable: Whether somebody runs it again when it is put off.
    """

    run_id: UUID
    connection: str
    trigger: Trigger
    mode: Mode = Mode.INCREMENTAL
    record_key: str | None = None
    dry_run: bool = False
    started_at: datetime = field(default_factory=now)
    deadline: timedelta | None = None
    record_keys: tuple[str, ...] = ()
    scheduled_for: datetime | None = None
    attempt: int = 1
    postponable: bool = False
    begins: date | None = None
    ends: date | None = None


class Surface(Protocol):
    """How a run shows itself while it is at work."""

    @property
    def progress(self) -> Report:
        """Tells how far a stage is."""
        ...

    def log(self, message: str, *values: object) -> None:
        """Something for the operator."""
        ...

    async def stages(self, run: RunContext) -> None:
        """Run extract, transform and load; an error that ends one goes to ``run.error``."""
        ...


@dataclass(slots=True)
class Ending:
    """How a run ended.

    Attributes:
        row: Its row in the history; ``None`` = the books could not be opened, or it rests
            (``AC-607``).
        counts: ``None`` = not known.
        planned: The preview of a dry run.
        unmapped: What コード変換表 lacks.
        postponed: When it is to be run again (`Result.POSTPONED`).
    """

    result: Result
    message: str
    row: RunRow | None = None
    counts: Counts | None = None
    error: AppConnectError | None = None
    planned: list[Planned] = field(default_factory=list)
    unmapped: Unmapped = field(default_factory=Unmapped)
    postponed: Postponement | None = None


async def execute(
    pipeline: Pipeline[Any],
    order: Order,
    surface: Surface,
    *,
    load_block: Callable[[Pipeline[Any], str], Any] = load_connection,
    brake: Brake | None = None,
    newer: Newer | None = None,
) -> Ending:
    """Run a connector once; every failure is an ending, never an exception.

    Args:
        pipeline: The connector.
        order: What is to be run.
        surface: Shows it.
        load_block: Loads the connection (awaited).
        brake: Ends it early; whoever pulls it says why.
        newer: Asked by a scheduled run before it begins; see `Newer`.
    """
    brake = brake or Brake()
    masker = Masker()
    row: RunRow | None = None
    store: Store | None = None
    meant_for = order.scheduled_for
    try:
        store = Store()

        async def load() -> Any:
            loaded = await load_block(pipeline, order.connection)
            masker.add(*secrets_of(loaded))
            return loaded

        # Asked first: the longer a run looks around, the more of the next ones are due.
        due = await newer() if newer is not None and meant_for is not None else []
        block, works = await awake(store, order.run_id, order.connection, meant_for, load)
        row = _open(store, pipeline, order)
        async with brake.over(order.deadline):
            make_way(meant_for, due, works)
            block = block or await load()
            if meant_for is not None:
                timing_of(block)  # one that cannot be read is told, and not taken for another
            await _check_licence(store, row, block, order.started_at, surface)
            if order.mode is Mode.ONE and not (order.record_key or "").strip():
                raise SettingsError("AC-205", f"「1件」では{pipeline.key_label}を指定します")
            check_period(order.mode, order.begins, order.ends)
            return await _run(store, row, pipeline, block, masker, order, surface, brake)
    except AppConnectError as error:
        problem = error
    except Exception as error:  # noqa: BLE001 (the last line: a clerk never reads a traceback)
        problem = unexpected(error, masker, surface.log)
    except BaseException:
        # Cancelled or terminated: say so in our own history before the process goes.
        if store is not None and row is not None:
            close_cancelled(store, row)
        raise
    problem.mask(masker.mask)
    return await _end_with_error(store, row, pipeline, problem, order)


def unexpected(error: Exception, masker: Masker, log: Callable[..., None]) -> FaultError:
    """A bug, for a person: its class. The traceback goes to the log, without secrets."""
    log("%s", masker.mask("".join(traceback.format_exception(error))))
    return FaultError("AC-901", type(error).__name__)


def _open(store: Store, pipeline: Pipeline[Any], order: Order) -> RunRow:
    with store.session() as session:
        return history.open_run(
            session,
            run_id=order.run_id,
            connection=order.connection,
            connector=pipeline.connector,
            service=pipeline.service,
            trigger=order.trigger,
            mode=order.mode,
            dry_run=order.dry_run,
            started_at=order.started_at,
            scheduled_for=order.scheduled_for,
        )


async def _check_licence(
    store: Store, row: RunRow, block: Any, at: datetime, surface: Surface
) -> None:
    number, phone = block.registration_number, block.phone
    word = await licences.admit(store, row.connection, row.connector, number, phone, at)
    if word is not None:
        surface.log("%s", word)


async def _run(
    store: Store,
    row: RunRow,
    pipeline: Pipeline[Any],
    block: Any,
    masker: Masker,
    order: Order,
    surface: Surface,
    brake: Brake,
) -> Ending:
    async with lease(store, row.connection, row.id, order.deadline) as held, lapse_is_a_stop():
        brake.engage(held, lambda: store.do(in_flight, row.connection, row.id))
        with store.session() as session:
            history.mark_interrupted(session, row.connection, current=row.id)
        await store.do(not_needed, row.id, row.connection, order.scheduled_for)
        await store.do(history.same_destination, row.connection, block.destination())
        tools = Tools(masker, Vault(store))
        async with contextlib.AsyncExitStack() as stack:
            source = await stack.enter_async_context(pipeline.open_source(block, tools))
            sink = await stack.enter_async_context(pipeline.open_sink(block, tools))
            book = await open_book(store, row.connection, pipeline.codes, sink)
            run = RunContext(
                handle=RunHandle(run_id=row.id, connection=row.connection),
                store=store,
                pipeline=pipeline,
                source=source,
                sink=sink,
                transformer=pipeline.transformer(block, book),
                lease=held,
                ledger=Ledger(row.connection, pipeline.entity),
                window=Window(Mode(row.mode)),
                mode=Mode(row.mode),
                dry_run=row.dry_run,
                masker=masker,
                report=surface.progress,
                changed=None if pipeline.changed is None else pipeline.changed(block),
                log=surface.log,
                destination=block.destination(),
            )
            await store.do(staging.purge, row.connection, keep=row.id)
            _resume(run, row, order)
            if not run.dry_run:
                await settle(run)
            run.window = await window_of(run, block, order)
            with fewer_collections():
                await surface.stages(run)
            if run.error is not None:
                raise run.error
            points.reached("before-watermark")
            result, counts = await store.do(_close_held, run, row)
            return Ending(
                result,
                ending_words(run, row),
                row,
                counts,
                planned=run.planned,
                unmapped=run.unmapped,
            )


def _close_held(db: Any, run: RunContext, row: RunRow) -> tuple[Result, Counts]:
    """Only who holds the lease may say that it ended well: others have closed it otherwise.

    Raises:
        WaitError: ``AC-601``, the lease is lost.
    """
    assert_fence(db, row.connection, row.id, run.lease.fence)
    return close(db, run, row)


def _resume(run: RunContext, row: RunRow, order: Order) -> None:
    # Another run may have taken the staged pages away meanwhile: what this one posted before is
    # still its own, and must not count as 変更なし when it is read again.
    run.resumed = bool(row.position) or order.attempt > 1
    if row.position:
        run.position = dict(row.position)
        run.nothing = list(run.position.get("nothing", ()))
        run.counts = Counts(
            extracted=row.extracted,
            unchanged=row.unchanged,
            rejected=row.rejected,
            vanished=row.vanished,
        )


async def window_of(run: RunContext, block: Any, order: Order) -> Window:
    """What the run has to read: since the watermark, and whatever is not settled, of any age.

    Of one record and of a period only what was asked for: the rest is the next run's.
    """
    connection, entity = run.handle.connection, run.pipeline.entity
    run.open_rejects = await run.store.do(rejects.open_keys, connection, entity)
    if run.mode is Mode.ONE:
        return Window(Mode.ONE, key=(order.record_key or "").strip())
    if run.mode is Mode.PERIOD:
        return Window(Mode.PERIOD, begins=order.begins, ends=order.ends)
    open_keys = {*run.open_rejects, *[h for h in run.open_rejects.values() if h]}
    for state in (UNSENT, PENDING, UNCLEAR):
        rows = await run.store.do(run.ledger.in_state, state)
        open_keys.update([known.source_key for known in rows])
    if run.mode is Mode.REJECTS and order.record_keys:
        # What went through meanwhile is not open any more: pressing twice reads nothing twice.
        open_keys &= _with_holders(order.record_keys, run.open_rejects)
    # Always in the same order: a source that is read on after a crash counts on it.
    retry = tuple(sorted(open_keys, key=lambda key: (len(key), key)))
    since = None
    if run.mode is Mode.INCREMENTAL:
        with run.store.session() as session:
            mark = history.watermark(session, connection)
        if mark is not None:
            since = mark - timedelta(seconds=run.pipeline.overlap_seconds(block))
    return Window(run.mode, since=since, retry=retry)


def _with_holders(keys: Sequence[str], holders: Mapping[str, str | None]) -> set[str]:
    """The keys, and the records that hold the codes which these rejects want."""
    return {*keys, *[holder for key in keys if (holder := holders.get(key))]}


async def _end_with_error(
    store: Store | None,
    row: RunRow | None,
    pipeline: Pipeline[Any],
    error: AppConnectError,
    order: Order,
) -> Ending:
    """Close the run with an error: what happened, what is safe, what next."""
    skipped = isinstance(error, WaitError) and error.code in SKIPS
    skipped = skipped and (row is not None or error.code == RESTS)
    later = None
    if order.postponable and row is not None:
        later = postponement(error, order.attempt)
    result = Result.SKIPPED if skipped else Result.POSTPONED if later else Result.ERROR
    counts: Counts | None = None
    if store is not None and row is not None:
        # Without the books nothing is known about what was posted, so nothing is said about it.
        with contextlib.suppress(AppConnectError):
            counts = await store.do(close_with_error, row, pipeline, result, error, later)
    message = later.message(error) if later else str(error)
    return Ending(result, message, row, counts, error, postponed=later)
