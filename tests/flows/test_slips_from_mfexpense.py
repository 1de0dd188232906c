"""クラウド経費 → 仕訳伝票 on the plain runner: windows, codes, taxes, once each."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from company import Company
from pydantic import SecretStr

from blocks import BugyoCredentials, MfExpenseCredentials
from connectors.bugyo.emulator import (
    DEMO_FIXED_TOKEN,
    DEMO_SUBSCRIPTION_KEY,
    BugyoEmulator,
)
from connectors.bugyo.journal import JournalSlip
from connectors.kit.days import months_later
from connectors.kit.emulator import Fault, serve
from connectors.kit.tokens import utc_now
from connectors.mfexpense.emulator import MfExpenseEmulator
from connectors.mfexpense.emulator_books import Book, side
from deployments.licensing import issue_sample
from deployments.samples import mfexpense as sample
from flows.engine import code_table
from flows.engine.clock import business_date, now
from flows.engine.codes import CodeBook
from flows.engine.model import Reject, Row
from flows.engine.store import Store, migrate
from flows.parts.journal import slip_of
from flows.slips_from_mfexpense import (
    PIPELINE,
    ExpenseSlipSettings,
    ExpenseSlipTransform,
    SlipsFromMfExpenseConnection,
)

TODAY = business_date(now())
START = months_later(TODAY, -8)
NUMBER = "T1234567890123"
REGISTRATION = "AC-0000-0004"

TABLE = {
    ("勘定科目", "勘定科目", "701"): "710",
    ("勘定科目", "勘定科目", "702"): "713",
    ("補助科目", "補助科目", "1"): "310/0001",
    ("部門", "部門", "10"): "0010",
    ("税区分", "税区分", "10"): "0010",
    ("税区分", "税区分", "8"): "0010",
    ("税区分", "税区分", "10:登録番号なし"): "0012",
    ("税区分", "税区分", "8:登録番号なし"): "0012",
    ("税区分", "税区分", "0"): "0000",
}


@dataclass
class Firm(Company):
    """A connection between one office of クラウド経費 and one 法人 of 勘定奉行."""

    pipeline: ClassVar[Any] = PIPELINE

    mf: MfExpenseEmulator = field(default_factory=MfExpenseEmulator)
    book: Book = field(default_factory=lambda: Book("", ""))
    ids: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    office: str | None = None

    def block(self) -> Any:
        """The connection, with a pair of tokens as if a person had pressed 許可する."""
        mf_url, bugyo_url = self.urls
        pair = self.mf.access.pair("client")
        mfexpense = MfExpenseCredentials(
            client_id="client",
            client_secret=SecretStr("secret"),
            redirect_uri="https://app.example/callback",
            office_id=self.office,
            endpoint=mf_url,
            access_token=SecretStr(pair["access_token"]),
            refresh_token=SecretStr(pair["refresh_token"]),
            token_issued_at=utc_now(),
            token_expires_at=utc_now() + timedelta(seconds=pair["expires_in"]),
        )
        mfexpense._block_document_name = "mf"
        return SlipsFromMfExpenseConnection(
            registration_number=REGISTRATION,
            phone="03-0000-0000",
            bugyo=BugyoCredentials(
                environment="URLを指定",
                api_url=bugyo_url,
                id_url=bugyo_url,
                subscription_key=SecretStr(DEMO_SUBSCRIPTION_KEY),
                fixed_token=SecretStr(DEMO_FIXED_TOKEN),
                tenant_id=self.tenant,
            ),
            mfexpense=mfexpense,
            settings=ExpenseSlipSettings(
                **{"start": START, "changed": self.changed, **self.settings}
            ),
        )

    def equip(self) -> None:
        """Masters of the office, and the table that maps them."""
        add = self.book.add
        self.ids = {
            "旅費交通費": add("item", "旅費交通費", "701"),
            "会議費": add("item", "会議費", "702"),
            "未払金": add("item", "未払金"),
            "10%": add("excise", "課税仕入 10%", "10", rate=0.1),
            "8%": add("excise", "課税仕入 (軽)8%", "8", rate=0.08),
            "対象外": add("excise", "対象外", "0", rate=0),
            "営業部": add("dept", "営業部", "10"),
        }
        self.ids["従業員"] = add("sub_item", "従業員", "1", item_id=self.ids["未払金"])
        self.map({**TABLE, ("勘定科目", "勘定科目", self.ids["未払金"]): "310"})

    def map(self, entries: Mapping[tuple[str, str, str], str]) -> None:
        """Put entries into コード変換表."""
        rows = [code_table.Entry(*key, "", code) for key, code in entries.items()]
        with self.store.begin() as db:
            code_table.put(db, self.name, rows)

    def expense(self, day: date, yen: int = 1100, **more: Any) -> str:
        """One approved expense; its 登録番号 is there unless ``registration`` says otherwise."""
        branch = self.branch(
            yen,
            account=more.pop("account", "旅費交通費"),
            excise=more.pop("excise", "10%"),
            remark=more.pop("remark", "新幹線"),
        )
        return self.book.post(day, [branch], **{"registration": NUMBER, **more})

    def branch(self, yen: int, *, account: str, excise: str, remark: str) -> dict[str, Any]:
        """A branch of an expense, paid by an employee."""
        ids = self.ids
        rate = {"10%": 10, "8%": 8, "対象外": 0}[excise]
        tax = yen * rate // (100 + rate)
        debit = side(1, yen, tax, item=ids[account], excise=ids[excise], dept=ids["営業部"])
        credit = side(-1, yen, item=ids["未払金"], sub_item=ids["従業員"])
        return {"remark": remark, "sides": [debit, credit]}

    def asked(self, part: str) -> int:
        """Requests to クラウド経費 whose path holds ``part``."""
        return sum(n for call, n in self.mf.faults.counts().items() if part in call)


@pytest.fixture(scope="module")
def books(postgres: Any) -> str:
    url: str = postgres.fresh_database()
    migrate(url)
    issue_sample(Store(url), REGISTRATION)
    return url


@pytest.fixture
def firm(books: str) -> Iterator[Firm]:
    mf, bugyo = MfExpenseEmulator(), BugyoEmulator()
    mf.access.add_client("client", "secret", "https://app.example/callback")
    with ExitStack() as stack:
        urls = stack.enter_context(serve(mf)), stack.enter_context(serve(bugyo))
        made = Firm(None, bugyo, urls, books, f"firm-{uuid4().hex[:12]}", mf=mf)  # type: ignore[arg-type]
        made.book = mf.add_office("株式会社見本")
        made.equip()
        yield made


def days_ago(days: int) -> date:
    return TODAY - timedelta(days=days)


# -- the transform ---------------------------------------------------------------------------------


def journal(*sides: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A journal of one branch, in wire shape, with its masters put in."""
    branch = {"branch_number": 1, "remark": "新幹線", "journal_branch_sides": list(sides)}
    return {
        "id": "j1",
        "recognized_at": "2026-11-02",
        "memo": None,
        "ex_journal_branches": [branch],
        "invoice_registration_number": NUMBER,
        "special_exception_status": None,
        "ex_transaction_id": "t1",
        **more,
    }


def entry(number: str, name: str, code: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": number, "name": name, "code": code, **more}


TRAVEL, PAYABLE = entry("i1", "旅費交通費", "701"), entry("i2", "未払金")
TEN = {"id": "e1", "long_name": "課税仕入 10%", "code": "10", "rate": 0.1}
EIGHT = {"id": "e2", "long_name": "課税仕入 (軽)8%", "code": "8", "rate": 0.08}
BOOK = CodeBook(entries={**TABLE, ("勘定科目", "勘定科目", "i2"): "310"})


def convert(record: Mapping[str, Any], **settings: Any) -> Row | Reject:
    made = ExpenseSlipSettings(start=date(2026, 1, 1), **settings)
    return ExpenseSlipTransform(made, BOOK)("t1", record)


def slip(record: Mapping[str, Any], **settings: Any) -> JournalSlip:
    row = convert(record, **settings)
    assert isinstance(row, Row), row
    return slip_of(row.values)


def reject(record: Mapping[str, Any], **settings: Any) -> Reject:
    outcome = convert(record, **settings)
    assert isinstance(outcome, Reject)
    return outcome


def debit(yen: int = 1100, tax: int = 100, excise: Any = TEN, **more: Any) -> dict[str, Any]:
    return {"side": 1, "value": yen, "excise_value": tax, "item": TRAVEL, "excise": excise, **more}


def credit(yen: int = 1100, **more: Any) -> dict[str, Any]:
    return {"side": -1, "value": yen, "excise_value": 0, "item": PAYABLE, **more}


def test_a_journal_becomes_a_slip() -> None:
    made = slip(journal(debit(), credit()))
    assert made.date == date(2026, 11, 2)
    (line,) = made.lines
    assert line.description == f"新幹線 {NUMBER}"
    assert line.debit is not None
    assert line.credit is not None
    assert (line.debit.account, line.debit.amount, line.debit.tax) == ("710", 1000, 100)
    assert (line.debit.tax_code, line.debit.tax_rate, line.debit.tax_rate_kind) == (
        "0010",
        "10",
        "0",
    )
    assert (line.credit.account, line.credit.amount, line.credit.tax) == ("310", 1100, 0)
    assert (line.credit.tax_code, line.credit.tax_rate, line.credit.tax_rate_kind) == (
        "0000",
        "",
        "",
    )


def test_eight_percent_is_reduced_by_its_name() -> None:
    (line,) = slip(journal(debit(1080, 80, EIGHT), credit(1080))).lines
    assert line.debit is not None
    assert (line.debit.amount, line.debit.tax) == (1000, 80)
    assert (line.debit.tax_rate, line.debit.tax_rate_kind) == ("8", "1")
    old = {**EIGHT, "long_name": "課税仕入 8%"}
    (line,) = slip(journal(debit(1080, 80, old), credit(1080))).lines
    assert line.debit is not None
    assert (line.debit.tax_rate, line.debit.tax_rate_kind) == ("8", "0")


@pytest.mark.parametrize(
    ("changed", "settings", "code"),
    [
        ({}, {}, "0010"),
        ({"invoice_registration_number": None}, {}, "0012"),
        ({"invoice_registration_number": " "}, {}, "0012"),
        (
            {"invoice_registration_number": None, "special_exception_status": "公共交通機関"},
            {},
            "0010",
        ),
        ({"invoice_registration_number": None}, {"invoice": "区別しない"}, "0010"),
    ],
)
def test_without_a_registration_number_the_tax_category_is_another(changed, settings, code) -> None:
    (line,) = slip(journal(debit(), credit(), **changed), **settings).lines
    assert line.debit is not None
    assert line.debit.tax_code == code


def test_a_journal_by_report_does_not_tell_numbers_apart() -> None:
    record = journal(debit(), credit())
    for name in ("invoice_registration_number", "special_exception_status", "ex_transaction_id"):
        del record[name]
    (line,) = slip({**record, "ex_report_id": "r1"}).lines
    assert line.debit is not None
    assert (line.debit.tax_code, line.description) == ("0010", "新幹線")


def test_what_can_be_deducted_may_be_less_than_the_tax() -> None:
    (line,) = slip(journal(debit(1100, 80), credit(), invoice_registration_number=None)).lines
    assert line.debit is not None
    assert (line.debit.amount, line.debit.tax) == (1020, 80)
    assert reject(journal(debit(1100, 80), credit())).code == "AC-807"


def test_amounts_without_tax_are_noticed() -> None:
    """Were ``value`` without tax, 1000 + 100 would be booked as 900 + 100."""
    refused = reject(journal(debit(1000, 100), credit(1100)))
    assert (refused.code, refused.item) == ("AC-807", "消費税額")
    assert "税込金額 1,000円" in refused.reason
    refused = reject(journal(debit(1100, 100), credit(1000)))
    assert "一致していません（差額 100円）" in refused.reason


def test_several_amounts_of_a_side_are_lines() -> None:
    record = journal(debit(1100, 100), debit(1080, 80, EIGHT), credit(2180))
    made = slip(record)
    sides = [
        (line.debit and line.debit.total, line.credit and line.credit.total) for line in made.lines
    ]
    assert sides == [(1100, 2180), (1080, None)]
    assert made.debit_total == made.credit_total == 2180


def test_more_lines_than_a_slip_has() -> None:
    record = journal(debit(), credit())
    record["ex_journal_branches"] *= 251
    refused = reject(record)
    assert (refused.code, refused.item) == ("AC-835", "明細")
    assert "251行" in refused.reason
    record["ex_journal_branches"] = record["ex_journal_branches"][:250]
    assert len(slip(record).lines) == 250


def test_every_missing_code_is_named_at_once() -> None:
    record = journal(
        debit(item=entry("i9", "研修費", "799"), dept=entry("d9", "髙﨑支店")),
        credit(sub_item=entry("s9", "カード", "9")),
    )
    refused = reject(record)
    assert refused.code == "AC-821"
    assert {(m.kind, m.code, m.name) for m in refused.missing} == {
        ("勘定科目", "799", "研修費"),
        ("部門", "d9", "髙﨑支店"),
        ("補助科目", "9", "カード"),
    }


def test_a_sub_account_may_be_named_with_its_account() -> None:
    book = CodeBook(entries={**BOOK.entries, ("補助科目", "補助科目", "i2/1"): "310/0002"})
    record = journal(debit(), credit(sub_item=entry("s1", "従業員", "1")))
    row = ExpenseSlipTransform(ExpenseSlipSettings(start=date(2026, 1, 1)), book)("t1", record)
    assert isinstance(row, Row)
    (line,) = slip_of(row.values).lines
    assert line.credit is not None
    assert line.credit.sub_account == "0002"


def test_a_payee_without_a_code_is_left_out_and_a_project_when_it_is_wanted() -> None:
    record = journal(
        debit(ex_destination=entry("x", "山本商店"), project_code=entry("p", "移転", "0007")),
        credit(),
    )
    (line,) = slip(record).lines
    assert line.debit is not None
    assert (line.debit.partner, line.debit.project) == ("", "")
    (line,) = slip(record, projects=True).lines
    assert line.debit is not None
    assert line.debit.project == "0007"


def test_long_words_are_cut_but_never_the_number() -> None:
    record = journal(debit(), credit())
    record["ex_journal_branches"][0]["remark"] = "髙﨑" + "あ" * 200
    (line,) = slip(record).lines
    assert line.description.startswith("髙﨑あ")
    assert line.description.endswith(f"あ {NUMBER}")
    assert 199 <= len(line.description.encode("cp932")) <= 200


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        ({"ex_journal_branches": []}, "AC-801"),
        ({"duplicate": True}, "AC-836"),
    ],
)
def test_what_makes_no_slip(spoil, code) -> None:
    assert reject({**journal(debit(), credit()), **spoil}).code == code


def test_a_side_that_is_none() -> None:
    assert reject(journal(debit(side=0), credit())).item == "貸借"
    assert reject(journal(debit(item=None), credit())).code == "AC-801"


# -- runs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["journal_branch_sides", "ex_journal_branch_sides"])
def test_journals_are_posted_once(firm: Firm, spelling: Any) -> None:
    firm.mf.variants.spelling, firm.mf.variants.embed = spelling, False
    firm.mf.variants.page_size = 7
    posted = {firm.expense(days_ago(n), 1100 + 110 * n): 1100 + 110 * n for n in range(30)}
    unmapped = firm.expense(days_ago(3), account="未払金", registration=None, excise="対象外")
    firm.expense(months_later(TODAY, -3) - timedelta(days=1))
    firm.expense(TODAY + timedelta(days=1))
    first = firm.run()
    assert first.error is None
    assert first.message.startswith("取得 31 / 登録 31 / 更新 0 / 変更なし 0 / エラー 0"), unmapped
    by_key = {s.voucher_number: s for s in firm.slips}
    ledger = firm.ledger()
    assert {k: by_key[ledger[k]["key"]].debit_total for k in posted} == posted
    imports = firm.requests("ImportJournalSlip")
    second = firm.run()
    assert second.message.startswith("取得 31 / 登録 0 / 更新 0 / 変更なし 31 / エラー 0")
    assert firm.requests("ImportJournalSlip") == imports
    assert set(firm.copies.values()) == {1}


def test_an_approval_that_comes_late_is_found(firm: Firm) -> None:
    firm.expense(days_ago(1))
    firm.run()
    firm.expense(days_ago(80), 2200)
    assert firm.run().message.startswith("取得 2 / 登録 1 / 更新 0 / 変更なし 1")


def test_a_full_run_reads_from_the_first_day_in_portions(firm: Firm) -> None:
    firm.expense(START)
    firm.expense(months_later(TODAY, -5))
    firm.expense(START - timedelta(days=1))
    firm.expense(TODAY)
    assert firm.run().message.startswith("取得 1 / 登録 1")
    assert firm.run("全件").message.startswith("取得 3 / 登録 2 / 更新 0 / 変更なし 1")
    assert firm.asked("ex_journals_by_ex_transactions") == 1 + 1 + 3


def test_by_report(firm: Firm) -> None:
    firm.settings["unit"] = "経費申請ごと"
    branches = [
        firm.branch(1100 * n, account="会議費", excise="10%", remark=f"{n}件目")
        for n in range(1, 4)
    ]
    report = firm.book.post(TODAY, branches, unit="report")
    firm.expense(TODAY)
    assert firm.run().message.startswith("取得 1 / 登録 1")
    (made,) = firm.slips
    assert (len(made.lines), made.debit_total) == (3, 6600)
    assert set(firm.ledger()) == {report}
    # The same yen would be posted under other keys: the unit of a connection cannot be changed.
    firm.settings["unit"] = "経費明細ごと"
    refused = firm.run()
    assert refused.error is not None
    assert refused.error.code == "AC-205"
    assert len(firm.slips) == 1


def test_a_code_that_is_mapped_later_goes_through(firm: Firm) -> None:
    firm.ids["研修費"] = firm.book.add("item", "研修費", "799")
    old = firm.expense(days_ago(60), account="研修費")
    firm.expense(days_ago(2))
    firm.settings["months"] = 3
    first = firm.run()
    assert first.message.startswith("取得 2 / 登録 1 / 更新 0 / 変更なし 0 / エラー 1")
    assert firm.rejects() == {old: "AC-821"}
    firm.map({("勘定科目", "勘定科目", "799"): "720"})
    # Its day has left the window meanwhile: it is asked for by its key.
    firm.settings["months"] = 1
    second = firm.run()
    assert second.message.startswith("取得 2 / 登録 1 / 更新 0 / 変更なし 1 / エラー 0")
    assert firm.rejects() == {}
    assert firm.asked(f"ex_transactions/{old}/ex_journal") == 1


def test_one_record_and_one_that_is_not_there(firm: Firm) -> None:
    one = firm.expense(days_ago(100))
    firm.expense(days_ago(100))
    assert firm.run("1件", record_key=one).message.startswith("取得 1 / 登録 1")
    assert firm.run("1件", record_key="nothing").message.startswith("取得 0 / 登録 0")
    assert set(firm.ledger()) == {one}


def test_a_change_and_a_cancellation_after_posting(firm: Firm) -> None:
    changed, gone, kept, old = (firm.expense(days_ago(n)) for n in (1, 2, 3, 120))
    firm.run("全件")
    firm.expense(days_ago(1), 2200, record=changed)
    firm.book.cancel(gone)
    firm.book.cancel(old)
    assert firm.run().message.startswith(
        "取得 2 / 登録 0 / 更新 0 / 変更なし 1 / エラー 1 / 元データなし 1"
    )
    assert firm.rejects() == {changed: "AC-811", gone: "AC-812"}
    # Only a full run reads the days that the window has left.
    assert "元データなし 2" in firm.run("全件").message
    assert firm.rejects()[old] == "AC-812"
    assert kept not in firm.rejects()
    assert len(firm.slips) == 4


def test_a_period_is_its_days_of_booking_and_takes_back_nothing_else(firm: Firm) -> None:
    firm.changed = "赤黒"
    months = [months_later(TODAY, -5) + timedelta(days=n) for n in range(4)]
    posted = [firm.expense(day, 1100) for day in months]
    recent = firm.expense(TODAY, 2200)
    firm.run("全件")
    assert len(firm.slips) == 5
    # Three come late: one before, one in, one after the period; the old ones are all cancelled.
    late = [firm.expense(day, 3300) for day in (months[0], months[2], months[3])]
    for key in posted:
        firm.book.cancel(key)
    period = {"begins": months[1], "ends": months[2]}
    preview = firm.run("期間", dry_run=True, **period)
    assert "取得 1 / 登録 1" in preview.message
    assert len(firm.slips) == 5
    ran = firm.run("期間", **period)
    assert "取得 1 / 登録 1 / 更新 0 / 変更なし 0 / エラー 0" in ran.message
    states = {key: row["state"] for key, row in firm.ledger().items()}
    assert [states[key] for key in posted] == ["posted", "reversed", "reversed", "posted"]
    assert (states.get(late[0]), states[late[1]], states.get(late[2])) == (None, "posted", None)
    assert states[recent] == "posted"
    # 差分 reads the last months only, as ever; a period that the clock has not reached is no error.
    assert firm.run().message.startswith("取得 1 / 登録 0 / 更新 0 / 変更なし 1")
    ahead = {"begins": TODAY, "ends": TODAY + timedelta(days=30)}
    assert "取得 1 / 登録 0 / 更新 0 / 変更なし 1" in firm.run("期間", **ahead).message
    assert firm.run("全件").counts.created == 2
    states = {key: row["state"] for key, row in firm.ledger().items()}
    assert {states[key] for key in posted} == {"reversed"}
    assert {states[key] for key in (*late, recent)} == {"posted"}
    # The connection's first day stays the first.
    firm.expense(START - timedelta(days=1), record="too early")
    firm.expense(START, record="just in time")
    early = {"begins": START - timedelta(days=5), "ends": START}
    assert "取得 1 / 登録 1" in firm.run("期間", **early).message


def test_a_cancellation_is_taken_back(firm: Firm) -> None:
    firm.changed = "赤黒"
    gone, kept = firm.expense(days_ago(2), 3300), firm.expense(days_ago(1))
    firm.run()
    firm.book.cancel(gone)
    firm.run()
    totals = Counter[str]()
    for each in firm.slips:
        for line in each.lines:
            assert line.debit is not None
            assert line.credit is not None
            totals[line.debit.account] += line.debit.total
            totals[line.credit.account] -= line.credit.total
    assert (totals["710"], totals["310"]) == (1100, -1100)
    assert firm.ledger()[kept]["state"] == "posted"


def test_pages_that_shift_take_nothing_back(firm: Firm) -> None:
    """A journal that slips through between two pages is still there: it is asked for by its key."""
    firm.changed = "赤黒"
    firm.mf.variants.page_size = 3
    many = [firm.expense(days_ago(5), 1100 + n * 11) for n in range(9)]
    firm.run()
    moved = False

    def shift(path: str) -> None:
        nonlocal moved
        if "ex_journals_by" in path and not moved:
            moved = True
            firm.book.cancel(many[0])

    firm.mf.faults.hook = shift
    ending = firm.run()
    firm.mf.faults.hook = None
    assert moved
    assert ending.error is None
    assert firm.ledger("journal_slip.reversal") == {}
    assert "元データなし" not in ending.message


def test_two_journals_of_one_expense_are_not_both_posted(firm: Firm) -> None:
    one = firm.expense(TODAY)
    held = firm.book.journals["transaction"]
    other = held[firm.expense(TODAY, 5500)]
    held[f"{one}-second"] = other
    del held[other.record]
    other.record = one
    ending = firm.run()
    assert ending.message.startswith("取得 2 / 登録 1 / 更新 0 / 変更なし 0 / エラー 1")
    assert firm.rejects() == {f"{one}/{other.id}": "AC-836"}
    assert firm.run().message.startswith("取得 2 / 登録 0 / 更新 0 / 変更なし 1 / エラー 1")


def test_an_interrupted_run_goes_on_with_the_next(firm: Firm) -> None:
    firm.mf.variants.page_size = 10
    for n in range(35):
        firm.expense(days_ago(n), 1100 + 11 * n)
    firm.mf.faults.add(Fault(kind="status", status=403, path="ex_journals_by", after=2))
    ending = firm.run()
    assert ending.error is not None
    assert ending.error.code == "AC-203"
    assert firm.run().error is None
    assert len(firm.slips) == 35
    assert set(firm.copies.values()) == {1}


def test_offices(firm: Firm) -> None:
    firm.expense(TODAY)
    other = firm.mf.add_office("株式会社別会社")
    ending = firm.run()
    assert ending.error is not None
    assert ending.error.code == "AC-205"
    assert f"株式会社別会社: {other.id}" in str(ending.error)
    firm.office = "nowhere"
    assert "使えない値" in str(firm.run().error)
    firm.office = firm.book.id
    assert firm.run().message.startswith("取得 1 / 登録 1")


def test_the_sample(books: str) -> None:
    mf, bugyo = sample.emulator(), BugyoEmulator()
    mf.access.add_client("client", "secret", "https://app.example/callback")
    with serve(mf) as mf_url, serve(bugyo) as bugyo_url:
        firm = Firm(None, bugyo, (mf_url, bugyo_url), books, sample.NAME, mf=mf)  # type: ignore[arg-type]
        firm.settings |= {"start": sample.FIRST, "months": 12}
        asyncio.run(sample._map_codes(firm.store))
        first = firm.run()
        assert first.message.startswith("取得 120 / 登録 118 / 更新 0 / 変更なし 0 / エラー 2")
        assert sorted(firm.rejects().values()) == ["AC-803", "AC-821"]
        assert firm.run().message.startswith("取得 120 / 登録 0 / 更新 0 / 変更なし 118 / エラー 2")


# -- ten thousand ----------------------------------------------------------------------------------


def test_ten_thousand_expenses_to_the_yen(firm: Firm) -> None:
    """Sums per account and tax class in 奉行クラウド are those of the expenses, computed apart."""
    firm.mf.variants.page_size = 500
    rng = random.Random(20261125)
    expected: Counter[tuple[str, ...]] = Counter()
    bugyo = {"旅費交通費": "710", "会議費": "713"}
    for _ in range(10_000):
        account, excise = rng.choice(["旅費交通費", "会議費"]), rng.choice(["10%", "8%", "対象外"])
        yen = rng.randint(100, 90_000)
        number = rng.choice([NUMBER, NUMBER, None])
        firm.expense(
            days_ago(rng.randint(0, 85)), yen, account=account, excise=excise, registration=number
        )
        percent = int(excise.rstrip("%")) if excise != "対象外" else 0
        tax = yen * percent // (100 + percent)
        code = ("0010" if number else "0012") if percent else "0000"
        tax_class = (code, str(percent or ""), {10: "0", 8: "1", 0: ""}[percent])
        expected["debit", bugyo[account], *tax_class, "net"] += yen - tax
        expected["debit", bugyo[account], *tax_class, "tax"] += tax
        expected["credit", "310", "0000", "", "", "net"] += yen
    ending = firm.run()
    assert ending.message.startswith("取得 10,000 / 登録 10,000 / 更新 0 / 変更なし 0 / エラー 0")
    found: Counter[tuple[str, ...]] = Counter()
    slips = firm.slips
    for each in slips:
        for line in each.lines:
            for name, one in (("debit", line.debit), ("credit", line.credit)):
                assert one is not None
                which = (name, one.account, one.tax_code, one.tax_rate, one.tax_rate_kind)
                found[*which, "net"] += one.amount
                found[*which, "tax"] += one.tax
    assert {k: yen for k, yen in found.items() if yen} == {k: v for k, v in expected.items() if v}
    assert len({each.voucher_number for each in slips}) == len(slips) == 10_000
