"""接続の削除: what refuses it, what goes, what stays, and that nothing is posted twice after it."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Pending, Running, Scheduled

from blocks import BugyoCredentials, KintoneCredentials
from connectors.kit import FaultError
from deployments import catalog
from flows.customers_from_kintone import PIPELINE
from flows.engine import lease as leases
from flows.engine.clock import now
from flows.engine.lease import lease
from flows.engine.store import Store
from flows.operations import doctor, removing
from flows.operations.change_connection import change_connection
from flows.operations.delete_connection import delete_connection
from flows.operations.onboarding import connect
from flows.operations.services import services
from tests.flows.conftest import World, client, known_blocks, new_world, store, world
from tests.flows.test_rows_30_31_prefect import make_pool, make_scheduled
from tests.operations_flows.test_new_connection import artifact, nobody, number, wish_of

__all__ = ["client", "known_blocks", "new_world", "number", "store", "world"]

SCHEDULED = StateType.SCHEDULED
ONE = (
    "WHERE connection = :c "
    "AND source_key = (SELECT min(source_key) FROM ledger WHERE connection = :c)"
)


async def delete(name: str, again: str | None = None, *, with_pending: bool = False) -> Any:
    again = name if again is None else again
    return await delete_connection(name, again, with_pending, return_state=True)


async def there(client: PrefectClient, world: World) -> tuple[bool, bool]:
    """Whether its block and its deployment are there."""
    found = []
    for look in (
        PIPELINE.connection_type.aload(world.name),
        client.read_deployment(world.deployment),  # type: ignore[arg-type]
    ):
        try:
            await look
        except (ValueError, ObjectNotFound):
            found.append(False)
        else:
            found.append(True)
    return found[0], found[1]


async def test_it_is_refused_and_nothing_is_changed(
    world: World, client: PrefectClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.2)
    world.fill(2)
    await world.deploy()
    await world.run()
    said = {
        "AC-231": await delete(world.name, f"{world.name}-x"),
        "AC-206": await delete(f"{world.name}-x"),
    }
    assert (await delete("")).message.startswith("AC-206")
    async with lease(store, world.name, uuid4()):
        said["AC-601"] = await delete(world.name)
    world.sql(f"UPDATE ledger SET state = 'pending' {ONE}")
    said["AC-232"] = await delete(world.name)
    for code, state in said.items():
        assert (state.name, state.message[:6]) == ("ERROR", code), state.message
    assert f"{world.name}: 1 件" in said["AC-232"].message
    assert await there(client, world) == (True, True)

    # A run that a worker has just taken holds no lease yet.
    world.sql(f"UPDATE ledger SET state = 'posted' {ONE}")
    run = await world.start(client, state=Scheduled(scheduled_time=now() + timedelta(days=1)))
    for state in (Pending(), Running()):
        await client.set_flow_run_state(run.id, state, force=True)
        at_work: Any = await delete(world.name)
        assert at_work.message.startswith("AC-601"), at_work.message
    assert await there(client, world) == (True, True)
    await client.delete_flow_run(run.id)
    await client.delete_deployment(world.deployment)  # type: ignore[arg-type]


async def test_deleted_and_made_again_it_posts_nothing_twice(
    world: World, client: PrefectClient, store: Store, number: str, postgres: Any
) -> None:
    world.fill(3)
    pool = f"delete-{world.name}"
    await make_pool(client, pool)
    await world.deploy(pool)
    assert (await world.run()).counts[1] == 3
    old = world.deployment
    tomorrow = Scheduled(scheduled_time=now() + timedelta(days=1))
    planned = await world.start(client, state=tomorrow)
    make_scheduled(postgres, old)  # type: ignore[arg-type]
    queued = await world.start(client, state=tomorrow)
    world.sql(f"UPDATE ledger SET state = 'pending' {ONE}")
    world.sql(
        "INSERT INTO webhook_event (connection, event_id, event, received_at) "
        f"VALUES ('{world.name}', 'e-1', 'crew_updated', now())"
    )

    gone = await delete(world.name, f" {world.name} ", with_pending=True)
    assert gone.name == "SUCCESS", gone.message
    page = await artifact(client, gone.state_details.flow_run_id, "deleted-connection")
    for words in (
        "| 登録の控え | 3 件 |",
        "| 処理履歴 | 1 件 |",
        "| エラー明細 | 0 件 |",
        "| コード変換表 | 0 行 |",
        f"| kintone 接続情報 | 「{world.name}」 |",
        f"| 奉行クラウド 接続情報 | 「{world.name}」 |",
        "| 確認待ち | 1 件（登録の控えのうち） |",
        f"接続の名前に同じ「{world.name}」を入れます",
    ):
        assert words in page, page
    # Gone.
    assert await there(client, world) == (False, False)
    assert world.name not in {each.connection for each in await services()}
    assert world.name not in {name for _, name in await doctor._connections(client)}
    ended = (await client.read_flow_run(queued.id)).state
    assert ended is not None
    assert (ended.name, ended.message[:6]) == ("ERROR", "AC-206")
    assert f"接続「{world.name}」が見つかりませんでした" in ended.message
    with pytest.raises(ObjectNotFound):
        await client.read_flow_run(planned.id)
    assert "は、もう削除してあります" in (await delete(world.name)).message
    assert world.sql(f"SELECT 1 FROM webhook_event WHERE connection = '{world.name}'") == []
    # Kept.
    assert sum(world.ledger().values()) == 3
    assert [row.result for row in world.history()] == ["SUCCESS"]
    for kind in (BugyoCredentials, KintoneCredentials):
        await kind.aload(world.name)
    # A run that was taken just before.
    late = await world.run()
    assert late.state.name == "ERROR"
    assert late.state.message.startswith("AC-206")

    # The same name goes on: what is pending is looked up, and nothing is posted twice.
    made = await connect(
        store, await wish_of(world, number, name=world.name), nobody, catalog.deploy
    )
    assert made.name == world.name
    assert made.deployment != old
    again = await world.run("全件")
    assert again.state.name == "SUCCESS", again.state.message
    # 取得, 登録, 更新, 変更なし, エラー, 確認待ち
    assert (again.counts[0], again.counts[1], again.counts[4:]) == (3, 0, (0, 0))
    assert again.counts[3] == 3
    assert world.ledger() == {"posted": 3}
    assert set(world.book.writes.values()) == {1}
    await client.delete_deployment(made.deployment)


class Killed(BaseException):
    """The process is gone: nobody catches this, and nobody cleans up."""


@contextlib.contextmanager
def failing(method: str, *, after: bool, error: BaseException, only: UUID | None = None) -> Any:
    """A call of Prefect's client fails: it was not made, or its answer was lost (``after``)."""
    real = getattr(PrefectClient, method)

    async def call(self: PrefectClient, first: UUID, *rest: Any, **more: Any) -> Any:
        if only not in (None, first):
            return await real(self, first, *rest, **more)
        if after:
            await real(self, first, *rest, **more)
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PrefectClient, method, call)
        if isinstance(error, Killed):
            patch.setattr(leases, "LEASE_SECONDS", 1.0)
            patch.setattr(leases, "_drop", lambda *_: None)
        yield


async def scheduled(client: PrefectClient, deployment: Any) -> int:
    """How many runs Prefect's scheduler makes of a deployment, when it looks at it now."""
    answer = await client._client.post(f"/deployments/{deployment}/schedule", json={"min_runs": 2})
    answer.raise_for_status()
    return len([r for r in await removing._runs(client, deployment, SCHEDULED) if r.auto_scheduled])


async def test_stopped_half_way_the_same_again_does_the_rest(
    new_world: Any, client: PrefectClient, store: Store
) -> None:
    world = new_world()
    world.fill(2)
    await world.save()
    pool = f"half-{world.name}"
    await make_pool(client, pool)
    await world.deploy(pool, asleep=False)
    await world.run()
    name, deployment = world.name, world.deployment
    tomorrow = Scheduled(scheduled_time=now() + timedelta(days=1))
    queued = await world.start(client, state=tomorrow)
    listed = f"連携一覧の「{PIPELINE.service} {name}」"
    every = f"スケジュール、接続の設定、{listed}"

    async def stopped(method: str, left: str, *, after: bool, only: UUID | None = None) -> None:
        error = httpx.ReadError("gone")
        fails = failing(method, after=after, error=error, only=only)
        with fails, pytest.raises(FaultError) as caught:
            await removing.remove(store, name, name, with_pending=False)
        said = str(caught.value)
        assert said.startswith("AC-233"), said
        assert f"残っているもの: {left}）" in said
        assert world.ledger() == {"posted": 2}

    # The schedule: nothing was changed; then it is off, and 設定変更 brings it back.
    await stopped("update_deployment_schedule", every, after=False)
    assert await scheduled(client, deployment) > 0
    await stopped("update_deployment_schedule", every, after=True)
    assert await scheduled(client, deployment) == 0
    back: Any = await change_connection(name, return_state=True)
    assert (back.name, await scheduled(client, deployment) > 0) == ("SUCCESS", True), back.message
    # What waits to begin.
    await stopped("set_flow_run_state", every, after=True, only=queued.id)
    assert await scheduled(client, deployment) == 0
    assert (await client.read_flow_run(queued.id)).state_name == "ERROR"
    # The block, with a process that is killed: its lease lapses by itself.
    await stopped("delete_block_document", f"接続の設定、{listed}", after=False)
    assert await there(client, world) == (True, True)
    with failing("delete_block_document", after=True, error=Killed()), pytest.raises(Killed):
        await removing.remove(store, name, name, with_pending=False)
    assert await there(client, world) == (False, True)
    assert await scheduled(client, deployment) == 0
    names = {saved for _, saved in await doctor._connections(client)}
    (line,) = doctor._schedules([await client.read_deployment(deployment)], names)  # type: ignore[arg-type]
    assert line.remedy.startswith("「接続の削除」を、同じ名前でもう一度")
    late = await world.run()
    assert late.state.message.startswith("AC-206")
    assert "「接続の削除」をもう一度実行する" in late.state.message
    asked = await world.start(client, state=tomorrow)
    # The deployment; a run that was asked for meanwhile ends with words.
    with failing("delete_deployment", after=False, error=httpx.ReadError("gone")):
        state = await delete(name)
    assert (state.name, state.message[:6]) == ("ERROR", "AC-233")
    assert (await client.read_flow_run(asked.id)).state_name == "ERROR"
    await stopped("delete_deployment", listed, after=True)
    assert await there(client, world) == (False, False)
    done = await delete(name)
    assert (done.name, "もう削除してあります" in done.message) == ("SUCCESS", True), done.message
    assert world.ledger() == {"posted": 2}
    assert set(world.book.writes.values()) == {1}

    # One that has never run is in no book: what is left of it is found all the same.
    fresh = new_world()
    await fresh.save()
    await fresh.deploy(pool)
    with failing("delete_deployment", after=False, error=Killed()), pytest.raises(Killed):
        await removing.remove(store, fresh.name, fresh.name, with_pending=False)
    assert await there(client, fresh) == (False, True)
    assert (await delete(fresh.name)).name == "SUCCESS"
    assert await there(client, fresh) == (False, False)
    assert (await delete(fresh.name)).message.startswith("AC-206")
