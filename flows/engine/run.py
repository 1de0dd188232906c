"""One run from beginning to end: open, settle, extract, transform, load, close (design 4)."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Literal, cast
from uuid import UUID

from prefect import State, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from sqlalchemy import text

from connectors.kit import AppConnectError, FaultError, Masker, SettingsError
from flows.engine import extract as extracting
from flows.engine import history, rejects, report, staging
from flows.engine import load as loading
from flows.engine import transform as transforming
from flows.engine.clock import now
from flows.engine.collecting import fewer_collections
from flows.engine.context import RunContext, current, enter
from flows.engine.lease import lease
from flows.engine.ledger import Ledger
from flows.engine.model import Counts, Mode, Result, RunHandle, Window
from flows.engine.opening import load_connection, secrets_of
from flows.engine.pipeline import Pipeline, Tools
from flows.engine.sending import stored_as_sent
from flows.engine.store import RunRow, Store
from flows.engine.tokens import Vault

ModeName = Literal["差分", "全件", "1件"]

_SETTLE_CHUNK = 500
_COUNTS = text(
    "SELECT extracted, created, updated, unchanged, rejected, pending FROM run WHERE id = :id"
)


async def _stage(handle: RunHandle, work: Callable[[RunContext], Awaitable[None]]) -> State[None]:
    """Run one stage; an error becomes a state: Prefect would log its traceback, unmasked."""
    run = current(handle)
    try:
        await work(run)
        return Completed(message=run.counts.sentence())
    except AppConnectError as error:
        run.error = error
    except Exception as error:  # noqa: BLE001 (a clerk never reads a traceback)
        run.error = _unexpected(error, run.masker)
    run.error.mask(run.masker.mask)
    return Failed(name="ERROR", message=str(run.error))


def _unexpected(error: Exception, masker: Masker) -> FaultError:
    """A bug, for a person: its class. The traceback goes to the log, without secrets."""
    get_run_logger().error("%s", masker.mask("".join(traceback.format_exception(error))))
    return FaultError("AC-901", type(error).__name__)


@task(name="取得", cache_policy=NO_CACHE, persist_result=False)
async def extract(handle: RunHandle) -> State[None]:
    """Partner pages -> staged pages."""
    return await _stage(handle, extracting.extract)


@task(name="変換", cache_policy=NO_CACHE, persist_result=False)
async def transform(handle: RunHandle) -> State[None]:
    """Staged pages -> rows and rejects."""
    return await _stage(handle, transforming.transform)


@task(name="登録", cache_policy=NO_CACHE, persist_result=False)
async def load(handle: RunHandle) -> State[None]:
    """Rows -> 奉行クラウド. Never retried by Prefect: the ledger decides what is sent again."""
    return await _stage(handle, loading.load)


async def run_connector(
    pipeline: Pipeline[Any],
    *,
    connection: str,
    mode: ModeName,
    record_key: str | None,
    dry_run: bool,
) -> State[None]:
    """The body of every connector flow.

    Args:
        pipeline: The connector.
        connection: Name of the connection block.
        mode: See `Mode`.
        record_key: Key of the one record (``1件``).
        dry_run: Show what would be sent, send nothing, keep no books but the history.

    Returns:
        The state of the run: its name is the 結果, its message says the counts or the error.
    """
    masker = Masker()
    started = now()
    row: RunRow | None = None
    store: Store | None = None
    try:
        store = Store()
        row = _open(store, pipeline, connection, Mode(mode), started, dry_run=dry_run)
        block = await load_connection(pipeline, connection)
        masker.add(*secrets_of(block))
        if Mode(mode) is Mode.ONE and not (record_key or "").strip():
            raise SettingsError("AC-205", f"「1件」では{pipeline.key_label}を指定します")
        return await _run(store, row, pipeline, block, masker, record_key)
    except AppConnectError as error:
        problem = error
    except Exception as error:  # noqa: BLE001 (the last line: a clerk never reads a traceback)
        problem = _unexpected(error, masker)
    except BaseException:
        # Cancelled or terminated: say so in our own history before the process goes.
        if store is not None and row is not None:
            _close_cancelled(store, row)
        raise
    problem.mask(masker.mask)
    return await _end_with_error(store, row, pipeline, connection, problem)


def _open(
    store: Store,
    pipeline: Pipeline[Any],
    connection: str,
    mode: Mode,
    started: datetime,
    *,
    dry_run: bool,
) -> RunRow:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("a connector runs inside its flow")
    flow_run = context.flow_run
    with store.session() as session:
        return history.open_run(
            session,
            run_id=flow_run.id,
            connection=connection,
            connector=pipeline.connector,
            service=pipeline.service,
            trigger=report.trigger_of(flow_run.auto_scheduled, flow_run.tags),
            mode=mode,
            dry_run=dry_run,
            started_at=started,
        )


async def _run(
    store: Store,
    row: RunRow,
    pipeline: Pipeline[Any],
    block: Any,
    masker: Masker,
    record_key: str | None,
) -> State[None]:
    async with lease(store, row.connection, row.id) as held:
        with store.session() as session:
            history.mark_interrupted(session, row.connection, current=row.id)
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
                report=report.progress_report(row.connection),
            )
            await store.do(staging.purge, row.connection, keep=row.id)
            _resume(run, row)
            if not run.dry_run:
                await settle(run)
            run.window = await _window(run, block, record_key)
            with fewer_collections():
                await _stages(run)
            if run.error is not None:
                raise run.error
            return await _end_well(run, row)


def _resume(run: RunContext, row: RunRow) -> None:
    if row.position:
        run.resumed = True
        run.position = dict(row.position)
        run.counts = Counts(extracted=row.extracted, unchanged=row.unchanged, rejected=row.rejected)


async def settle(run: RunContext) -> None:
    """Find out what became of rows that an earlier run left pending, before anything is sent."""
    while True:
        pending = await run.store.do(run.ledger.pending, _SETTLE_CHUNK)
        if not pending:
            return
        stored = await stored_as_sent(run, [(p.key, p.content_hash) for p in pending])
        found = [p for p in pending if p.key in stored]
        await run.store.do(
            run.ledger.settle,
            posted=[p.source_key for p in found],
            unsent=[p.source_key for p in pending if p.key not in stored],
            run=run.run_id,
            fence=run.lease.fence,
        )
        await run.store.do(history.settle_interrupted, [(p.run_id, p.action) for p in found])
        get_run_logger().info(
            "前回の結果を確認しました: 登録済み %s 件 / 未登録 %s 件",
            len(found),
            len(pending) - len(found),
        )


async def _window(run: RunContext, block: Any, record_key: str | None) -> Window:
    connection, entity = run.handle.connection, run.pipeline.entity
    run.open_rejects = await run.store.do(rejects.open_keys, connection, entity)
    if run.mode is Mode.ONE:
        return Window(Mode.ONE, key=(record_key or "").strip())
    unsent = await run.store.do(run.ledger.unsent)
    holders = [holder for holder in run.open_rejects.values() if holder]
    retry = tuple(dict.fromkeys([*run.open_rejects, *holders, *unsent]))
    since = None
    if run.mode is Mode.INCREMENTAL:
        with run.store.session() as session:
            mark = history.watermark(session, connection)
        if mark is not None:
            since = mark - timedelta(seconds=run.pipeline.overlap_seconds(block))
    return Window(run.mode, since=since, retry=retry)


async def _stages(run: RunContext) -> None:
    enter(run)
    for stage in (extract, transform, load):
        state = await cast("Awaitable[State[Any]]", stage(run.handle, return_state=True))
        if run.error is not None:
            return
        if not state.is_completed():
            # Prefect could not run the stage: going on would skip records and forget them.
            raise RuntimeError(f"the stage ended {state.type.value}")
        if run.mode is Mode.ONE and run.counts.extracted == 0:
            label = f"{run.pipeline.key_label}「{run.window.key}」のレコードがありません"
            run.error = SettingsError("AC-205", label)
            return


def _close(db: Any, run: RunContext, row: RunRow) -> tuple[Result, Counts]:
    """Everything that has to become true together when a run ends well."""
    counts = run.counts
    if run.dry_run:
        result = Result.PARTIAL if counts.rejected else Result.SUCCESS
    else:
        _from_ledger(db, run.ledger, run.run_id, counts)
        if run.mode is not Mode.ONE:
            gone = [key for key in run.window.retry if key not in run.seen_retries]
            rejects.resolve(db, row.connection, run.pipeline.entity, gone)
            run.ledger.release(db, gone)
        # Beyond what was seen, and beyond the source's own clock, nothing is known to be handled.
        if run.mode is not Mode.ONE and run.newest is not None and not counts.pending:
            history.set_watermark(db, row.connection, min(run.newest, run.server_time or now()))
        result = Result.PARTIAL if counts.rejected or counts.pending else Result.SUCCESS
    prefix = "確認のみ（送信していません）: " if run.dry_run else ""
    history.close_run(
        db, row.id, result=result, counts=counts, message=prefix + counts.sentence(), error=None
    )
    return result, counts


def _from_ledger(db: Any, ledger: Ledger, run_id: UUID, counts: Counts) -> None:
    """The books know what was posted, whatever this process remembers."""
    totals = ledger.totals(db, run_id)
    counts.created = totals.get(("posted", "created"), 0)
    counts.updated = totals.get(("posted", "updated"), 0)
    counts.pending = sum(n for (state, _), n in totals.items() if state == "pending")


async def _end_well(run: RunContext, row: RunRow) -> State[None]:
    result, counts = await run.store.do(_close, run, row)
    message = ("確認のみ（送信していません）: " if run.dry_run else "") + counts.sentence()
    bad: list[rejects.Listed] = []
    pages: list[Awaitable[Any]] = [run.report("完了", counts.extracted, counts.extracted)]
    if run.dry_run:
        pages.append(report.show_preview(run.store, row, run.planned, counts))
    else:
        limit = report.RESULT_ROWS
        bad = await run.store.do(rejects.listed, row.connection, run=row.id, limit=limit)
        pages.append(report.show_rejects(run.store, row, run.pipeline.entity))
    pages.append(
        report.show_result(row.connection, row.service, counts, result, message, None, bad)
    )
    pages.append(report.show_history(run.store, row.connection))
    await asyncio.gather(*pages)
    await run.store.do(staging.purge, row.connection)
    return Completed(name=result, message=message)


async def _end_with_error(
    store: Store | None,
    row: RunRow | None,
    pipeline: Pipeline[Any],
    connection: str,
    error: AppConnectError,
) -> State[None]:
    """Close the run with an error: what happened, what is safe, what next."""
    skipped = error.code == "AC-601" and row is not None
    result = Result.SKIPPED if skipped else Result.ERROR
    counts: Counts | None = None
    if store is not None and row is not None:
        # Without the books nothing is known about what was posted, so nothing is said about it.
        with contextlib.suppress(AppConnectError):
            counts = await store.do(_close_with_error, row, pipeline, result, error)
    words = f"ここまでの処理: {counts.sentence()}" if counts else ""
    await report.show_result(connection, pipeline.service, counts, result, words, error)
    if store is not None and counts is not None:
        with contextlib.suppress(AppConnectError):
            await report.show_history(store, connection)
    if skipped:
        return Completed(name=result, message=str(error))
    return Failed(name=result, message=str(error))


def _close_with_error(
    db: Any, row: RunRow, pipeline: Pipeline[Any], result: Result, error: AppConnectError
) -> Counts:
    saved = db.execute(_COUNTS, {"id": row.id}).one()
    counts = Counts(*saved)
    if result is Result.ERROR:
        if not row.dry_run:
            _from_ledger(db, Ledger(row.connection, pipeline.entity), row.id, counts)
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
