"""The warm worker runs flows, answers quickly, and reports how they ended."""

# ruff: noqa: ASYNC240 - a test may look at a file from time to time
from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.states import Cancelling

from deployments.stack.processes import Child

Run = Callable[..., Awaitable[FlowRun]]


@pytest.fixture
async def client(prefect_server: Any) -> AsyncIterator[PrefectClient]:
    async with get_client() as opened:
        yield opened


async def deployed(
    client: PrefectClient, name: str, pool: str, module: str = "toy_flows", **more: Any
) -> UUID:
    """A deployment of a toy flow, named by module path as ours are."""
    flow_id = await client.create_flow_from_name(name.replace("_", "-"))
    return await client.create_deployment(
        flow_id=flow_id,
        name=f"{name}-{time.monotonic_ns()}",
        entrypoint=f"{module}.{name}",
        work_pool_name=pool,
        enforce_parameter_schema=False,
        **more,
    )


@pytest.fixture
def run(client: PrefectClient, warm_worker: Child, prefect_server: Any) -> Run:
    """Starts a toy flow through a deployment."""

    async def start(name: str, *, pool: str | None = None, **parameters: Any) -> FlowRun:
        deployment = await deployed(client, name, pool or prefect_server.work_pool)
        return await client.create_flow_run_from_deployment(deployment, parameters=parameters)

    return start


async def until(client: PrefectClient, run_id: UUID, *types: str, seconds: float = 120) -> FlowRun:
    deadline = time.monotonic() + seconds
    while True:
        found = await client.read_flow_run(run_id)
        if found.state is not None and found.state.type.value in types:
            return found
        assert time.monotonic() < deadline, f"still {found.state!r} after {seconds} s"
        await asyncio.sleep(0.1)


async def until_file(path: Path, seconds: float = 80) -> str:
    deadline = time.monotonic() + seconds
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path} was never written"
        await asyncio.sleep(0.05)
    return path.read_text()


FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


async def logged(client: PrefectClient, run_id: UUID, words: str, seconds: float = 40) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        logs = await client.read_logs(
            LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id])), limit=200
        )
        if any(words in log.message for log in logs):
            return True
        await asyncio.sleep(0.2)
    return False


@pytest.mark.parametrize(
    ("name", "words"), [("says", "task says"), ("says_async", "async flow says")]
)
async def test_a_run_completes_and_its_log_arrives(
    run: Run, client: PrefectClient, name: str, words: str
) -> None:
    started = await run(name, words="こんにちは")
    ended = await until(client, started.id, *FINAL)
    assert ended.state is not None
    assert ended.state.is_completed()
    assert await logged(client, started.id, f"{words} こんにちは")


def seconds_to_import() -> float:
    """What a run costs that begins with a new Python, here and now."""
    started = time.monotonic()
    modules = "import prefect.flow_engine, prefect.workers.process, prefect.runner"
    subprocess.run([sys.executable, "-c", modules], env=dict(os.environ), check=True)
    return time.monotonic() - started


async def test_time_to_running(run: Run, client: PrefectClient) -> None:
    """A worker that imports Prefect for each run takes as long as that import, whatever the poll.

    Beside that import and not in seconds: on a machine with other work both take longer.
    """
    await until(client, (await run("empty")).id, *FINAL)  # the pool's first run pays for caches
    waits, totals, imports = [], [], []
    for _ in range(3):
        imports.append(seconds_to_import())
        started = await run("empty")
        ended = await until(client, started.id, *FINAL)
        assert started.expected_start_time is not None
        assert ended.start_time is not None
        assert ended.end_time is not None
        waits.append((ended.start_time - started.expected_start_time).total_seconds())
        totals.append((ended.end_time - started.expected_start_time).total_seconds())
    print("seconds to Running:", sorted(waits), "to Completed:", sorted(totals))
    print("seconds of an import:", sorted(imports))
    poll = 1.0  # the worker asks once a second
    assert sorted(waits)[1] < poll + sorted(imports)[1] / 2


async def test_an_error_in_a_flow_is_failed_not_crashed(run: Run, client: PrefectClient) -> None:
    ended = await until(client, (await run("fails")).id, *FINAL)
    assert ended.state is not None
    assert ended.state.is_failed()
    assert "on purpose" in (ended.state.message or "")


async def test_variables_of_a_deployment_reach_its_runs(
    client: PrefectClient, warm_worker: Child, prefect_server: Any, tmp_path: Path
) -> None:
    file = tmp_path / "value"
    deployment = await deployed(
        client,
        "tells_environment",
        prefect_server.work_pool,
        job_variables={"env": {"APP_CONNECT_TEST": "その値"}},
    )
    started = await client.create_flow_run_from_deployment(
        deployment, parameters={"name": "APP_CONNECT_TEST", "file": str(file)}
    )
    await until(client, started.id, *FINAL)
    assert file.read_text() == "その値"


@pytest.mark.parametrize("name", ["waits", "waits_async"])
async def test_cancel_runs_the_finally_blocks(
    run: Run, client: PrefectClient, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "pid"
    started = await run(name, file=str(file))
    pid = int(await until_file(file))
    await client.set_flow_run_state(started.id, Cancelling())
    ended = await until(client, started.id, *FINAL)
    assert ended.state is not None
    assert ended.state.is_cancelled()
    assert file.with_suffix(".ended").read_text() == "finally"
    await gone(pid)


async def test_cancel_before_the_flow_has_started(
    client: PrefectClient, warm_worker: Child, prefect_server: Any, tmp_path: Path
) -> None:
    file = tmp_path / "pid"
    deployment = await deployed(
        client,
        "never",
        prefect_server.work_pool,
        module="toy_slow_import",
        job_variables={"env": {"TOY_PID_FILE": str(file)}},
    )
    started = await client.create_flow_run_from_deployment(deployment)
    pid = int(await until_file(file))
    pending = await client.read_flow_run(started.id)
    assert pending.state is not None
    assert pending.state.is_pending()
    await client.set_flow_run_state(started.id, Cancelling())
    ended = await until(client, started.id, *FINAL, seconds=60)
    assert ended.state is not None
    assert ended.state.is_cancelled()
    await gone(pid)


async def test_a_killed_run_is_crashed_at_once(
    run: Run, client: PrefectClient, tmp_path: Path
) -> None:
    file = tmp_path / "pid"
    started = await run("waits", file=str(file))
    os.kill(int(await until_file(file)), signal.SIGKILL)
    ended = await until(client, started.id, *FINAL, seconds=5)
    assert ended.state is not None
    assert ended.state.is_crashed()
    assert "-9" in (ended.state.message or "")


async def gone(pid: int, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        assert time.monotonic() < deadline, f"process {pid} is still there"
        await asyncio.sleep(0.05)


async def test_stopping_the_worker_ends_its_runs_and_reports_them(
    run: Run, client: PrefectClient, start_worker: Callable[..., Child], tmp_path: Path
) -> None:
    """One run obeys, one has to be killed; neither stays Running."""
    times = {"APP_CONNECT_DRAIN_SECONDS": "0.5", "APP_CONNECT_KILL_SECONDS": "2"}
    worker = start_worker("stopped", **times)
    files = [tmp_path / "obeys", tmp_path / "stubborn"]
    runs = [
        await run("waits", pool="stopped", file=str(files[0])),
        await run("is_stubborn", pool="stopped", file=str(files[1])),
    ]
    pids = [int(await until_file(file)) for file in files]
    worker.terminate()
    for started in runs:
        ended = await until(client, started.id, *FINAL, seconds=60)
        assert ended.state is not None
        assert ended.state.is_crashed()
    assert files[0].with_suffix(".ended").read_text() == "finally"
    for pid in pids:
        await gone(pid)
    deadline = time.monotonic() + 80
    while worker.exit_code is None:  # a zombie's other threads may outlive its first one
        assert time.monotonic() < deadline, "the worker has not ended"
        await asyncio.sleep(0.05)
    assert worker.exit_code == 0


async def test_runs_of_a_killed_worker_end_and_report_themselves(
    run: Run, client: PrefectClient, start_worker: Callable[..., Child], tmp_path: Path
) -> None:
    worker = start_worker("killed", APP_CONNECT_KILL_SECONDS="2")
    files = [tmp_path / "obeys", tmp_path / "stubborn"]
    obeys = await run("waits", pool="killed", file=str(files[0]))
    await run("is_stubborn", pool="killed", file=str(files[1]))
    pids = [int(await until_file(file)) for file in files]
    os.kill(worker.pid, signal.SIGKILL)
    ended = await until(client, obeys.id, *FINAL, seconds=40)
    assert ended.state is not None
    assert ended.state.is_crashed()
    for pid in pids:
        await gone(pid)


async def test_a_schedule_of_seconds_runs_by_itself(
    client: PrefectClient, warm_worker: Child, prefect_server: Any
) -> None:
    """The only thing that notices a server whose scheduler loop is broken."""
    deployment = await deployed(
        client,
        "empty",
        prefect_server.work_pool,
        schedules=[
            DeploymentScheduleCreate(schedule=IntervalSchedule(interval=timedelta(seconds=3)))
        ],
    )
    deadline = time.monotonic() + 160
    while True:
        runs = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[deployment])
            )
        )
        done = [r for r in runs if r.state is not None and r.state.is_completed()]
        if done:
            break
        assert time.monotonic() < deadline, [(r.name, r.state) for r in runs]
        await asyncio.sleep(0.3)
    await client.delete_deployment(deployment)
    assert all(r.auto_scheduled for r in done)
