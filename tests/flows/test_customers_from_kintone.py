"""The main job: what arrives, what is rejected, and what a second run does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prefect import tags

from connectors.kit.emulator import Fault
from deployments.samples import customers
from deployments.samples.kintone import customer_settings

REJECTED = {
    "コードが空": ("AC-801", "得意先コード"),
    "コードが長すぎる": ("AC-802", "得意先コード"),
    "コードが重複": ("AC-804", "得意先コード"),
    "名称が長すぎる": ("AC-802", "得意先名"),
    "名称に絵文字": ("AC-803", "得意先名"),
    "請求先が未登録": ("AC-805", "請求先コード"),
    "備考が長すぎる": ("AC-802", "メモ1"),
    "空のレコード": ("AC-808", ""),
    "名称が空白だけ": ("AC-801", "得意先名"),
}
ARRIVED = {
    "コードが全角数字": ("code", customers.code_of(200)),
    "髙﨑①㈱": ("name", "㈱髙﨑商店①"),
    "半角カナ": ("name", "ヤマトガラス株式会社"),
    "コードの先頭がゼロ": ("code", "00000042"),
    "名称に制御文字": ("name", "株式会社みどり商会"),
    "名称が数式": ("name", "=1+1"),
}


async def test_the_sample_arrives_and_the_second_run_posts_nothing(
    new_world: Callable[..., Any],
) -> None:
    world = new_world()
    await world.save(customer_settings())
    world.kintone.seed(world.app, customers.customers())
    first = await world.run()
    assert first.counts == (1200, 1191, 0, 0, 9, 0)
    assert first.state.name == "一部エラー"
    assert len(world.customers) == 1191
    assert set(world.book.writes.values()) == {1}

    found = world.rejects()
    fates = {awkward.kind: str(awkward.position + 1) for awkward in customers.AWKWARD}
    assert {kind: (found[fates[kind]].code, found[fates[kind]].item) for kind in REJECTED} == (
        REJECTED
    )
    assert len(found) == len(REJECTED)
    assert {a.kind for a in customers.AWKWARD if a.fate == "rejected"} == set(REJECTED)
    for kind, (item, value) in ARRIVED.items():
        position = next(a.position for a in customers.AWKWARD if a.kind == kind)
        code = "00000042" if kind == "コードの先頭がゼロ" else customers.code_of(position)
        assert world.customers[code][item] == value, kind
    assert found[fates["コードが重複"]].reason.endswith(
        f"ほかのレコード（レコード {int(fates['コードが重複']) - 1}）が使っています。"
    )
    assert all(reject.remedy for reject in found.values())

    imports = world.imports
    second = await world.run()
    assert world.imports == imports
    assert second.row.created == second.row.updated == 0
    full = await world.run("全件")
    assert full.counts == (1200, 0, 0, 1191, 9, 0)
    assert world.imports == imports


async def test_a_clean_run_and_its_pages(world: Any) -> None:
    world.fill(3)
    ran = await world.run()
    assert ran.state.name == "SUCCESS"
    assert ran.state.is_completed()
    assert ran.state.message == "取得 3 / 登録 3 / 更新 0 / 変更なし 0 / エラー 0"
    result = await ran.artifact("result")
    assert "## SUCCESS" in result
    assert "| 3 | 3 | 0 | 0 | 0 | 0 |" in result
    lines = await ran.artifact(f"history-{world.name}")
    assert [list(line.values())[2:5] for line in lines] == [["手動", "SUCCESS", ran.state.message]]
    assert list(lines[0]) == [
        *("サービス名", "処理時間（開始 - 終了）", "実行種別", "結果", "件数", "エラー詳細")
    ]
    assert lines[0]["サービス名"] == "得意先 kintone→商奉行"


async def test_the_history_shows_five_runs_newest_first(world: Any) -> None:
    world.fill(1)
    for _ in range(5):
        await world.run()
    world.kintone.update(world.app, 1, {"得意先名": ""})
    last = await world.run()
    lines = await last.artifact(f"history-{world.name}")
    assert [line["結果"] for line in lines] == ["一部エラー", *["SUCCESS"] * 4]


async def test_rejects_are_shown_and_exported_for_excel(
    world: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_CONNECT_EXPORT_DIR", str(tmp_path))
    world.add(1)
    world.add(2, 得意先名="")
    ran = await world.run()
    table = await ran.artifact("rejects")
    assert [list(line.values())[:6] for line in table] == [
        ["2", "000002", "AC-801", "必須項目が空", "得意先名", "得意先名が空です。"]
    ]
    assert "得意先名" in table[0]["対処"]
    (file,) = tmp_path.iterdir()
    content = file.read_bytes().decode("cp932").splitlines()
    assert content[0].replace('"', "").split(",")[:3] == ["レコード", "対象", "エラーコード"]
    assert "必須項目が空" in content[1]
    assert file.stat().st_mode & 0o077 == 0


async def test_manual_and_api_runs_are_told_apart(world: Any, client: Any) -> None:
    world.fill(1)
    by_hand = await world.run()
    with tags("api"):
        by_program = await world.run()
    assert [r.trigger for r in world.history()] == ["手動", "API"]
    for ran, word in ((by_hand, "手動"), (by_program, "API")):
        name = (await client.read_flow_run(ran.row.id)).name
        assert name.startswith("得意先 kintone→商奉行 20")
        assert name.endswith(f" {word}")


async def test_a_dry_run_shows_and_sends_nothing(world: Any) -> None:
    world.fill(2)
    world.add(3, 得意先名="")
    ran = await world.run(dry_run=True)
    assert world.imports == 0
    assert not world.customers
    assert world.ledger() == {}
    assert world.rejects() == {}
    assert world.watermark() is None
    assert ran.counts == (3, 2, 0, 0, 1, 0)
    assert ran.state.message.startswith("確認のみ（送信していません）: ")
    preview = await ran.artifact("preview")
    assert [(line["処理"], line["code"]) for line in preview] == [
        *(("登録", "000001"), ("登録", "000002"))
    ]
    assert [line["エラーコード"] for line in await ran.artifact("rejects")] == ["AC-801"]
    (line,) = await ran.artifact(f"history-{world.name}")
    assert line["結果"] == "一部エラー（確認のみ）"
    assert (await world.run()).counts == (3, 2, 0, 0, 1, 0)


async def test_one_record(world: Any) -> None:
    world.fill(3)
    ran = await world.run("1件", record_key="000002")
    assert ran.counts == (1, 1, 0, 0, 0, 0)
    assert list(world.customers) == ["000002"]
    assert world.watermark() is None
    assert (await world.run()).counts == (3, 2, 0, 1, 0, 0)


@pytest.mark.parametrize("key", [None, " ", "999999"])
async def test_one_record_that_is_not_there(world: Any, key: str | None) -> None:
    world.fill(1)
    ran = await world.run("1件", record_key=key)
    assert ran.state.is_failed()
    assert ran.state.name == "ERROR"
    assert ran.state.message.startswith("AC-205 設定の誤り")
    assert "得意先コード" in ran.state.message
    assert not world.customers


async def test_a_billing_code_may_come_later(world: Any) -> None:
    """Neither the order in kintone nor the batches of 500 decide who may be billed to whom."""
    world.add(1, 請求先コード="000600")
    world.add(2, 請求先コード="000001")
    world.add(3, 請求先コード="777777")
    for number in range(4, 601):
        world.add(number)
    ran = await world.run()
    assert ran.counts == (600, 599, 0, 0, 1, 0)
    assert world.customers["000001"]["billing_code"] == "000600"
    assert world.customers["000002"]["billing_code"] == "000001"
    assert world.customers["000004"]["billing_code"] == "000004"
    assert world.rejects()["3"].code == "AC-805"
    assert set(world.book.writes.values()) == {1}


async def test_a_billing_code_that_only_bugyo_knows(world: Any) -> None:
    world.bugyo.seed(world.tenant, [{"code": "900000", "name": "本社"}])
    world.add(1, 請求先コード="900000")
    assert (await world.run()).counts == (1, 1, 0, 0, 0, 0)


async def test_what_was_registered_by_hand_is_updated(world: Any) -> None:
    world.bugyo.seed(world.tenant, [{"code": "000001", "name": "旧社名"}])
    world.fill(2)
    assert (await world.run()).counts == (2, 1, 1, 0, 0, 0)
    assert world.customers["000001"]["name"] == "株式会社ためし1"


async def test_codes_are_padded_by_setting(new_world: Callable[..., Any]) -> None:
    world = new_world()
    await world.save(code_width=6)
    world.add(1, 得意先コード="42", 請求先コード="７")
    world.add(2, 得意先コード="7")
    world.add(3, 得意先コード="A1")
    assert (await world.run()).counts == (3, 3, 0, 0, 0, 0)
    assert set(world.customers) == {"000042", "000007", "A1"}
    assert world.customers["000042"]["billing_code"] == "000007"


async def test_what_cannot_be_encoded_is_replaced_by_setting(
    new_world: Callable[..., Any],
) -> None:
    """The open reject goes through without anybody touching the record."""
    world = new_world()
    await world.save()
    world.add(1, 得意先名="スマイル😀商会")
    world.add(2, minute=600)
    assert (await world.run()).counts == (2, 1, 0, 0, 1, 0)
    assert "U+1F600" in world.rejects()["1"].reason
    await world.save(unencodable="置き換える")
    ran = await world.run()
    assert ran.state.name == "SUCCESS"
    assert world.customers["000001"]["name"] == "スマイル〓商会"
    assert world.rejects() == {}


async def test_a_record_that_was_repaired_leaves_the_list(world: Any) -> None:
    world.add(1, 得意先名="")
    world.add(2)
    await world.run()
    assert set(world.rejects()) == {"1"}
    world.kintone.update(world.app, 1, {"得意先名": "直した会社"})
    ran = await world.run()
    assert ran.state.name == "SUCCESS"
    assert world.rejects() == {}
    assert world.customers["000001"]["name"] == "直した会社"


async def test_a_rejected_record_that_was_deleted_leaves_the_list(world: Any) -> None:
    world.add(1, 得意先名="")
    await world.run()
    assert set(world.rejects()) == {"1"}
    world.kintone.delete(world.app, 1)
    assert (await world.run()).state.name == "SUCCESS"
    assert world.rejects() == {}


async def test_deleting_the_holder_of_a_code_frees_it(world: Any) -> None:
    first = world.add(1)
    second = world.add(1, minute=2, 得意先名="あとの会社")
    assert (await world.run()).counts == (2, 1, 0, 0, 1, 0)
    assert world.customers["000001"]["name"] == "株式会社ためし1"
    world.kintone.delete(world.app, first)
    ran = await world.run()
    assert ran.counts == (1, 0, 1, 0, 0, 0)
    assert world.customers["000001"]["name"] == "あとの会社"
    assert world.rejects() == {}
    assert [r[0] for r in world.sql("SELECT source_key FROM ledger WHERE connection = :c")] == [
        str(second)
    ]


@pytest.mark.parametrize(
    ("mode", "reply"),
    [
        ("all_or_nothing", "empty"),
        ("partial_200", "empty"),
        ("partial_200", "rows"),
        ("bare_400", "empty"),
    ],
)
async def test_one_bad_row_is_rejected_alone(world: Any, mode: str, reply: str) -> None:
    """奉行クラウド knows a rule that we do not: whatever form its no has, one row is at fault."""
    world.fill(20)
    changes = {"import_mode": mode, "import_reply": reply}
    world.bugyo.settings = world.bugyo.settings.model_copy(update=changes)
    take = world.book._errors

    def errors(row: Any, *rest: Any) -> Any:
        if row.get("AR2010001") == "000013":
            return [("E1999", "この得意先は登録できません。", "AR2010001")]
        return take(row, *rest)

    world.book._errors = errors
    ran = await world.run()
    assert ran.counts == (20, 19, 0, 0, 1, 0)
    assert len(world.customers) == 19
    assert set(world.book.writes.values()) == {1}
    reject = world.rejects()["13"]
    assert reject.code == "AC-806"
    assert reject.reason.startswith("奉行クラウドのメッセージ: ")
    assert world.ledger() == {"posted": 19, "rejected": 1}
    del world.book._errors
    assert (await world.run()).row.created == 1
    assert world.rejects() == {}


async def test_two_connections_live_side_by_side(new_world: Callable[..., Any]) -> None:
    """Two 法人, two apps, the same record numbers and codes: nothing crosses."""
    tokyo, osaka = new_world(tenant=0), new_world(tenant=1)
    for world, place in ((tokyo, "東京"), (osaka, "大阪")):
        await world.save()
        for number in (1, 2):
            world.add(number, 得意先名=f"{place}商会{number}")
    osaka.add(3, 得意先名="")
    assert (await tokyo.run()).counts == (2, 2, 0, 0, 0, 0)
    assert tokyo.customers["000001"]["name"] == "東京商会1"
    assert osaka.customers == {}
    assert osaka.watermark() is None
    assert (await osaka.run()).counts == (3, 2, 0, 0, 1, 0)
    assert {row["name"] for row in tokyo.customers.values()} == {"東京商会1", "東京商会2"}
    assert {row["name"] for row in osaka.customers.values()} == {"大阪商会1", "大阪商会2"}
    assert tokyo.rejects() == {}
    osaka.kintone.update(osaka.app, 1, {"得意先名": "大阪商会あたらしい"})
    assert (await tokyo.run()).row.updated == 0
    assert (await osaka.run()).row.updated == 1
    assert tokyo.customers["000001"]["name"] == "東京商会1"
    assert len(tokyo.history()) == len(osaka.history()) == 2


async def test_an_error_is_told_in_words_and_nothing_else(world: Any) -> None:
    world.fill(1)
    world.bugyo.faults.add(
        Fault(
            kind="status",
            path="(?i)ImportCustomer",
            status=403,
            times=None,
            body='{"errors":[{"code":"E0403","message":"指定されたテナントは使用できません。"}]}',
        )
    )
    ran = await world.run()
    assert ran.state.is_failed()
    assert ran.state.message.startswith("AC-204 法人の指定の誤り")
    assert "この処理では何も登録していません。" in ran.state.message
    assert world.ledger() == {"unsent": 1}
    result = await ran.artifact("result")
    assert "### [AC-204 法人の指定の誤り" in result
    assert "指定されたテナントは使用できません。" in result
    world.bugyo.faults.clear()
    assert (await world.run()).counts == (1, 1, 0, 0, 0, 0)
