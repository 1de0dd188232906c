"""仕訳伝票 without a server: registry, rows, checks before sending, external keys."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.bugyo import assumptions, operation, resource
from connectors.bugyo.journal import (
    MAX_SLIP_ROWS,
    JournalLine,
    JournalSide,
    JournalSlip,
    external_key,
    flatten,
    slip_batches,
    unflatten,
    yen,
)
from connectors.bugyo.journal_checks import check_slip, tax_of

CONTRACT = {
    "GL0010000": "separator",
    "GL0010001": "date",
    "GL0010002": "class_code",
    "GL0010003": "number",
    "GL0010004": "entry_form",
    "GL0010005": "department_mode",
    "GL0010006": "slip_department",
    "GL0010007": "slip_type",
    "GL0010008": "voucher_number",
    "GL0011001": "description",
    "GL0011002": "sticky_color",
    "GL0011003": "sticky_note",
    **{
        f"GL001{digit}{number}": f"{side}_{name}"
        for digit, side in (("2", "debit"), ("3", "credit"))
        for number, name in {
            "001": "department",
            "002": "account",
            "003": "sub_account",
            "004": "tax_code",
            "005": "tax_rate",
            "006": "business_type",
            "007": "tax_auto",
            "008": "rounding",
            "009": "partner",
            "012": "project",
            "015": "tax_rate_kind",
            "101": "amount",
            "102": "tax",
        }.items()
    },
}

DEBIT = JournalSide("604", 100_000, 10_000, tax_code="0010", tax_rate="10", department="0010")
CREDIT = JournalSide("305", 110_000, partner="000001", tax_code="0000")
LINE = JournalLine(DEBIT, CREDIT)
SLIP = JournalSlip(date(2026, 11, 22), "AC7K2QZXM4WT5B", (LINE,), description="仕入 11月分")


def of(*lines: JournalLine, **header: Any) -> JournalSlip:
    return replace(SLIP, lines=lines, **header)


# --- registry ----------------------------------------------------------------------------------


def test_the_items_are_exactly_those_of_the_contract() -> None:
    registry = resource("journal_slip")
    assert {item.code: item.field for item in registry.items} == CONTRACT
    assert registry.key.field == "voucher_number"
    assert len({item.label for item in registry.items}) == len(registry.items)
    for item in registry.items:
        assert item.evidence == "I"  # known from the text format, inferred for the API
        assert item.importable
        assert item.exportable
        assert "仮:" in item.note


def test_what_is_not_proven_is_said() -> None:
    names = ["ImportJournalSlip", "ExportJournalSlip", "ImportJournalSlipResult"]
    said = assumptions(names, [])
    for name in names:
        assert operation(name).evidence == "I"
        assert any(each.subject == name and operation(name).path in each.statement for each in said)
    assert any("60秒" in each.statement for each in said)
    (item,) = assumptions([], ["debit_tax"], of="journal_slip")
    assert (item.subject, item.evidence) == ("借方消費税額", "I")


# --- rows --------------------------------------------------------------------------------------


def test_a_slip_in_rows() -> None:
    second = JournalLine(credit=JournalSide("320", 10_210), description="源泉所得税")
    first, last = flatten(of(LINE, second, number="000007"))
    assert first == {
        "separator": "*",
        "date": "2026/11/22",
        "number": "000007",
        "voucher_number": "AC7K2QZXM4WT5B",
        "entry_form": "0",
        "department_mode": "1",
        "debit_account": "604",
        "debit_department": "0010",
        "debit_tax_code": "0010",
        "debit_tax_rate": "10",
        "debit_tax_auto": "0",
        "debit_amount": "100000",
        "debit_tax": "10000",
        "credit_account": "305",
        "credit_partner": "000001",
        "credit_tax_code": "0000",
        "credit_tax_auto": "0",
        "credit_amount": "110000",
        "credit_tax": "0",
        "description": "仕入 11月分",
    }
    assert last["separator"] == ""
    assert last["voucher_number"] == first["voucher_number"]
    assert last["description"] == "源泉所得税"
    assert not any(name.startswith("debit_") for name in last)


codes = st.text("0123456789ABC-", max_size=4)
sides = st.builds(
    JournalSide,
    account=st.text("0123456789", min_size=1, max_size=6),
    amount=st.integers(-(10**12), 10**12),
    tax=st.integers(-(10**11), 10**11),
    sub_account=codes,
    department=codes,
    tax_code=codes,
    tax_rate=st.sampled_from(["", "0", "8", "10"]),
    tax_rate_kind=st.sampled_from(["", "0", "1"]),
    tax_auto=st.sampled_from(["", "0", "1"]),
    rounding=st.sampled_from(["", "0", "1", "2"]),
    partner=codes,
    project=codes,
    business_type=codes,
)
texts = st.text(max_size=10)
lines = st.builds(
    JournalLine,
    debit=st.none() | sides,
    credit=st.none() | sides,
    description=texts,
    sticky_color=codes,
    sticky_note=texts,
)
slips = st.builds(
    JournalSlip,
    date=st.dates(date(1000, 1, 1)),
    voucher_number=st.text("ABC0123456789", min_size=1, max_size=14),
    lines=st.lists(lines, min_size=1, max_size=3).map(tuple),
    description=texts,
    number=codes,
    department=codes,
    class_code=codes,
    slip_type=codes,
    entry_form=codes,
    department_mode=codes,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(slips, max_size=3))
def test_rows_and_back(some: list[JournalSlip]) -> None:
    rows = [row for slip in some for row in flatten(slip)]
    assert unflatten(rows) == [slip.canonical() for slip in some]
    full = [{name: row.get(name, "") for name in CONTRACT.values()} for row in rows]
    assert unflatten(full) == [slip.canonical() for slip in some]  # an export fills every column


def test_header_values_may_stand_on_the_first_row_only() -> None:
    first, second = flatten(of(LINE, LINE))
    header = ("date", "voucher_number", "entry_form", "department_mode")
    bare = {name: "" if name in header else value for name, value in second.items()}
    assert unflatten([first, bare]) == [of(LINE, LINE).canonical()]


def test_rows_without_the_separator_are_told_apart_by_their_header() -> None:
    both = [*flatten(of(LINE, LINE)), *flatten(of(LINE, voucher_number="B"))]
    for row in both:
        del row["separator"]
    assert [slip.voucher_number for slip in unflatten(both)] == [SLIP.voucher_number, "B"]


def test_what_an_export_may_write_differently() -> None:
    row = {
        "separator": "*",
        "date": "2026/8/1",
        "debit_account": "604",
        "debit_amount": "1,000.00",
        "credit_department": "0000",
        "credit_amount": "0",
    }
    (slip,) = unflatten([row])
    assert slip.date == date(2026, 8, 1)
    assert slip.lines == (JournalLine(debit=JournalSide("604", 1000, tax_auto=""), credit=None),)
    for name, value in (("date", "2026/02/30"), ("date", ""), ("debit_amount", "12.5")):
        with pytest.raises(ValueError, match=r"日付|day|端数"):
            unflatten([{**row, name: value}])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1,000", 1000),
        ("-12", -12),
        (" 5.00 ", 5),
        (7, 7),
        (Decimal("1E+3"), 1000),
        ("1" * 15, None),
    ],
)
def test_yen(value: Any, expected: int | None) -> None:
    assert yen(value) == (int(value) if expected is None else expected)


@pytest.mark.parametrize(
    "value", [1.0, True, "1.5", "", "1_000", "１２x", "1,00", "NaN", Decimal("NaN"), Decimal("0.1")]
)
def test_what_is_not_whole_yen(value: Any) -> None:
    with pytest.raises(ValueError, match="円未満"):
        yen(value)


# --- checks ------------------------------------------------------------------------------------


def messages(slip: JournalSlip, **options: Any) -> list[str]:
    return [each.message for each in check_slip(slip, **options)]


def only(slip: JournalSlip, **options: Any) -> str:
    (message,) = messages(slip, **options)
    return message


def test_a_good_slip() -> None:
    assert check_slip(SLIP) == []
    salary = of(
        JournalLine(JournalSide("700", 300_000)),
        JournalLine(credit=JournalSide("320", 10_210), description="源泉所得税"),
        JournalLine(credit=JournalSide("111", 289_790, sub_account="0001")),
    )
    assert check_slip(salary) == []


def test_debit_and_credit_with_tax() -> None:
    short = of(JournalLine(DEBIT, replace(CREDIT, amount=100_000)))
    assert only(short) == (
        "借方合計 110,000円 と貸方合計 100,000円 が一致していません（差額 10,000円）"
    )
    assert (short.debit_total, short.credit_total) == (110_000, 100_000)


@pytest.mark.parametrize(
    ("amount", "rounding", "tax"),
    [
        (105, "切捨て", 10),
        (105, "切上げ", 11),
        (105, "四捨五入", 11),
        (104, "四捨五入", 10),
        (104, "切上げ", 11),
        (-105, "切捨て", -10),
        (-105, "切上げ", -11),
        (-105, "四捨五入", -11),
        (10**14 + 5, "切捨て", 10**13),
    ],
)
def test_tax_is_rounded_as_it_is_set(amount: int, rounding: Any, tax: int) -> None:
    assert tax_of(amount, "10", rounding) == tax
    side = JournalSide("604", amount, tax, tax_code="0010", tax_rate="10")
    slip = of(JournalLine(side, JournalSide("305", amount + tax)))
    assert not [m for m in messages(slip, rounding=rounding) if "消費税額" in m and "一致" in m]
    wrong = of(JournalLine(replace(side, tax=tax + 1), JournalSide("305", amount + tax + 1)))
    assert any("消費税額" in m for m in messages(wrong, rounding=rounding))


def test_a_sides_own_rounding_comes_first() -> None:
    side = JournalSide("604", 105, 11, tax_code="0010", tax_rate="10", rounding="1")
    assert check_slip(of(JournalLine(side, JournalSide("305", 116)))) == []
    other = replace(side, rounding="7")
    assert "端数処理「7」" in only(of(JournalLine(other, JournalSide("305", 116))))


def test_tolerance_is_for_taxes_that_are_not_calculated() -> None:
    side = replace(DEBIT, tax=10_001)
    slip = of(JournalLine(side, replace(CREDIT, amount=110_001)))
    assert only(slip) == (
        "1行目: 借方の消費税額 10,001円 が、税率から計算した額 10,000円（切捨て）と一致していません"
    )
    assert check_slip(slip, tolerance=1) == []
    assert check_slip(slip, tolerance=None) == []
    calculated = of(JournalLine(replace(side, tax_auto="1"), replace(CREDIT, amount=110_001)))
    assert "消費税額" in only(calculated, tolerance=None)
    assert "消費税額" in only(calculated, tolerance=1)


def test_there_is_no_tax_where_none_belongs() -> None:
    for side in (
        JournalSide("711", 1000, 100, tax_code="0000", tax_rate="10"),
        JournalSide("711", 1000, 100),
    ):
        slip = of(JournalLine(side, JournalSide("305", 1100)))
        assert "計算した額 0円" in only(slip, tolerance=1)


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        (of(), "伝票に明細行がありません"),
        (of(LINE, JournalLine()), "2行目: 借方と貸方の両方が空です"),
        (of(LINE, voucher_number=" "), "証憑番号が空です"),
        (of(LINE, voucher_number="A" * 21), "証憑番号は半角20文字までです（21文字）"),
        (of(LINE, LINE, description="あ" * 101), "1行目: 摘要は半角200文字までです（202文字）"),
        (of(LINE, description="a\x00b"), "1行目: 摘要に使えない文字（U+0000）があります"),
        (of(LINE, description="a\nb"), "1行目: 摘要に使えない文字（U+000A）があります"),
        (
            of(JournalLine(replace(DEBIT, account="６０４"), CREDIT)),
            "1行目: 借方勘定科目コードは半角の英数字とハイフンで入力します",
        ),
        (
            of(JournalLine(replace(DEBIT, account=""), CREDIT)),
            "1行目: 借方の勘定科目コードが空です",
        ),
        (
            of(JournalLine(replace(DEBIT, tax_rate="十"), CREDIT)),
            "1行目: 借方消費税率は半角の数字で入力します",
        ),
        (of(LINE, date=date(999, 1, 1)), "伝票日付は日付（年は4桁）で指定します"),
        (of(LINE, date=datetime(2026, 1, 1)), "伝票日付は日付（年は4桁）で指定します"),  # noqa: DTZ001
    ],
)
def test_what_is_refused_before_it_is_sent(slip: JournalSlip, message: str) -> None:
    assert messages(slip)[0] == message


def test_zero_and_enormous_amounts() -> None:
    zero = of(JournalLine(JournalSide("604", 0), JournalSide("305", 0)))
    assert messages(zero) == [
        "1行目: 借方の本体金額が0円です",
        "1行目: 貸方の本体金額が0円です",
    ]
    for amount in (10**15, 10**30):
        side = JournalSide("604", amount, tax_code="0010", tax_rate="10", tax_auto="1")
        found = messages(of(JournalLine(side, JournalSide("305", amount))))
        assert any("本体金額は半角13文字まで" in each for each in found)


def test_negative_amounts_are_allowed() -> None:
    red = of(
        JournalLine(replace(DEBIT, amount=-100_000, tax=-10_000), replace(CREDIT, amount=-110_000))
    )
    assert check_slip(red) == []


@pytest.mark.parametrize("amount", [1000.0, True, Decimal(1000), "1000"])
def test_money_is_int(amount: Any) -> None:
    slip = of(JournalLine(JournalSide("604", amount), JournalSide("305", 1000)))
    assert only(slip) == "1行目: 借方本体金額は整数（円）で指定します"


def test_rows_of_a_slip_are_limited() -> None:
    assert check_slip(of(*[LINE] * MAX_SLIP_ROWS)) == []
    assert only(of(*[LINE] * 251)) == "伝票の明細行は250行までです（251行）"


def test_text_that_only_looks_awkward_survives() -> None:
    assert check_slip(replace(SLIP, description="髙﨑①㈱　=1+1")) == []


# --- keys and batches --------------------------------------------------------------------------


def test_the_external_key_is_the_same_for_ever() -> None:
    # Slips in customers' books carry these: a change here would post all of them again.
    assert external_key("本社", "journal", "10023") == "ACVAOPKMHDVD4S"
    assert (
        len(external_key("", "", "")) <= resource("journal_slip").by_field["voucher_number"].length
    )


def test_different_sources_have_different_keys() -> None:
    parts = [("a", "b", "c"), ("ab", "", "c"), ("a", "bc", ""), ("a", "b", "C"), ("b", "a", "c")]
    assert len({external_key(*each) for each in parts}) == len(parts)
    assert len({external_key("a", "b", str(n)) for n in range(10_000)}) == 10_000


def test_batches_never_cut_a_slip() -> None:
    some = [of(*[LINE] * n) for n in (400, 400, 400, 1, 999)]
    assert [[len(s.lines) for s in batch] for batch in slip_batches(some)] == [
        [400, 400],
        [400, 1],
        [999],
    ]
    assert [len(batch) for batch in slip_batches([SLIP] * 250)] == [100, 100, 50]
