"""Taking a connection away: its deployment and its block go, whatever it has written stays.

The block goes first and the deployment last: a run that a worker has just taken finds its
deployment, and ends with ``AC-206``. Whoever is stopped half-way does the rest by the same again.
"""

from __future__ import annotations

import contextlib
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
from prefect.exceptions import ObjectNotFound
from prefect.states import Failed
from sqlalchemy import Connection as Db
from sqlalchemy import text

from connectors.kit import SettingsError, WaitError
from flows.engine.lease import lease
from flows.engine.ledger import PENDING, UNCLEAR
from flows.engine.model import Result
from flows.engine.pipeline import Pipeline
from flows.engine.store import Store
from flows.operations.connections import find_pipeline

_TAG = "app-connect"
_AT_WORK = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)

_THERE = text("SELECT 1 FROM connection WHERE name = :c")
_OPEN = text("SELECT count(*) FROM ledger WHERE connection = :c AND state IN (:pending, :unclear)")
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
        credentials: Names of the credentials blocks that it used, by what they are for.
        ledger: Rows of the books.
        runs: Rows of 処理履歴.
        rejects: エラー明細.
        codes: Rows of コード変換表.
        pending: 確認待ち among the rows of the books.
    """

    name: str
    service: str
    deployment: bool
    credentials: dict[str, str]
    ledger: int
    runs: int
    rejects: int
    codes: int
    pending: int


async def remove(store: Store, name: str, typed_again: str, *, with_pending: bool) -> Removed:
    """Delete a connection.

    Args:
        store: The books.
        name: The connection.
        typed_again: The same name, as a person typed it once more.
        with_pending: Even when there is 確認待ち.

    Raises:
        SettingsError: ``AC-206``, there is none; ``AC-231``, the names differ; ``AC-232``, there is
            確認待ち. Nothing was changed.
        WaitError: ``AC-601``, a run of it is at work. Nothing was changed.
    """
    name = name.strip()
    if typed_again.strip() != name:
        raise SettingsError("AC-231", f"「{name[:60]}」と「{typed_again.strip()[:60]}」")
    pipeline = await find_pipeline(store, name)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(get_client())
        deployment = await _deployment(client, pipeline, name)
        await _refuse_at_work(client, deployment)
        if await store.do(lambda db: db.execute(_THERE, {"c": name}).first()):
            # From here on no run of it begins to read.
            await stack.enter_async_context(lease(store, name, uuid4()))
        block = await _block(client, pipeline, name)
        if deployment is None and block is None:
            raise SettingsError("AC-206", name)
        await _refuse_at_work(client, deployment)
        pending = await store.do(_pending, name)
        if pending and not with_pending:
            raise SettingsError("AC-232", f"{name}: {pending:,} 件")
        credentials = await _credentials(pipeline, name)
        if block is not None:
            await client.delete_block_document(block)
        if deployment is not None:
            await _refuse_queued(client, deployment, name)
            await client.delete_deployment(deployment)
        kept = await store.do(lambda db: db.execute(_KEPT, {"c": name}).one())
    there = deployment is not None
    return Removed(name, pipeline.service, there, credentials, pending=pending, **kept._mapping)


def _pending(db: Db, name: str) -> int:
    found: int = db.execute(_OPEN, {"c": name, "pending": PENDING, "unclear": UNCLEAR}).scalar_one()
    return found


async def _deployment(client: PrefectClient, pipeline: Pipeline[Any], name: str) -> UUID | None:
    tags = DeploymentFilterTags(all_=[_TAG, pipeline.connector])
    found = await client.read_deployments(deployment_filter=DeploymentFilter(tags=tags))
    return next((each.id for each in found if each.parameters.get("connection") == name), None)


async def _block(client: PrefectClient, pipeline: Pipeline[Any], name: str) -> UUID | None:
    kind = pipeline.connection_type.get_block_type_slug()
    with contextlib.suppress(ObjectNotFound):
        found = await client.read_block_document_by_name(name, kind, include_secrets=False)
        return found.id
    return None


async def _refuse_at_work(client: PrefectClient, deployment: UUID | None) -> None:
    """A run that a worker has just taken holds no lease yet.

    Raises:
        WaitError: ``AC-601``, there is one.
    """
    if deployment is not None and await _runs(client, deployment, *_AT_WORK):
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
            await client.delete_flow_run(run.id)
        else:
            refused: Any = Failed(name=Result.ERROR, message=words)
            await client.set_flow_run_state(run.id, refused, force=True)
