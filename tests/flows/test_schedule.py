"""The deployment: 05:00 every day, by the button, by another system; one run at a time."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import IntervalSchedule

from deployments.stack.settings import WORK_POOL


def of(world: Any, *types: StateType) -> FlowRunFilter:
    """The runs of the world's deployment in these states."""
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types)))
    return FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[world.deployment]), state=state
    )


async def test_a_scheduled_run_happens_by_itself(world: Any, client: Any, warm_worker: Any) -> None:
    """05:00 with seconds instead of a day: nothing but this notices a scheduler that is broken."""
    world.fill(3)
    deployment = await world.deploy(asleep=False)
    for schedule in await client.read_deployment_schedules(deployment):
        await client.delete_deployment_schedule(deployment, schedule.id)
    await client.create_deployment_schedules(
        deployment, [(IntervalSchedule(interval=timedelta(seconds=6)), True)]
    )
    deadline = time.monotonic() + 480
    done: list[Any] = []
    while not any(run.state.name != "スキップ" for run in done):
        done = await client.read_flow_runs(flow_run_filter=of(world, StateType.COMPLETED))
        assert time.monotonic() < deadline, "no scheduled run has ended"
        await asyncio.sleep(0.3)
    await client.delete_deployment(deployment)
    # Where six seconds are not enough for a run, the next ones are skipped.
    first = min(
        (run for run in done if run.state.name != "スキップ"), key=lambda run: run.start_time
    )
    assert first.auto_scheduled
    assert first.name.endswith(" スケジュール")
    assert first.state.name == "SUCCESS"
    ran = world.ran(first.id, first.state)
    assert ran.row.trigger == "スケジュール"
    assert ran.counts == (3, 3, 0, 0, 0, 0)
    lines = await ran.artifact(f"history-{world.name}")
    assert ("スケジュール", "SUCCESS") in {(line["実行種別"], line["結果"]) for line in lines}
    assert len(world.customers) == 3


async def test_the_deployment_runs_at_five_in_tokyo_one_at_a_time(world: Any, client: Any) -> None:
    deployment = await client.read_deployment(await world.deploy(asleep=False))
    (schedule,) = deployment.schedules
    assert schedule.active
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 5 * * *", "Asia/Tokyo")
    assert deployment.paused is False
    assert deployment.global_concurrency_limit.limit == 1
    assert deployment.work_pool_name == WORK_POOL
    assert world.name in deployment.name
    assert "毎日 5:00（日本時間）" in deployment.description
    assert "app-connect" in deployment.tags
    deadline = time.monotonic() + 120
    while not (runs := await client.read_flow_runs(flow_run_filter=of(world, StateType.SCHEDULED))):
        assert time.monotonic() < deadline, "the scheduler writes no runs"
        await asyncio.sleep(0.3)
    next_start = min(run.next_scheduled_start_time for run in runs)
    local = next_start.astimezone(ZoneInfo("Asia/Tokyo"))
    assert (local.hour, local.minute) == (5, 0)
    await client.delete_deployment(deployment.id)


async def test_the_run_form_is_japanese(world: Any, client: Any) -> None:
    deployment = await client.read_deployment(await world.deploy())
    form = deployment.parameter_openapi_schema["properties"]
    assert {name: field["title"] for name, field in form.items()} == {
        "connection": "接続",
        "mode": "処理の範囲",
        "record_key": "1件の場合のコード",
        "period_from": "期間の場合の開始日",
        "period_to": "期間の場合の終了日",
        "dry_run": "確認のみ（送信しない）",
        "record_keys": "エラー明細のみの場合のレコードの番号",
    }
    assert all(field["description"].endswith("。") for field in form.values())
    assert form["connection"]["enum"] == [world.name]
    assert form["mode"]["enum"] == ["差分", "全件", "期間", "1件", "エラー明細のみ"]
    for name in ("period_from", "period_to"):  # drawn as a date picker, without tabs
        assert (form[name]["type"], form[name]["format"]) == ("string", "date")
    with pytest.raises(Exception, match="409"):
        await world.start(client, parameters={"connection": "another"})
    with pytest.raises(Exception, match="409"):
        await world.start(client, parameters={"mode": "full"})
    await client.delete_deployment(deployment.id)


async def test_another_system_starts_one_run_however_often_it_asks(
    world: Any, client: Any, warm_worker: Any
) -> None:
    world.fill(2)
    await world.deploy()
    asked = [
        await world.start(client, tags=["api"], idempotency_key="order-4711") for _ in range(3)
    ]
    assert len({run.id for run in asked}) == 1
    ran = await world.ended(client, asked[0].id)
    assert ran.state.name == "SUCCESS"
    assert ran.row.trigger == "API"
    by_hand = await world.ended(client, (await world.start(client)).id)
    assert by_hand.row.trigger == "手動"
    assert [row.trigger for row in world.history()] == ["API", "手動"]
    await client.delete_deployment(world.deployment)


async def test_deploying_twice_changes_nothing(world: Any, client: Any) -> None:
    first = await world.deploy()
    assert await world.deploy() == first
    assert len((await client.read_deployment(first)).schedules) == 1
    await client.delete_deployment(first)
