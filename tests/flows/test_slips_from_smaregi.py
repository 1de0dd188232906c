"""スマレジ → 仕訳伝票, from the shop's till to the books of 勘定奉行, without Prefect around it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from company import Company
from pydantic import SecretStr

from blocks import BugyoCredentials, SmaregiCredentials
from connectors.bugyo.emulator import DEMO_FIXED_TOKEN, DEMO_SUBSCRIPTION_KEY, BugyoEmulator
from connectors.bugyo.journal import JournalSlip
from connectors.kit.emulator import Fault, serve
from connectors.smaregi import Closing, Transaction
from connectors.smaregi import Store as ShopStore
from connectors.smaregi.emulator import (
    DEMO_CLIENT_ID,
    DEMO_CLIENT_SECRET,
    DEMO_CONTRACT,
    SmaregiEmulator,
)
from connectors.smaregi.emulator_book import TOKYO, Book
from deployments.licensing import issue_sample
from deployments.samples import smaregi as sample
from deployments.stack.settings import StackUrls
from flows.engine import code_table, rejects
from flows.engine.code_table import Entry
from flows.engine.codes import CodeBook
from flows.engine.core import Order
from flows.engine.model import Mode, Reject, Row, Trigger
from flows.engine.pipeline import Pipeline
from flows.engine.store import Store, migrate
from flows.parts.journal import slip_of
from flows.parts.smaregi_till import Till
from flows.parts.store_days import StoreDayTransform
from flows.slips_from_smaregi import (
    PIPELINE,
    SlipsFromSmaregiConnection,
    SmaregiSettings,
)

START = date(2026, 9, 1)
ACCOUNTS = {"クレジット": "135", "ID:3": "160", "ID:5": "320"}
TAXES = {"10%": "0060", "8%": "0060", "非課税": "0002"}


def moment(day: date, hour: int, minute: int = 0) -> datetime:
    """A time of that day in Japan."""
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=TOKYO)


class Shop(Company):
    """A chain of stores, 勘定奉行, our books, and runs between them."""

    pipeline: ClassVar[Pipeline[Any]] = PIPELINE
    settings: Any = None

    @property
    def till(self) -> Book:
        """The books of スマレジ."""
        emulator: Any = self.kintone
        book: Book = emulator.book
        return book

    @property
    def till_requests(self) -> list[Any]:
        """Every request to スマレジ so far."""
        return list(self.kintone.faults.requests)

    def watermark(self) -> Any:
        """Up to when everything is known to be moved."""
        (row,) = self.sql("SELECT watermark FROM connection WHERE name = :c")
        return row[0]

    def posted(self) -> set[str]:
        """Store-days that are posted."""
        return {key for key, row in self.ledger().items() if row["state"] == "posted"}

    def open(self, stores: int) -> None:
        """Stores 1 …, each with a 部門 of its own."""
        for number in range(1, stores + 1):
            self.till.add_store(str(number), f"{number}号店", f"S{number:03}")
        rows = [{"code": f"{1000 + n}", "name": f"{n}号店"} for n in range(1, stores + 1)]
        self.bugyo.seed(self.tenant, rows, "department")
        self.map("部門", "店舗", {f"S{n:03}": f"{1000 + n}" for n in range(1, stores + 1)})
        self.map("勘定科目", "支払方法", ACCOUNTS)
        self.map("税区分", "税率", TAXES | {f"{k} 値引・返品": v for k, v in TAXES.items()})

    def map(self, kind: str, source: str, codes: dict[str, str]) -> None:
        """Entries of コード変換表."""
        entries = [Entry(kind, source, code, "", to) for code, to in codes.items()]
        with self.store.begin() as db:
            code_table.put(db, self.name, entries)

    def day(self, store: int, day: date, *yen: int, hour: int = 20, **more: Any) -> list[int]:
        """Sell for these amounts and close the day."""
        sold = [
            self.till.sell(str(store), day, [{"price": each}], at=moment(day, hour, n), **more)
            for n, each in enumerate(yen)
        ]
        self.till.close(str(store), day, at=moment(day, hour + 2))
        return sold

    def block(self) -> Any:
        """The connection."""
        shop, bugyo = self.urls
        return SlipsFromSmaregiConnection(
            registration_number="AC-0000-0001",
            phone="03-0000-0000",
            bugyo=BugyoCredentials(
                environment="URLを指定",
                api_url=bugyo,
                id_url=bugyo,
                subscription_key=SecretStr(DEMO_SUBSCRIPTION_KEY),
                fixed_token=SecretStr(DEMO_FIXED_TOKEN),
                tenant_id=self.tenant,
            ),
            smaregi=SmaregiCredentials(
                environment="URLを指定",
                contract=DEMO_CONTRACT,
                client_id=DEMO_CLIENT_ID,
                client_secret=SecretStr(DEMO_CLIENT_SECRET),
                api_url=shop,
                id_url=shop,
            ),
            settings=self.settings or settings(changed=self.changed),
        )


def settings(**more: Any) -> SmaregiSettings:
    return SmaregiSettings(start=START, cash_account="100", sales_account="500", **more)


@pytest.fixture(scope="module")
def books(postgres: Any) -> str:
    url: str = postgres.fresh_database()
    migrate(url)
    issue_sample(Store(url))
    return url


@pytest.fixture
def new_shop(books: str) -> Iterator[Callable[..., Shop]]:
    with ExitStack() as stack:

        def make(emulator: SmaregiEmulator | None = None, **more: Any) -> Shop:
            shop, bugyo = emulator or SmaregiEmulator(), BugyoEmulator()
            urls = stack.enter_context(serve(shop)), stack.enter_context(serve(bugyo))
            name = f"shop-{uuid4().hex[:12]}"
            return Shop(shop, bugyo, urls, books, name, **more)  # type: ignore[arg-type]

        yield make


# --- the must: a month of 30 stores, to the yen --------------------------------------------------


def a_month(shop: Shop, days: list[date]) -> None:
    """Sales of every kind, cancelled ones, money put in and out, two drawers, days off."""
    chance = random.Random(20260901)
    for day in days:
        for store in map(str, range(1, 31)):
            if chance.random() < 0.03:
                continue  # a day off: not even a closing
            for n in range(chance.randint(0, 6)):
                items: list[dict[str, Any]] = [
                    {
                        "price": chance.randint(10, 4000),
                        "quantity": chance.randint(1, 3),
                        "rate": chance.choice([10, 10, 8]),
                        "tax": chance.choice(["in", "in", "out", "none"]),
                    }
                    for _ in range(chance.randint(1, 4))
                ]
                back = chance.random() < 0.08
                off = 0 if back else chance.choice([0, 0, 0, 7])
                points = 0 if back else chance.choice([0, 0, 3])
                if back:
                    items = [each | {"quantity": -1} for each in items]
                at = moment(day, 11 + n)
                probe = Book(shop.till.clock)  # what it costs is not known before it is rung up
                probe.add_store(store, "")
                one = probe.sell(store, day, items, discount=off, points=points)
                total = int(probe.sales[one].head["total"])
                part = chance.randint(0, abs(total)) * (1 if total >= 0 else -1)
                how = chance.choice(["cash", "credit", "3", "5"])
                pay = {how: part, "cash": total - part} if how != "cash" else {"cash": total}
                drawer = chance.choice(["1", "2"]) if store in ("4", "5") else "1"
                sold = shop.till.sell(
                    store, day, items, discount=off, points=points, pay=pay, drawer=drawer, at=at
                )
                if chance.random() < 0.05:
                    shop.till.cancel(sold, at=moment(day, 18))
            if chance.random() < 0.2:
                float_ = [{"price": 30000, "tax": "none"}]
                shop.till.sell(store, day, float_, division="2", at=moment(day, 9))
            shop.till.close(store, day, at=moment(day, 22))


def by_hand(shop: Shop) -> tuple[Counter[tuple[str, ...]], Counter[str], int]:
    """Plain arithmetic over the sales: yen by side, account, tax class and rate; by store; slips.

    A sum that is negative for a store-day stands on the other side.
    """
    paid: Counter[tuple[str, str, str]] = Counter()
    sold: Counter[tuple[str, str, str]] = Counter()
    tax: Counter[tuple[str, str, str]] = Counter()
    stores: Counter[str] = Counter()
    accounts = {"cash": "100", "credit": "135", "3": "160", "5": "320"}
    for sale in shop.till.sales.values():
        head = sale.head
        if head["transactionHeadDivision"] != "1" or head["cancelDivision"] != "0":
            continue
        day = (head["storeId"], head["sumDate"])
        stores[head["storeId"]] += int(head["total"])
        paid[*day, accounts["cash"]] += int(head["cashTotal"])
        paid[*day, accounts["credit"]] += int(head["creditTotal"])
        for other in sale.others:
            paid[*day, accounts[other["paymentMethodId"]]] += int(other["depositOthers"])
        for line in sale.details:
            rate = "" if line["taxDivision"] == "2" else line["taxRate"]
            off = int(line["discountPriceProportional"]) + int(line["discountPointProportional"])
            inside = int(line["taxIncludeProportional"])
            sold[*day, rate] += int(line["price"]) * int(line["quantity"]) - off - inside
            tax[*day, rate] += inside + int(line["taxExcludeProportional"])
    expected: Counter[tuple[str, ...]] = Counter()
    days = set()
    for (store, day, account), yen in paid.items():
        expected["debit" if yen > 0 else "credit", account, "", "", "amount"] += abs(yen)
        days |= {(store, day)} if yen else set()
    for key, yen in sold.items():
        side = "credit" if yen > 0 else "debit"
        code = "0060" if key[2] else "0002"
        expected[side, "500", code, key[2], "amount"] += abs(yen)
        expected[side, "500", code, key[2], "tax"] += abs(tax[key])
        days |= {key[:2]} if yen else set()
    return +expected, stores, len(days)


def in_bugyo(slips: list[JournalSlip]) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    for slip in slips:
        for line in slip.lines:
            for word, side in (("debit", line.debit), ("credit", line.credit)):
                if side is not None:
                    code = "" if side.tax_code in ("", "0", "0000") else side.tax_code
                    rate = side.tax_rate if side.tax_rate != "0" else ""
                    found[word, side.account, code, rate, "amount"] += side.amount
                    found[word, side.account, code, rate, "tax"] += side.tax
    return +found


def test_a_month_of_thirty_stores_is_right_to_the_yen(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop()
    shop.open(30)
    days = [START + timedelta(days=n) for n in range(30)]
    a_month(shop, days)
    expected, stores, many = by_hand(shop)
    assert sum(stores.values()) > 1_000_000
    ending = shop.run()
    assert ending.message == f"取得 {many} / 登録 {many} / 更新 0 / 変更なし 0 / エラー 0"
    slips = shop.slips
    assert in_bugyo(slips) == expected
    departments: Counter[str] = Counter()
    for slip in slips:
        assert slip.debit_total == slip.credit_total
        for line in slip.lines:
            for side in (line.debit, line.credit):
                if side is not None and side.account == "500":
                    sign = 1 if side is line.credit else -1
                    departments[side.department] += sign * side.total
    assert departments == {f"{1000 + int(store)}": yen for store, yen in stores.items()}
    imports = shop.requests("ImportJournalSlip")
    again = shop.run()
    assert (again.counts.created, again.counts.updated, again.counts.rejected) == (0, 0, 0)
    assert 0 < again.counts.unchanged <= 30  # of the last day, by the overlap
    whole = shop.run("全件")
    assert whole.message == f"取得 {many} / 登録 0 / 更新 0 / 変更なし {many} / エラー 0"
    assert shop.requests("ImportJournalSlip") == imports


# --- what changes afterwards ----------------------------------------------------------------------


def net(shop: Shop) -> int:
    """Yen of sales that stand in 勘定奉行 after everything, tax included."""
    total = 0
    for slip in shop.slips:
        for line in slip.lines:
            for side, sign in ((line.credit, 1), (line.debit, -1)):
                if side is not None and side.account == "500":
                    total += sign * side.total
    return total


def test_cancelled_and_closed_again_is_reported(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop()
    shop.open(3)
    first, other = shop.day(1, START, 1000, 500)
    lone = shop.day(2, START, 800)[0]
    shop.day(3, START, pay=None)  # closed, and nothing sold: no slip, not counted
    shop.till.sell("3", START + timedelta(days=1), [{"price": 1}])  # not closed yet
    assert shop.run().message == "取得 2 / 登録 2 / 更新 0 / 変更なし 0 / エラー 0"
    # Cancelled after the closing: until the day is closed again, the two do not agree.
    shop.till.cancel(first)
    ending = shop.run()
    assert ending.message == "取得 2 / 登録 0 / 更新 0 / 変更なし 1 / エラー 1"
    reason = listed(shop)["1:2026-09-01"].reason
    assert "純売上: 日次締めは 1,500 円、取引の合計は 500 円" in reason
    assert shop.rejects() == {"1:2026-09-01": "AC-831"}
    shop.till.close("1", START)
    shop.run()
    assert shop.rejects() == {"1:2026-09-01": "AC-811"}
    # Every sale of a day is cancelled: what was posted has lost its source.
    shop.till.cancel(lone)
    shop.till.close("2", START)
    ending = shop.run()
    assert ending.message.endswith("エラー 1 / 元データなし 1")
    assert shop.rejects() == {"1:2026-09-01": "AC-811", "2:2026-09-01": "AC-812"}
    assert (len(shop.slips), net(shop)) == (2, 2300)
    with shop.store.begin() as db:
        assert len(rejects.acknowledge(db, shop.name, [*shop.rejects()])) == 2
    assert shop.run("全件").message == "取得 1 / 登録 0 / 更新 0 / 変更なし 1 / エラー 0"
    assert other in shop.till.sales


def test_cancelled_and_closed_again_is_reversed(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop(changed="赤黒")
    shop.open(2)
    first, _ = shop.day(1, START, 1000, 500)
    lone = shop.day(2, START, 800)[0]
    shop.run()
    shop.till.cancel(first)
    shop.till.close("1", START)
    assert shop.run().message == "取得 2 / 登録 0 / 更新 1 / 変更なし 1 / エラー 0"
    assert (len(shop.slips), net(shop)) == (4, 1300)
    shop.till.cancel(lone)
    shop.till.close("2", START)
    # Interrupted while it posts: what the transform found out must not be forgotten.
    order = Order(uuid4(), shop.name, Trigger.MANUAL, Mode.INCREMENTAL)
    refuse = Fault(kind="status", path="(?i)/ImportJournalSlip$", status=401, times=None)
    shop.bugyo.faults.add(refuse)
    assert str(shop_run(shop, order).result) == "ERROR"
    shop.bugyo.faults.clear()
    assert str(shop_run(shop, order).result) == "SUCCESS"
    assert (len(shop.slips), net(shop)) == (5, 500)
    assert shop.ledger()["2:2026-09-01"]["state"] == "reversed"
    assert shop.run("全件").message == "取得 1 / 登録 0 / 更新 0 / 変更なし 1 / エラー 0"
    shop.day(2, START, 300)  # sold after all
    assert shop.run().error is None
    assert (len(shop.slips), net(shop), set(shop.copies.values())) == (6, 800, {1})


def test_a_period_is_its_days_of_closing(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop()
    shop.open(2)
    shop.day(1, START, 100)
    assert shop.run().counts.created == 1
    days = [date(2026, 9, 9), date(2026, 9, 10), date(2026, 10, 15), date(2026, 10, 16)]
    for n, day in enumerate(days):
        shop.day(1, day, 1000 + n)
    lone = shop.day(2, START, 50)[0]
    shop.till.cancel(lone, at=moment(START, 23))  # outside, and it does not agree
    asked, mark = len(shop.till_requests), shop.watermark()
    wrong = shop.run("期間", begins=days[2], ends=days[1])
    assert "AC-205" in wrong.message
    assert len(shop.till_requests) == asked, "something was read"

    period = {"begins": days[1], "ends": days[2]}  # 36 days: more than one request covers
    preview = shop.run("期間", dry_run=True, **period)
    assert "取得 2 / 登録 2" in preview.message
    ran = shop.run("期間", **period)
    assert ran.message == (
        "期間 2026/09/10〜2026/10/15: 取得 2 / 登録 2 / 更新 0 / 変更なし 0 / エラー 0"
    )
    assert shop.posted() == {f"1:{day}" for day in (START, *days[1:3])}
    assert (shop.rejects(), shop.watermark()) == ({}, mark)
    # The first day of the connection stays the first; days before it are not read.
    early = shop.run("期間", begins=START - timedelta(days=40), ends=START)
    assert "取得 2 / 登録 0 / 更新 0 / 変更なし 1 / エラー 1" in early.message
    assert shop.rejects() == {f"2:{START}": "AC-831"}
    after = shop.run()
    assert (after.counts.created, after.counts.unchanged, after.counts.rejected) == (2, 3, 1)
    assert shop.posted() == {f"1:{day}" for day in (START, *days)}
    assert set(shop.copies.values()) == {1}


def shop_run(shop: Shop, order: Order) -> Any:
    return asyncio.run(shop._execute(order))


def listed(shop: Shop) -> dict[str, Any]:
    with shop.store.begin() as db:
        return {each.source_key: each for each in rejects.listed(db, shop.name)}


def test_an_unknown_payment_method_blocks_only_its_days(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop()
    shop.open(2)
    shop.day(1, START, 1000)
    shop.day(2, START, 700, pay={"9": 700})
    shop.day(1, START - timedelta(days=1), 5)  # before the first day: not ours
    ending = shop.run()
    assert "登録 1 / 更新 0 / 変更なし 0 / エラー 1" in ending.message
    assert shop.rejects() == {"2:2026-09-01": "AC-821"}
    assert "支払方法 ID:9（楽天ペイ）→勘定科目" in listed(shop)["2:2026-09-01"].reason
    shop.map("勘定科目", "支払方法", {"ID:9": "135"})
    assert str(shop.run("エラー明細のみ").result) == "SUCCESS"
    assert (len(shop.slips), net(shop)) == (2, 1700)
    one = shop.run("1件", record_key="2 2026/09/01")
    assert one.message == "取得 1 / 登録 0 / 更新 0 / 変更なし 1 / エラー 0"
    wrong = shop.run("1件", record_key="2026-09-01")
    assert (wrong.error.code, "12:2026-11-20" in str(wrong.error)) == ("AC-205", True)


def test_the_sample_ends_as_it_says(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop(emulator=sample.emulator())
    (connection,) = sample.connections(StackUrls("", "", "", {"smaregi": "", "bugyo": ""}))
    shop.settings = connection.settings
    asyncio.run(sample.map_codes(shop.store))
    shop.name = sample.NAME
    days = {(s.head["storeId"], s.head["sumDate"]) for s in shop.till.sales.values()}
    ending = shop.run()
    assert len(days) == 86
    assert ending.message == (
        "取得 86 / 登録 83 / 更新 0 / 変更なし 0 / エラー 3 / 未対応コード 1種類（2件）"
    )
    assert shop.rejects() == {
        "2:2026-10-05": "AC-821",
        "2:2026-10-20": "AC-821",
        "1:2026-10-22": "AC-831",
    }
    assert sample.emulator().books() == shop.kintone.books()


# --- the transform as a function ------------------------------------------------------------------


def store_day(
    sell: Callable[[Book], object], afterwards: Callable[[Book], object] = lambda _: None
) -> dict[str, Any]:
    """The record of one day at store 1 on which ``sell`` sold, closed before ``afterwards``."""
    book = Book(lambda: datetime(2026, 9, 1, 12, tzinfo=UTC))
    book.add_store("1", "渋谷店", "S001")
    sell(book)
    book.close("1", START)
    afterwards(book)
    till = Till()
    for sale in book.sales.values():
        raw = sale.head | {"details": sale.details, "depositOthers": sale.others}
        till.add(Transaction.tolerant(raw))
    closings = [Closing.model_validate(each) for each in book.closings.values()]
    store = ShopStore.model_validate(book.stores["1"])
    return till.result(store, START, closings).record()


BOOK = CodeBook(
    "c",
    {
        ("部門", "店舗", "S001"): "0010",
        ("補助科目", "支払方法", "ID:3"): "160/0007",
        **{("勘定科目", "支払方法", code): to for code, to in ACCOUNTS.items()},
        **{("税区分", "税率", code): to for code, to in TAXES.items()},
        **{("税区分", "税率", f"{code} 値引・返品"): "0062" for code in TAXES},
    },
)


def lines(record: dict[str, Any], **more: Any) -> list[tuple[Any, ...]]:
    made = StoreDayTransform(settings(**more), BOOK)("1:2026-09-01", record)
    assert isinstance(made, Row), made
    slip = slip_of(made.values)
    assert slip.debit_total == slip.credit_total
    assert slip.description == "スマレジ売上 渋谷店"
    return [
        (word, s.account, s.amount, s.tax, s.tax_code, s.tax_rate, s.tax_rate_kind, s.sub_account)
        for line in slip.lines
        for word, s in (("借", line.debit), ("貸", line.credit))
        if s is not None
    ]


def with_reductions(book: Book) -> None:
    items = [
        {"price": 1100, "quantity": 2},
        {"price": 1080, "rate": 8},
        {"price": 120, "tax": "none"},
    ]
    # 2200 + 1080 + 120 = 3400, of which 340 is taken off: 220, 108 and 12.
    book.sell("1", START, items, discount=170, points=170, pay={"3": 2000, "cash": 1060})
    book.sell("1", START, [{"price": 550, "quantity": -1}], pay={"credit": -550})


def test_what_was_taken_off_is_netted_or_a_line_of_its_own() -> None:
    record = store_day(with_reductions)
    assert lines(record) == [
        ("借", "160", 2000, 0, "", "", "", "0007"),
        ("貸", "135", 550, 0, "", "", "", ""),
        ("借", "100", 1060, 0, "", "", "", ""),
        ("貸", "500", 1300, 130, "0060", "10", "", ""),
        ("貸", "500", 900, 72, "0060", "8", "1", ""),
        ("貸", "500", 108, 0, "0002", "", "", ""),
    ]
    more = {"reductions": "別の行にする", "reductions_account": "501"}
    assert lines(record, **more) == [
        ("借", "160", 2000, 0, "", "", "", "0007"),
        ("貸", "135", 550, 0, "", "", "", ""),
        ("借", "100", 1060, 0, "", "", "", ""),
        ("貸", "500", 2000, 200, "0060", "10", "", ""),
        ("借", "501", 700, 70, "0062", "10", "", ""),
        ("貸", "500", 1000, 80, "0060", "8", "1", ""),
        ("借", "501", 100, 8, "0062", "8", "1", ""),
        ("貸", "500", 120, 0, "0002", "", "", ""),
        ("借", "501", 12, 0, "0062", "", "", ""),
    ]


def code_of(record: dict[str, Any]) -> tuple[str, str]:
    made = StoreDayTransform(settings(), BOOK)("1:2026-09-01", record)
    assert isinstance(made, Reject), made
    return made.code, made.reason


def test_a_sale_whose_parts_are_not_its_total_makes_no_slip() -> None:
    def change(where: str, field: str, value: str) -> dict[str, Any]:
        def spoil(book: Book) -> None:
            sale = book.sales[1]
            parts = {"head": sale.head, "line": sale.details[0], "paid": sale.others[0]}
            parts[where][field] = value

        sold = [{"price": 1100}]
        return store_day(lambda book: book.sell("1", START, sold, pay={"3": 1100}), spoil)

    code, reason = code_of(change("line", "unitDiscountedSum", "1000"))
    assert (code, "取引ID 1 の合計 1,100 円と、明細の合計 1,000 円" in reason) == ("AC-832", True)
    code, reason = code_of(change("paid", "depositOthers", "900"))
    assert (code, "支払の合計 900 円" in reason) == ("AC-832", True)
    assert code_of(change("head", "total", "一千円"))[0] == "AC-832"
    assert code_of(change("line", "taxFree", "100"))[0] == "AC-833"
    assert code_of(change("line", "salesDivision", "1"))[0] == "AC-833"
    assert code_of(change("line", "taxRate", "7.8"))[0] == "AC-833"
    assert (
        "消費税: 日次締めは 100 円、取引の合計は 0 円"
        in (code_of(change("line", "taxIncludeProportional", "0"))[1])
    )


def test_a_day_on_which_everything_came_back_makes_no_slip() -> None:
    def sell(book: Book) -> None:
        book.sell("1", START, [{"price": 1100}])
        book.sell("1", START, [{"price": 1100, "quantity": -1}])

    record = store_day(sell)
    assert StoreDayTransform(settings(), BOOK)("1:2026-09-01", record) is None
    assert lines(record, reductions="別の行にする", reductions_account="501") == [
        ("借", "501", 1000, 100, "0062", "10", "", ""),
        ("貸", "500", 1000, 100, "0060", "10", "", ""),
    ]
    empty = store_day(lambda _: None)
    assert StoreDayTransform(settings(), BOOK)("1:2026-09-01", empty) is None
