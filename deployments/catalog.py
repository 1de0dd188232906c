"""Which connectors and operations exist, and their deployments.

A connector is a module of ``flows`` with a ``PIPELINE`` and the flow of the same name; an operation
is a module of ``flows.operations`` with an ``OPERATION``: nothing has to be registered anywhere
when a new one is added.
"""

from __future__ import annotations

import copy
import importlib
import pkgutil
from functools import cache
from typing import Any
from uuid import UUID

from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

import blocks
from blocks import TIMEZONE, Connection, WebhookSettings
from blocks.form import tidy
from deployments.stack.settings import WORK_POOL
from deployments.worker import AppConnectWorker
from flows import operations as operation_modules
from flows.engine import Pipeline
from flows.operations import Operation, deploying
from flows.operations.deploying import (
    Connector,
    connectors,
    deployment_name,
    description,
    run_form,
)
from flows.operations.new_connection import entrance_description, entrance_form, new_connection

__all__ = [
    "Connector",
    "block_types",
    "connectors",
    "deploy",
    "deploy_operations",
    "deployment_name",
    "description",
    "ensure_work_pool",
    "entrances",
    "operations",
    "register_blocks",
    "run_form",
    "screen_names",
]


@cache
def operations() -> dict[str, Operation]:
    """Every operation by the name of its deployment, found by looking."""
    names = [m.name for m in pkgutil.iter_modules(operation_modules.__path__, "flows.operations.")]
    found = [getattr(importlib.import_module(name), "OPERATION", None) for name in names]
    return {each.name: each for each in found if isinstance(each, Operation)}


def block_types() -> list[type[Block]]:
    """Every block type that a person meets: credentials, webhooks, and each connector's own."""
    found = [kind for kind in vars(blocks).values() if _is_credentials(kind)]
    return [*found, WebhookSettings, *(c.pipeline.connection_type for c in connectors().values())]


def _is_credentials(kind: Any) -> bool:
    if not isinstance(kind, type) or not issubclass(kind, Block):
        return False
    return kind.get_block_type_slug().endswith("-credentials")


def screen_names() -> dict[str, str]:
    """Name of every flow -> what a person calls it."""
    found = {name: connector.pipeline.service for name, connector in connectors().items()}
    found |= {each.flow.name: each.name for each in operations().values()}
    return found | {new_connection.name: "新しい接続"}


async def register_blocks() -> None:
    """Make the block types known to the Prefect server, so that their forms can be opened."""
    async with get_client() as client:
        for block in block_types():
            await block.aregister_type_and_schema(client=client)


async def ensure_work_pool() -> None:
    """Make the work pool, unless somebody did."""
    async with get_client() as client:
        pool = WorkPoolCreate(
            name=WORK_POOL,
            type=AppConnectWorker.type,
            base_job_template=AppConnectWorker.get_default_base_job_template(),
        )
        try:
            await client.create_work_pool(work_pool=pool)
        except ObjectAlreadyExists:
            return


async def deploy(connection: Connection, name: str) -> UUID:
    """Create or update the deployment of a connection in the product's work pool.

    Args:
        connection: The connection block.
        name: Name of its block document.

    Returns:
        The deployment's id.
    """
    return await deploying.deploy(connection, name, WORK_POOL)


async def deploy_operations() -> list[UUID]:
    """Create or update the deployment of every operation, and 新しい接続; returns their ids."""
    made = [await _deploy_operation(operation) for operation in operations().values()]
    return made + [await _deploy_entrance(n, pipeline) for n, pipeline in entrances().items()]


def entrances() -> dict[str, Pipeline[Any]]:
    """新しい接続 of every connector, by the name of its deployment."""
    found = [connector.pipeline for connector in connectors().values()]
    return {f"新しい接続: {each.service}": each for each in found}


async def _deploy_entrance(name: str, pipeline: Pipeline[Any]) -> UUID:
    deployment: RunnerDeployment = await new_connection.ato_deployment(
        name=name,
        # One after the other: two at once could propose the same name.
        concurrency_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
        ),
        parameters={"connector": pipeline.connector},
        description=entrance_description(pipeline),
        tags=["app-connect", "operation"],
        work_pool_name=WORK_POOL,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    deployment._parameter_openapi_schema = entrance_form(pipeline)
    return await deployment.aapply()


async def _deploy_operation(operation: Operation) -> UUID:
    deployment: RunnerDeployment = await operation.flow.ato_deployment(
        name=operation.name,
        schedules=[Cron(operation.cron, timezone=TIMEZONE)] if operation.cron else [],
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=operation.collision),
        description=operation.description,
        tags=["app-connect", "operation"],
        work_pool_name=WORK_POOL,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    form = copy.deepcopy(operation.flow.parameters)
    for name, schema in form.properties.items():
        schema["title"] = operation.titles.get(name, schema.get("title", name))
    tidy({"properties": form.properties})
    deployment._parameter_openapi_schema = form
    return await deployment.aapply()
