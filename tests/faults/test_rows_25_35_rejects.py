"""Rows 25 and 35: what could not be posted is put right and sent again, each at most once."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from company import APP, LONG_AGO, TENANT, Company, voucher

from connectors.kit import AppConnectError
from connectors.kit.emulator import Fault
from flows.engine import reject_csv, rejects
from flows.engine.reject_csv import CHECK, UNSHOWN, WORDS
from flows.operations.rejects import import_csv

ONLY_REJECTS = "エラー明細のみ"
YEN = "明細[1].借方金額"


def add(firm: Company, **changes: str) -> int:
    """A voucher whose line has other values."""
    record = voucher(4000)
    record["明細"][0].update(changes)
    return firm.kintone.seed(APP, [record], updated_at=LONG_AGO)[0]


def open_rejects(firm: Company) -> dict[str, rejects.Listed]:
    with firm.store.begin() as db:
        return {each.source_key: each for each in rejects.listed(db, firm.name)}


def exported(firm: Company) -> bytes:
    with firm.store.begin() as db:
        return reject_csv.write(firm.name, rejects.lines(db, firm.name))


def rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("cp932"), newline="")))


def saved(rows: list[dict[str, str]], encoding: str = "cp932", delimiter: str = ",") -> bytes:
    """The file as a person's Excel saves it."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode(encoding)


def upload(firm: Company, data: bytes | str) -> reject_csv.Import:
    with firm.store.begin() as db:
        return import_csv(db, firm.name, data)


def corrected(firm: Company, **cells: str) -> list[dict[str, str]]:
    """The export, with other cells in its first row."""
    rows = rows_of(exported(firm))
    rows[0] |= cells
    return rows


def amounts(firm: Company) -> list[int]:
    return sorted(slip.debit_total for slip in firm.slips)


# --- row 25 -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["all_or_nothing", "partial_207", "bare_400"])
def test_row_25_a_code_that_is_not_in_the_master_goes_through_once_it_is(
    new_company: Callable[..., Company], mode: str
) -> None:
    firm = new_company()
    firm.bugyo.settings = firm.bugyo.settings.model_copy(update={"import_mode": mode})
    firm.fill(5)
    bad = str(add(firm, 借方勘定科目="987"))
    firm.run()
    (reject,) = open_rejects(firm).values()
    assert (reject.source_key, reject.code) == (bad, "AC-806")
    if mode != "bare_400":
        assert "987" in reject.reason
    assert len(firm.slips) == 5
    # Nothing changed at the source: only the master exists now.
    firm.bugyo.seed(TENANT, [{"code": "987", "name": "新しい科目"}], "account_item")
    mark = firm.watermark()
    ending = firm.run(ONLY_REJECTS)
    assert ending.message == "取得 1 / 登録 1 / 更新 0 / 変更なし 0 / エラー 0"
    assert open_rejects(firm) == {}
    assert set(firm.copies.values()) == {1}
    assert firm.watermark() == mark


# --- row 35 -------------------------------------------------------------------------------------


def test_row_35_pressed_five_times_and_twice_at_the_same_moment(firm: Company) -> None:
    for _ in range(30):
        add(firm, 借方勘定科目="987")
    firm.fill(3)
    firm.run()
    assert len(open_rejects(firm)) == 30
    firm.bugyo.seed(TENANT, [{"code": "987", "name": "新しい科目"}], "account_item")
    pressed = [firm.start(mode=ONLY_REJECTS) for _ in range(2)]
    for child in pressed:
        child.join(240)
    assert sorted(child.exitcode for child in pressed) in ([0, 0], [0, 4])
    for _ in range(3):
        assert firm.run(ONLY_REJECTS).error is None
    assert open_rejects(firm) == {}
    assert len(firm.slips) == 33
    assert set(firm.copies.values()) == {1}


def test_row_35_only_the_chosen_rejects_are_sent(firm: Company) -> None:
    one, two = (str(add(firm, 借方勘定科目="987")) for _ in range(2))
    firm.run()
    firm.bugyo.seed(TENANT, [{"code": "987", "name": "新しい科目"}], "account_item")
    firm.add(1234)  # new at the source: not what was asked for
    ending = firm.run(ONLY_REJECTS, record_keys=(two, "999"))
    assert ending.message == "取得 1 / 登録 1 / 更新 0 / 変更なし 0 / エラー 0"
    assert list(open_rejects(firm)) == [one]
    assert "登録 2 / 更新 0" in firm.run().message
    assert (open_rejects(firm), len(firm.slips)) == ({}, 3)


def test_row_35_a_run_of_rejects_does_not_pass_over_what_it_did_not_read(firm: Company) -> None:
    bad = firm.add(5000, good=False, at=LONG_AGO)
    firm.run()
    firm.add(1234, at=LONG_AGO + timedelta(minutes=10))
    firm.change(bad, 5000, at=LONG_AGO + timedelta(minutes=60))
    assert "取得 1 / 登録 1" in firm.run(ONLY_REJECTS).message
    firm.run()
    assert amounts(firm) == [1234, 5000]


def test_row_35_a_run_of_rejects_reads_nothing_when_there_are_none(firm: Company) -> None:
    firm.fill(3)
    ending = firm.run(ONLY_REJECTS)
    assert ending.message == "取得 0 / 登録 0 / 更新 0 / 変更なし 0 / エラー 0"
    assert firm.watermark() is None
    assert firm.run().message.startswith("取得 3 / 登録 3")


def test_row_35_a_reject_whose_record_is_gone_goes_too(firm: Company) -> None:
    bad = add(firm, 借方勘定科目="987")
    firm.run()
    firm.kintone.delete(APP, bad)
    assert str(firm.run(ONLY_REJECTS).result) == "SUCCESS"
    assert open_rejects(firm) == {}


# --- the CSV, out and back ----------------------------------------------------------------------


def test_row_35_the_csv_names_what_is_wrong_and_holds_the_record(firm: Company) -> None:
    record = voucher(4000, "=cmd() 寿司🍣代")
    firm.kintone.seed(APP, [record])
    firm.run()
    data = exported(firm)
    (row,) = rows_of(data)
    assert list(row)[: len(WORDS) + 2] == [*WORDS, UNSHOWN, CHECK]
    assert row["エラーコード"] == "AC-803"
    assert row["摘要"] == "'=cmd() 寿司〓代"
    assert "U+1F363" in row[UNSHOWN]
    assert row["明細[1].借方勘定科目"] == "710"
    assert row[YEN] == "4000"
    assert "$id" not in row


@pytest.mark.parametrize("encoding", ["cp932", "utf-8", "utf-8-sig"])
def test_row_35_a_corrected_row_is_posted_and_the_source_stays(
    firm: Company, encoding: str
) -> None:
    bad = firm.add(5000, good=False)
    firm.fill(2)
    firm.run()
    # Excel shows the date in its own way, and writes it like that.
    data = saved(corrected(firm, **{YEN: "5000", "伝票日付": "2026/11/2"}), encoding)
    assert upload(firm, data).keys == [str(bad)]
    ending = firm.run(ONLY_REJECTS)
    assert ending.message == "取得 1 / 登録 1 / 更新 0 / 変更なし 0 / エラー 0"
    assert amounts(firm) == [1000, 1001, 5000]
    # The same file once more, and every record once more: nothing.
    again = upload(firm, data)
    assert (again.keys, again.done) == ([], [str(bad)])
    ending = firm.run("全件")
    assert ending.message == "取得 3 / 登録 0 / 更新 0 / 変更なし 3 / エラー 0"


def test_row_35_uploaded_twice_before_it_is_sent(firm: Company) -> None:
    firm.add(5000, good=False)
    firm.run()
    data = saved(corrected(firm, **{YEN: "5000"}))
    upload(firm, data)
    made = firm.sql("SELECT made_at FROM correction WHERE connection = :c")
    assert upload(firm, data).keys
    assert firm.sql("SELECT made_at FROM correction WHERE connection = :c") == made
    # The next export shows what was corrected; put back, the correction is taken back.
    (row,) = rows_of(exported(firm))
    assert row[YEN] == "5000"
    upload(firm, saved([row | {YEN: "5001"}]))
    assert firm.sql("SELECT changes FROM correction WHERE connection = :c") == []


def test_row_35_cells_that_were_copied_in_excel(firm: Company) -> None:
    bad = firm.add(5000, good=False)
    firm.run()
    pasted = saved(corrected(firm, **{YEN: "5,000"}), "utf-8", "\t").decode()
    assert upload(firm, pasted).keys == [str(bad)]
    firm.run(ONLY_REJECTS)
    assert amounts(firm) == [5000]


def test_row_35_a_correction_that_is_wrong_too_stays_a_reject(firm: Company) -> None:
    firm.add(5000, good=False)
    firm.run()
    upload(firm, saved(corrected(firm, **{YEN: "4999"})))
    firm.run(ONLY_REJECTS)
    (row,) = rows_of(exported(firm))
    upload(firm, saved([row | {YEN: "5000"}]))
    firm.run()
    assert amounts(firm) == [5000]


def test_row_35_a_correction_ends_when_the_source_changes(firm: Company) -> None:
    bad = firm.add(5000, good=False)
    firm.run()
    data = saved(corrected(firm, **{YEN: "5000"}))
    upload(firm, data)
    firm.change(bad, 6000, good=False)
    firm.run()
    assert "元データが変わったため" in open_rejects(firm)[str(bad)].reason
    assert firm.sql("SELECT * FROM correction WHERE connection = :c") == []
    with pytest.raises(AppConnectError, match="元データが変わりました") as refused:
        upload(firm, data)
    assert refused.value.code == "AC-815"
    assert firm.slips == []


def test_row_35_a_corrected_record_that_changes_afterwards_is_reported(firm: Company) -> None:
    bad = firm.add(5000, good=False)
    firm.run()
    upload(firm, saved(corrected(firm, **{YEN: "5000"})))
    firm.run(ONLY_REJECTS)
    firm.change(bad, 5000)  # the clerk puts it right in kintone as well: the same slip
    assert str(firm.run().result) == "SUCCESS"
    firm.change(bad, 6000)
    firm.run()
    assert firm.rejects() == {str(bad): "AC-811"}
    assert amounts(firm) == [5000]


@pytest.mark.parametrize(
    ("cells", "code", "words"),
    [
        ({WORDS[0]: "12345"}, "AC-815", "エラー明細にないレコード"),
        ({CHECK: "other-company/k0123456789/v0123456789abcdef"}, "AC-814", "other-company"),
        ({CHECK: "?"}, "AC-815", "書き換えられています"),
        ({"明細[1].借方勘定科目": "71"}, "AC-815", "先頭の 0 が消えています"),
        ({"明細[1].借方取引先": "2001/2/3"}, "AC-815", "Excel が日付に変えています"),
        ({"明細[1].貸方取引先": "1.23457E+15"}, "AC-815", "Excel が数値に変えています"),
        ({"更新日時": "2026-01-01T00:00:00Z"}, "AC-815", "CSV では直せません"),
        ({"摘要": "鮨〓代"}, "AC-815", "〓 が残っています"),
    ],
)
def test_row_35_a_csv_that_cannot_be_meant_changes_nothing(
    firm: Company, cells: dict[str, str], code: str, words: str
) -> None:
    record = voucher(4000, "寿司🍣代")
    codes = {"借方勘定科目": "071", "借方取引先": "1-2-3", "貸方取引先": "1234567890123456"}
    record["明細"][0] |= codes
    firm.kintone.seed(APP, [record])
    firm.add(5000, good=False)
    firm.run()
    rows = rows_of(exported(firm))
    bad = next(row for row in rows if row["エラーコード"] == "AC-803")
    good = next(row for row in rows if row is not bad)
    good[YEN] = "5000"
    with pytest.raises(AppConnectError) as refused:
        upload(firm, saved([good, bad | cells]))
    assert refused.value.code == code
    assert words in refused.value.subject
    assert firm.sql("SELECT * FROM correction WHERE connection = :c") == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("レコード,照合キー\r\n".encode("utf-16"), "文字コード"),
        ("得意先,金額\r\nア,1\r\n".encode("cp932"), "見出し"),
        ("レコード,照合キー\r\n".encode("cp932"), "データの行がありません"),
        ("レコード,照合キー\r\n1,2,3\r\n".encode("cp932"), "見出しより多く"),
        (b'"' + b"x" * 200_000, "行目"),
    ],
)
def test_row_35_a_file_that_is_not_ours(firm: Company, data: bytes, words: str) -> None:
    firm.run()
    with pytest.raises(AppConnectError) as refused:
        upload(firm, data)
    assert (refused.value.code, words in refused.value.subject) == ("AC-814", True)


def test_row_35_rows_and_columns_that_a_person_deleted_say_nothing(firm: Company) -> None:
    one, two = firm.add(5000, good=False), firm.add(6000, good=False)
    firm.run()
    rows = [{k: row[k] for k in ("レコード", CHECK, YEN)} for row in rows_of(exported(firm))]
    kept = [row | {YEN: "6000"} for row in rows if row["レコード"] == str(two)]
    assert upload(firm, saved(kept)).keys == [str(two)]
    firm.run(ONLY_REJECTS)
    assert (amounts(firm), list(open_rejects(firm))) == ([6000], [str(one)])


# --- 対応済みにする -----------------------------------------------------------------------------


def acknowledge(firm: Company, *keys: int) -> list[str]:
    with firm.store.begin() as db:
        return rejects.acknowledge(db, firm.name, [str(key) for key in keys])


def test_row_35_what_changed_after_posting_is_dealt_with_once(firm: Company) -> None:
    one, two, *_ = firm.fill(4)
    firm.run()
    firm.change(one, 7777)
    firm.delete(two)
    firm.run("全件")
    assert firm.rejects() == {str(one): "AC-811", str(two): "AC-812"}
    assert sorted(acknowledge(firm)) == sorted([str(one), str(two)])
    assert acknowledge(firm, one, two) == []
    assert str(firm.run("全件").result) == "SUCCESS"
    assert firm.rejects() == {}
    firm.change(one, 8888)  # another change is another matter
    firm.run()
    assert firm.rejects() == {str(one): "AC-811"}
    assert len(firm.slips) == 4


def test_row_35_other_rejects_cannot_be_dealt_with_like_that(firm: Company) -> None:
    bad, good = firm.add(5000, good=False), firm.add(100)
    firm.run()
    firm.change(good, 200)
    firm.run()
    with pytest.raises(AppConnectError) as refused:
        acknowledge(firm, good, bad)
    assert refused.value.code == "AC-817"
    with pytest.raises(AppConnectError) as unknown:
        acknowledge(firm, 4711)
    assert unknown.value.code == "AC-816"
    assert set(firm.rejects()) == {str(bad), str(good)}
    assert acknowledge(firm) == [str(good)]


# --- everything at once --------------------------------------------------------------------------


def test_row_35_two_runs_press_while_answers_are_lost(firm: Company) -> None:
    for _ in range(12):
        add(firm, 借方勘定科目="987")
    firm.run()
    firm.bugyo.seed(TENANT, [{"code": "987", "name": "新しい科目"}], "account_item")
    firm.bugyo.faults.add(Fault(kind="drop_after", path="(?i)/ImportJournalSlip$"))

    async def press() -> list[Any]:
        return await asyncio.gather(*[firm.arun(ONLY_REJECTS) for _ in range(2)])

    for _ in range(2):
        asyncio.run(press())
    assert open_rejects(firm) == {}
    assert (len(firm.slips), set(firm.copies.values())) == (12, {1})
