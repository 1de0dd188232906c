"""Reading: windows of three months, pages, both spellings, one request at a time, errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import httpx
import orjson
import pytest

from connectors.kit import AppConnectError, StaticHeaders, bearer
from connectors.kit.emulator import Fault
from connectors.mfexpense import ExpenseClient, Journal, Masters, windows
from connectors.mfexpense.facts import FACTS

OCTOBER = date(2026, 10, 1), date(2026, 10, 31)


async def read(client: ExpenseClient, office: str, *, unit: Any = "transaction") -> list[Any]:
    async with aclosing(client.journals(office, unit, *OCTOBER)) as pages:
        return [journal async for page in pages for journal in page.journals]


async def refusal(awaitable: Any) -> AppConnectError:
    with pytest.raises(AppConnectError) as caught:
        await awaitable
    return caught.value


# -- windows -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (date(2026, 1, 31), date(2026, 12, 31)),
        (date(2026, 8, 25), date(2026, 11, 25)),
        (date(2026, 11, 25), date(2026, 11, 25)),
        (date(2027, 11, 29), date(2028, 3, 1)),
    ],
)
async def test_every_day_is_in_one_window_that_the_service_takes(
    emulator, firm, client, first, last
) -> None:
    made = list(windows(first, last))
    days = [a + timedelta(days=n) for a, b in made for n in range((b - a).days + 1)]
    assert days == [first + timedelta(days=n) for n in range((last - first).days + 1)]
    async with client() as expenses:
        for window in made:
            async with aclosing(expenses.journals(firm.book.id, "report", *window)) as pages:
                assert [page async for page in pages] == []


def test_no_day_no_window() -> None:
    assert list(windows(date(2026, 11, 2), date(2026, 11, 1))) == []


async def test_more_than_three_months_are_refused(firm, client) -> None:
    async with client() as expenses:
        pages = expenses.journals(firm.book.id, "transaction", date(2026, 7, 1), date(2026, 10, 2))
        error = await refusal(anext(pages))
    assert (error.code, error.detail.status) == ("AC-205", 400)
    assert error.detail.vendor_message == "計上日の期間は最大3ヶ月で指定してください。"


# -- pages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("many", [0, 9, 10, 25])
async def test_pages_end(emulator, firm, client, links, many) -> None:
    emulator.variants.page_size, emulator.variants.links = 10, links
    posted = [firm.post(f"2026-10-{n % 31 + 1:02}") for n in range(many)]
    firm.post("2026-09-30")
    firm.post("2026-11-01")
    reports = [firm.post("2026-10-31", unit="report")]
    async with client() as expenses:
        found = await read(expenses, firm.book.id)
        assert [journal["ex_transaction_id"] for journal in found] == posted
        found = await read(expenses, firm.book.id, unit="report")
        assert [journal["ex_report_id"] for journal in found] == reports


async def test_reading_goes_on_at_a_page(emulator, firm, client) -> None:
    emulator.variants.page_size = 10
    posted = [firm.post("2026-10-05") for _ in range(25)]
    async with client() as expenses:
        pages = expenses.journals(firm.book.id, "transaction", *OCTOBER, page=3)
        found = [(p.number, [j["ex_transaction_id"] for j in p.journals]) async for p in pages]
    assert found == [(3, posted[20:])]


async def test_the_brackets_are_encoded_and_nothing_else_is_asked(emulator, firm, client, url):
    seen: list[str] = []

    class Spy(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            seen.append(str(request.url).partition("?")[2])
            return httpx.Response(200, json={"ex_journals": [], "next": None})

    async with client() as expenses:
        expenses._http._http._transport = Spy()
        await read(expenses, "office")
    window = (
        "query_object%5Brecognized_at_from%5D=2026-10-01"
        "&query_object%5Brecognized_at_to%5D=2026-10-31"
    )
    assert seen == [f"page=1&{window}"]


@pytest.mark.parametrize(
    "body",
    [
        {"ex_journals": [{"id": "a"}], "next": "/somewhere?page=2"},
        {"ex_journals": [], "next": "/somewhere?page=2"},
    ],
)
async def test_pages_that_never_end_are_not_believed(emulator, firm, client, body) -> None:
    same = orjson.dumps(body).decode()
    emulator.faults.add(Fault(kind="replace_body", path="ex_journals", times=None, body=same))
    async with client() as expenses:
        assert (await refusal(read(expenses, firm.book.id))).code == "AC-302"


# -- what a journal says -------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["journal_branch_sides", "ex_journal_branch_sides"])
@pytest.mark.parametrize("embed", [True, False])
async def test_both_spellings_and_masters(emulator, firm, client, spelling, embed) -> None:
    emulator.variants.spelling, emulator.variants.embed = spelling, embed
    record = firm.post("2026-10-05", registration="T1234567890123")
    async with client() as expenses:
        (wire,) = await read(expenses, firm.book.id)
        masters = await expenses.masters(firm.book.id)
    assert spelling in wire["ex_journal_branches"][0]
    journal = Journal.model_validate(masters.complete(wire))
    assert (journal.ex_transaction_id, journal.recognized_at) == (record, date(2026, 10, 5))
    assert journal.invoice_registration_number == "T1234567890123"
    debit, credit = journal.branches[0].sides
    assert (debit.side, debit.value, debit.excise_value) == (1, 1100, 100)
    travel, payable, taxed = debit.entry("item"), credit.entry("item"), debit.entry("excise")
    assert [(e.key, e.name) for e in (travel, payable, taxed) if e is not None] == [
        ("701", "旅費交通費"),
        (firm.ids["未払金"], "未払金"),
        ("001_1", "課税仕入 10%"),
    ]
    assert taxed is not None
    assert taxed.rate == Decimal("0.1")
    assert debit.entry("dept") is None


async def test_an_id_that_no_master_knows_stays_an_id(firm, client) -> None:
    firm.post("2026-10-05")
    del firm.book.masters["item"][firm.ids["旅費交通費"]]
    async with client() as expenses:
        (wire,) = await read(expenses, firm.book.id)
    journal = Journal.model_validate(Masters().complete(wire))
    entry = journal.branches[0].sides[0].entry("item")
    assert entry is not None
    assert (entry.key, entry.name) == (firm.ids["旅費交通費"], "")


async def test_masters(firm, client) -> None:
    async with client() as expenses:
        found = (await expenses.masters(firm.book.id)).entries
    names = {
        kind: [e.get("name", e.get("long_name")) for e in entries.values()]
        for kind, entries in found.items()
    }
    assert names == {
        "item": ["旅費交通費", "未払金"],
        "sub_item": ["国内"],
        "excise": ["課税仕入 10%"],
        "dept": ["営業部"],
        "project_code": ["本社移転"],
        "ex_destination": ["髙﨑商店"],
    }


async def test_the_date_of_one_journal(firm, client) -> None:
    record = firm.post("2026-10-05")
    async with client() as expenses:
        office = firm.book.id
        assert await expenses.recognized_at(office, "transaction", record) == date(2026, 10, 5)
        assert await expenses.recognized_at(office, "report", record) is None
        firm.book.cancel(record)
        assert await expenses.recognized_at(office, "transaction", record) is None


# -- one at a time -------------------------------------------------------------------------------


async def test_requests_wait_for_each_other(emulator, firm, client) -> None:
    emulator.variants.think = 0.02
    firm.post("2026-10-05")
    async with client() as expenses:
        results = await asyncio.gather(*(read(expenses, firm.book.id) for _ in range(5)))
    assert [len(found) for found in results] == [1] * 5


@pytest.mark.parametrize(("status", "code"), [(429, "AC-503"), (400, "AC-205")])
async def test_two_at_once_are_refused(emulator, firm, client, url, status, code) -> None:
    emulator.variants.think, emulator.variants.crowded = 0.2, status
    token = emulator.access.pair("client-0001")["access_token"]
    async with httpx.AsyncClient(base_url=url, headers=bearer(token)) as bare:
        both = [bare.get("/api/external/v1/offices") for _ in range(2)]
        answers = await asyncio.gather(*both)
    assert sorted(answer.status_code for answer in answers) == [200, status]
    refused = next(answer for answer in answers if answer.status_code == status)
    assert refused.json() == {"messages": ["同時にリクエストを送ることはできません。"]}
    said = orjson.dumps(refused.json()).decode()
    emulator.variants.think = 0.0
    emulator.faults.add(Fault(kind="status", status=status, body=said, times=None))
    async with client() as expenses:
        assert (await refusal(expenses.offices())).code == code


async def test_a_crowded_moment_is_waited_out(emulator, firm, client) -> None:
    emulator.faults.add(Fault(kind="status", status=429, body='{"messages":["あとで"]}', times=2))
    async with client() as expenses:
        assert [office.name for office in await expenses.offices()] == ["株式会社見本"]


# -- errors --------------------------------------------------------------------------------------


def forbidden(emulator: Any, firm: Any) -> None:
    emulator.forbidden.add(firm.book.id)


@pytest.mark.parametrize(
    ("spoil", "code", "status"),
    [
        (forbidden, "AC-203", 403),
        (lambda emulator, _: emulator.access.revoke(), "AC-101", 401),
        (lambda e, _: e.faults.add(Fault(kind="maintenance", times=None)), "AC-502", 503),
        (lambda e, _: e.faults.add(Fault(kind="maintenance_200", times=None)), "AC-502", 200),
        (lambda e, _: e.faults.add(Fault(kind="status", status=500, times=None)), "AC-301", 500),
        (lambda e, _: e.faults.add(Fault(kind="cut_body", times=None)), "AC-301", None),
        (
            lambda e, _: e.faults.add(Fault(kind="replace_body", body='{"x":1}', times=None)),
            "AC-303",
            200,
        ),
    ],
)
async def test_errors(emulator, firm, client, spoil: Callable[..., Any], code, status) -> None:
    firm.post("2026-10-05")
    async with client() as expenses:
        spoil(emulator, firm)
        error = await refusal(read(expenses, firm.book.id))
    assert (error.code, error.detail.status) == (code, status)


async def test_an_office_that_is_not_there(emulator, firm, client) -> None:
    async with client() as expenses:
        error = await refusal(read(expenses, "nowhere"))
    assert (error.code, error.detail.vendor_message) == ("AC-205", "事業所が見つかりません。")


async def test_a_scope_that_is_missing(emulator, firm, client) -> None:
    scopes = frozenset({"office_setting:write"})
    token = emulator.access.pair("client-0001", scopes)["access_token"]
    async with client(authorizer=StaticHeaders(bearer(token))) as expenses:
        assert len(await expenses.offices()) == 1
        error = await refusal(read(expenses, firm.book.id))
    assert error.code == "AC-203"
    assert "transaction:write" in str(error)


def test_facts_say_how_certain_they_are() -> None:
    assert {each["evidence"] for each in FACTS.values()} <= {"V", "3rd", "K", "I", "?"}
    assert all(each["statement"] for each in FACTS.values())
