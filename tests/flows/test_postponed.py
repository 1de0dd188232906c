"""A service that is away for a known time: Prefect waits, no worker does, and the run goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.client.schemas.objects import StateType
from prefect.states import Running, Scheduled

from connectors.kit import WaitError
from connectors.kit.emulator import Fault
from deployments.aftercare import GRACE, _state_for, place
from deployments.cli.running import wait
from flows.engine import history
from flows.engine.clock import JST
from flows.engine.postponing import ATTEMPTS, postponement

AWAY = 200.0
"""Longer than a request is repeated for."""


async def put_off(client: Any, run: Any, seconds: float = 240) -> Any:
    """Wait until the run waits for the service."""
    deadline = time.monotonic() + seconds
    while True:
        found = await client.read_flow_run(run.id)
        if "まで待っています" in found.state.name:
            return found
        assert not found.state.is_final(), found.state
        assert time.monotonic() < deadline, f"still {found.state!r}"
        await asyncio.sleep(0.1)


async def test_a_run_waits_without_a_worker_and_goes_on(
    new_world: Callable[..., Any], client: Any, warm_worker: Any
) -> None:
    alone, overtaken = new_world(), new_world(tenant=1)
    for world in (alone, overtaken):
        await world.save()
        world.fill(3)
        await world.deploy()
        # The count and the first page are answered; with the second, maintenance begins.
        away = {"status": 503, "headers": {"retry-after": str(AWAY)}, "path": "records", "after": 2}
        world.kintone.faults.add(Fault(kind="status", **away))
        started = datetime.now(UTC)
        run = await world.start(client)
        waiting = await put_off(client, run)
        opens = started.astimezone(JST) + timedelta(seconds=AWAY)
        assert waiting.state.type is StateType.SCHEDULED
        at = waiting.state.state_details.scheduled_time
        assert opens < at < datetime.now(UTC) + timedelta(seconds=AWAY + 60)
        minutes = range(int((at - opens).total_seconds() // 60) + 2)
        words = {f"{opens + timedelta(minutes=n):%H:%M}" for n in minutes}
        assert waiting.state.name.split(" ")[0] in words
        for part in ("AC-502 メンテナンス中", "自動で続けます", "何も登録していません"):
            assert part in waiting.state.message
        # Nothing is held, and 処理履歴 says so.
        assert world.sql("SELECT lease_owner FROM connection WHERE name = :c") == [(None,)]
        (row,) = world.history()
        assert (row.result, row.error["code"], row.extracted) == ("待機中", "AC-502", 3)
        finished = await wait(client, run.id)
        assert finished.result == "待機中", "app-connect run does not wait for hours"
        world.waiting = waiting
    # Meanwhile somebody else does the work: what was staged goes with it.
    assert (await overtaken.run()).counts == (3, 3, 0, 0, 0, 0)
    for world in (alone, overtaken):
        await client.set_flow_run_state(world.waiting.id, Scheduled(scheduled_time=None))
    first = await alone.ended(client, alone.waiting.id, 240)
    assert (first.row.id, first.state.name, first.counts) == (
        alone.waiting.id,
        "SUCCESS",
        (3, 3, 0, 0, 0, 0),
    )
    assert first.row.started_at > alone.waiting.start_time, "the wait was no work"
    second = await overtaken.ended(client, overtaken.waiting.id, 240)
    assert (second.state.name, second.counts) == ("SUCCESS", (2, 0, 0, 2, 0, 0))
    for world in (alone, overtaken):
        assert len(world.customers) == 3
        assert set(world.book.writes.values()) == {1}


async def test_a_run_that_nobody_runs_again_fails_at_once(world: Any) -> None:
    away = {"status": 503, "headers": {"retry-after": str(AWAY)}, "path": "fields"}
    world.kintone.faults.add(Fault(kind="status", **away))
    ran = await world.run()
    assert (ran.state.name, ran.row.result, ran.row.error["code"]) == ("ERROR", "ERROR", "AC-502")


async def test_one_that_was_cancelled_meanwhile_is_not_waiting_for_ever(world: Any) -> None:
    await world.run()
    world.sql(
        "UPDATE run SET result = '待機中', ended_at = clock_timestamp() - interval '25 hours' "
        "WHERE connection = :c"
    )
    await world.store.do(history.mark_lapsed)
    (row,) = world.history()
    assert (row.result, row.error["code"]) == ("ERROR", "AC-602")


async def test_a_run_that_could_not_tell_prefect_is_run_again(world: Any, client: Any) -> None:
    await world.run()
    world.sql("UPDATE run SET result = '待機中' WHERE connection = :c")
    (row,) = world.history()
    run = await client.read_flow_run(row.id)
    run.infrastructure_pid = place(2**22 + 1)  # beyond any process
    run.state = Running()
    run.state.timestamp = datetime.now(UTC) - GRACE
    again = _state_for(run, {row.id: row})
    assert again is not None
    assert again.type is StateType.SCHEDULED
    run.state.timestamp = datetime.now(UTC)
    assert _state_for(run, {row.id: row}) is None, "a worker is just taking it up"


@pytest.mark.parametrize(
    ("code", "seconds", "attempt", "minutes"),
    [
        ("AC-507", 3600.0, 1, 60),
        ("AC-503", 300.0, 1, 5),
        ("AC-503", None, 1, None),
        ("AC-502", None, 1, 30),
        ("AC-507", 3600.0, ATTEMPTS, 60),
        ("AC-507", 3600.0, ATTEMPTS + 1, None),
        ("AC-507", 13 * 3600.0, 1, None),
        ("AC-601", 60.0, 1, None),
    ],
)
def test_what_is_worth_waiting_for(
    code: str, seconds: float | None, attempt: int, minutes: int | None
) -> None:
    before = datetime.now(UTC)
    later = postponement(WaitError(code, retry_after=seconds), attempt)
    if minutes is None:
        assert later is None
        return
    assert later is not None
    jitter = later.at - before - timedelta(minutes=minutes)
    assert timedelta() < jitter < timedelta(seconds=40)
