"""エラー明細の処理 as a person starts it: the run of the connection, its result, its words."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from flows.engine import reject_csv, rejects
from flows.operations.recheck import recheck_all
from flows.operations.rejects import handle_rejects
from flows.operations.review import review_unclear
from tests.flows.conftest import World, client, known_blocks, new_world, store, world

__all__ = ["client", "known_blocks", "new_world", "store", "world"]


async def artifacts(client: PrefectClient, run: UUID) -> dict[str, Any]:
    """What a flow run left behind, by key."""
    wanted = ArtifactFilterFlowRunId(any_=[run])
    found = await client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=wanted))
    return {str(a.key): json.loads(str(a.data)) for a in found if a.type == "table"}


async def handle(world: World, *arguments: Any, **more: Any) -> Any:
    return await handle_rejects(world.name, *arguments, **more, return_state=True)


async def ready(world: World) -> str:
    """One good customer, and one who is billed to somebody unknown; returns the latter's id."""
    world.add(1)
    bad = str(world.add(2, 請求先コード="000777"))
    await world.run()
    await world.deploy()
    assert {r.code for r in world.rejects().values()} == {"AC-805"}
    return bad


async def test_sent_again_and_told_what_became_of_it(
    world: World, client: PrefectClient, warm_worker: Any
) -> None:
    bad = await ready(world)
    state = await handle(world)
    assert state.name == "一部エラー"
    assert "取得 1 / 登録 0" in state.message
    (line,) = (await artifacts(client, state.state_details.flow_run_id))[f"resent-{world.name}"]
    assert (line["レコード"], line["結果"]) == (bad, "エラー")
    assert "000777" in line["理由"]

    # The 奉行 master exists now; the source did not change.
    world.bugyo.seed(world.tenant, [{"code": "000777", "name": "請求先"}])
    states = await asyncio.gather(handle(world, records=[f" {bad} "]), handle(world))
    assert {each.name for each in states} <= {"SUCCESS", "スキップ"}
    assert world.rejects() == {}
    assert set(world.customers) == {"000001", "000002", "000777"}
    state = await handle(world)
    assert (state.name, state.message) == ("SUCCESS", "送り直すエラー明細はありません。")


async def test_rows_that_were_pasted(world: World, warm_worker: Any) -> None:
    bad = await ready(world)
    with world.store.begin() as db:
        data = reject_csv.write(world.name, rejects.lines(db, world.name))
    rows = list(csv.reader(io.StringIO(data.decode("cp932"), newline="")))
    column = rows[0].index("請求先コード")
    rows[1][column] = "000001"
    pasted = "\n".join("\t".join(row) for row in rows)
    for words in ("1 件の修正を読み取りました", "エラー明細にない行: 1 件"):
        state = await handle(world, corrections=pasted)
        assert state.name == "SUCCESS"
        assert words in state.message
    assert world.customers["000002"]["billing_code"] == "000001"
    assert bad not in world.rejects()
    assert (await world.run("全件")).counts[:4] == (2, 0, 0, 2)


async def test_what_cannot_be_done_is_said_in_words(world: World, warm_worker: Any) -> None:
    bad = await ready(world)
    for arguments, code in (
        ({"action": "対応済みにする", "records": [bad]}, "AC-817"),
        ({"action": "対応済みにする", "records": ["4711"]}, "AC-816"),
        ({"records": ["4711"]}, "AC-816"),
        ({"corrections": "得意先\tコード\nx\ty"}, "AC-814"),
        ({"corrections": f"レコード,照合キー\n{bad},?"}, "AC-815"),
    ):
        state = await handle(world, **arguments)
        assert (state.name, state.message[:6]) == ("ERROR", code), arguments
        assert "［対処］" in state.message
    unknown: Any = await handle_rejects("never-heard-of", return_state=True)
    assert unknown.message.startswith("AC-206")
    assert list(world.rejects()) == [bad]


async def test_a_mode_of_every_run_form(world: World, client: PrefectClient) -> None:
    await world.deploy()
    assert world.deployment is not None
    deployment = await client.read_deployment(world.deployment)
    form = deployment.parameter_openapi_schema["properties"]
    assert "エラー明細のみ" in form["mode"]["enum"]
    assert form["record_keys"]["type"] == "array"


async def test_a_list_without_a_line_and_books_that_agree(
    world: World, client: PrefectClient
) -> None:
    world.add(1)
    await world.run()
    state: Any = await review_unclear(world.name, return_state=True)
    assert (state.name, "0 件" in state.message) == ("SUCCESS", True)
    left = await artifacts(client, state.state_details.flow_run_id)
    assert left[f"unclear-{world.name}"] == [{"レコード": "要確認の伝票はありません"}]
    state = await review_unclear(world.name, "もう一度送る", [], return_state=True)
    assert state.message.startswith("AC-818")
    # A connection that moves masters has no slips to be compared.
    state = await recheck_all([world.name], return_state=True)
    assert state.message.startswith("AC-206")
