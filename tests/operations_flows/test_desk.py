"""診断, 連携サービス, お問い合わせ and アップデート情報 as a person starts them in Prefect."""

from __future__ import annotations

import json
import socket
from datetime import timedelta
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    ArtifactCollectionFilter,
    ArtifactCollectionFilterKey,
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType

from flows.engine import inquiries
from flows.engine.clock import now
from flows.operations.doctor import diagnose
from flows.operations.inquiry import inquire
from flows.operations.inquiry_sending import BLOCK, send_inquiries
from flows.operations.services import show_services
from tests.flows.conftest import World, client, known_blocks, new_world, store, world
from tests.operations.test_inquiries import TYPED, Postbox, box, desk, desk_at, server

__all__ = ["box", "client", "desk", "known_blocks", "new_world", "server", "store", "world"]


async def data_of(client: PrefectClient, state: Any) -> Any:
    """The one artifact of a run."""
    wanted = ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id])
    (found,) = await client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=wanted))
    return json.loads(found.data) if found.type == "table" else found.data


async def test_the_desk(world: World, client: PrefectClient, box: Postbox, desk: Any) -> None:
    # The server is everybody's: runs that other tests left behind are late by now.
    late = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=now() + timedelta(minutes=5)),
    )
    while left := await client.read_flow_runs(flow_run_filter=late):
        for each in left:
            await client.delete_flow_run(each.id)
    world.add(1)
    ran = await world.run()
    await world.deploy()

    looked = await diagnose(return_state=True)
    table = {line["項目"]: line for line in await data_of(client, looked)}
    assert table["Prefect サーバー"]["結果"].startswith("正常: 応答しました（3.8.")
    assert table[f"スケジュール（得意先 kintone→商奉行 {world.name}）"]["結果"].startswith("注意")
    assert table["開始の遅れ"]["結果"].startswith("正常")
    assert table[f"契約（{world.name}）"]["結果"] == "正常: AC-0000-0001 期限なし"
    assert table[f"奉行クラウドの API（{world.name}）"]["結果"] == "正常: 応答しました"
    assert table["時計（kintone）"]["結果"] == "正常: 合っています"
    assert looked.message.startswith("診断: 正常")

    shown = await show_services(world.name, return_state=True)
    assert shown.message == "連携サービス 1 件 / 処理履歴 1 件"
    page = await data_of(client, shown)
    assert f"| {world.name} | 手動のみ | AC-0000-0001 |" in page
    assert f"/deployments/deployment/{world.deployment})" in page
    assert "/edit)" in page
    # Every run puts its own line in, on the page of all and on its own; the rest stays as it is.
    world.add(2)
    await world.run()
    for key in ("services", f"services-{world.name}"):
        wanted = ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(any_=[key]))
        (latest,) = await client.read_latest_artifacts(artifact_filter=wanted)
        kept, _, past = str(latest.data).partition("## 処理履歴")
        assert f"| {world.name} | 手動のみ | AC-0000-0001 |" in kept
        assert "取得 2 / 登録 1" in past
        assert "取得 1 / 登録 1" in past

    wanted = {name: getattr(TYPED, name) for name in inquiries.LABELS}
    long = await inquire(**{**wanted, "company": "あ" * 101}, return_state=True)
    assert (long.name, long.message[:6]) == ("ERROR", "AC-226")
    unset = await inquire(**wanted, run_id=str(ran.row.id), return_state=True)
    assert (unset.name, "AC-227" in unset.message) == ("一部エラー", True)  # kept all the same
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, and nobody listens
        await desk_at(free.getsockname()[1]).save(BLOCK, overwrite=True)
        down = await inquire(**wanted, return_state=True)
    assert (down.name, "自動で送り直します" in down.message) == ("SUCCESS", True)
    await desk.save(BLOCK, overwrite=True)
    with world.store.begin() as db:
        inquiries.due_now(db)
    later = await send_inquiries(return_state=True)
    assert later.message == "お問い合わせのメール: 送信 4 通 / 送信待ち 0 通"
    assert len(box.mails) == 4
    again = await send_inquiries(return_state=True)
    assert again.message == "送信を待っているお問い合わせはありません"
    assert len(box.mails) == 4
    (about,) = [m for m in box.to("support@example.co.jp") if str(ran.row.id) in m.get_content()]
    assert "取得 1 / 登録 1" in about.get_content()
