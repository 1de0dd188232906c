"""What a worker does for runs that nobody is left to speak for, every few seconds.

- A run of ours whose lease has lapsed is 中断 in 処理履歴, without another run having to start.
- A run that has ended in our books and not in Prefect (its API was away, the machine lost power)
  gets the state that belongs to how it ended: our books know, for Prefect is only told.
- A run whose process on this machine is gone ends as Crashed: as Running it would keep the only
  slot of its deployment.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psutil
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled, Completed, Crashed, Failed, Scheduled

from connectors.kit import AppConnectError
from connectors.kit.error_links import with_link
from flows.engine import history
from flows.engine.model import Result
from flows.engine.store import RunRow, Store

LOOK_SECONDS = 15.0
LOST = "ワーカーと処理が同時に停止しました（電源断など）。次回の処理が続きを行います。"
GRACE = timedelta(seconds=60)
"""How long a run that has ended in our books may take to tell Prefect itself."""

_BACK = timedelta(days=3)
_UNFINISHED = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)

_log = logging.getLogger(__name__)


def place(pid: int) -> str:
    """What Prefect keeps as the place of a run: the machine and the process."""
    return f"{socket.gethostname()}:{pid}"


async def attend(client: PrefectClient, pool: str, mine: Collection[UUID]) -> None:
    """Look after the runs of ``pool``; nothing that goes wrong here is anybody's concern but ours.

    Args:
        client: Prefect's API.
        pool: The work pool.
        mine: Runs that are at work in this worker and speak for themselves.
    """
    store = _store()
    if store is not None:
        try:
            for lapsed in await store.do(history.mark_lapsed):
                _log.warning("Run %s was interrupted: its lease has lapsed", lapsed)
        except AppConnectError as error:
            _log.warning("The history was not looked at: %s", error.code)
    try:
        runs = [run for run in await _candidates(client, pool) if run.id not in mine]
        ended = await _ended(store, [run.id for run in runs])
        for run in runs:
            state = _state_for(run, ended)
            if state is not None:
                await client.set_flow_run_state(run.id, state, force=True)
    except Exception as error:  # noqa: BLE001 (Prefect's client raises many kinds)
        _log.warning("The runs were not looked at: %s", type(error).__name__)


async def keep_attending(client: PrefectClient, pool: str, mine: Mapping[UUID, object]) -> None:
    """`attend` every `LOOK_SECONDS`, until cancelled."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        await attend(client, pool, mine)


def _store() -> Store | None:
    try:
        return Store()
    except AppConnectError:
        return None  # a worker of other people's flows, without our books


async def _candidates(client: PrefectClient, pool: str) -> list[FlowRun]:
    """Runs that have not ended for Prefect, and those that it lately believes to have crashed."""
    only = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
    crashed = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED])),
        end_time=FlowRunFilterEndTime(after_=datetime.now(UTC) - _BACK),
    )
    unfinished = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(_UNFINISHED)))
    )
    found: list[FlowRun] = []
    for wanted in (unfinished, crashed):
        found += await client.read_flow_runs(flow_run_filter=wanted, work_pool_filter=only)
    return found


async def _ended(store: Store | None, runs: list[UUID]) -> dict[UUID, RunRow]:
    """Those that have ended in our books, some time ago."""
    if store is None or not runs:
        return {}
    try:
        rows = await asyncio.to_thread(_rows, store, runs)
    except AppConnectError:
        return {}
    return {row.id: row for row in rows}


def _rows(store: Store, runs: list[UUID]) -> list[RunRow]:
    with store.session() as session:
        return history.ended(session, runs)


def _state_for(run: FlowRun, ended: Mapping[UUID, RunRow]) -> State[None] | None:
    """What Prefect has to be told about the run; ``None`` = nothing."""
    row = ended.get(run.id)
    crashed = run.state is not None and run.state.type is StateType.CRASHED
    gone = _gone(run.infrastructure_pid or "")
    if run.state is not None and run.state.type is StateType.CANCELLING:
        return Cancelled(message=row.message if row else LOST) if gone else None
    if row is not None and row.result == Result.POSTPONED:
        return _again(run) if gone and not crashed else None
    if row is None or row.result is None:
        return Crashed(message=LOST) if gone and not crashed else None
    waited = row.ended_at is not None and datetime.now(UTC) - row.ended_at > GRACE
    if not (crashed or gone or waited):
        return None  # it is about to say so itself
    result = Result(row.result)
    if result is not Result.ERROR:
        return Completed(name=result, message=row.message)
    words = with_link(row.message, str((row.error or {}).get("code", "")))
    if not crashed:
        return Failed(name=result, message=words)
    # Prefect's words are about signals and exit codes; ours say what is safe and what to do.
    said = run.state.message if run.state is not None else None
    return None if said == words else Crashed(message=words)


def _again(run: FlowRun) -> State[None] | None:
    """A run that was put off and could not tell Prefect: it is run again, and looks by itself.

    One that is just being taken up by a worker still names its process of last time.
    """
    since = run.state.timestamp if run.state is not None else None
    if since is None or datetime.now(UTC) - since < GRACE:
        return None
    return Scheduled(scheduled_time=datetime.now(UTC))


def _gone(where: str) -> bool:
    """Whether the process was on this machine and is no more than a corpse, if that."""
    host, _, pid = where.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        return bool(psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
