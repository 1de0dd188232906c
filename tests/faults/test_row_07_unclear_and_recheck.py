"""要確認: a person decides, and nothing is doubled by it. 再確認: what we posted is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import uuid4

import pytest
from company import TENANT, Company, Kill

from connectors.kit import AppConnectError, Masker
from flows.engine import rejects, unclear
from flows.engine.pipeline import Tools
from flows.engine.rechecking import Compared, recheck
from flows.engine.tokens import Vault
from flows.operations.recheck import Checked, lines_of, summary
from flows.operations.review import records_of
from flows.parts.journal import VISIBLE_VARIABLE
from flows.slips_from_kintone import PIPELINE

ONLY_REJECTS = "エラー明細のみ"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent is visible at once, also to a sink that this process opens."""
    monkeypatch.setenv(VISIBLE_VARIABLE, "0")


def with_sink(firm: Company, work: Callable[[Any], Any]) -> Any:
    async def run() -> Any:
        tools = Tools(Masker(), Vault(firm.store))
        async with PIPELINE.open_sink(firm.block(), tools) as sink:
            return await work(sink)

    return asyncio.run(run())


def chosen(firm: Company, *keys: str) -> list[unclear.Unclear]:
    with firm.store.begin() as db:
        return unclear.chosen(db, firm.name, keys)


def say_posted(firm: Company, *keys: str) -> unclear.Decided:
    some = chosen(firm, *keys)
    return asyncio.run(unclear.decide_posted(firm.store, firm.name, some))


def say_again(firm: Company, *keys: str) -> unclear.Decided:
    some = chosen(firm, *keys)
    decided: unclear.Decided = with_sink(
        firm, lambda sink: unclear.decide_resend(firm.store, firm.name, some, sink)
    )
    return decided


@pytest.fixture
def doubtful(new_company: Callable[..., Company]) -> Company:
    """Two vouchers are 要確認: accepted, and 奉行クラウド does not know the key any more."""
    firm = new_company(visible=0.0)
    firm.bugyo.settings = firm.bugyo.settings.model_copy(
        update={"slip_import": "async", "slip_async_seconds": 3600.0}
    )
    firm.fill(2)
    assert firm.run_child(Kill("after-request")) in (137, -9)
    firm.sql("UPDATE ledger SET accepted_key = 'lost' WHERE connection = :c")
    firm.lapse()
    firm.bugyo.settings = firm.bugyo.settings.model_copy(
        update={"slip_import": "sync", "slip_result": "unknown"}
    )
    firm.run()
    assert firm.states() == {"unclear": 2}
    assert set(firm.rejects().values()) == {"AC-403"}
    return firm


def arrive(firm: Company) -> None:
    """What was accepted is stored at last."""
    for job in firm.bugyo.journals[TENANT].jobs.values():
        job.due = 0.0


def test_row_07_the_list_says_what_to_look_for(doubtful: Company) -> None:
    with doubtful.store.begin() as db:
        found = unclear.listed(db, doubtful.name)
    ledger = doubtful.ledger()
    assert [each.key for each in found] == [ledger[each.source_key]["key"] for each in found]
    cells = dict(zip(unclear.COLUMNS, found[0].cells, strict=True))
    assert (cells["種類"], cells["金額"], cells["日付"]) == ("伝票", "1,000", "2026/11/02")
    assert cells["理由"]
    assert "1,000円" in cells["対象"]


def test_row_07_sent_again_once_when_a_person_says_so(doubtful: Company) -> None:
    one, two = sorted(doubtful.ledger())
    decided = say_again(doubtful, one)
    assert decided.unsent == [one]
    assert say_again(doubtful, one).unsent == []  # pressed twice
    for _ in range(2):
        doubtful.run(ONLY_REJECTS, record_keys=tuple(records_of(decided.unsent)))
    assert [slip.debit_total for slip in doubtful.slips] == [1000]
    assert doubtful.states() == {"posted": 1, "unclear": 1}
    assert list(doubtful.rejects()) == [two]


def test_row_07_what_is_there_after_all_is_not_sent_again(doubtful: Company) -> None:
    arrive(doubtful)
    assert len(doubtful.slips) == 2
    keys = sorted(doubtful.ledger())
    decided = say_again(doubtful, *keys)
    assert (sorted(decided.found), decided.unsent) == (keys, [])
    assert (doubtful.states(), doubtful.rejects()) == ({"posted": 2}, {})
    doubtful.run("全件")
    assert set(doubtful.copies.values()) == {1}


def test_row_07_what_is_there_twice_is_not_sent_again(doubtful: Company) -> None:
    arrive(doubtful)
    one = min(doubtful.ledger())
    key = doubtful.ledger()[one]["key"]
    book = doubtful.bugyo.journals[TENANT]
    assert doubtful.slips
    book._add(next(s for s in book.slips if key in s.header.values()))
    decided = say_again(doubtful, key)  # named by its 証憑番号
    assert "2 枚" in decided.refused[one]
    assert doubtful.ledger()[one]["state"] == "unclear"
    book.slips.pop()
    book._by_voucher[key].pop()
    assert say_posted(doubtful, one).posted == [one]
    assert say_posted(doubtful, one).posted == []
    assert doubtful.copies[key] == 1


def test_row_07_an_unknown_record_is_named(doubtful: Company) -> None:
    with pytest.raises(AppConnectError, match="AC-818") as refused:
        chosen(doubtful, "4711")
    assert "4711" in refused.value.subject


def test_row_07_a_reversal_that_is_there_counts(new_company: Callable[..., Company]) -> None:
    firm = new_company(changed="赤黒")
    (one,) = firm.fill(1)
    firm.run()
    firm.change(one, 7777)
    assert firm.run_child(Kill("after-request")) in (137, -9)
    mark = f"{one}#1"
    statement = "UPDATE ledger SET state = 'unclear' WHERE connection = :c AND source_key = :k"
    firm.sql(statement, k=mark)
    firm.lapse()
    (red,) = chosen(firm, mark)
    assert red.is_reversal
    assert say_posted(firm, mark).posted == [mark]
    assert firm.ledger()[str(one)]["state"] == "reversed"
    firm.run()
    assert sorted(slip.debit_total for slip in firm.slips) == [1000, 1000, 7777]
    assert set(firm.copies.values()) == {1}


# --- 再確認 -------------------------------------------------------------------------------------


def again(firm: Company, *, limit: int = 5000, last: date = date(2026, 12, 31)) -> Compared:
    async def work(sink: Any) -> Compared:
        return await recheck(
            firm.store,
            firm.name,
            PIPELINE.entity,
            sink,
            first=date(2026, 10, 1),
            last=last,
            limit=limit,
            run_id=uuid4(),
        )

    compared: Compared = with_sink(firm, work)
    return compared


def spoil(firm: Company) -> tuple[str, str, str]:
    """A person deletes one slip, doubles one, and changes the yen of one."""
    gone, twice, other = sorted(firm.ledger(), key=int)[:3]
    ledger, book = firm.ledger(), firm.bugyo.journals[TENANT]
    book.remove(ledger[gone]["key"])
    book._add(next(s for s in book.slips if ledger[twice]["key"] in s.header.values()))
    changed = next(s for s in book.slips if ledger[other]["key"] in s.header.values())
    for row in changed.rows:
        for code, value in row.items():
            if value == str(ledger[other]["amount"]):
                row[code] = "9"
    return gone, twice, other


def test_row_07_a_recheck_finds_what_a_person_changed(firm: Company) -> None:
    firm.fill(6)
    firm.run()
    fine = again(firm)
    assert (fine.found, fine.total.ours, fine.total.our_yen) == ({}, 6, fine.total.their_yen)
    gone, twice, other = spoil(firm)
    imports = firm.requests("ImportJournalSlip")
    compared = again(firm)
    assert set(compared.found) == {gone, twice, other}
    assert (compared.new, again(firm).new) == (3, 0)
    assert set(firm.rejects().values()) == {"AC-813"}
    total = compared.total
    assert (total.ours, total.theirs) == (6, 6)
    assert total.their_yen - total.our_yen == -1000 + 1001 + (9 - 1002)
    # A run of the connector does not take the news away, and sends nothing.
    for mode in ("差分", ONLY_REJECTS, "全件"):
        firm.run(mode)
    assert set(firm.rejects()) == {gone, twice, other}
    assert firm.requests("ImportJournalSlip") == imports

    # Dealt with: quiet, until something else is found.
    with firm.store.begin() as db:
        assert len(rejects.acknowledge(db, firm.name, [gone, twice, other])) == 3
        assert rejects.listed(db, firm.name) == []
        assert rejects.acknowledge(db, firm.name, [gone]) == []
    assert again(firm).found == {}
    book = firm.bugyo.journals[TENANT]
    book.remove(firm.ledger()[other]["key"])
    assert set(again(firm).found) == {other}
    # Put right: gone from the list, and news again when it breaks again.
    book.remove(firm.ledger()[twice]["key"])
    assert set(again(firm).found) == {other, twice}


def test_row_07_a_recheck_looks_at_reversals_and_at_what_they_reverse(
    new_company: Callable[..., Company],
) -> None:
    firm = new_company(changed="赤黒")
    one, two = firm.fill(2)
    firm.run()
    firm.delete(one)
    firm.run("全件")
    assert again(firm).total.ours == 3
    firm.bugyo.journals[TENANT].remove(firm.ledger("journal_slip.reversal")[f"{one}#1"]["key"])
    assert set(again(firm).found) == {f"{one}#1"}
    assert str(two) not in firm.rejects()


def test_row_07_a_recheck_has_a_period_and_a_limit(firm: Company) -> None:
    firm.fill(4)
    firm.run()
    assert again(firm, last=date(2026, 11, 1)).total.ours == 0
    cut = again(firm, limit=3)
    assert (cut.total.ours, cut.cut) == (3, True)


def test_row_07_what_was_dealt_with_at_the_source_is_quiet(firm: Company) -> None:
    one, *_ = firm.fill(2)
    firm.run()
    firm.delete(one)
    firm.run("全件")
    with firm.store.begin() as db:
        rejects.acknowledge(db, firm.name, [])
    firm.bugyo.journals[TENANT].remove(firm.ledger()[str(one)]["key"])  # as AC-812 says
    assert again(firm).found == {}


def test_row_07_the_table_says_where_the_books_differ(firm: Company) -> None:
    firm.fill(6)
    firm.run()
    spoil(firm)
    checked = Checked(firm.name, again(firm))
    whole, day = lines_of(checked, 40)
    assert whole["差異"] == "3 件（エラー明細 AC-813）"
    assert (day["期間"], day["差異"]) == ("2026/11/02", "+0 件 / -992 円")
    result, words = summary([checked])
    assert (str(result), "伝票 6 枚" in words, "3 件" in words) == ("一部エラー", True, True)
    assert str(summary([])[0]) == "SUCCESS"
