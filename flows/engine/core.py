"""One run from beginning to end: open, settle, extract, transform, load, close (design 4).

Nothing here knows Prefect: what a person sees of a run, and how its stages are shown, is a
`Surface`. `flows.engine.run` is the one that users meet.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import text

from connectors.kit import AppConnectError, FaultError, Masker, SettingsError, WaitError
from flows.engine import history, points, rejects, staging
from flows.engine.brake import Brake, in_flight, lapse_is_a_stop
from flows.engine.clock import now
from flows.engine.collecting import fewer_collections
from flows.engine.context import Planned, Report, RunContext
from flows.engine.lease import lease
from flows.engine.ledger import (
    PENDING,
    POSTED,
    REJECTED,
    UNCLEAR,
    UNSENT,
    Ledger,
    assert_fence,
    reversal_entity,
)
from flows.engine.missed import Newer, make_way, not_needed
from flows.engine.model import Counts, Mode, Result, RunHandle, Trigger, Window
from flows.engine.opening import load_connection, secrets_of
from flows.engine.pipeline import Pipeline, Tools
from flows.engine.settling import settle
from flows.engine.store import RunRow, Store
from flows.engine.tokens import Vault

_COUNTS = text(
    "SELECT extracted, created, updated, unchanged, rejected, pending, vanished "
    "FROM run WHERE id = :id"
)


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
        dry_run: Show what would be sent, send nothing, keep no books but the history.
        started_at: Its business date is that of this moment, however long it takes.
        deadline: After how long it ends, whatever happens; ``None`` = no limit.
        scheduled_for: Of a scheduled run: the time that it is meant for.
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
        row: Its row in the history; ``None`` = the books could not be opened.
        counts: ``None`` = not known.
        planned: The preview of a dry run.
    """

    result: Result
    message: str
    row: RunRow | None = None
    counts: Counts | None = None
    error: AppConnectError | None = None
    planned: list[Planned] = field(default_factory=list)


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
    try:
        store = Store()
        row = _open(store, pipeline, order)
        async with brake.over(order.deadline):
            await make_way(order.scheduled_for, newer)
            block = await load_block(pipeline, order.connection)
            masker.add(*secrets_of(block))
            if order.mode is Mode.ONE and not (order.record_key or "").strip():
                raise SettingsError("AC-205", f"「1件」では{pipeline.key_label}を指定します")
            return await _run(store, row, pipeline, block, masker, order, surface, brake)
    except AppConnectError as error:
        problem = error
    except Exception as error:  # noqa: BLE001 (the last line: a clerk never reads a traceback)
        problem = unexpected(error, masker, surface.log)
    except BaseException:
        # Cancelled or terminated: say so in our own history before the process goes.
        if store is not None and row is not None:
            _close_cancelled(store, row)
        raise
    problem.mask(masker.mask)
    return await _end_with_error(store, row, pipeline, problem)


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
            run = RunContext(
                handle=RunHandle(run_id=row.id, connection=row.connection),
                store=store,
                pipeline=pipeline,
                source=await stack.enter_async_context(pipeline.open_source(block, tools)),
                sink=await stack.enter_async_context(pipeline.open_sink(block, tools)),
                transformer=pipeline.transformer(block),
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
            _resume(run, row)
            if not run.dry_run:
                await settle(run)
            run.window = await window_of(run, block, order.record_key, order.record_keys)
            with fewer_collections():
                await surface.stages(run)
            if run.error is not None:
                raise run.error
            points.reached("before-watermark")
            result, counts = await store.do(_close_held, run, row)
            message = preview_prefix(row) + counts.sentence()
            return Ending(result, message, row, counts, planned=run.planned)


def _close_held(db: Any, run: RunContext, row: RunRow) -> tuple[Result, Counts]:
    """Only who holds the lease may say that it ended well: others have closed it otherwise.

    Raises:
        WaitError: ``AC-601``, the lease is lost.
    """
    assert_fence(db, row.connection, row.id, run.lease.fence)
    return close(db, run, row)


def preview_prefix(row: RunRow) -> str:
    """What stands before the counts of a dry run."""
    return "確認のみ（送信していません）: " if row.dry_run else ""


def _resume(run: RunContext, row: RunRow) -> None:
    if row.position:
        run.resumed = True
        run.position = dict(row.position)
        run.counts = Counts(
            extracted=row.extracted,
            unchanged=row.unchanged,
            rejected=row.rejected,
            vanished=row.vanished,
        )


async def window_of(
    run: RunContext, block: Any, record_key: str | None, record_keys: Sequence[str] = ()
) -> Window:
    """What the run has to read: since the watermark, and whatever is not settled, of any age."""
    connection, entity = run.handle.connection, run.pipeline.entity
    run.open_rejects = await run.store.do(rejects.open_keys, connection, entity)
    if run.mode is Mode.ONE:
        return Window(Mode.ONE, key=(record_key or "").strip())
    open_keys = {*run.open_rejects, *[h for h in run.open_rejects.values() if h]}
    for state in (UNSENT, PENDING, UNCLEAR):
        rows = await run.store.do(run.ledger.in_state, state)
        open_keys.update([known.source_key for known in rows])
    if run.mode is Mode.REJECTS and record_keys:
        # What went through meanwhile is not open any more: pressing twice reads nothing twice.
        open_keys &= _with_holders(record_keys, run.open_rejects)
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


def close(db: Any, run: RunContext, row: RunRow) -> tuple[Result, Counts]:
    """Everything that has to become true together when a run ends well.

    Raises:
        FaultError: ``AC-603``, what was read and what became of it do not add up.
    """
    counts = run.counts
    if run.dry_run:
        result = Result.PARTIAL if counts.rejected else Result.SUCCESS
    else:
        from_ledger(db, run.ledger, run.run_id, counts)
        reconcile(db, run, counts)
        if run.mode is not Mode.ONE:
            _let_go(db, run)
        # Beyond what was seen, and beyond the source's own clock, nothing is known to be handled.
        whole = run.mode in (Mode.INCREMENTAL, Mode.FULL)
        if whole and run.newest is not None and not counts.pending:
            history.set_watermark(db, row.connection, min(run.newest, run.server_time or now()))
        open_ends = counts.rejected or counts.pending or counts.vanished
        result = Result.PARTIAL if open_ends else Result.SUCCESS
    history.close_run(
        db,
        row.id,
        result=result,
        counts=counts,
        message=preview_prefix(row) + counts.sentence(),
        error=None,
    )
    return result, counts


def reconcile(db: Any, run: RunContext, counts: Counts) -> None:
    """What was read is what was posted, unchanged, rejected or 要確認; the yen are those sent.

    Raises:
        FaultError: ``AC-603``, they do not add up: a record was lost on the way.
    """
    if run.resumed:
        # A page that was read twice over the interruption counts once: records, not readings.
        outcomes = (counts.created, counts.updated, counts.unchanged, counts.rejected)
        counts.extracted = sum(outcomes) + counts.pending
        return
    if not counts.balanced():
        raise FaultError("AC-603", counts.sentence())
    if run.changed is not None:
        booked = run.ledger.sums(db, run.run_id).get(POSTED, (0, 0))[0]
        if booked != run.posted_yen:
            words = f"送った金額 {run.posted_yen:,} 円、控えの金額 {booked:,} 円"
            raise FaultError("AC-603", words)


def _let_go(db: Any, run: RunContext) -> None:
    """Records that were asked for and are gone: their rejects go, and what we kept of them."""
    gone = [key for key in run.window.retry if key not in run.seen_retries]
    if run.changed is not None:
        known = run.ledger.documents(db, gone)
        # A posted document stays in the books for ever; an unknown outcome stays 要確認.
        held = {
            key
            for key, row in known.items()
            if row.state in (PENDING, UNCLEAR) or (row.state == POSTED and row.acknowledged != "")
        }
        free = [k for k, row in known.items() if row.state in (REJECTED, UNSENT)]
        rejects.resolve(
            db, run.handle.connection, run.pipeline.entity, [k for k in gone if k not in held]
        )
        run.ledger.release(db, free)
        return
    rejects.resolve(db, run.handle.connection, run.pipeline.entity, gone)
    run.ledger.release(db, gone)


def from_ledger(db: Any, ledger: Ledger, run_id: UUID, counts: Counts) -> None:
    """The books know what was posted, whatever this process remembers."""
    totals = ledger.totals(db, run_id)
    counts.created = totals.get((POSTED, "created"), 0)
    counts.updated = totals.get((POSTED, "updated"), 0)
    counts.pending = sum(n for (state, _), n in totals.items() if state in (PENDING, UNCLEAR))
    reds = Ledger(ledger.connection, reversal_entity(ledger.entity)).totals(db, run_id)
    for (state, action), n in reds.items():
        if state in (PENDING, UNCLEAR):
            if action == "cancelled":
                counts.vanished += n
            else:
                counts.pending += n


async def _end_with_error(
    store: Store | None,
    row: RunRow | None,
    pipeline: Pipeline[Any],
    error: AppConnectError,
) -> Ending:
    """Close the run with an error: what happened, what is safe, what next."""
    skipped = isinstance(error, WaitError) and error.code in SKIPS and row is not None
    result = Result.SKIPPED if skipped else Result.ERROR
    counts: Counts | None = None
    if store is not None and row is not None:
        # Without the books nothing is known about what was posted, so nothing is said about it.
        with contextlib.suppress(AppConnectError):
            counts = await store.do(_close_with_error, row, pipeline, result, error)
    return Ending(result, str(error), row, counts, error)


SKIPS = frozenset({"AC-601", "AC-605", "AC-606"})
"""Errors that mean: this run was not needed."""


def _close_with_error(
    db: Any, row: RunRow, pipeline: Pipeline[Any], result: Result, error: AppConnectError
) -> Counts:
    saved = db.execute(_COUNTS, {"id": row.id}).one()
    counts = Counts(*saved)
    if result is Result.ERROR:
        if not row.dry_run:
            from_ledger(db, Ledger(row.connection, pipeline.entity), row.id, counts)
        error.safe = _what_is_safe(counts, error)
    history.close_run(
        db, row.id, result=result, counts=counts, message=str(error), error=error.as_dict()
    )
    return counts


def _what_is_safe(counts: Counts, error: AppConnectError) -> str:
    """The catalogue's statement, with this run's own numbers before it."""
    done = counts.created + counts.updated
    posted = (
        f"この処理で {done:,} 件を登録済みです。" if done else "この処理では何も登録していません。"
    )
    unknown = f"結果の分からないデータが {counts.pending:,} 件あります。" if counts.pending else ""
    return posted + unknown + error.safe


def _close_cancelled(store: Store, row: RunRow) -> None:
    error = FaultError("AC-602", "取り消されました")
    with contextlib.suppress(AppConnectError), store.begin() as db:
        counts = Counts(*db.execute(_COUNTS, {"id": row.id}).one())
        history.close_run(
            db,
            row.id,
            result=Result.ERROR,
            counts=counts,
            message=str(error),
            error=error.as_dict(),
        )
