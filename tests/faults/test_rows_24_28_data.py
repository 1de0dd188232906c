"""Rows 24 and 26 to 28 of the fault matrix: what people type, and what becomes of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest
from company import APP, Company, voucher
from customers import CustomerCompany
from invariants import holds, safe

from connectors.kit.emulator import Fault
from connectors.kit.tables import cp932_csv, read_cp932_csv
from flows.engine import rejects

PAGE = "/records.json$"
Record = dict[str, Any]


def put(firm: Company, record: Record, yen: int, *, good: bool) -> int:
    """Add a voucher as it was typed."""
    number = firm.kintone.seed(APP, [record])[0]
    firm.records[number] = (yen, good)
    return number


def line(record: Record, **cells: Any) -> Record:
    """The voucher with other cells in its one line."""
    return {**record, "明細": [{**record["明細"][0], **cells}]}


def spoil(firm: Company, changes: dict[int, Callable[[Record], None]]) -> None:
    """Let the next page carry records that are built otherwise than the app's form says."""
    app = firm.kintone.apps[APP]
    records = [orjson.loads(app.records[n].encoded(app.types, None)) for n in app.ids]
    for record in records:
        if (change := changes.get(int(record["$id"]["value"]))) is not None:
            change(record)
    body = orjson.dumps({"records": records, "totalCount": None}).decode()
    firm.kintone.faults.add(Fault(kind="replace_body", path=PAGE, body=body, after=1))


def cell(record: Record, name: str) -> Record:
    """A cell of the first line, as it travels."""
    found: Record = record["明細"]["value"][0]["value"][name]
    return found


def listed(firm: Company) -> dict[str, rejects.Listed]:
    """エラー明細 as a person sees it."""
    with firm.store.begin() as db:
        return {row.source_key: row for row in rejects.listed(db, firm.name)}


# --- row 24: the shape changed --------------------------------------------------------------------

DRIFT: dict[str, Callable[[Record], None]] = {
    "date missing": lambda r: r.pop("伝票日付"),
    "table missing": lambda r: r.pop("明細"),
    "value missing": lambda r: r["伝票日付"].pop("value"),
    "table became text": lambda r: r.update(明細={"type": "SINGLE_LINE_TEXT", "value": "1行"}),
    "table became a check box": lambda r: r.update(明細={"type": "CHECK_BOX", "value": ["済"]}),
    "table became a number": lambda r: r.update(明細={"type": "NUMBER", "value": 5}),
    "words after the date": lambda r: r["伝票日付"].update(value="2026-11-02 の朝"),
    "no such day": lambda r: r["伝票日付"].update(value="2026-02-30"),
    "a moment of nowhere": lambda r: r["伝票日付"].update(value="2026-11-02T05:00:00"),
    "date became a list": lambda r: r["伝票日付"].update(value=["2026-11-02", "2026-11-03"]),
    "date became nothing": lambda r: r["伝票日付"].update(value=None),
    "text became a table": lambda r: r["摘要"].update(value=[{"id": "1", "value": {}}]),
    "row without cells": lambda r: r["明細"]["value"][0].update(value=None),
    "amount became a list": lambda r: cell(r, "借方金額").update(value=["1", "2"]),
    "amount became an object": lambda r: cell(r, "借方金額").update(value={"yen": 1}),
    "account became nothing": lambda r: cell(r, "借方勘定科目").update(value=None),
    "new tax code": lambda r: cell(r, "借方税区分").update(value="0999"),
}


def test_row_24_a_record_of_another_shape_is_rejected_and_the_others_go_on(firm: Company) -> None:
    firm.fill(5)
    wrong = dict(zip(firm.fill(len(DRIFT)), DRIFT, strict=True))
    firm.fill(5)
    for number in wrong:
        firm.records[number] = (firm.records[number][0], False)
    spoil(firm, {number: DRIFT[name] for number, name in wrong.items()})
    first = firm.run()
    assert first.error is None
    assert first.message.endswith(f"登録 10 / 更新 0 / 変更なし 0 / エラー {len(DRIFT)}")
    shown = listed(firm)
    named = {wrong[int(key)]: row.reason for key, row in shown.items()}
    assert named.keys() == DRIFT.keys()
    # The drift is named, and told from a value that somebody typed wrong.
    assert "項目「伝票日付」がありません" in named["date missing"]
    assert "項目「明細」がありません" in named["table missing"]
    assert "形が、接続を設定したときと変わっています" in named["table became text"]
    assert all(
        "フィールド" in shown[key].remedy for key in shown if "table became" in wrong[int(key)]
    )
    assert "0999" in named["new tax code"]
    assert named["no such day"] == "日付ではありません: 「2026-02-30」。"
    assert not [reason for reason in named.values() if reason.isascii() or "Error" in reason]
    holds(firm, first)
    # The form is as it was again: each goes through, once.
    firm.records = {number: (yen, True) for number, (yen, _) in firm.records.items()}
    second = firm.run()
    assert str(second.result) == "SUCCESS"
    holds(firm, first, second)


def test_row_24_a_date_that_became_a_moment_is_the_day_in_japan(firm: Company) -> None:
    """kintone sends moments in UTC: the first nine hours of a day are the day before there."""
    one = put(firm, {**voucher(1000)}, 1000, good=True)
    spoil(firm, {one: lambda r: r["伝票日付"].update(value="2026-11-01T15:30:00Z")})
    holds(firm, firm.run())
    assert [slip.date for slip in firm.slips] == [date(2026, 11, 2)]


def test_row_24_a_field_that_is_gone_from_the_form_stops_the_run_by_its_name(
    firm: Company,
) -> None:
    """Every record would be wrong: nothing is sent, and the message names the field."""
    firm.fill(5)
    app = firm.kintone.apps[APP]
    kept = app.fields.pop("明細")
    ending = firm.run()
    assert ending.error is not None
    assert ending.error.code == "AC-205"
    assert "「明細」" in ending.message
    safe(firm, ending)
    app.fields["明細"] = kept
    holds(firm, ending, firm.run())


def test_row_24_a_null_key_is_a_reject(new_company: Callable[..., CustomerCompany]) -> None:
    firm = new_company(kind=CustomerCompany)
    firm.customer(1)
    empty = firm.customer(2, 得意先コード="")
    gone = firm.customer(3)
    firm.customer(4)
    spoil(firm, {gone: lambda r: r["得意先コード"].update(value=None)})
    ending = firm.run()
    assert ending.message == "取得 4 / 登録 2 / 更新 0 / 変更なし 0 / エラー 2"
    assert firm.rejects() == {str(empty): "AC-801", str(gone): "AC-801"}
    assert sorted(firm.customers) == ["000001", "000004"]
    safe(firm, ending)


def test_row_24_a_record_without_an_id_is_an_error_and_nothing_is_lost(firm: Company) -> None:
    one, *_ = firm.fill(5)
    spoil(firm, {one: lambda r: r["$id"].update(value=None)})
    first = firm.run()
    assert first.error is not None
    assert first.error.code == "AC-303"
    assert firm.watermark() is None
    holds(firm, first, firm.run())


# --- row 26: a closed period ----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["all_or_nothing", "partial_207"])
def test_row_26_a_date_in_a_closed_period_is_a_reject_whose_remedy_names_it(
    firm: Company, mode: str
) -> None:
    firm.bugyo.settings = firm.bugyo.settings.model_copy(
        update={"closed_until": date(2026, 10, 31), "import_mode": mode}
    )
    firm.fill(10)
    late = put(firm, {**voucher(4000), "伝票日付": "2026-10-31"}, 4000, good=False)
    put(firm, {**voucher(4100), "伝票日付": "2026-11-01"}, 4100, good=True)
    first = firm.run()
    assert first.message == "取得 12 / 登録 11 / 更新 0 / 変更なし 0 / エラー 1"
    row = listed(firm)[str(late)]
    assert row.code == "AC-806"
    assert "締め済みの期間（2026/10/31まで）" in row.reason
    assert "締め済みの期間（2026/10/31まで）" in row.remedy
    assert row.item == "伝票日付"
    holds(firm, first)
    # The period is opened: the next run posts it, once.
    firm.bugyo.settings = firm.bugyo.settings.model_copy(update={"closed_until": None})
    firm.records[late] = (4000, True)
    second = firm.run()
    assert str(second.result) == "SUCCESS"
    holds(firm, first, second)


# --- row 27: amounts ------------------------------------------------------------------------------

AMOUNTS: list[tuple[Any, int | None]] = [
    ("0", None),
    ("-500", -500),
    ("1,000", 1000),
    ("1000.00", 1000),
    ("1000.5", None),
    ("0.1", None),
    ("１０００", None),
    ("1e3", None),
    ("NaN", None),
    ("999999999999", 999_999_999_999),
    (str(10**15), None),
    ("1" * 30, None),
    ("", None),
]
"""What is typed on both sides, and the yen that are posted; ``None`` = a reject."""


def test_row_27_amounts_are_posted_to_the_yen_or_rejected(firm: Company) -> None:
    for typed, yen in AMOUNTS:
        record = line(voucher(0), 借方金額=typed, 貸方金額=typed)
        put(firm, record, yen or 0, good=yen is not None)
    put(firm, voucher(1000, debit=999), 1000, good=False)
    put(firm, line(voucher(1000), 借方消費税額="100"), 1000, good=False)
    taxed = {"借方税区分": "0010", "借方税率": "10", "借方消費税額": "100"}
    put(firm, line(voucher(1100), 借方金額="1000", **taxed), 1100, good=True)
    ending = firm.run()
    assert ending.error is None
    assert set(firm.rejects().values()) <= {"AC-801", "AC-802", "AC-807"}
    good = sum(ok for _, ok in firm.records.values())
    assert ending.message.startswith(f"取得 {len(firm.records)} / 登録 {good} ")
    holds(firm, ending)


FLOATS: list[tuple[Any, int | None]] = [
    (1000, 1000),
    (1000.0, 1000),
    (0.1 + 0.2, None),
    (1000.5, None),
    (1e22, None),
    (9007199254740993, None),
    (True, None),
]
"""Amounts that are no text in the JSON; binary fractions never become yen."""


def test_row_27_a_number_in_the_json_is_the_same_yen_or_a_reject(firm: Company) -> None:
    changes: dict[int, Callable[[Record], None]] = {}
    for typed, yen in FLOATS:
        number = put(firm, voucher(1), yen or 0, good=yen is not None)

        def change(record: Record, typed: Any = typed) -> None:
            cell(record, "借方金額").update(value=typed)
            cell(record, "貸方金額").update(value=typed)

        changes[number] = change
    spoil(firm, changes)
    ending = firm.run()
    assert ending.error is None
    holds(firm, ending)
    assert {slip.debit_total for slip in firm.slips} == {1000}


# --- row 28: text ---------------------------------------------------------------------------------

TEXTS: list[tuple[str, str | None]] = [
    ("髙﨑①㈱ 出張", "髙﨑①㈱ 出張"),
    ("=cmd|'/c calc'!A1", "=cmd|'/c calc'!A1"),
    ("+1+1", "+1+1"),
    ("一行目\n二行目\r\n三行目", "一行目 二行目 三行目"),
    ("タブ\tと制御\x07文字", "タブ と制御文字"),
    ("NUL\x00入り", "NUL入り"),
    ("寿司🍣代", None),
    ("𠮷野家", None),
    ("長" * 500, None),
    ("a" * 500, None),
]
"""What is typed as 摘要, and what 勘定奉行 holds; ``None`` = a reject."""


def test_row_28_text_is_stored_as_typed_or_rejected_by_name(firm: Company) -> None:
    numbers = {
        put(firm, voucher(1000 + n, typed), 1000 + n, good=kept is not None): (typed, kept)
        for n, (typed, kept) in enumerate(TEXTS)
    }
    ending = firm.run()
    assert ending.error is None
    holds(firm, ending)
    ledger = firm.ledger()
    held = {slip.voucher_number: slip.lines[0].description for slip in firm.slips}
    for number, (_, kept) in numbers.items():
        if kept is not None:
            assert held[ledger[str(number)]["key"]] == kept
    shown = {numbers[int(key)][0]: row for key, row in listed(firm).items()}
    assert shown["寿司🍣代"].code == shown["𠮷野家"].code == "AC-803"
    assert "🍣（U+1F363）" in shown["寿司🍣代"].reason
    assert shown["長" * 500].code == shown["a" * 500].code == "AC-802"
    assert "摘要" in shown["長" * 500].item


def test_row_28_the_csv_of_rejects_is_safe_in_excel(firm: Company, tmp_path: Path) -> None:
    """A formula in a rejected record is text in the CSV, and comes back as it was."""
    typed = ["=cmd|'/c calc'!A1", "＝1+1", "@SUM(A1)", "-1+1", "髙﨑①", "寿司🍣", "改\n行"]
    for text in typed:
        put(firm, voucher(1000, text, debit=1001), 1000, good=False)
    ending = firm.run()
    holds(firm, ending)
    rows = [[row.source_key, row.label, row.reason] for row in listed(firm).values()]
    data = cp932_csv(["レコード", "対象", "理由"], rows)
    path = tmp_path / "rejects.csv"
    path.write_bytes(data)
    cells = [c for r in csv.reader(io.StringIO(data.decode("cp932"), newline="")) for c in r]
    assert not [text for text in cells if text[:1] in tuple("=+-@＝＋－＠\t\r\n")]
    assert [row["レコード"] for row in read_cp932_csv(path.read_bytes())] == [r[0] for r in rows]
