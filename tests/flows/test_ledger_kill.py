"""kill -9 between a request and its answer, and everything like it: nobody twice, nobody lost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psutil
import pytest
from prefect.states import Cancelling

from connectors.kit.emulator import Fault
from flows.engine.lease import LEASE_SECONDS

IMPORT = "(?i)/ImportCustomer"
MANY = 20


async def until(condition: Callable[[], bool], seconds: float = 80) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.02)


class Door:
    """Stands before 奉行クラウド: a request to ImportCustomer arrives, and is never processed."""

    def __init__(self, world: Any) -> None:
        self.arrived = 0
        self._faults = world.bugyo.faults
        self._app = self._faults._app
        self._faults._app = self

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not scope["path"].lower().endswith("importcustomer"):
            await self._app(scope, receive, send)
            return
        self.arrived += 1
        while (await receive())["type"] != "http.disconnect":
            pass

    def open(self) -> None:
        """From now on requests are processed."""
        self._faults._app = self._app


def assert_whole(world: Any, many: int = MANY) -> None:
    """Every customer is there, was written once, and the ledger says so."""
    assert len(world.customers) == many
    assert set(world.book.writes.values()) == {1}
    assert world.ledger() == {"posted": many}


def lapse(world: Any) -> None:
    """Let the lease of a killed run lapse: what a minute does by itself."""
    world.sql("UPDATE connection SET lease_expires = clock_timestamp() WHERE name = :c")


async def child_pid(client: Any, run: Any) -> int:
    """The process of a run on the worker."""
    found = await client.read_flow_run(run.id)
    return int(str(found.infrastructure_pid).rsplit(":", 1)[-1])


@pytest.mark.parametrize("stored", [True, False])
async def test_the_run_is_killed_between_request_and_answer(
    world: Any, client: Any, warm_worker: Any, stored: bool
) -> None:
    world.fill(MANY)
    await world.deploy()
    door = None if stored else Door(world)
    if stored:
        world.bugyo.faults.add(Fault(kind="latency", path=IMPORT, seconds=20))
    run = await world.start(client)
    await until(lambda: bool(world.book.writes) if door is None else door.arrived == 1)
    assert world.ledger() == {"pending": MANY}
    os.kill(await child_pid(client, run), signal.SIGKILL)
    killed = await world.ended(client, run.id, seconds=40)
    assert killed.state.is_crashed()
    if door is not None:
        door.open()
    lapse(world)
    second = await world.start(client)
    again = await world.ended(client, second.id)
    assert again.state.name == "SUCCESS", again.state.message
    assert_whole(world)
    first, last = world.history()
    assert first.result == "ERROR"
    assert first.message.startswith("中断")
    assert first.error["code"] == "AC-602"
    assert last.result == "SUCCESS"
    # What the first run had sent is in its own line, not in the second's.
    assert first.created == (MANY if stored else 0)
    assert first.pending == 0
    assert last.created == (0 if stored else MANY)
    assert last.unchanged == (MANY if stored else 0)


async def test_worker_and_run_are_killed_together(
    world: Any, client: Any, start_worker: Callable[..., Any]
) -> None:
    """A power cut: nobody can report anything, and a new worker takes over."""
    worker = start_worker(f"cut-{world.name}")
    world.fill(MANY)
    await world.deploy(f"cut-{world.name}")
    world.bugyo.faults.add(Fault(kind="latency", path=IMPORT, seconds=20))
    run = await world.start(client)
    await until(lambda: bool(world.book.writes))
    child = await child_pid(client, run)
    os.kill(worker.pid, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)
    assert world.ledger() == {"pending": MANY}
    # Nothing is helped along here: the new worker buries the dead run, whose slot is free then,
    # and the next run waits until the lease of the dead one has lapsed.
    start_worker(f"cut-{world.name}")
    buried = await world.ended(client, run.id, seconds=80)
    assert buried.state.is_crashed()
    second = await world.start(client)
    again = await world.ended(client, second.id, seconds=LEASE_SECONDS + 30)
    assert again.state.name == "SUCCESS", again.state.message
    assert_whole(world)
    first, last = world.history()
    assert (first.result, last.result) == ("ERROR", "SUCCESS")
    assert first.message.startswith("中断")
    assert (last.created, last.unchanged) == (0, MANY)


async def test_only_the_worker_is_killed_and_another_one_goes_on(
    world: Any, client: Any, start_worker: Callable[..., Any]
) -> None:
    """Its run ends by itself and gives the lease back, so nobody has to wait for anything."""
    pool = f"killed-{world.name}"
    worker = start_worker(pool, APP_CONNECT_KILL_SECONDS="3")
    world.fill(MANY)
    await world.deploy(pool)
    world.bugyo.faults.add(Fault(kind="latency", path=IMPORT, seconds=20))
    run = await world.start(client)
    await until(lambda: bool(world.book.writes))
    child = await child_pid(client, run)
    os.kill(worker.pid, signal.SIGKILL)
    await until(lambda: not psutil.pid_exists(child) or zombie(child))
    start_worker(pool)
    second = await world.start(client)
    again = await world.ended(client, second.id)
    assert again.state.name == "SUCCESS", again.state.message
    assert_whole(world)
    assert [row.result for row in world.history()] == ["ERROR", "SUCCESS"]
    assert world.history()[0].error["code"] == "AC-602"


def zombie(pid: int) -> bool:
    """Whether a process has ended and nobody has asked how."""
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_cancel_closes_the_history(world: Any, client: Any, warm_worker: Any) -> None:
    world.fill(MANY)
    await world.deploy()
    world.bugyo.faults.add(Fault(kind="latency", path=IMPORT, seconds=20))
    run = await world.start(client)
    await until(lambda: bool(world.book.writes))
    await client.set_flow_run_state(run.id, Cancelling())
    ended = await world.ended(client, run.id)
    assert ended.state.is_cancelled()
    assert (ended.row.result, ended.row.error["code"]) == ("ERROR", "AC-602")
    assert ended.row.ended_at is not None
    assert "取り消されました" in ended.row.message
    assert (await world.run()).state.name == "SUCCESS"  # the lease was given back
    assert_whole(world)


@pytest.mark.parametrize("kind", ["drop_after", "drop_before", "cut_body", "maintenance"])
async def test_a_lost_answer_is_settled_in_the_same_run(world: Any, kind: str) -> None:
    world.fill(MANY)
    world.bugyo.faults.add(Fault(kind=kind, path=IMPORT))
    ran = await world.run()
    assert ran.state.name == "SUCCESS"
    assert ran.counts == (MANY, MANY, 0, 0, 0, 0)
    assert_whole(world)


@pytest.mark.parametrize("status", [429, 500, 502])
async def test_a_post_that_was_not_processed_is_sent_again(world: Any, status: int) -> None:
    world.fill(MANY)
    world.bugyo.faults.add(
        Fault(kind="status", path=IMPORT, status=status, headers={"retry-after": "0"})
    )
    assert (await world.run()).counts == (MANY, MANY, 0, 0, 0, 0)
    assert_whole(world)


async def test_a_lost_update_is_settled_by_its_content(world: Any) -> None:
    """The code is there before and after: only the content tells whether the update was stored."""
    world.fill(3)
    await world.run()
    world.kintone.update(world.app, 1, {"得意先名": "一回目"})
    world.bugyo.faults.add(Fault(kind="drop_before", path=IMPORT))
    assert (await world.run()).row.updated == 1
    assert world.customers["000001"]["name"] == "一回目"
    world.kintone.update(world.app, 1, {"得意先名": "二回目"})
    world.bugyo.faults.add(Fault(kind="drop_after", path=IMPORT))
    assert (await world.run()).row.updated == 1
    assert world.customers["000001"]["name"] == "二回目"
    assert world.book.writes["000001"] == 3


async def test_when_nothing_can_be_asked_rows_stay_pending_until_the_next_run(world: Any) -> None:
    world.fill(MANY)
    world.bugyo.faults.add(Fault(kind="drop_after", path=IMPORT))
    world.bugyo.faults.add(
        Fault(kind="status", status=403, path="(?i)ExportCustomer", after=1, times=None, body="{}")
    )
    ran = await world.run()
    assert ran.state.name == "ERROR"
    assert ran.row.pending == MANY
    assert f"結果の分からないデータが {MANY} 件あります。" in ran.state.message
    assert world.ledger() == {"pending": MANY}
    assert world.watermark() is None
    world.bugyo.faults.clear()
    assert (await world.run()).state.name == "SUCCESS"
    assert_whole(world)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", status=429, headers={"retry-after": "1"}, path=r"records\.json"),
        Fault(kind="status", status=500, path=r"records\.json"),
        Fault(kind="cut_body", path=r"records\.json", after=1),
        Fault(kind="drop_before", path=r"records\.json", after=1),
        Fault(kind="maintenance", path="fields"),
        Fault(kind="status", status=500, path="(?i)ExportCustomer"),
        Fault(kind="cut_body", path="(?i)ExportCustomer"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.path}",
)
async def test_faults_while_reading_pass(world: Any, fault: Fault) -> None:
    world.fill(MANY)
    # The export needs something to answer, or there is no body to cut.
    world.bugyo.seed(world.tenant, [{"code": "000001", "name": "旧社名"}])
    emulator = world.bugyo if "Customer" in fault.path else world.kintone
    emulator.faults.add(fault)
    ran = await world.run()
    assert ran.counts == (MANY, MANY - 1, 1, 0, 0, 0)
    assert emulator.faults.waiting() == []
    assert_whole(world)


def page(world: Any, numbers: range) -> str:
    """A page of kintone that holds only these records."""
    app = world.kintone.apps[world.app]
    rows = [app.get(n).encoded(app.types, None).decode() for n in numbers]
    return f'{{"records":[{",".join(rows)}],"totalCount":null}}'


async def test_a_short_page_is_not_the_last(world: Any) -> None:
    world.fill(MANY)
    world.kintone.faults.add(
        Fault(kind="replace_body", path=r"records\.json", after=1, body=page(world, range(1, 4)))
    )
    assert (await world.run()).counts == (MANY, MANY, 0, 0, 0, 0)


async def test_pages_that_hold_less_than_was_announced_are_an_error(world: Any) -> None:
    """An empty page in the middle: green would lose the rest and move the watermark past it."""
    world.fill(MANY)
    empty = '{"records":[],"totalCount":null}'
    world.kintone.faults.add(Fault(kind="replace_body", path=r"records\.json", after=1, body=empty))
    ran = await world.run()
    assert ran.state.name == "ERROR"
    assert ran.row.error["code"] == "AC-302"
    assert world.watermark() is None
    assert (await world.run()).counts == (MANY, MANY, 0, 0, 0, 0)


async def test_a_second_run_at_the_same_time_is_skipped(world: Any) -> None:
    world.fill(MANY)
    world.bugyo.faults.add(Fault(kind="latency", path=IMPORT, seconds=60))
    first = asyncio.create_task(world.run())
    await until(lambda: bool(world.book.writes))
    second = await world.run()
    world.bugyo.faults.release()
    assert second.state.name == "スキップ"
    assert second.state.is_completed()
    assert second.row.result == "スキップ"
    assert "AC-601 ほかの処理が実行中" in second.state.message
    assert "に始まった手動の処理" in second.state.message
    assert "に引き継げます" in second.state.message
    assert (await first).state.name == "SUCCESS"
    assert_whole(world)


async def test_a_run_that_lost_its_lease_writes_nothing(world: Any) -> None:
    """Fencing: the process was frozen or cut off, and somebody else took over meanwhile."""
    world.fill(MANY)
    world.kintone.faults.add(Fault(kind="latency", path=r"records\.json", seconds=60))
    run = asyncio.create_task(world.run())
    await until(lambda: bool(world.sql("SELECT 1 FROM connection WHERE name = :c AND fence = 1")))
    world.sql(
        "UPDATE connection SET lease_owner = :other, fence = fence + 1, "
        "lease_expires = clock_timestamp() + interval '90 seconds' WHERE name = :c",
        other=uuid4(),
    )
    await until(lambda: any("records.json" in r.path for r in world.kintone.faults.requests))
    await asyncio.sleep(0.2)  # it is counted just before it is held back
    world.kintone.faults.release()
    ran = await run
    assert (ran.row.result, ran.row.error["code"]) == ("ERROR", "AC-602")
    assert world.imports == 0
    assert world.ledger() == {}
    assert world.watermark() is None
    (row,) = world.sql("SELECT fence, lease_owner FROM connection WHERE name = :c")
    assert row[0] == 2  # and what it left behind is the other's
    assert row[1] is not None
