"""再送: the run of a connection that reads エラー明細のみ, started and waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import State
from prefect.utilities.urls import url_for

from connectors.kit import SettingsError
from flows.engine.model import Mode, Result

WAIT_SECONDS = 600.0
"""How long the end of the run is waited for; it goes on by itself after that."""

_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Resent:
    """The run that sent rejects again.

    Attributes:
        state: How it ended; ``None`` = it is still at work.
        url: Its page; empty = the address of the UI is not known here.
    """

    flow_run_id: UUID
    state: State[Any] | None
    url: str

    @property
    def result(self) -> Result:
        """結果 of the run."""
        if self.state is None:
            return Result.PARTIAL
        names = [each.value for each in Result]
        if self.state.name in names:
            return Result(self.state.name)
        return Result.SUCCESS if self.state.is_completed() else Result.ERROR

    def sentence(self) -> str:
        """For a person."""
        words = "再送の処理は続いています。結果は処理履歴で確かめてください。"
        if self.state is not None:
            words = f"再送: {self.result} {self.state.message or ''}".rstrip()
        # Between spaces: what follows an address is taken for a part of it.
        return f"{words} 再送の処理の画面: {self.url} " if self.url else words


async def resend(
    connection: str, keys: Sequence[str], *, wait_seconds: float = WAIT_SECONDS
) -> Resent:
    """Send rejects again by the connection's own deployment, so that it is a run like any other.

    Args:
        connection: Name of the connection.
        keys: Source keys; none = every reject.
        wait_seconds: How long its end is waited for.

    Raises:
        SettingsError: ``AC-206``, the connection has no deployment.
    """
    async with get_client() as client:
        run = await client.create_flow_run_from_deployment(
            await _deployment(client, connection),
            parameters={"mode": Mode.REJECTS.value, "record_keys": list(keys)},
        )
        url = url_for("flow-run", obj_id=run.id) or ""
        deadline = time.monotonic() + wait_seconds
        while True:
            found = await client.read_flow_run(run.id)
            if found.state is not None and found.state.is_final():
                return Resent(run.id, found.state, url)
            if time.monotonic() > deadline:
                return Resent(run.id, None, url)
            await asyncio.sleep(_POLL_SECONDS)


async def _deployment(client: PrefectClient, connection: str) -> UUID:
    tags = DeploymentFilterTags(all_=["app-connect"])
    for each in await client.read_deployments(deployment_filter=DeploymentFilter(tags=tags)):
        if each.parameters.get("connection") == connection:
            return each.id
    raise SettingsError("AC-206", connection)
