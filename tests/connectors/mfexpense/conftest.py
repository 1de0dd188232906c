"""One emulator per test, served over real HTTP, with an office and its masters."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from connectors.kit import READ, StaticHeaders, bearer
from connectors.kit.emulator import Emulator, serve
from connectors.mfexpense import PROFILE, ExpenseClient
from connectors.mfexpense.emulator import MfExpenseEmulator
from connectors.mfexpense.emulator_books import Book, side
from tests.connectors.kintone.conftest import Clock, Stage

CLIENT, SECRET = "client-0001", "secret-of-the-application"
BACK = "https://app.example/callback"
QUICK = dataclasses.replace(PROFILE, read=dataclasses.replace(READ, base=0.002))


@dataclass
class Firm:
    """An office with masters, and the ids of its entries by name."""

    book: Book
    ids: dict[str, str]

    def post(self, day: str, yen: int = 1100, **more: Any) -> str:
        """One expense: 旅費交通費 / 未払金."""
        tax = yen // 11
        travel, payable, taxed = (self.ids[n] for n in ("旅費交通費", "未払金", "課税仕入 10%"))
        sides = [side(1, yen, tax, item=travel, excise=taxed), side(-1, yen, item=payable)]
        branch = {"remark": more.pop("remark", "新幹線"), "sides": sides}
        return self.book.post(date.fromisoformat(day), [branch], **more)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def emulator(clock: Clock) -> MfExpenseEmulator:
    made = MfExpenseEmulator(clock=clock)
    made.access.add_client(CLIENT, SECRET, BACK)
    return made


@pytest.fixture
def firm(emulator: MfExpenseEmulator) -> Firm:
    book = emulator.add_office("株式会社見本")
    ids = {
        "旅費交通費": book.add("item", "旅費交通費", "701"),
        "未払金": book.add("item", "未払金"),
        "課税仕入 10%": book.add("excise", "課税仕入 10%", "001_1", rate=0.1),
        "営業部": book.add("dept", "営業部", "10"),
        "本社移転": book.add("project_code", "本社移転", "P1"),
        "髙﨑商店": book.add("ex_destination", "髙﨑商店"),
    }
    ids["国内"] = book.add("sub_item", "国内", "1", item_id=ids["旅費交通費"])
    return Firm(book, ids)


@pytest.fixture(scope="session")
def stage() -> Iterator[tuple[Stage, str]]:
    front = Emulator()
    front.faults = shown = Stage(front.api)
    with serve(front) as base:
        yield shown, base


@pytest.fixture
def url(emulator: MfExpenseEmulator, stage: tuple[Stage, str]) -> str:
    shown, base = stage
    shown.current = emulator
    return base


@pytest.fixture
def client(emulator: MfExpenseEmulator, url: str) -> Any:
    def make(**more: Any) -> ExpenseClient:
        token = emulator.access.pair(CLIENT)["access_token"]
        options: dict[str, Any] = {"authorizer": StaticHeaders(bearer(token)), "profile": QUICK}
        return ExpenseClient(endpoint=url, **(options | more))

    return make
