"""Rows 1, 2 and 4 to 8 of the fault matrix: what 奉行クラウド answers, and a run that is killed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from company import POINTS, TENANT, Company, Kill, voucher
from customers import CustomerCompany
from invariants import calls, holds, no_secret, none_doubled, none_lost, safe, truth

from connectors.bugyo._emulator_slips import JournalBook
from connectors.bugyo.client import PROFILE, BugyoClient
from connectors.kit import Timeouts
from connectors.kit.emulator import Fault

IMPORT = "(?i)/ImportJournalSlip$"
RESULT = "(?i)/ImportJournalSlipResult$"
HTML = "<html><body>502 Bad Gateway</body></html>"


def answers(firm: Company, **settings: Any) -> None:
    """Switch the emulator to one of the ways in which 奉行クラウド may answer."""
    firm.bugyo.settings = firm.bugyo.settings.model_copy(update=settings)


def refuse(firm: Company, yen: int, account: str = "999") -> int:
    """A voucher with which nothing is wrong but for 奉行クラウド: its account does not exist."""
    record = voucher(yen)
    record["明細"][0]["借方勘定科目"] = account
    number = firm.kintone.seed("1", [record])[0]
    firm.records[number] = (yen, False)
    return number


def moments(firm: Company, part: str) -> list[float]:
    """When the requests to an operation arrived."""
    return [r.at for r in list(firm.bugyo.faults.requests) if r.path.lower().endswith(part.lower())]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits 0.4 s for an answer of 奉行クラウド instead of two minutes."""
    quick = replace(PROFILE, timeouts=Timeouts(connect=2.0, read=0.4, total=5.0))
    defaults = {**(BugyoClient.__init__.__kwdefaults__ or {}), "profile": quick}
    monkeypatch.setattr(BugyoClient.__init__, "__kwdefaults__", defaults)


# --- row 1: stored, and the answer lost -----------------------------------------------------------

LOST = [
    pytest.param({"kind": "drop_after"}, id="reset"),
    pytest.param({"kind": "latency", "seconds": 0.8}, id="timeout"),
    pytest.param({"kind": "cut_body"}, id="half-a-body"),
    pytest.param({"kind": "replace_body", "body": HTML}, id="html"),
]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("fault", LOST)
def test_row_01_a_stored_post_whose_answer_is_lost_is_looked_up_once(
    firm: Company, fault: dict[str, Any]
) -> None:
    answers(firm, import_reply="rows")  # so that there is a body to lose
    firm.fill(30)
    firm.bugyo.faults.add(Fault(path=IMPORT, **fault))
    ending = firm.run()
    assert ending.message == "取得 30 / 登録 30 / 更新 0 / 変更なし 0 / エラー 0"
    # One before the first send, as always; one for the keys that nobody knew about; no second post.
    assert calls(firm) == ["Export", "Import", "Export"]
    holds(firm, ending)


def test_row_01_only_the_keys_without_an_answer_are_looked_up(firm: Company) -> None:
    """Of 230 vouchers the second hundred is lost: one request asks for those hundred keys."""
    firm.fill(230)
    firm.bugyo.faults.add(Fault(kind="drop_after", path=IMPORT, after=1))
    ending = firm.run()
    assert ending.message == "取得 230 / 登録 230 / 更新 0 / 変更なし 0 / エラー 0"
    assert calls(firm) == ["Export"] * 3 + ["Import", "Import", "Export", "Import"]
    holds(firm, ending)


def test_row_01_a_lost_update_of_a_master_is_looked_up_by_its_content(
    new_company: Callable[..., CustomerCompany],
) -> None:
    firm = new_company(kind=CustomerCompany)
    for number in range(1, 31):
        firm.customer(number)
    firm.bugyo.faults.add(Fault(kind="drop_after", path="(?i)/ImportCustomer$"))
    ending = firm.run()
    assert ending.message == "取得 30 / 登録 30 / 更新 0 / 変更なし 0 / エラー 0"
    assert len(firm.customers) == 30
    assert firm.bugyo.customers[TENANT].imports == 1
    truth(firm)
    no_secret(firm, ending.message)


# --- row 2: not stored ----------------------------------------------------------------------------

NOT_STORED = [
    pytest.param({"kind": "status", "status": 500}, id="500"),
    pytest.param({"kind": "status", "status": 502, "body": HTML}, id="502"),
    pytest.param({"kind": "status", "status": 503}, id="503"),
    pytest.param({"kind": "drop_before"}, id="reset"),
]


@pytest.mark.parametrize("fault", NOT_STORED)
def test_row_02_a_post_that_was_not_stored_waits_until_that_is_certain(
    new_company: Callable[..., Company], fault: dict[str, Any]
) -> None:
    firm = new_company(visible=0.4)
    firm.fill(30)
    firm.bugyo.faults.add(Fault(path=IMPORT, **fault))
    ending = firm.run()
    assert ending.message == "取得 30 / 登録 30 / 更新 0 / 変更なし 0 / エラー 0"
    assert calls(firm) == ["Export", "Import", "Export", "Export", "Import"]
    first, second = moments(firm, "ImportJournalSlip")
    assert second - first >= 0.4
    holds(firm, ending)


def test_row_02_a_post_that_always_fails_ends_within_the_policy(firm: Company) -> None:
    firm.fill(20)
    firm.bugyo.faults.add(Fault(kind="status", status=500, path=IMPORT, times=None))
    first = firm.run()
    assert first.message == "取得 20 / 登録 0 / 更新 0 / 変更なし 0 / エラー 0 / 確認待ち 20"
    assert str(first.result) == "一部エラー"
    assert firm.requests("ImportJournalSlip") == 3
    safe(firm, first)
    firm.bugyo.faults.clear()
    second = firm.run()
    assert second.message == "取得 20 / 登録 20 / 更新 0 / 変更なし 0 / エラー 0"
    holds(firm, first, second)


# --- row 4: refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["all_or_nothing", "partial_200", "partial_207", "bare_400"])
def test_row_04_one_bad_row_of_a_batch_takes_no_other_with_it(firm: Company, mode: str) -> None:
    answers(firm, import_mode=mode)
    firm.fill(11)
    bad = refuse(firm, 4000)
    firm.fill(12)
    ending = firm.run()
    assert ending.message == "取得 24 / 登録 23 / 更新 0 / 変更なし 0 / エラー 1"
    assert firm.rejects() == {str(bad): "AC-806"}
    holds(firm, ending)
    # I10: pressing again and again posts nothing twice, and the bad one once it is good.
    for _ in range(3):
        assert firm.run().message.endswith("登録 0 / 更新 0 / 変更なし 23 / エラー 1")
    firm.change(bad, 4000)
    again = [firm.run() for _ in range(3)]
    assert again[0].message == "取得 24 / 登録 1 / 更新 0 / 変更なし 23 / エラー 0"
    holds(firm, ending, *again)


def test_row_04_a_422_that_names_a_row_rejects_that_row_alone(firm: Company) -> None:
    firm.fill(10)
    said = {"errors": [{"code": "E9", "message": "科目が使えません。", "rowNo": 3}]}
    body = orjson.dumps(said).decode()
    firm.bugyo.faults.add(Fault(kind="status", status=422, body=body, path=IMPORT))
    first = firm.run()
    assert first.message == "取得 10 / 登録 9 / 更新 0 / 変更なし 0 / エラー 1"
    assert list(firm.rejects().values()) == ["AC-806"]
    safe(firm, first)
    second = firm.run()
    assert second.message == "取得 10 / 登録 1 / 更新 0 / 変更なし 9 / エラー 0"
    holds(firm, first, second)


def test_row_04_a_422_on_the_batch_is_halved_until_the_good_ones_are_through(firm: Company) -> None:
    firm.fill(10)
    body = '{"errors": [{"code": "E9", "message": "受入データに誤りがあります。"}]}'
    # The whole, its first half, and the first quarter are refused; the rest goes through.
    firm.bugyo.faults.add(Fault(kind="status", status=422, body=body, path=IMPORT, times=3))
    first = firm.run()
    assert first.error is None
    safe(firm, first)
    second = firm.run()
    assert str(second.result) == "SUCCESS"
    holds(firm, first, second)


@pytest.mark.parametrize("how", ["sync", "async"])
def test_row_04_a_reason_common_to_all_is_not_asked_for_slip_by_slip(
    firm: Company, how: str
) -> None:
    answers(firm, import_mode="bare_400", slip_import=how, slip_result_polls=0)
    bad = [refuse(firm, 1000 + n) for n in range(40)]
    good = firm.fill(20)
    first = firm.run()
    assert first.message == "取得 60 / 登録 0 / 更新 0 / 変更なし 0 / エラー 60"
    # One by one would be 119 requests; a dozen are 12, the halves on the way to them, what is left.
    assert firm.requests("ImportJournalSlip") - firm.requests("Result") <= 12 * 3
    assert sorted(firm.rejects().values()) == ["AC-609"] * 47 + ["AC-806"] * 13
    assert firm.states() == {"rejected": 13, "unsent": 47}
    safe(firm, first)
    # Every run tries others: the good ones behind the bad ones get through.
    runs = [first]
    while len(firm.slips) < len(good):
        runs.append(firm.run())
        assert len(runs) <= 10
        assert runs[-1].counts is not None
        assert runs[-1].counts.balanced()
    for number in bad:
        firm.change(number, 900)
    runs.append(firm.run())
    assert runs[-1].message == "取得 60 / 登録 40 / 更新 0 / 変更なし 20 / エラー 0"
    holds(firm, *runs)


# --- row 5: some rows accepted --------------------------------------------------------------------


@pytest.mark.parametrize("reply", ["empty", "list", "rows"])
@pytest.mark.parametrize("how", ["sync", "async"])
def test_row_05_of_a_207_each_row_has_its_own_end(firm: Company, reply: str, how: str) -> None:
    answers(firm, import_mode="partial_207", import_reply=reply, slip_import=how)
    answers(firm, slip_result_polls=0)
    firm.fill(7)
    bad = {refuse(firm, 2000), refuse(firm, 3000)}
    firm.fill(7)
    bad.add(refuse(firm, 5000))
    ending = firm.run()
    assert ending.message == "取得 17 / 登録 14 / 更新 0 / 変更なし 0 / エラー 3"
    assert firm.rejects() == {str(number): "AC-806" for number in bad}
    assert firm.requests("ImportJournalSlip") - firm.requests("Result") == 1
    holds(firm, ending)


def test_row_05_a_207_whose_answer_is_lost_is_sorted_out_by_look_up(firm: Company) -> None:
    answers(firm, import_mode="partial_207", import_reply="rows")
    firm.fill(7)
    bad = refuse(firm, 2000)
    firm.fill(7)
    firm.bugyo.faults.add(Fault(kind="cut_body", path=IMPORT))
    ending = firm.run()
    assert ending.message == "取得 15 / 登録 14 / 更新 0 / 変更なし 0 / エラー 1"
    assert firm.rejects() == {str(bad): "AC-806"}
    assert calls(firm) == ["Export", "Import", "Export", "Import"]
    holds(firm, ending)


# --- row 6: already exists ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["all_or_nothing", "partial_207"])
def test_row_06_already_exists_counts_as_posted(firm: Company, mode: str) -> None:
    """Stored, not to be seen yet, sent once more: the refusal says that it is there."""
    answers(firm, duplicate_voucher="refuse", import_mode=mode, slip_lag_lookups=5)
    firm.fill(12)
    firm.bugyo.faults.add(Fault(kind="drop_after", path=IMPORT))
    ending = firm.run()
    assert calls(firm)[:4] == ["Export", "Import", "Export", "Import"]
    assert ending.message == "取得 12 / 登録 12 / 更新 0 / 変更なし 0 / エラー 0"
    assert str(ending.result) == "SUCCESS"
    holds(firm, ending)


# --- row 7: read-after-write lag ------------------------------------------------------------------


@pytest.mark.parametrize(
    "lag",
    [{"slip_lag_seconds": 0.3}, {"slip_lag_lookups": 1}, {"slip_import": "async"}],
    ids=["seconds", "look-ups", "async"],
)
def test_row_07_what_is_not_to_be_seen_yet_is_not_posted_again(
    new_company: Callable[..., Company], lag: dict[str, Any]
) -> None:
    firm = new_company(visible=0.5)
    answers(firm, slip_async_seconds=0.3, **lag)
    firm.fill(12)
    firm.bugyo.faults.add(Fault(kind="drop_after", path=IMPORT))
    ending = firm.run()
    assert len(moments(firm, "/ImportJournalSlip")) == 1
    assert ending.message == "取得 12 / 登録 12 / 更新 0 / 変更なし 0 / エラー 0"
    holds(firm, ending)


def test_row_07_the_next_run_waits_for_what_a_killed_one_stored(
    new_company: Callable[..., Company],
) -> None:
    firm = new_company(visible=1.5)
    answers(firm, slip_lag_seconds=1.2)
    firm.fill(12)
    assert firm.run_child(Kill("after-request")) in (137, -9)
    firm.lapse()
    ending = firm.run()
    assert len(moments(firm, "/ImportJournalSlip")) == 1
    assert ending.message == "取得 12 / 登録 0 / 更新 0 / 変更なし 12 / エラー 0"
    holds(firm, ending)


def test_row_07_what_nobody_can_tell_is_for_a_person_and_never_sent_again(firm: Company) -> None:
    """Accepted, its key unknown afterwards, nothing to be found: 要確認."""
    answers(firm, slip_import="async", slip_result="unknown", slip_async_seconds=3600)
    firm.fill(6)
    endings = [firm.run() for _ in range(4)]
    assert len(moments(firm, "/ImportJournalSlip")) == 1
    assert firm.states() == {"unclear": 6}
    assert set(firm.rejects().values()) == {"AC-403"}
    assert endings[-1].message == "取得 6 / 登録 0 / 更新 0 / 変更なし 0 / エラー 0 / 確認待ち 6"
    assert str(endings[-1].result) == "一部エラー"
    safe(firm, *endings)


# --- row 8: kill -9 -------------------------------------------------------------------------------

TIMES = 20


def long_voucher(lines: int) -> dict[str, Any]:
    """A voucher of many lines: 1,000 lines fill a request, so a run makes several."""
    row = voucher(10)["明細"][0]
    return {**voucher(10), "明細": [row] * lines}


def restocked(firm: Company, n: int) -> int:
    """The nth company: 10 to 60 new vouchers, books of its own; returns its requests."""
    for number in list(firm.records):
        firm.delete(number)
    firm.bugyo.journals[TENANT] = JournalBook(firm.bugyo.masters[TENANT])
    many = 10 + n * 50 // (TIMES - 1)
    # Every fifth company fills several requests, the others one that is soon read.
    lines = 1000 // (many // (2 + n % 3)) if n % 5 == 4 else 3
    for number in firm.kintone.seed("1", [long_voucher(lines)] * many):
        firm.records[number] = (10 * lines, True)
    per_request = 1000 // lines
    return -(-many // per_request)


@pytest.mark.parametrize("point", POINTS)
def test_row_08_a_run_killed_twenty_times_loses_and_doubles_nothing(
    firm: Company, point: str
) -> None:
    for n in range(TIMES):
        firm = replace(firm, name=f"{firm.name[:20]}-{n}")
        requests = restocked(firm, n)
        nth = 1 if point in ("before-intent", "before-watermark") else 1 + n % requests
        assert firm.run_child(Kill(point, nth)) in (137, -9)
        none_doubled(firm)
        assert firm.watermark() is None  # I4: nothing final yet
        firm.lapse()
        ending = firm.run()
        assert str(ending.result) == "SUCCESS", ending.message
        none_doubled(firm)
        none_lost(firm)
        truth(firm)
        # I5: each slip is counted in one of the two runs, also what the first one was killed over.
        assert sum(run["created"] for run in firm.history()) == len(firm.records)


@pytest.mark.parametrize("point", POINTS)
def test_row_08_masters_survive_it_too(
    new_company: Callable[..., CustomerCompany], point: str
) -> None:
    firm = new_company(kind=CustomerCompany)
    for n in range(5):
        firm = replace(firm, name=f"{firm.name[:20]}-{n}")
        for number in range(10 * n, 10 * n + 10):
            firm.customer(number + 1)
        assert firm.run_child(Kill(point)) in (137, -9)
        assert firm.watermark() is None
        firm.lapse()
        ending = firm.run()
        assert str(ending.result) == "SUCCESS", ending.message
        assert sorted(firm.customers) == [f"{c + 1:06}" for c in range(10 * n + 10)]
        truth(firm)
        assert sum(run["created"] for run in firm.history()) == 10
