"""Rows 9, 11, 30 and 31 with Prefect around the run: its server, its worker, its scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psutil
import psycopg
import pytest
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.states import Cancelling, Pending, Scheduled

from connectors.kit.emulator import Fault
from connectors.kit.error_links import with_link
from deployments.aftercare import attend, place
from deployments.worker import AppConnectWorker

IMPORT = "(?i)/ImportCustomer"
MANY = 20


async def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.05)


async def sent(world: Any, client: Any, run: Any) -> None:
    """Wait until the run's first import has arrived; its answer is still due."""
    try:
        await until(lambda: bool(world.book.writes))
    except AssertionError:
        pytest.fail(f"nothing was sent: {(await client.read_flow_run(run.id)).state!r}")


def whole(world: Any, many: int = MANY) -> None:
    """Every customer is there and was written once."""
    assert len(world.customers) == many
    assert set(world.book.writes.values()) == {1}
    assert world.ledger() == {"posted": many}


def linked(row: Any) -> str:
    """What Prefect shows of a run that ended in our books only: their words, and the page."""
    return with_link(row.message, row.error["code"])


async def process_of(client: Any, run: UUID) -> int:
    """The process of a run."""
    found = await client.read_flow_run(run)
    return int(str(found.infrastructure_pid).rsplit(":", 1)[-1])


def gone(pid: int) -> bool:
    """Whether the process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Line:
    """The line from a worker to the API of Prefect, which can be cut: then nobody answers."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._to = (parts.hostname, parts.port)
        self._path = parts.path
        self._port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where the worker connects."""
        return f"http://127.0.0.1:{self._port}{self._path}"

    async def up(self) -> None:
        """Let connections through."""
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """End all connections and refuse new ones."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            up_reader, up_writer = await asyncio.open_connection(*self._to)
            self._open |= {writer, up_writer}
            both = (_copy(reader, up_writer), _copy(up_reader, writer))
            await asyncio.gather(*both, return_exceptions=True)
            self._open -= {writer, up_writer}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture
async def line(prefect_server: Any) -> AsyncIterator[Line]:
    """A line to the session's Prefect server."""
    made = Line(prefect_server.api)
    await made.up()
    yield made
    await made.cut()


async def make_pool(client: Any, name: str) -> None:
    """A pool that no worker serves yet."""
    template = AppConnectWorker.get_default_base_job_template()
    await client.create_work_pool(
        WorkPoolCreate(name=name, type=AppConnectWorker.type, base_job_template=template)
    )


@pytest.fixture
async def worker_on(start_worker: Callable[..., Any]) -> AsyncIterator[Callable[..., Any]]:
    """Starts workers that end with the test."""
    started: list[Any] = []

    def start(pool: str, **variables: str) -> Any:
        started.append(start_worker(pool, **variables))
        return started[-1]

    yield start
    for child in started:
        child.terminate()
    for child in started:
        # Not in this thread: the line to Prefect's API runs here.
        await asyncio.to_thread(child.finish)


# --- row 9 --------------------------------------------------------------------------------------


async def test_row_09_a_stopped_worker_lets_its_run_write_the_answer_that_is_due(
    world: Any, client: Any, worker_on: Callable[..., Any]
) -> None:
    pool = f"drain-{world.name}"
    times = {"APP_CONNECT_DRAIN_SECONDS": "0.1", "APP_CONNECT_KILL_SECONDS": "20"}
    worker = worker_on(pool, **times)
    world.fill(1100)
    await world.deploy(pool)
    world.bugyo.faults.add(Fault(kind="latency", path=IMPORT, seconds=15))
    run = await world.start(client)
    await sent(world, client, run)
    worker.terminate()
    await asyncio.sleep(2)
    world.bugyo.faults.release()
    ended = await world.ended(client, run.id)
    assert (ended.state.type.value, ended.state.name) == ("FAILED", "ERROR")
    assert "AC-602 処理の中断" in ended.state.message
    assert "処理を実行するプログラムが停止します" in ended.state.message
    assert (ended.row.result, ended.row.error["code"]) == ("ERROR", "AC-602")
    stored = len(world.customers)
    assert 0 < stored < 1100
    assert world.ledger().get("pending") is None
    assert (ended.row.created, ended.row.pending) == (stored, 0)
    await until(lambda: worker.exit_code == 0)
    worker_on(pool)
    second = await world.ended(client, (await world.start(client)).id)
    assert second.state.name == "SUCCESS"
    whole(world, 1100)


async def test_row_09_a_second_sigterm_kills(
    world: Any, client: Any, worker_on: Callable[..., Any]
) -> None:
    pool = f"twice-{world.name}"
    worker = worker_on(pool, APP_CONNECT_KILL_SECONDS="120")
    world.fill(MANY)
    await world.deploy(pool)
    world.bugyo.faults.add(Fault(kind="latency", path=IMPORT, seconds=60))
    run = await world.start(client)
    await sent(world, client, run)
    child = await process_of(client, run.id)
    worker.terminate()
    await asyncio.sleep(1)
    assert not gone(child)
    worker.terminate()
    await until(lambda: gone(child) and worker.exit_code is not None, seconds=60)
    assert (await client.read_flow_run(run.id)).state.is_crashed()


async def test_row_09_cancel_waits_for_the_answer_that_is_due(
    world: Any, client: Any, warm_worker: Any
) -> None:
    world.fill(1100)
    await world.deploy()
    world.bugyo.faults.add(Fault(kind="latency", path=IMPORT, seconds=60))
    run = await world.start(client)
    await sent(world, client, run)
    await client.set_flow_run_state(run.id, Cancelling())
    await asyncio.sleep(6)  # the worker asks once a second
    world.bugyo.faults.release()
    ended = await world.ended(client, run.id)
    assert ended.state.is_cancelled()
    assert (ended.row.result, ended.row.error["code"]) == ("ERROR", "AC-602")
    assert "取り消されました" in ended.row.message
    assert world.ledger().get("pending") is None
    assert 0 < ended.row.created == len(world.customers) < 1100


async def test_row_09_i8_the_run_ends_in_prefect_too_when_its_time_is_over(
    world: Any, client: Any, worker_on: Callable[..., Any]
) -> None:
    pool = f"late-{world.name}"
    worker_on(pool, APP_CONNECT_RUN_HOURS=str(3 / 3600))
    world.fill(MANY)
    await world.deploy(pool)
    world.kintone.faults.add(Fault(kind="latency", path=r"records\.json", seconds=60, times=None))
    run = await world.start(client)
    ended = await world.ended(client, run.id, seconds=80)
    assert (ended.state.type.value, ended.state.name) == ("FAILED", "ERROR")
    assert "AC-604 時間切れ" in ended.state.message
    assert ended.row.error["code"] == "AC-604"


# --- row 11 and missed runs ---------------------------------------------------------------------


def make_scheduled(postgres: Any, deployment: UUID) -> None:
    """Let Prefect believe that its scheduler made the runs: a client cannot ask for that."""
    with psycopg.connect(postgres.server.url("postgres")) as connection:
        names = [row[0] for row in connection.execute("SELECT datname FROM pg_database")]
    done = 0
    for name in (each for each in names if each.startswith("test_")):
        with psycopg.connect(postgres.server.url(name)) as connection:
            if connection.execute("SELECT to_regclass('flow_run')").fetchone() == (None,):
                continue
            done += connection.execute(
                "UPDATE flow_run SET auto_scheduled = true WHERE deployment_id = %s", [deployment]
            ).rowcount
    assert done


async def missed(world: Any, client: Any, postgres: Any, moments: list[datetime]) -> list[UUID]:
    """Scheduled runs that nobody has taken."""
    runs = [await world.start(client, state=Scheduled(scheduled_time=each)) for each in moments]
    make_scheduled(postgres, world.deployment)
    return [run.id for run in runs]


async def test_row_11_missed_runs_collapse_into_the_newest(
    world: Any, client: Any, worker_on: Callable[..., Any], postgres: Any
) -> None:
    pool = f"missed-{world.name}"
    world.fill(MANY)
    await make_pool(client, pool)
    await world.deploy(pool)
    today = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    days = [today - timedelta(days=n) for n in (2, 1, 0)]
    runs = await missed(world, client, postgres, days)
    tomorrow = await missed(world, client, postgres, [today + timedelta(days=1)])
    worker_on(pool)
    ended = [await world.ended(client, run, seconds=120) for run in runs]
    assert [each.state.name for each in ended] == ["スキップ"] * 2 + ["SUCCESS"]
    for each in ended[:2]:
        assert each.state.is_completed()
        assert "AC-605 まとめて処理" in each.state.message
        assert "の予定の処理" in each.state.message
        assert each.row.result == "スキップ"
    assert [each.row.scheduled_for for each in ended] == days
    assert (await client.read_flow_run(tomorrow[0])).state.is_scheduled()
    whole(world)
    await client.delete_deployment(world.deployment)


async def test_row_11_the_scheduler_made_two_runs_for_the_same_time(
    world: Any, client: Any, warm_worker: Any, postgres: Any
) -> None:
    world.fill(MANY)
    await world.deploy()
    moment = datetime.now(UTC) + timedelta(seconds=4)
    runs = await missed(world, client, postgres, [moment, moment])
    ended = [await world.ended(client, run, seconds=90) for run in runs]
    assert sorted(each.state.name for each in ended) == ["SUCCESS", "スキップ"]
    (second,) = [each for each in ended if each.state.name == "スキップ"]
    assert second.row.error["code"] in ("AC-601", "AC-606")
    whole(world)
    await client.delete_deployment(world.deployment)


# --- row 30 -------------------------------------------------------------------------------------


async def test_row_30_prefect_goes_in_the_middle_and_comes_back(
    world: Any, client: Any, line: Line, worker_on: Callable[..., Any]
) -> None:
    pool = f"middle-{world.name}"
    await asyncio.to_thread(worker_on, pool, PREFECT_API_URL=line.url)
    world.fill(MANY)
    await world.deploy(pool)
    world.bugyo.faults.add(Fault(kind="latency", path=IMPORT, seconds=4))
    run = await world.start(client)
    await sent(world, client, run)
    await line.cut()
    await asyncio.sleep(2)
    await line.up()
    ended = await world.ended(client, run.id, seconds=240)
    assert ended.state.name == "SUCCESS"
    assert ended.row.result == "SUCCESS"
    whole(world)


async def test_row_30_prefect_is_away_at_the_end_and_is_told_later(
    world: Any, client: Any, line: Line, worker_on: Callable[..., Any]
) -> None:
    pool = f"end-{world.name}"
    quick = {"PREFECT_API_URL": line.url, "PREFECT_CLIENT_MAX_RETRIES": "0"}
    await asyncio.to_thread(worker_on, pool, **quick)
    world.fill(MANY)
    await world.deploy(pool)
    world.bugyo.faults.add(Fault(kind="latency", path=IMPORT, seconds=60))
    run = await world.start(client)
    await sent(world, client, run)
    child = await process_of(client, run.id)
    await line.cut()
    world.bugyo.faults.release()
    await until(lambda: world.history()[0].result is not None)
    assert world.history()[0].result == "SUCCESS"
    await until(lambda: gone(child), seconds=240)
    assert (await client.read_flow_run(run.id)).state.is_running()
    await line.up()
    deadline = time.monotonic() + 240
    while (found := await client.read_flow_run(run.id)).state.name != "SUCCESS":
        assert time.monotonic() < deadline, found.state
        await asyncio.sleep(0.5)
    assert found.state.is_completed()
    assert found.state.message == world.history()[0].message
    whole(world)


async def test_row_30_a_run_that_prefect_could_not_start_is_buried_and_the_next_one_works(
    world: Any, client: Any, worker_on: Callable[..., Any]
) -> None:
    """Its API was away at the start: nothing was done, and the slot must be free again."""
    pool = f"start-{world.name}"
    world.fill(MANY)
    await make_pool(client, pool)
    await world.deploy(pool)
    run = await world.start(client)
    await client.set_flow_run_state(run.id, Pending(), force=True)
    child = await asyncio.create_subprocess_exec("true")
    await child.wait()
    await client.update_flow_run(run.id, infrastructure_pid=place(child.pid))
    await attend(client, pool, ())
    buried = await client.read_flow_run(run.id)
    assert buried.state.is_crashed()
    assert "次回の処理が続きを行います" in buried.state.message
    worker_on(pool)
    assert (await world.ended(client, (await world.start(client)).id)).state.name == "SUCCESS"
    whole(world)


async def test_row_31_a_killed_run_says_in_japanese_what_to_do(
    world: Any, client: Any, warm_worker: Any
) -> None:
    world.fill(MANY)
    await world.deploy()
    world.bugyo.faults.add(Fault(kind="latency", path=IMPORT, seconds=20))
    run = await world.start(client)
    await sent(world, client, run)
    os.kill(await process_of(client, run.id), signal.SIGKILL)
    assert (await world.ended(client, run.id)).state.is_crashed()
    world.sql("UPDATE connection SET lease_expires = clock_timestamp() WHERE name = :c")
    deadline = time.monotonic() + 120  # what is promised
    while not (message := (await client.read_flow_run(run.id)).state.message).startswith("中断"):
        assert time.monotonic() < deadline, message
        await asyncio.sleep(0.5)
    assert message == linked(world.history()[0])
    assert message.endswith("/errors.html#ac-602")


# --- row 31 -------------------------------------------------------------------------------------


async def test_row_31_a_killed_worker_the_history_says_so_without_another_run(
    world: Any, client: Any, worker_on: Callable[..., Any]
) -> None:
    pool = f"lost-{world.name}"
    worker = worker_on(pool)
    worker_on(f"other-{world.name}")  # any worker of the company will do
    world.fill(MANY)
    await world.deploy(pool)
    world.bugyo.faults.add(Fault(kind="latency", path=IMPORT, seconds=20))
    run = await world.start(client)
    await sent(world, client, run)
    child = await process_of(client, run.id)
    os.kill(worker.pid, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)
    world.sql("UPDATE connection SET lease_expires = clock_timestamp() WHERE name = :c")
    await until(lambda: world.history()[0].result is not None)
    (row,) = world.history()
    assert (row.result, row.error["code"]) == ("ERROR", "AC-602")
    assert row.message.startswith("中断")
    worker_on(pool)
    second = await world.ended(client, (await world.start(client)).id)
    assert second.state.name == "SUCCESS"
    runs = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[world.deployment])
        )
    )
    assert sorted(each.state.type.value for each in runs) == ["COMPLETED", "FAILED"]
    (lost,) = [each for each in runs if each.state.is_failed()]
    assert lost.state.message == linked(row)
    whole(world)
