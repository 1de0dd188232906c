"""接続の削除: what refuses it, what goes, what stays, and that nothing is posted twice after it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound
from prefect.states import Pending, Running, Scheduled

from blocks import BugyoCredentials, KintoneCredentials
from deployments import catalog
from flows.customers_from_kintone import PIPELINE
from flows.engine import lease as leases
from flows.engine.clock import now
from flows.engine.lease import lease
from flows.engine.store import Store
from flows.operations import doctor
from flows.operations.delete_connection import delete_connection
from flows.operations.onboarding import connect
from flows.operations.services import services
from tests.flows.conftest import World, client, known_blocks, new_world, store, world
from tests.flows.test_rows_30_31_prefect import make_pool, make_scheduled
from tests.operations_flows.test_new_connection import artifact, nobody, number, wish_of

__all__ = ["client", "known_blocks", "new_world", "number", "store", "world"]

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
    assert (await delete(world.name)).message.startswith("AC-206")
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
