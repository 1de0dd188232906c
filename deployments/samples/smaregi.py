"""スマレジ of the local stack: a month of three shops, and the connection that posts their days.

Awkward on purpose, so that its first run ends 一部エラー: two days with a payment method that
コード変換表 does not know (AC-821), and one with a sale that was cancelled after the closing
(AC-831). A day that was closed again, a cancelled sale and a return go through.
"""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from connectors.smaregi.emulator import (
    DEMO_CLIENT_ID,
    DEMO_CLIENT_SECRET,
    DEMO_CONTRACT,
    SmaregiEmulator,
)
from connectors.smaregi.emulator_book import TOKYO, Book
from deployments.samples import Sample, SampleConnection
from deployments.stack.settings import StackUrls

if TYPE_CHECKING:
    from flows.engine.store import Store

NAME: Final = "sample-smaregi"
SEED: Final = 20261001
FIRST: Final = date(2026, 10, 1)
DAYS: Final = 30
STORES: Final = {"1": ("S01", "渋谷店"), "2": ("S02", "新宿店"), "3": ("S03", "横浜店")}
MENU: Final[tuple[dict[str, Any], ...]] = (
    {"name": "ブレンド", "price": 480},
    {"name": "カフェラテ", "price": 560},
    {"name": "ランチ", "price": 1180},
    {"name": "焼菓子（持ち帰り）", "price": 324, "rate": 8},
    {"name": "コーヒー豆（持ち帰り）", "price": 1296, "rate": 8},
    {"name": "貸しスペース", "price": 3000, "tax": "out"},
    {"name": "切手", "price": 110, "tax": "none"},
)
CODES: Final = (
    ("部門", "店舗", "S01", "渋谷店", "0040"),
    ("部門", "店舗", "S02", "新宿店", "0041"),
    ("部門", "店舗", "S03", "横浜店", "0042"),
    ("勘定科目", "支払方法", "クレジット", "クレジット", "136"),
    ("補助科目", "支払方法", "クレジット", "クレジット", "136/0001"),
    ("勘定科目", "支払方法", "ID:3", "PayPay", "137"),
    ("税区分", "税率", "10%", "10%の売上", "0060"),
    ("税区分", "税率", "8%", "8%の売上", "0060"),
    ("税区分", "税率", "非課税", "非課税の売上", "0002"),
)
"""コード変換表: kind, source, code, name, 奉行 code. 楽天ペイ (``ID:9``) is missing."""


def emulator() -> SmaregiEmulator:
    """The shops, with everything sold, cancelled and closed."""
    made = SmaregiEmulator()
    book, chance = made.book, random.Random(SEED)  # noqa: S311 (a sample, not cryptography)
    for number, (code, name) in STORES.items():
        book.add_store(number, name, code)
    for n in range(DAYS):
        day = FIRST + timedelta(days=n)
        for number in STORES:
            if day.weekday() == 2 and number == "3":
                continue  # closed on Wednesdays
            for sale in range(chance.randint(4, 9)):
                _sell(book, chance, number, day, 10 + sale)
            if n == 6 and number == "1":
                book.cancel(book.sell(number, day, [MENU[2]], at=_at(day, 20)), at=_at(day, 21))
            if n == 9 and number == "2":
                book.sell(number, day, [MENU[4] | {"quantity": -1}], at=_at(day, 20))
            if n in (4, 19) and number == "2":
                book.sell(number, day, [MENU[1]], pay={"9": 560}, at=_at(day, 20))
            last = book.sell(number, day, [MENU[0]], at=_at(day, 20))
            book.close(number, day, at=_at(day, 22))
            if n in (12, 21) and number == "1":
                book.cancel(last, at=_at(day, 23))
                if n == 12:
                    book.close(number, day, at=_at(day + timedelta(days=1), 9))
    return made


def _sell(book: Book, chance: random.Random, store: str, day: date, hour: int) -> None:
    items = [each | {"quantity": chance.choice((1, 1, 2))} for each in chance.choices(MENU, k=2)]
    points = chance.choice((0, 0, 0, 50))
    # Of 外税 the tax comes on top; it is rounded down once per sale.
    on_top = sum(each["price"] * each["quantity"] for each in items if each.get("tax") == "out")
    listed = sum(each["price"] * each["quantity"] for each in items)
    if points or on_top:
        book.sell(store, day, items, points=points, at=_at(day, hour))
        return
    how = chance.choice(("cash", "credit", "3"))
    book.sell(store, day, items, pay={how: listed}, at=_at(day, hour))


def _at(day: date, hour: int) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=TOKYO)


async def map_codes(store: Store) -> None:
    """Fill コード変換表, unless somebody did."""
    from flows.engine import code_table

    def fill(db: Any) -> None:
        if not code_table.entries(db, NAME):
            code_table.put(db, NAME, [code_table.Entry(*each) for each in CODES])

    await store.do(fill)


def connections(urls: StackUrls) -> list[SampleConnection]:
    """仕訳伝票 of every closed day."""
    from pydantic import SecretStr

    from blocks import SmaregiCredentials
    from deployments.samples.bugyo import bugyo_credentials
    from flows.slips_from_smaregi import SlipsFromSmaregiConnection, SmaregiSettings

    smaregi = SmaregiCredentials(
        environment="URLを指定",
        contract=DEMO_CONTRACT,
        client_id=DEMO_CLIENT_ID,
        client_secret=SecretStr(DEMO_CLIENT_SECRET),
        api_url=urls.emulators["smaregi"],
        id_url=urls.emulators["smaregi"],
    )
    return [
        SampleConnection(
            name=NAME,
            kind=SlipsFromSmaregiConnection,
            registration_number="AC-0000-0003",
            credentials={"bugyo": bugyo_credentials(urls), "smaregi": smaregi},
            settings=SmaregiSettings(start=FIRST, cash_account="100", sales_account="500"),
            prepare=map_codes,
        )
    ]


SAMPLE = Sample(emulator, connections)
