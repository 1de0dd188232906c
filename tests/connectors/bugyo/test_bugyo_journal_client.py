"""仕訳伝票 against the emulator: every variant of the answers that the contract leaves open.

Rows of the fault matrix are named in the tests; the books of the emulator are the judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from connectors.bugyo import any_of, journal_client, where
from connectors.bugyo.emulator import DEMO_TENANTS
from connectors.bugyo.journal import JOURNAL, JournalLine, JournalSide, JournalSlip, external_key
from connectors.bugyo.journal_checks import check_slip
from connectors.bugyo.journal_client import Asking, JournalClient, SlipOutcome, SlipsPendingError
from connectors.kit import FaultError, SettingsError, UnknownOutcomeError, WaitError
from connectors.kit.emulator import Fault

if TYPE_CHECKING:
    from tests.connectors.bugyo.conftest import Service

TENANT = DEMO_TENANTS[0].id
DAY = date(2026, 11, 22)
IMPORT, EXPORT, RESULT = "/gl/ImportJournalSlip$", "/gl/ExportJournalSlip", "JournalSlipResult"
REPLIES = ["empty", "list", "rows"]


def slip(key: str, *, rows: int = 2, account: str = "604", **header: Any) -> JournalSlip:
    side = JournalSide(account, 1000, 100, tax_code="0010", tax_rate="10", department="0010")
    line = JournalLine(side, JournalSide("305", 1100, partner="000001", tax_code="0000"))
    return JournalSlip(
        **{"date": DAY, "voucher_number": key, "description": f"仕入 {key}", **header},
        lines=(line,) * rows,
    )


def bad(key: str) -> JournalSlip:
    """Wrong in its second of three rows, in a way that only 奉行クラウド can know."""
    first, _, last = slip(key, rows=3).lines
    unknown = JournalLine(JournalSide("999", 1100), JournalSide("305", 1100))
    return replace(slip(key), lines=(first, unknown, last))


@asynccontextmanager
async def journal(service: Service, **asking: float) -> AsyncIterator[JournalClient]:
    async with service.client() as client:
        yield JournalClient(client, asking=Asking(**{"first": 0.01, "longest": 0.05, **asking}))


async def send(service: Service, *slips: JournalSlip, **asking: float) -> SlipOutcome:
    async with journal(service, **asking) as client:
        return await client.import_slips(slips)


def stored(service: Service) -> dict[str, int]:
    """How many slips of each 証憑番号 there are."""
    vouchers = service.emulator.books()["journals"][TENANT]["vouchers"]
    return dict(Counter(each["voucher_number"] for each in vouchers))


# --- storing and reading -------------------------------------------------------------------------


async def test_a_slip_goes_in_and_comes_out_as_it_was(service: Service) -> None:
    sent = slip("K1", number="", class_code="0", slip_type="01", department="0020")
    async with journal(service) as client:
        outcome = await client.import_slips([sent])
        found = await client.find_slips(["K1", "K2"])
    assert outcome.stored == {0}
    assert outcome.unsent == ()
    assert found == {"K1": [replace(sent.canonical(), number="000001")]}


async def test_totals_are_in_the_books(service: Service) -> None:
    await send(service, slip("K1"))
    (voucher,) = service.emulator.books()["journals"][TENANT]["vouchers"]
    assert (voucher["debit"], voucher["credit"], voucher["rows"]) == (2200, 2200, 2)
    assert voucher["by_account"] == {
        "604": {"debit": 2000, "credit": 0, "debit_tax": 200, "credit_tax": 0},
        "305": {"debit": 0, "credit": 2200, "debit_tax": 0, "credit_tax": 0},
    }
    assert voucher["by_tax_code"]["0010"]["debit_tax"] == 200


async def test_export_by_date_and_voucher_number(service: Service) -> None:
    days = [date(2026, 11, day) for day in (1, 2, 3, 4)]
    await send(service, *(slip(f"K{day.day}", date=day) for day in days))
    async with journal(service) as client:
        between = where("date").ge("2026/11/2") & where("date").le("2026/11/03")
        assert [s.voucher_number for s in await client.export_slips(where=between)] == ["K2", "K3"]
        some = any_of("voucher_number", ["K4", "K1", "K9"])
        backwards = await client.export_slips(where=some, sort=["date desc"])
        assert [s.voucher_number for s in backwards] == ["K4", "K1"]
        inside = await client.find_slips(["K1", "K3"], dates=(days[1], days[3]))
        assert list(inside) == ["K3"]
        assert len(await client.export_slips()) == 4


async def test_nothing_found_is_an_empty_body(service: Service) -> None:
    async with journal(service) as client:
        assert await client.export_slips() == []
        assert await client.find_slips(["K1"]) == {}
        assert await client.find_slips([]) == {}
    assert service.requests(EXPORT) == 2


async def test_a_light_query_has_the_keys_and_what_was_asked_for(service: Service) -> None:
    await send(service, slip("K1"))
    async with journal(service) as client:
        (found,) = (await client.find_slips(["K1"], fields=["debit_amount", "debit_tax"]))["K1"]
    assert (found.debit_total, found.credit_total, found.number) == (2200, 0, "000001")


async def test_look_ups_are_cut_and_doubles_are_seen(service: Service) -> None:
    keys = [f"K{n:03}" for n in range(250)]
    async with journal(service) as client:
        for part in (keys[:100], keys[100:200], keys[200:], ["K007"]):
            await client.import_slips([slip(key, rows=1) for key in part])
        found = await client.find_slips(keys)
    assert set(found) == set(keys)
    assert [key for key, slips in found.items() if len(slips) > 1] == ["K007"]
    assert service.requests(EXPORT) == 3


async def test_a_service_that_ignores_the_filter_is_not_believed(service: Service) -> None:
    row = {"separator": "*", "date": "2026/11/22", "voucher_number": "OTHER", "number": "1"}
    body = [{JOURNAL.codes[name]: row.get(name, "") for name in JOURNAL.codes}]
    service.emulator.faults.add(Fault(kind="replace_body", body=orjson.dumps(body).decode()))
    async with journal(service) as client:
        assert await client.find_slips(["K1"]) == {}


async def test_rows_that_are_no_slips(service: Service) -> None:
    async with journal(service) as client:
        for change in ({"date": "?"}, {"debit_amount": "1.5"}, None):
            row = {"date": "2026/11/22", **(change or {})}
            body = [
                {
                    JOURNAL.codes[name]: row.get(name, "")
                    for name in JOURNAL.codes
                    if change or name != "date"
                }
            ]
            service.emulator.faults.add(
                Fault(kind="replace_body", body=orjson.dumps(body).decode())
            )
            with pytest.raises(FaultError, match="AC-303"):
                await client.export_slips()


async def test_look_up_needs_dates_when_the_number_cannot_be_filtered_by(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(service, slip("K1"), slip("K2"))
    monkeypatch.setattr(
        journal_client, "_VOUCHER", replace(journal_client._VOUCHER, filterable=False)
    )
    async with journal(service) as client:
        with pytest.raises(SettingsError, match="AC-205"):
            await client.find_slips(["K1"])
        assert list(await client.find_slips(["K1"], dates=(DAY, DAY))) == ["K1"]


# --- matrix 4, 5: refused rows -------------------------------------------------------------------


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("mode", ["partial_200", "partial_207"])
async def test_matrix_5_some_slips_accepted(service: Service, mode: str, reply: str) -> None:
    service.set(import_mode=mode, import_reply=reply)
    outcome = await send(service, slip("K1"), bad("K2"), slip("K3"), bad("K4"), slip("K5"))
    assert outcome.stored == {0, 2, 4}
    assert set(outcome.refused) == {1, 3}
    error = outcome.refused[1]
    assert error.message == "2行目: 勘定科目コード「999」は登録されていません。"
    assert (error.code, error.field, error.label) == (
        "E3011",
        "debit_account",
        "借方勘定科目コード",
    )
    assert outcome.unsent == ()
    assert outcome.detail.status == int(mode[-3:])
    assert stored(service) == {"K1": 1, "K3": 1, "K5": 1}


async def test_matrix_4_one_bad_slip_refuses_the_batch(service: Service) -> None:
    outcome = await send(service, slip("K1"), bad("K2"), slip("K3"))
    assert (outcome.stored, set(outcome.refused), outcome.unsent) == (frozenset(), {1}, (0, 2))
    assert stored(service) == {}


async def test_matrix_4_a_refusal_that_names_no_row(service: Service) -> None:
    service.set(import_mode="bare_400")
    outcome = await send(service, slip("K1"), bad("K2"))
    assert outcome.whole is not None
    assert outcome.whole.code == "E0009"
    assert outcome.unsent == (0, 1)
    alone = await send(service, bad("K2"))
    assert (set(alone.refused), alone.whole, alone.unsent) == ({0}, None, ())
    assert stored(service) == {}


@pytest.mark.parametrize("status", [400, 409, 413, 422])
async def test_refusals_of_other_shapes(service: Service, status: int) -> None:
    service.emulator.faults.add(Fault(kind="status", status=status, body="だめです"))
    outcome = await send(service, slip("K1"), slip("K2"))
    assert outcome.whole is not None
    assert outcome.whole.message == "だめです"
    assert outcome.unsent == (0, 1)


async def test_errors_of_one_slip_are_collected(service: Service) -> None:
    wrong = JournalLine(JournalSide("998", 500), JournalSide("999", 400))
    outcome = await send(service, replace(slip("K1"), lines=(*slip("K1").lines, wrong)))
    message = outcome.refused[0].message
    assert "3行目: 勘定科目コード「998」" in message
    assert "勘定科目コード「999」" in message
    assert "1行目: 貸借の金額が一致していません" in message


@pytest.mark.parametrize("reply", REPLIES)
async def test_all_forms_of_yes(service: Service, reply: str) -> None:
    service.set(import_reply=reply)
    assert (await send(service, slip("K1"), slip("K2"))).stored == {0, 1}


@pytest.mark.parametrize(
    "body",
    [
        '[{"rowNo":1,"result":"OK","message":"登録しました"},{"rowNo":2,"result":"OK"}]',
        '{"status":"success","message":"1件登録しました"}',
        '{"results":[{"row":1,"status":"成功"}]}',
        '{"count":2}',
        "null",
    ],
)
async def test_other_forms_of_yes(service: Service, body: str) -> None:
    service.emulator.faults.add(Fault(kind="replace_body", body=body))
    assert (await send(service, slip("K1"))).stored == {0}


async def test_a_no_without_words(service: Service) -> None:
    body = '[{"rowNo":1,"result":"OK"},{"rowNo":2,"result":"OK"},{"rowNo":3,"result":"NG"}]'
    service.emulator.faults.add(Fault(kind="replace_body", body=body))
    outcome = await send(service, slip("K1"), slip("K2"))
    assert (set(outcome.stored), set(outcome.refused)) == ({0}, {1})


@pytest.mark.parametrize(
    "body",
    [
        '{"code":"E9","message":"内部エラー"}',
        '[{"rowNo":1,"result":"???"}]',
        '{"result":"NG"}',
        '{"errors":[{"message":"どの行か分からない"}]}',
        '{"errors":[{"rowNo":99,"message":"送っていない行"}]}',
        "<html>ご案内</html>",
    ],
)
async def test_matrix_23_a_yes_with_something_else_in_it_is_unknown(
    service: Service, body: str
) -> None:
    service.emulator.faults.add(Fault(kind="replace_body", body=body))
    with pytest.raises(UnknownOutcomeError, match="AC-402"):
        await send(service, slip("K1"))


async def test_accepted_without_a_key_is_unknown(service: Service) -> None:
    service.emulator.faults.add(Fault(kind="status", status=202))
    with pytest.raises(UnknownOutcomeError, match="AC-402"):
        await send(service, slip("K1"))


# --- matrix 1, 2, 3: faults on the way -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["drop_after", "cut_body"])
async def test_matrix_1_stored_and_the_answer_lost(service: Service, kind: Any) -> None:
    service.set(import_reply="rows")
    service.emulator.faults.add(Fault(kind=kind, path=IMPORT))
    async with journal(service) as client:
        with pytest.raises(UnknownOutcomeError, match="AC-402"):
            await client.import_slips([slip("K1"), slip("K2")])
        found = await client.find_slips(["K1", "K2", "K3"])
    assert set(found) == {"K1", "K2"}
    assert stored(service) == {"K1": 1, "K2": 1}
    assert service.requests("ImportJournalSlip") == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", status=500),
        Fault(kind="status", status=502),
        Fault(kind="status", status=503),
        Fault(kind="drop_before"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
async def test_matrix_2_not_stored_is_not_repeated_blindly(service: Service, fault: Fault) -> None:
    service.emulator.faults.add(fault)
    with pytest.raises(UnknownOutcomeError, match="AC-402"):
        await send(service, slip("K1"))
    assert service.requests("ImportJournalSlip") == 1
    assert stored(service) == {}


async def test_matrix_3_throttled_is_repeated_and_a_long_wait_is_not(service: Service) -> None:
    wait = {"retry-after": "0"}
    service.emulator.faults.add(Fault(kind="status", status=429, headers=wait))
    assert (await send(service, slip("K1"))).stored == {0}
    service.emulator.faults.add(
        Fault(kind="status", status=429, headers={"retry-after": "3600"}, times=None)
    )
    with pytest.raises(WaitError, match="AC-503"):
        await send(service, slip("K2"))
    assert stored(service) == {"K1": 1}


# --- matrix 6: already exists --------------------------------------------------------------------


async def test_matrix_6_already_there_counts_as_there(service: Service) -> None:
    service.set(duplicate_voucher="refuse")
    await send(service, slip("K1"))
    refused = await send(service, slip("K1"), slip("K2"))
    assert (set(refused.existing), refused.unsent, set(refused.refused)) == ({0}, (1,), set())
    service.set(import_mode="partial_207", import_reply="rows")
    partial = await send(service, slip("K1"), slip("K2"), bad("K3"))
    assert (set(partial.existing), set(partial.stored), set(partial.refused)) == ({0}, {1}, {2})
    assert stored(service) == {"K1": 1, "K2": 1}


@pytest.mark.parametrize(
    "body",
    [
        '{"message":"Voucher number K1 already exists."}',
        '{"errors":[{"code":"E3010","message":"受け入れできません。"}]}',
    ],
)
async def test_matrix_6_in_a_refusal_that_names_no_row(service: Service, body: str) -> None:
    service.emulator.faults.add(Fault(kind="status", status=409, body=body))
    assert (await send(service, slip("K1"))).existing == {0}


@pytest.mark.parametrize(
    "error",
    [
        {"rowNo": 1, "itemKey": "GL0010003", "message": "伝票番号は既に登録されています。"},
        {"rowNo": 1, "itemKey": "GL0010008", "message": "証憑番号が長すぎます。"},
        {"rowNo": 1, "message": "この科目は既に登録されています。"},
    ],
)
async def test_other_refusals_are_not_taken_for_a_duplicate(
    service: Service, error: dict[str, Any]
) -> None:
    body = orjson.dumps({"errors": [error]}).decode()
    service.emulator.faults.add(Fault(kind="status", status=400, body=body))
    outcome = await send(service, slip("K1"))
    assert (outcome.existing, set(outcome.refused)) == (frozenset(), {0})


# --- matrix 7: read-after-write lag --------------------------------------------------------------


async def test_matrix_7_a_slip_is_there_before_it_is_seen(service: Service) -> None:
    service.set(slip_lag_lookups=2)
    async with journal(service) as client:
        assert (await client.import_slips([slip("K1")])).stored == {0}
        seen = [bool(await client.find_slips(["K1"])) for _ in range(3)]
    assert seen == [False, False, True]
    assert stored(service) == {"K1": 1}
    service.set(slip_lag_lookups=0, slip_lag_seconds=3600)
    async with journal(service) as client:
        await client.import_slips([slip("K2")])
        assert not await client.find_slips(["K2"])
        service.emulator.journals[TENANT].slips[-1].visible_at = 0
        assert await client.find_slips(["K2"])


# --- results that come later ---------------------------------------------------------------------


async def test_later_stored(service: Service) -> None:
    service.set(slip_import="async", slip_result_polls=3, slip_async_seconds=0.05)
    keys: list[str] = []

    async def note(key: str) -> None:
        keys.append(key)
        assert service.requests(RESULT) == 0  # written down before anything is waited for

    async with journal(service) as client:
        outcome = await client.import_slips([slip("K1"), slip("K2")], on_accepted=note)
    assert outcome.stored == {0, 1}
    assert keys == ["ACCEPT00000001"]
    assert service.requests(RESULT) >= 4
    assert stored(service) == {"K1": 1, "K2": 1}


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("mode", ["partial_200", "all_or_nothing", "bare_400"])
async def test_later_refused(service: Service, mode: str, reply: str) -> None:
    service.set(slip_import="async", import_mode=mode, import_reply=reply)
    outcome = await send(service, slip("K1"), bad("K2"), slip("K3"))
    if mode == "partial_200":
        assert (set(outcome.stored), set(outcome.refused)) == ({0, 2}, {1})
        assert stored(service) == {"K1": 1, "K3": 1}
        return
    assert stored(service) == {}
    assert not outcome.stored
    assert (outcome.whole is None) == (mode == "all_or_nothing")
    assert set(outcome.refused) == ({1} if mode == "all_or_nothing" else set())
    assert set(outcome.unsent) == {0, 1, 2} - set(outcome.refused)


async def test_later_failed_as_a_whole(service: Service) -> None:
    service.set(slip_import="async", slip_result="failed")
    outcome = await send(service, slip("K1"), slip("K2"))
    assert outcome.whole is not None
    assert outcome.whole.message == "受入処理に失敗しました。"
    assert outcome.unsent == (0, 1)


async def test_later_already_there(service: Service) -> None:
    service.set(duplicate_voucher="refuse")
    await send(service, slip("K1"))
    service.set(slip_import="async")
    outcome = await send(service, slip("K1"), slip("K2"))
    assert (set(outcome.existing), outcome.unsent) == ({0}, (1,))


async def test_a_key_that_is_not_known_leaves_the_outcome_unknown(service: Service) -> None:
    service.set(slip_import="async", slip_result="unknown")
    with pytest.raises(SlipsPendingError, match="AC-402") as caught:
        await send(service, slip("K1"))
    assert caught.value.accepted_key == "ACCEPT00000001"
    assert "受付キー" in str(caught.value.detail)
    assert stored(service) == {"K1": 1}


async def test_asking_ends_by_its_deadline_and_goes_on_later(service: Service) -> None:
    service.set(slip_import="async", slip_async_seconds=3600)
    with pytest.raises(SlipsPendingError) as caught:
        await send(service, slip("K1"), deadline=0.05)
    key = caught.value.accepted_key
    async with journal(service) as client:
        assert not await client.find_slips(["K1"])  # which proves nothing: it is still at work
        service.emulator.journals[TENANT].jobs[key].due = 0
        outcome = await client.import_result(key, [slip("K1")])
        assert await client.find_slips(["K1"])
    assert outcome.stored == {0}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", status=500, path=RESULT, times=None),
        Fault(kind="drop_before", path=RESULT, times=None),
        Fault(kind="status", status=401, path=RESULT, times=None),
        Fault(kind="replace_body", body='{"status":"謎"}', path=RESULT),
        Fault(
            kind="replace_body", body='{"status":"done","errors":[{"message":"?"}]}', path=RESULT
        ),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.body[:20]}",
)
async def test_a_question_that_fails_leaves_the_outcome_unknown(
    service: Service, fault: Fault
) -> None:
    service.set(slip_import="async")
    service.emulator.faults.add(fault)
    with pytest.raises(SlipsPendingError, match="AC-402"):
        await send(service, slip("K1"))


async def test_a_fault_that_passes_is_asked_through(service: Service) -> None:
    service.set(slip_import="async")
    service.emulator.faults.add(Fault(kind="status", status=500, path=RESULT))
    service.emulator.faults.add(Fault(kind="replace_body", body="", path=RESULT))
    assert (await send(service, slip("K1"))).stored == {0}


@pytest.mark.parametrize(
    "body",
    [
        '[{"acceptedKey":"R7","status":"受付"}]',
        '{"receiptKey":7}',
    ],
)
async def test_other_names_of_the_key(service: Service, body: str) -> None:
    service.emulator.faults.add(Fault(kind="replace_body", body=body, path=IMPORT))
    rows = '[{"rowNo":1,"result":"OK"},{"rowNo":2,"result":"OK"}]'
    service.emulator.faults.add(Fault(kind="replace_body", body=rows, path=RESULT))
    assert (await send(service, slip("K1"))).stored == {0}


# --- what must never leave -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "slips",
    [
        [slip("")],
        [slip("K1"), slip("K1")],
        [replace(slip("K1"), lines=())],
    ],
)
async def test_slips_that_could_not_be_found_again_are_not_sent(
    service: Service, slips: Sequence[JournalSlip]
) -> None:
    with pytest.raises(ValueError, match=r"証憑番号|lines"):
        await send(service, *slips)
    assert service.requests("JournalSlip") == 0


async def test_no_slips_no_request(service: Service) -> None:
    assert (await send(service)) == SlipOutcome()
    assert service.requests("JournalSlip") == 0


async def test_matrix_25_26_what_only_bugyo_knows(service: Service) -> None:
    service.set(import_mode="partial_200", closed_until=date(2026, 3, 31))
    closed_department = JournalLine(JournalSide("711", 1000, department="0090"), None)
    wrong_department = JournalLine(JournalSide("711", 1000, department="0077"), None)
    credit = JournalLine(None, JournalSide("100", 1000))
    outcome = await send(
        service,
        slip("K1", date=date(2026, 3, 31)),
        replace(slip("K2"), lines=(closed_department, credit)),
        replace(slip("K3"), lines=(wrong_department, credit)),
        replace(slip("K4"), lines=(JournalLine(JournalSide("711", 1000, tax_code="7777")), credit)),
        slip("K5", date=date(2026, 4, 1)),
    )
    said = {index: error.message for index, error in outcome.refused.items()}
    assert said == {
        0: "1行目: 伝票日付 2026/03/31 は締め済みの期間（2026/03/31まで）です。",
        1: "1行目: 部門コード「0090」は使用できません。",
        2: "1行目: 部門コード「0077」は登録されていません。",
        3: "1行目: 消費税区分コード「7777」は登録されていません。",
    }
    assert stored(service) == {"K5": 1}


async def test_matrix_27_28_what_passes_our_checks_passes_the_emulators(service: Service) -> None:
    key = external_key("本社", "journal", "1")
    red = JournalLine(
        JournalSide("604", -105, -10, tax_code="0010", tax_rate="10", tax_auto="1", rounding="0"),
        JournalSide("305", -115),
    )
    sent = replace(slip(key, description="髙﨑①㈱　=cmd()|'"), lines=(*slip(key).lines, red))
    assert check_slip(sent) == []
    async with journal(service) as client:
        assert (await client.import_slips([sent])).stored == {0}
        ((found,),) = (await client.find_slips([key])).values()
    assert replace(found, number="") == sent.canonical()
