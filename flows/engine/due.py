"""Which scheduled runs of a deployment are due, asked of Prefect."""

from __future__ import annotations

import logging
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from flows.engine.clock import now

_WILL_WORK = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.COMPLETED)

_log = logging.getLogger(__name__)


async def newer_due(run: FlowRun) -> list[datetime]:
    """The times of later scheduled runs of the same deployment that are due, too.

    Empty = there is none, or Prefect does not answer: then our own history decides
    (`flows.engine.missed`).
    """
    if run.deployment_id is None or run.expected_start_time is None:
        return []
    try:
        return await _later(run.id, run.deployment_id, run.expected_start_time)
    except Exception as error:  # noqa: BLE001 (Prefect's client raises many kinds)
        _log.warning("Prefect did not say which runs are due: %s", type(error).__name__)
        return []


async def _later(run: UUID, deployment: UUID, after: datetime) -> list[datetime]:
    async with get_client() as client:
        found = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(_WILL_WORK))),
                expected_start_time=FlowRunFilterExpectedStartTime(after_=after, before_=now()),
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        )
    due = [
        each.expected_start_time
        for each in found
        if each.auto_scheduled and each.id != run and each.expected_start_time is not None
    ]
    return [moment for moment in due if moment > after]
