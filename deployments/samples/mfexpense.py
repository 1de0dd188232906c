"""クラウド経費 of the local stack: two months of expenses of a small company, and a connection."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from connectors.mfexpense.emulator import MfExpenseEmulator
from connectors.mfexpense.emulator_books import Book, side
from deployments.samples import Sample, SampleConnection
from deployments.stack.settings import StackUrls

if TYPE_CHECKING:
    from blocks import MfExpenseCredentials
    from flows.engine.store import Store

NAME: Final = "sample-mfexpense"
COUNT: Final = 120
FIRST: Final = date(2026, 9, 25)
DAYS: Final = 60
_SEED = 20261125

CLIENT_ID: Final = "demo-mfexpense-client"
CLIENT_SECRET: Final = "demo-mfexpense-secret-w8Qz3"  # noqa: S105 (an emulator's)
REDIRECT_URI: Final = "https://localhost:8765/callback"
TOKEN_PREFIX: Final = "demo-mfexpense-"  # noqa: S105 (an emulator's)


class _Kind(NamedTuple):
    """One kind of expense: 勘定科目, what was bought, 税区分, yen."""

    account: str
    words: str
    excise: str
    yen: int


_KINDS = (
    _Kind("旅費交通費", "新幹線 東京→新大阪", "10", 14_720),
    _Kind("旅費交通費", "タクシー（髙﨑駅から客先）", "10", 3_300),
    _Kind("会議費", "会議用の弁当 鮨處よしの", "8", 6_480),
    _Kind("会議費", "打ち合わせの飲み物", "8", 1_296),
    _Kind("通信費", "携帯電話料金", "10", 7_150),
    _Kind("消耗品費", "トナーカートリッジ", "10", 19_800),
    _Kind("租税公課", "収入印紙", "0", 2_000),
)
_ACCOUNTS = (
    ("旅費交通費", "7010", "710"),
    ("通信費", "7020", "711"),
    ("会議費", "7030", "713"),
    ("消耗品費", "7040", "714"),
    ("租税公課", "7050", "719"),
    ("未払金", None, "310"),
    ("研修費", "7090", None),  # nobody has mapped it yet
)
"""勘定科目: name, its code at クラウド経費, and that at 奉行クラウド."""
_EXCISES = (
    ("10", "課税仕入 10%", 0.1, "0010"),
    ("8", "課税仕入 (軽)8%", 0.08, "0010"),
    ("0", "対象外", 0, "0000"),
)
_DEPARTMENTS = (("営業部", "S1", "0010"), ("管理部", "K1", "0020"), ("渋谷店", None, "0040"))
_NUMBERS = ("T1234567890123", "T2345678901234", None)
"""登録番号 of shops; one of them has none."""
_UNMAPPED, _UNENCODABLE = 7, 11
"""Positions of the expense whose 勘定科目 is not mapped, and of the one with a character that
奉行クラウド does not have."""


def emulator(count: int = COUNT) -> MfExpenseEmulator:
    """A クラウド経費 with one office in it.

    Args:
        count: How many expenses.
    """
    made = MfExpenseEmulator()
    made.access.add_client(CLIENT_ID, CLIENT_SECRET, REDIRECT_URI)
    made.access.demo = TOKEN_PREFIX
    book = made.add_office("株式会社サンプル商事")
    ids = _masters(book)
    for day, branch, number in _expenses(ids, count):
        book.post(day, [branch], registration=number)
    return made


def _masters(book: Book) -> dict[str, str]:
    ids = {name: book.add("item", name, code) for name, code, _ in _ACCOUNTS}
    ids |= {key: book.add("excise", name, key, rate=rate) for key, name, rate, _ in _EXCISES}
    ids |= {name: book.add("dept", name, code) for name, code, _ in _DEPARTMENTS}
    ids["従業員立替"] = book.add("sub_item", "従業員立替", "1", item_id=ids["未払金"])
    return ids


def _expenses(ids: dict[str, str], count: int) -> Iterator[tuple[date, dict[str, Any], str | None]]:
    rng = random.Random(_SEED)  # noqa: S311 (sample data)
    for position in range(count):
        kind = rng.choice(_KINDS)
        if position == _UNMAPPED:
            kind = _Kind("研修費", "簿記講座", "10", 33_000)
        words = "懇親会🍣" if position == _UNENCODABLE else kind.words
        yen = kind.yen + rng.randint(0, 20) * 110
        percent = int(kind.excise)
        tax = yen * percent // (100 + percent)
        account, excise = ids[kind.account], ids[kind.excise]
        department = ids[rng.choice(_DEPARTMENTS)[0]]
        debit = side(1, yen, tax, item=account, excise=excise, dept=department)
        credit = side(-1, yen, item=ids["未払金"], sub_item=ids["従業員立替"])
        day = FIRST + timedelta(days=position * DAYS // count)
        yield day, {"remark": words, "sides": [debit, credit]}, rng.choice(_NUMBERS)


def mfexpense_credentials(urls: StackUrls) -> MfExpenseCredentials:
    """Credentials for the emulator, as if a person had pressed 許可する."""
    from pydantic import SecretStr

    from blocks import MfExpenseCredentials
    from connectors.kit import utc_now

    return MfExpenseCredentials(
        client_id=CLIENT_ID,
        client_secret=SecretStr(CLIENT_SECRET),
        redirect_uri=REDIRECT_URI,
        endpoint=urls.emulators["mfexpense"],
        access_token=SecretStr(f"{TOKEN_PREFIX}access"),
        refresh_token=SecretStr(f"{TOKEN_PREFIX}refresh"),
        token_issued_at=utc_now(),
    )


async def _map_codes(store: Store) -> None:
    """コード変換表: everything but one 勘定科目; entries that are there are kept."""
    from flows.engine import code_table
    from flows.engine.code_table import Entry
    from flows.engine.codes import CodeKind
    from flows.slips_from_mfexpense import NO_NUMBER

    ids = _masters(MfExpenseEmulator().add_office(""))
    rows = [
        Entry(CodeKind.ACCOUNT, "勘定科目", code or ids[name], name, bugyo)
        for name, code, bugyo in _ACCOUNTS
        if bugyo
    ]
    rows += [
        Entry(CodeKind.DEPARTMENT, "部門", code or ids[name], name, bugyo)
        for name, code, bugyo in _DEPARTMENTS
    ]
    rows += [Entry(CodeKind.TAX, "税区分", key, name, bugyo) for key, name, _, bugyo in _EXCISES]
    rows += [
        Entry(CodeKind.TAX, "税区分", f"{key}{NO_NUMBER}", f"{name}（登録番号なし）", "0012")
        for key, name, rate, _ in _EXCISES
        if rate
    ]
    rows.append(Entry(CodeKind.SUB_ACCOUNT, "補助科目", "1", "従業員立替", "310/0001"))
    with store.begin() as db:
        held = {entry.key for entry in code_table.entries(db, NAME)}
        code_table.put(db, NAME, [row for row in rows if row.key not in held])


def connections(urls: StackUrls) -> list[SampleConnection]:
    """仕訳伝票."""
    from deployments.samples.bugyo import bugyo_credentials
    from flows.slips_from_mfexpense import ExpenseSlipSettings, SlipsFromMfExpenseConnection

    return [
        SampleConnection(
            name=NAME,
            kind=SlipsFromMfExpenseConnection,
            registration_number="AC-0000-0004",
            credentials={
                "bugyo": bugyo_credentials(urls),
                "mfexpense": mfexpense_credentials(urls),
            },
            # The days of the sample stay where they are; a year keeps them in the window.
            settings=ExpenseSlipSettings(start=FIRST, months=12),
            prepare=_map_codes,
        )
    ]


SAMPLE = Sample(emulator, connections)
