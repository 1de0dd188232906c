"""What an incremental run reads: the watermark, its overlap, and when it does not move."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from connectors.kit.emulator import Fault


async def test_only_what_changed_is_read_and_sent(world: Any) -> None:
    world.fill(20)
    first = await world.run()
    assert first.counts == (20, 20, 0, 0, 0, 0)
    for number in (3, 7, 11):
        world.kintone.update(world.app, number, {"得意先名": f"新しい会社{number}"})
    ran = await world.run()
    # The newest record and the one a minute before it are within the overlap: read, not sent.
    assert ran.counts == (5, 0, 3, 2, 0, 0)
    assert [world.book.writes[f"{n:06d}"] for n in (3, 7, 11, 19, 20)] == [2, 2, 2, 1, 1]
    assert world.customers["000007"]["name"] == "新しい会社7"


async def test_a_late_commit_within_the_overlap_is_not_lost(
    new_world: Callable[..., Any],
) -> None:
    world = new_world()
    await world.save(overlap_minutes=10)
    world.fill(20)
    await world.run()
    world.add(100, minute=12)
    world.add(200, minute=5)
    ran = await world.run()
    assert ran.counts == (12, 1, 0, 11, 0, 0)
    assert "000100" in world.customers
    assert "000200" not in world.customers
    full = await world.run("全件")
    assert full.counts == (22, 1, 0, 21, 0, 0)
    assert "000200" in world.customers


async def test_a_change_without_effect_is_not_sent(world: Any) -> None:
    """更新日時 moves when any field changes; what we would send is what counts."""
    world.fill(2)
    await world.run()
    world.kintone.update(world.app, 1, {"担当者名": "別の人"})
    imports = world.imports
    ran = await world.run()
    assert ran.row.updated == 0
    assert world.imports == imports


async def test_a_new_mapping_is_sent_by_a_full_run(new_world: Callable[..., Any]) -> None:
    world = new_world()
    await world.save(memo1="")
    world.add(1, 備考="大切な得意先")
    await world.run()
    assert world.customers["000001"]["memo1"] == ""
    await world.save()
    assert (await world.run("全件")).counts == (1, 0, 1, 0, 0, 0)
    assert world.customers["000001"]["memo1"] == "大切な得意先"


async def test_the_watermark_is_the_newest_that_was_read(world: Any) -> None:
    world.fill(5)
    await world.run()
    before = world.watermark()
    assert before is not None
    world.add(6)
    await world.run()
    assert world.watermark() == before + timedelta(minutes=1)


async def test_the_watermark_is_never_beyond_the_servers_own_clock(world: Any) -> None:
    """A record from the future would otherwise hide everything that changes until then."""
    world.fill(2)
    world.add(3, minute=60 * 24 * 30)
    world.kintone.faults.add(
        Fault(kind="clock_skew", path=r"records\.json", seconds=-3600, times=None)
    )
    await world.run()
    mark = world.watermark()
    assert mark is not None
    assert mark <= datetime.now(UTC) - timedelta(seconds=3590)
    assert mark >= datetime.now(UTC) - timedelta(seconds=3700)


@pytest.mark.parametrize("where", ["kintone", "bugyo"])
async def test_the_watermark_stays_when_a_run_fails(world: Any, where: str) -> None:
    world.fill(3)
    await world.run()
    before = world.watermark()
    world.add(4)
    emulator = getattr(world, where)
    path = r"records\.json" if where == "kintone" else "(?i)ImportCustomer"
    emulator.faults.add(Fault(kind="status", status=403, path=path, body="{}", times=None))
    ran = await world.run()
    assert ran.state.name == "ERROR"
    assert world.watermark() == before
    emulator.faults.clear()
    assert (await world.run()).row.created == 1


async def test_a_reject_does_not_hold_the_watermark_and_is_read_again(world: Any) -> None:
    world.add(1, 得意先名="")
    for number in range(2, 6):
        world.add(number)
    await world.run()
    mark = world.watermark()
    ran = await world.run()
    assert ran.counts == (3, 0, 0, 2, 1, 0)  # two of the overlap, and the reject
    assert world.watermark() == mark


async def test_the_condition_of_the_connection_holds_everywhere(
    new_world: Callable[..., Any],
) -> None:
    world = new_world()
    await world.save(condition='担当者名 != "除外"')
    world.add(1)
    world.add(2, 担当者名="除外")
    assert (await world.run()).counts == (1, 1, 0, 0, 0, 0)
    assert (await world.run("全件")).counts == (1, 0, 0, 1, 0, 0)
    ran = await world.run("1件", record_key="000002")
    assert ran.state.name == "ERROR"
    assert list(world.customers) == ["000001"]


async def test_a_period_is_what_was_changed_on_its_days_and_nothing_else(world: Any) -> None:
    """Midnights are those of Japan; 差分 before and after it does not notice that it ran."""

    def seed(number: int, at: str, **more: str) -> None:
        record = {"得意先コード": f"{number:06d}", "得意先名": f"会社{number}", **more}
        moment = datetime.fromisoformat(f"{at}+09:00")
        world.kintone.seed(world.app, [record], updated_at=moment)

    seed(1, "2025-08-15T12:00", 得意先名="")
    assert (await world.run()).counts == (1, 0, 0, 0, 1, 0)
    mark = world.watermark()
    for number, at in enumerate(
        ("2025-09-30T23:59", "2025-10-01T00:00", "2025-10-31T23:59", "2025-11-01T00:00"), 2
    ):
        seed(number, at)
    seed(6, "2025-10-15T12:00", 得意先名="")
    october = {"period_from": date(2025, 10, 1), "period_to": date(2025, 10, 31)}
    preview = await world.run("期間", dry_run=True, **october)
    assert preview.counts == (3, 2, 0, 0, 1, 0)
    assert preview.state.message.startswith(
        "確認のみ（送信していません）: 期間 2025/10/01〜2025/10/31: 取得 3 / "
    )
    assert [line["code"] for line in await preview.artifact("preview")] == ["000003", "000004"]
    assert world.customers == {}

    ran = await world.run("期間", **october)
    assert ran.counts == (3, 2, 0, 0, 1, 0)
    assert ran.row.mode == "期間"
    assert ran.state.message.startswith("期間 2025/10/01〜2025/10/31: 取得 3 / 登録 2")
    assert set(world.customers) == {"000003", "000004"}
    assert set(world.rejects()) == {"1", "6"}  # the one outside is still there
    assert world.watermark() == mark
    again = await world.run("期間", **october)
    assert again.counts == (3, 0, 0, 2, 1, 0)

    after = await world.run()
    assert after.counts == (6, 2, 0, 2, 2, 0)
    assert set(world.customers) == {f"{n:06d}" for n in (2, 3, 4, 5)}
    later = world.watermark()
    assert mark is not None
    assert later is not None
    assert later > mark
    assert (await world.run("期間", **october)).row.created == 0
    assert world.watermark() == later

    refused = await world.run("期間", period_from=date(2025, 10, 1))
    assert refused.state.is_failed()
    assert refused.state.message.startswith("AC-205 設定の誤り")
    assert "終了日が空です" in refused.state.message
