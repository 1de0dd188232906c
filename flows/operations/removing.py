"""Taking a connection away: its deployment and its block go, whatever it has written stays.

1. The schedule goes off, and what waits to begin is refused: nobody starts a run any more.
2. The block goes: a run that is asked for all the same, or that a worker has just taken, finds its
   deployment and ends with ``AC-206``, before it has read anything.
3. The deployment goes.

Each step is fine to do again. Whoever is stopped half-way (``AC-233``, or killed) does the rest by
the same again; while the block is there, 「接続の設定変更」 brings the connection back instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.states import Failed
from sqlalchemy import Connection as Db
from sqlalchemy import text

from connectors.kit import FaultError, SettingsError, WaitError
from flows.engine.lease import lease
from flows.engine.ledger import PENDING, UNCLEAR
from flows.engine.model import Result
from flows.engine.pipeline import Pipeline
from flows.engine.store import Store
from flows.operations.connections import pipelines

_TAG = "app-connect"
_AT_WORK = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)

_CONNECTOR = text("SELECT connector FROM connection WHERE name = :c")
_OPEN = text("SELECT count(*) FROM ledger WHERE connection = :c AND state IN (:pending, :unclear)")
_UNHEARD = text("DELETE FROM webhook_event WHERE connection = :c AND run_id IS NULL")
_KEPT = text(
    "SELECT (SELECT count(*) FROM ledger WHERE connection = :c) AS ledger, "
    "(SELECT count(*) FROM run WHERE connection = :c) AS runs, "
    "(SELECT count(*) FROM reject WHERE connection = :c) AS rejects, "
    "(SELECT count(*) FROM code_mapping WHERE connection = :c) AS codes"
)


@dataclass(frozen=True, slots=True)
class Removed:
    """A connection that is gone, and what is left of it.

    Attributes:
        service: サービス名.
        deployment: Whether there was one.
        before: Whether it was gone already: somebody was stopped after the last step.
        credentials: Names of the credentials blocks that it used, by what they are for; empty when
            nobody can tell any more.
        ledger: Rows of the books.
        runs: Rows of 処理履歴.
        rejects: エラー明細.
        codes: Rows of コード変換表.
        pending: 確認待ち among the rows of the books.
    """

    name: str
    service: str
    deployment: bool
    before: bool
    credentials: dict[str, str]
    ledger: int
    runs: int
    rejects: int
    codes: int
    pending: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a connection is: its connector, and what of it is left in Prefect."""

    pipeline: Pipeline[Any]
    deployment: DeploymentResponse | None
    block: UUID | None


async def remove(store: Store, name: str, typed_again: str, *, with_pending: bool) -> Removed:
    """Delete a connection, or what is left of one; again and again is fine.

    Args:
        store: The books.
        name: The connection.
        typed_again: The same name, as a person typed it once more.
        with_pending: Even when there is 確認待ち.

    Raises:
        SettingsError: ``AC-206``, there is none; ``AC-231``, the names differ; ``AC-232``, there is
            確認待ち. Nothing was changed.
        WaitError: ``AC-601``, a run of it is at work. Nothing was changed.
        FaultError: ``AC-233``, Prefect failed half-way; the subject says what is left.
    """
    name = name.strip()
    if typed_again.strip() != name:
        raise SettingsError("AC-231", f"「{name[:60]}」と「{typed_again.strip()[:60]}」")
    known = await store.do(_connector, name)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(get_client())
        place = await _find(client, name, known)
        await _refuse_at_work(client, place.deployment)
        if known is not None:
            # From here on no run of it begins to read.
            await stack.enter_async_context(lease(store, name, uuid4()))
            await _refuse_at_work(client, place.deployment)
        pending = await store.do(_pending, name)
        gone = place.deployment is None and place.block is None
        if pending and not with_pending and not gone:
            raise SettingsError("AC-232", f"{name}: {pending:,} 件")
        credentials = await _credentials(place.pipeline, name) if place.block is not None else {}
        kept = await store.do(lambda db: db.execute(_KEPT, {"c": name}).one())
        await _take_away(client, place, name)
        # What was told meanwhile: a connection made anew reads all that changed anyhow.
        await store.do(lambda db: db.execute(_UNHEARD, {"c": name}).rowcount)
    return Removed(
        name,
        place.pipeline.service,
        place.deployment is not None,
        gone,
        credentials,
        pending=pending,
        **kept._mapping,
    )


async def _find(client: PrefectClient, name: str, known: str | None) -> _Place:
    """Where the connection is, also when only its deployment or its books are left.

    Raises:
        SettingsError: ``AC-206``, there is nothing of this name.
    """
    # The connector of the books first: two of them may have connections of one name.
    ours = sorted(pipelines().values(), key=lambda each: each.connector != known)
    for pipeline in ours:
        deployment = await _deployment(client, pipeline, name)
        block = await _block(client, pipeline, name)
        if deployment is not None or block is not None:
            return _Place(pipeline, deployment, block)
    if known not in pipelines():
        raise SettingsError("AC-206", name)
    return _Place(ours[0], None, None)


async def _take_away(client: PrefectClient, place: _Place, name: str) -> None:
    """The steps at the top of this module.

    Raises:
        FaultError: ``AC-233``, one of them failed.
    """
    deployment, block = place.deployment, place.block
    steps: list[tuple[str, Callable[[], Awaitable[None]]]] = []
    if deployment is not None:
        steps.append(("スケジュール", lambda: _put_to_rest(client, deployment, name)))
    if block is not None:
        steps.append(("接続の設定", lambda: _unless_gone(client.delete_block_document(block))))
    if deployment is not None:
        listed = f"連携一覧の「{deployment.name}」"
        steps.append((listed, lambda: _drop(client, deployment, name)))
    for number, (_, step) in enumerate(steps):
        try:
            await step()
        except Exception as error:  # Prefect's client raises many kinds
            rest = "、".join(what for what, _ in steps[number:])
            raise FaultError("AC-233", f"{type(error).__name__}、残っているもの: {rest}") from error


async def _unless_gone(call: Awaitable[object]) -> None:
    """A call whose answer was lost is made again, and then there is nothing any more."""
    with contextlib.suppress(ObjectNotFound):
        await call


async def _put_to_rest(client: PrefectClient, deployment: DeploymentResponse, name: str) -> None:
    """No schedule, and nothing that waits to begin.

    Switched off like by the switch on the page of the deployment, not ``paused``, for which
    Prefect's pages have none: deploying again brings the schedule back.
    """
    for each in deployment.schedules:
        off = client.update_deployment_schedule(deployment.id, each.id, active=False)
        await _unless_gone(off)
    await _refuse_queued(client, deployment.id, name)


async def _drop(client: PrefectClient, deployment: DeploymentResponse, name: str) -> None:
    await _refuse_queued(client, deployment.id, name)  # what was asked for since then
    await _unless_gone(client.delete_deployment(deployment.id))


def _connector(db: Db, name: str) -> str | None:
    found: str | None = db.execute(_CONNECTOR, {"c": name}).scalar()
    return found


def _pending(db: Db, name: str) -> int:
    found: int = db.execute(_OPEN, {"c": name, "pending": PENDING, "unclear": UNCLEAR}).scalar_one()
    return found


async def _deployment(
    client: PrefectClient, pipeline: Pipeline[Any], name: str
) -> DeploymentResponse | None:
    tags = DeploymentFilterTags(all_=[_TAG, pipeline.connector])
    found = await client.read_deployments(deployment_filter=DeploymentFilter(tags=tags))
    return next((each for each in found if each.parameters.get("connection") == name), None)


async def _block(client: PrefectClient, pipeline: Pipeline[Any], name: str) -> UUID | None:
    kind = pipeline.connection_type.get_block_type_slug()
    with contextlib.suppress(ObjectNotFound):
        found = await client.read_block_document_by_name(name, kind, include_secrets=False)
        return found.id
    return None


async def _refuse_at_work(client: PrefectClient, deployment: DeploymentResponse | None) -> None:
    """A run that a worker has just taken holds no lease yet.

    Raises:
        WaitError: ``AC-601``, there is one.
    """
    if deployment is not None and await _runs(client, deployment.id, *_AT_WORK):
        raise WaitError("AC-601", "終わってから、もう一度削除します")


async def _runs(client: PrefectClient, deployment: UUID, *states: StateType) -> list[FlowRun]:
    return await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))),
        )
    )


async def _credentials(pipeline: Pipeline[Any], name: str) -> dict[str, str]:
    """What the connection used; nothing is said of one that cannot be loaded."""
    with contextlib.suppress(Exception):
        block = await pipeline.connection_type.aload(name)
        return {
            each.get_block_type_name(): str(each._block_document_name)
            for each in block.credentials()
        }
    return {}


async def _refuse_queued(client: PrefectClient, deployment: UUID, name: str) -> None:
    """Runs that wait to begin end with words; those that nobody asked for go with the deployment.

    Prefect would leave a run that waits for a slot, or that was put off, with a deployment that is
    gone: the worker cannot even load it, and it ends with a traceback.
    """
    waiting = await _runs(client, deployment, StateType.SCHEDULED)
    words = str(SettingsError("AC-206", name))
    for run in waiting:
        if run.auto_scheduled and run.run_count == 0:
            await _unless_gone(client.delete_flow_run(run.id))
        else:
            refused: Any = Failed(name=Result.ERROR, message=words)
            await _unless_gone(client.set_flow_run_state(run.id, refused, force=True))
