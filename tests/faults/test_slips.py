"""Vouchers from end to end: once each, also when they change, vanish, or nobody knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from company import POINTS, TENANT, Company, Kill

from connectors.kit.emulator import Fault
from flows.engine import rejects

IMPORT = "(?i)/ImportJournalSlip$"


def whole(firm: Company) -> None:
    """Every good voucher stands in 勘定奉行 once, with its yen; every bad one is a reject."""
    good = {str(n): yen for n, (yen, ok) in firm.records.items() if ok}
    bad = {str(n) for n, (_, ok) in firm.records.items() if not ok}
    assert set(firm.copies.values()) <= {1}
    ledger = firm.ledger()
    assert {k: r["amount"] for k, r in ledger.items() if r["state"] == "posted"} == good
    by_key = {slip.voucher_number: slip for slip in firm.slips}
    assert {k: by_key[ledger[k]["key"]].debit_total for k in good} == good
    assert set(firm.rejects()) == bad


def test_vouchers_are_posted_once(firm: Company) -> None:
    firm.fill(130)
    firm.add(5000, good=False)
    first = firm.run()
    assert (str(first.result), first.message) == (
        "一部エラー",
        "取得 131 / 登録 130 / 更新 0 / 変更なし 0 / エラー 1",
    )
    whole(firm)
    imports = firm.requests("ImportJournalSlip")
    second = firm.run("全件")
    assert second.message == "取得 131 / 登録 0 / 更新 0 / 変更なし 130 / エラー 1"
    assert firm.requests("ImportJournalSlip") == imports


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_run_is_made_good_by_the_next(firm: Company, point: str) -> None:
    firm.fill(230)
    nth = 1 if point in ("before-intent", "before-watermark") else 2
    assert firm.run_child(Kill(point, nth)) in (137, -9)
    firm.lapse()
    assert firm.run().error is None
    whole(firm)
    first, second = firm.history()
    assert first["result"] == "ERROR"
    assert first["message"].startswith("中断")
    assert second["result"] == "SUCCESS"


def test_an_answer_that_is_lost_is_looked_up(firm: Company) -> None:
    firm.fill(30)
    firm.bugyo.faults.add(Fault(kind="drop_after", path=IMPORT))
    ending = firm.run()
    assert ending.message == "取得 30 / 登録 30 / 更新 0 / 変更なし 0 / エラー 0"
    whole(firm)


def test_books_that_were_lost_do_not_double(firm: Company) -> None:
    firm.fill(30)
    firm.run()
    firm.sql("DELETE FROM ledger WHERE connection = :c")
    firm.sql("UPDATE connection SET watermark = NULL WHERE name = :c")
    assert firm.run().message == "取得 30 / 登録 0 / 更新 0 / 変更なし 30 / エラー 0"
    whole(firm)


def test_a_change_after_posting_is_reported(firm: Company) -> None:
    one, *_ = firm.fill(5)
    firm.run()
    firm.change(one, 7777)
    ending = firm.run()
    assert ending.message == "取得 5 / 登録 0 / 更新 0 / 変更なし 4 / エラー 1"
    assert firm.rejects() == {str(one): "AC-811"}
    assert len(firm.slips) == 5
    firm.change(one, 1000)
    firm.run()
    assert firm.rejects() == {}


def net(firm: Company) -> dict[str, int]:
    """Yen that stand on 旅費交通費 after everything."""
    total: dict[str, int] = {}
    for slip in firm.slips:
        for line in slip.lines:
            for side, sign in ((line.debit, 1), (line.credit, -1)):
                if side is not None:
                    total[side.account] = total.get(side.account, 0) + sign * side.total
    return total


def test_a_change_after_posting_is_reversed_and_posted_again(
    new_company: Callable[..., Company],
) -> None:
    firm = new_company(changed="赤黒")
    one, two, *_ = firm.fill(5)
    firm.run()
    for yen in (7777, 8888):
        firm.change(one, yen)
        ending = firm.run()
        assert ending.message == "取得 5 / 登録 0 / 更新 1 / 変更なし 4 / エラー 0"
    assert net(firm) == {"710": sum(y for y, _ in firm.records.values()), "100": -net(firm)["710"]}
    assert len(firm.slips) == 5 + 2 * 2
    firm.delete(two)
    assert firm.run("全件").error is None
    assert net(firm)["710"] == sum(y for y, _ in firm.records.values())
    assert firm.ledger()[str(two)]["state"] == "reversed"
    assert set(firm.copies.values()) == {1}


def test_a_record_that_vanished_is_reported(firm: Company) -> None:
    one, *_ = firm.fill(5)
    firm.run()
    firm.delete(one)
    ending = firm.run("全件")
    assert (str(ending.result), firm.rejects()) == ("一部エラー", {str(one): "AC-812"})
    assert ending.message.endswith("元データなし 1")
    assert firm.run().message.endswith("元データなし 1")
    assert len(firm.slips) == 5


@pytest.mark.parametrize(
    "settings",
    [
        {"slip_import": "async"},
        {"slip_import": "async", "slip_result": "unknown"},
        {"slip_lag_seconds": 0.5},
        {"import_mode": "partial_207"},
        {"import_mode": "bare_400"},
        {"duplicate_voucher": "refuse"},
    ],
)
def test_every_way_to_answer(new_company: Callable[..., Company], settings: dict[str, Any]) -> None:
    firm = new_company(visible=1.0)
    firm.bugyo.settings = firm.bugyo.settings.model_copy(update=settings)
    firm.fill(12)
    firm.bugyo.journals  # noqa: B018
    firm.bugyo.faults.add(Fault(kind="drop_after", path=IMPORT))
    for _ in range(3):
        firm.run()
    whole(firm)


def test_what_was_changed_in_bugyo_is_never_reversed_and_can_be_dealt_with(
    new_company: Callable[..., Company],
) -> None:
    firm = new_company(changed="赤黒")
    one, two = firm.fill(2)
    firm.run()
    for number in (one, two):
        firm.bugyo.journals[TENANT].remove(firm.ledger()[str(number)]["key"])
    firm.change(one, 7777)
    firm.delete(two)
    firm.run("全件")
    assert firm.rejects() == {str(one): "AC-813", str(two): "AC-813"}
    with firm.store.begin() as db:
        assert len(rejects.acknowledge(db, firm.name, [str(one), str(two)])) == 2
    ending = firm.run("全件")
    assert (firm.rejects(), str(ending.result)) == ({}, "SUCCESS")
    assert firm.slips == []
