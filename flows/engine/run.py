"""A connector as a Prefect flow: tasks, states and artifacts around `flows.engine.core`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from typing import Any, Literal, NoReturn, cast
from uuid import UUID

from prefect import State, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed, Scheduled

from blocks import Connection, OAuthBlock
from connectors.kit import AppConnectError, SettingsError
from connectors.kit.error_links import with_link
from flows.engine import extract as extracting
from flows.engine import handover, rejects, report, services_page, staging
from flows.engine import load as loading
from flows.engine import transform as transforming
from flows.engine.brake import Brake, lapse_is_a_stop, run_limit
from flows.engine.clock import now
from flows.engine.context import Report, RunContext, current, enter
from flows.engine.core import Ending, Order, execute, unexpected
from flows.engine.due import newer_due
from flows.engine.model import Mode, Result, RunHandle, Trigger
from flows.engine.opening import load_connection
from flows.engine.pipeline import Pipeline
from flows.engine.postponing import Postponement
from flows.engine.resting import RESTS
from flows.engine.signals import drained_by_sigterm
from flows.engine.store import Store
from flows.engine.tokens import grant_notice

ModeName = Literal["差分", "全件", "期間", "1件", "エラー明細のみ"]


async def _stage(handle: RunHandle, work: Callable[[RunContext], Awaitable[None]]) -> State[None]:
    """Run one stage; an error becomes a state: Prefect would log its traceback, unmasked."""
    run = current(handle)
    problem: AppConnectError
    try:
        async with lapse_is_a_stop():
            await work(run)
        return Completed(message=run.counts.sentence())
    except AppConnectError as error:
        problem = error
    except Exception as error:  # noqa: BLE001 (a clerk never reads a traceback)
        problem = unexpected(error, run.masker, get_run_logger().error)
    problem.mask(run.masker.mask)
    # Of two stages that fail side by side, the first one tells why.
    run.error = run.error or problem
    return Failed(name="ERROR", message=str(problem))


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


class _PrefectSurface:
    """The stages as Prefect tasks, progress as an artifact, words in the log of the run."""

    def __init__(self, connection: str) -> None:
        self._connection = connection
        self.progress: Report = report.progress_report(connection)
        self._logger = get_run_logger()

    def log(self, message: str, *values: object) -> None:
        """Into the log of the flow run."""
        self._logger.info(message, *values)

    async def stages(self, run: RunContext) -> None:
        """The three stages, each a task; extract and transform work side by side."""
        enter(run)
        for stages in ((_extract_to_the_end, transform), (load,)):
            states = await _together(run, *stages)
            if run.error is not None:
                return
            for state in states:
                if not state.is_completed():
                    # Prefect could not run the stage: going on would skip records and forget them.
                    raise RuntimeError(f"the stage ended {state.type.value}")
            if run.unmapped.codes and stages == (_extract_to_the_end, transform):
                await report.show_unmapped(self._connection, run.pipeline.service, run.unmapped)
            if run.mode is Mode.ONE and run.counts.extracted == 0 and not run.nothing:
                label = f"{run.pipeline.key_label}「{run.window.key}」のレコードがありません"
                run.error = SettingsError("AC-205", label)
                return


async def _together(run: RunContext, *stages: Callable[..., Any]) -> list[State[Any]]:
    """Run stages side by side; none is left running, whatever happens to one of them."""
    running = [
        asyncio.ensure_future(cast("Awaitable[State[Any]]", stage(run.handle, return_state=True)))
        for stage in stages
    ]
    try:
        return list(await asyncio.gather(*running))
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _extract_to_the_end(handle: RunHandle, *, return_state: Literal[True]) -> State[None]:
    """Extract; should Prefect end it before it begins, the transform must not wait for it."""
    try:
        return await cast("Awaitable[State[None]]", extract(handle, return_state=return_state))
    finally:
        handover.of(current(handle)).finish()


async def run_connector(
    pipeline: Pipeline[Any],
    connection: str,
    mode: ModeName,
    record_key: str | None = None,
    period_from: date | None = None,
    period_to: date | None = None,
    dry_run: bool = False,
    record_keys: Sequence[str] = (),
) -> State[None]:
    """The body of every connector flow; its arguments are the flow's parameters, in their order.

    Args:
        pipeline: The connector.
        connection: Name of the connection block.
        mode: See `Mode`.
        record_key: Key of the one record (``1件``).
        period_from: First day that is read (``期間``), in Japan.
        period_to: Last day that is read (``期間``).
        dry_run: Show what would be sent, send nothing, keep no books but the history.
        record_keys: Source keys of the rejects that are sent again (``エラー明細のみ``).

    Returns:
        The state of the run: its name is the 結果, its message says the counts or the error.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("a connector runs inside its flow")
    flow_run = context.flow_run
    trigger = report.trigger_of(flow_run.auto_scheduled, flow_run.tags)
    scheduled = trigger is Trigger.SCHEDULE
    order = Order(
        run_id=flow_run.id,
        connection=connection,
        trigger=trigger,
        mode=Mode(mode),
        record_key=record_key,
        dry_run=dry_run,
        record_keys=tuple(key for each in record_keys if (key := each.strip())),
        deadline=run_limit(),
        scheduled_for=flow_run.expected_start_time if scheduled else None,
        attempt=max(1, flow_run.run_count),
        # Without a deployment no worker would take it up again.
        postponable=flow_run.deployment_id is not None,
        begins=period_from,
        ends=period_to,
    )
    brake = Brake()
    opened: list[Connection] = []

    async def load_block(of: Pipeline[Any], name: str) -> Connection:
        opened.append(await load_connection(of, name))
        return opened[0]

    with drained_by_sigterm(brake):
        ending = await execute(
            pipeline,
            order,
            _PrefectSurface(connection),
            load_block=load_block,
            brake=brake,
            newer=lambda: newer_due(flow_run),
        )
        if ending.error is None:
            for notice in await grant_notices(opened):
                ending.message += f"［お知らせ］{notice}"
            # What the store cannot tell any more changes nothing about how the run ended.
            with contextlib.suppress(AppConnectError):
                await _show(pipeline, ending)
        elif ending.error.code != RESTS:  # whose page would hide that of an open error
            await _show_error(pipeline, connection, ending)
    if ending.postponed is not None:
        await _put_off(flow_run.id, ending.postponed, ending.message)
    if ending.error is None or ending.result is Result.SKIPPED:
        return Completed(name=ending.result, message=ending.message)
    return Failed(name=ending.result, message=with_link(ending.message, ending.error.code))


async def _put_off(flow_run: UUID, later: Postponement, message: str) -> NoReturn:
    """Leave the run to whoever is free when the service is open; its slot is free at once.

    Raises:
        Pause: always: Prefect's word for a process that ends and a run that does not.
    """
    state: State[None] = Scheduled(scheduled_time=later.at, name=later.name, message=message)
    async with get_client() as client:
        await client.set_flow_run_state(flow_run, state)
    raise Pause(state=state)


async def grant_notices(connections: Sequence[Connection]) -> list[str]:
    """What a person should know about the grants behind connections before they lapse."""
    notices: list[str] = []
    for connection in connections:
        for block in connection.credentials():
            if not isinstance(block, OAuthBlock) or not block.uses_oauth:
                continue
            # As it is saved now: this very run may have refreshed it.
            with contextlib.suppress(Exception):
                fresh = await type(block).aload(str(block._block_document_name))
                if notice := grant_notice(fresh, now()):
                    notices.append(notice)
    return notices


async def _show(pipeline: Pipeline[Any], ending: Ending) -> None:
    """The pages of a run that came to its end."""
    row, counts = ending.row, ending.counts
    if row is None or counts is None:
        return
    store = Store()
    bad: list[rejects.Listed] = []
    pages: list[Awaitable[Any]] = []
    if row.dry_run:
        pages.append(report.show_preview(store, row, ending.planned, counts))
    else:
        limit = report.RESULT_ROWS
        bad = await store.do(rejects.listed, row.connection, run=row.id, limit=limit)
        pages.append(report.show_rejects(store, row, pipeline.entity))
    pages.append(
        report.show_result(
            row.connection,
            row.service,
            counts,
            ending.result,
            ending.message,
            None,
            bad,
            ending.unmapped.codes,
        )
    )
    pages.append(report.show_history(store, row.connection))
    pages.append(services_page.refresh(store, row.connection))
    await asyncio.gather(*pages)
    await store.do(staging.purge, row.connection)


async def _show_error(pipeline: Pipeline[Any], connection: str, ending: Ending) -> None:
    """The pages of a run that an error ended."""
    words = f"ここまでの処理: {ending.counts.sentence()}" if ending.counts else ""
    await report.show_result(
        connection, pipeline.service, ending.counts, ending.result, words, ending.error
    )
    if ending.counts is not None:
        with contextlib.suppress(AppConnectError):
            store = Store()
            await asyncio.gather(
                report.show_history(store, connection), services_page.refresh(store, connection)
            )
