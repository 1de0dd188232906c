"""Scheduled runs on days that are not processed: they rest, and no data waits in silence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from connectors.kit.emulator import Fault
from deployments.cli.connecting import print_connections
from flows.customers_from_kintone import PIPELINE, CustomersFromKintoneConnection
from flows.engine.business_days import closed_because, day_text
from flows.engine.clock import JST, business_date, now
from flows.engine.core import Ending, Order, execute
from flows.engine.model import Mode, Trigger
from flows.engine.plain import PlainSurface
from flows.operations.services import services
from tests.flows.test_rows_30_31_prefect import make_pool, missed

Rest = Callable[..., Any]


def last_friday() -> datetime:
    """5:00 on the last Friday that was a 営業日, with its Saturday in the past."""
    day = business_date(now()) - timedelta(days=1)
    while day.weekday() != 5 or closed_because(day - timedelta(days=1)):
        day -= timedelta(days=1)
    return datetime(day.year, day.month, day.day, 5, tzinfo=JST) - timedelta(days=1)


FRIDAY = last_friday()
SATURDAY = FRIDAY + timedelta(days=1)


async def on_business_days(world: Any, **more: str) -> None:
    block: Any = await CustomersFromKintoneConnection.aload(world.name)
    block.days = "営業日のみ"
    for name, value in more.items():
        setattr(block, name, value)
    await block.save(world.name, overwrite=True)


def reads(world: Any) -> int:
    """Requests to kintone, of whatever kind."""
    return sum(world.kintone.faults.counts().values())


@pytest.fixture
async def worker_on(start_worker: Callable[..., Any]) -> AsyncIterator[Callable[..., Any]]:
    """Starts workers that end with the test."""
    started: list[Any] = []

    def start(pool: str) -> None:
        started.append(start_worker(pool))

    yield start
    for child in started:
        child.terminate()
        await asyncio.to_thread(child.finish)


async def final(client: Any, run: UUID) -> Any:
    deadline = time.monotonic() + 480
    while not (found := await client.read_flow_run(run)).state.is_final():
        assert time.monotonic() < deadline, found.state
        await asyncio.sleep(0.1)
    return found.state


async def test_prefect_starts_a_run_on_a_saturday_and_it_rests(
    world: Any, client: Any, worker_on: Rest, postgres: Any
) -> None:
    """Both runs were missed: Friday's does its work however late, and leaves it to no Saturday."""
    pool = f"rest-{world.name}"
    world.fill(3)
    await on_business_days(world)
    await make_pool(client, pool)
    await world.deploy(pool)
    runs = await missed(world, client, postgres, [FRIDAY, SATURDAY])
    worker_on(pool)
    friday, saturday = [await final(client, run) for run in runs]
    assert friday.name == "SUCCESS", friday.message
    assert (saturday.name, saturday.is_completed()) == ("スキップ", True)
    day = SATURDAY.date()
    assert saturday.message.startswith(
        "AC-607 処理しない日: 処理する日ではないため、予定の処理は何もせずに終わりました"
        f"（{day_text(day)}は土曜日。次に処理する日は "
    )
    assert "何も取得せず、何も送っていません" in saturday.message
    (row,) = world.history()
    assert (row.id, row.result, row.created) == (runs[0], "SUCCESS", 3)
    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[runs[1]]))
    assert await client.read_artifacts(artifact_filter=mine) == []
    await client.delete_deployment(world.deployment)


async def scheduled(world: Any, moment: datetime, later: list[datetime] | None = None) -> Ending:
    """A scheduled run for ``moment`` in this process; ``later`` ones are due as well."""

    async def newer() -> list[datetime]:
        return later or []

    order = Order(uuid4(), world.name, Trigger.SCHEDULE, Mode.INCREMENTAL, scheduled_for=moment)
    return await execute(PIPELINE, order, PlainSurface(), newer=newer)


def code(ending: Ending) -> str:
    return f"{ending.result} {ending.error.code if ending.error else ''}".strip()


def next_business_day() -> date:
    day = SATURDAY.date()
    while closed_because(day):
        day += timedelta(days=1)
    return day


async def test_it_reads_nothing_and_hides_no_error(world: Any) -> None:
    world.fill(2)
    await on_business_days(world)
    # A new connection has nothing to make up for.
    first = await scheduled(world, SATURDAY)
    assert (code(first), first.row, reads(world), world.history()) == (
        "スキップ AC-607",
        None,
        0,
        [],
    )
    assert f"次に処理する日は {day_text(next_business_day())}" in first.message
    # A person's run is nobody's business, on whatever day.
    world.kintone.faults.add(Fault(kind="status", path=r"records\.json", status=403, times=None))
    assert (await world.run()).state.name == "ERROR"
    (failed,) = world.history()
    before = reads(world)
    again = await scheduled(world, SATURDAY)
    assert code(again) == "スキップ AC-607"
    assert f"の処理は ERROR {failed.error['code']} で終わっています" in again.message
    assert [each.id for each in world.history()] == [failed.id]
    assert reads(world) == before
    # Where it does not rest, a run makes way only for one that does not, either.
    world.kintone.faults.clear()
    made_way = await scheduled(world, FRIDAY - timedelta(days=7), [SATURDAY, FRIDAY])
    assert code(made_way) == "スキップ AC-605"
    assert f"{FRIDAY:%Y/%m/%d} 05:00 の予定の処理" in made_way.message
    worked = await scheduled(world, FRIDAY, [SATURDAY])
    assert (code(worked), worked.counts and worked.counts.created) == ("SUCCESS", 2)


async def test_a_day_that_nobody_began_is_made_up_for_by_the_next_run(world: Any) -> None:
    world.fill(2)
    await on_business_days(world)
    await world.run()
    world.add(3)
    # It ran on Thursday; the server was off on Friday, and no run of Friday was ever written.
    thursday = FRIDAY - timedelta(days=1)
    move = "UPDATE run SET started_at = :at, ended_at = :at WHERE connection = :c"
    world.sql(move, at=thursday)
    made_up = await scheduled(world, SATURDAY)
    assert (code(made_up), made_up.counts and made_up.counts.created) == ("SUCCESS", 1)
    assert code(await scheduled(world, SATURDAY + timedelta(days=1))) == "スキップ AC-607"
    # ERROR on Friday is a person's to repeat; what 中断 left open, the next one settles.
    began = "UPDATE run SET started_at = :at, result = 'ERROR', error = CAST(:e AS jsonb)"
    for error, ended in (("AC-301", "スキップ AC-607"), ("AC-602", "SUCCESS")):
        told = f'{{"code": "{error}"}}'
        world.sql(f"{began} WHERE connection = :c AND started_at >= :at", at=FRIDAY, e=told)
        assert code(await scheduled(world, SATURDAY)) == ended


async def test_days_that_cannot_be_read_are_told_and_a_manual_run_works(
    world: Any, capfd: Any
) -> None:
    world.fill(1)
    await on_business_days(world, company_holidays="お盆")
    wrong = await scheduled(world, SATURDAY)
    assert code(wrong) == "ERROR AC-205"
    assert "「会社の休業日」の「お盆」を読めません" in wrong.message
    assert [each.result for each in world.history()] == ["ERROR"]
    # The list of the connections tells it, too, and goes on.
    await asyncio.to_thread(print_connections, as_json=True)
    out, err = capfd.readouterr()
    assert f'"接続": "{world.name}"' in out
    assert "「会社の休業日」の「お盆」を読めません" in err
    (line,) = [each for each in await services() if each.connection == world.name]
    assert line.number.startswith("AC-205")
    assert (await world.run()).state.name == "SUCCESS"
    # Left to the other tests as it should be.
    await on_business_days(world, company_holidays="")
