"""The client against the emulator: tokens, windows, pages, and what a bad row does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import pytest

from blocks import SmaregiCredentials
from connectors.kit import AppConnectError, FaultError, SettingsError
from connectors.kit.emulator import Fault
from connectors.smaregi import Environment, SmaregiClient, Transaction, environment, windows
from connectors.smaregi.emulator import DEMO_CLIENT_SECRET, DEMO_CONTRACT, SmaregiEmulator

DAY = date(2026, 11, 20)
T = TypeVar("T")


async def all_of(rows: AsyncIterator[T]) -> list[T]:
    return [row async for row in rows]


def asked(emulator: SmaregiEmulator, part: str) -> int:
    return sum(n for call, n in emulator.faults.counts().items() if part in call)


async def test_one_token_serves_an_hour_and_is_renewed(
    emulator: SmaregiEmulator, client: Callable[..., SmaregiClient], clock: Any
) -> None:
    async with client() as smaregi:
        assert {s.id: s.name for s in (await smaregi.stores()).values()} == {
            "1": "渋谷店",
            "2": "梅田店",
        }
        await smaregi.stores()
        assert asked(emulator, "/token") == 1
        clock.now += timedelta(minutes=50)  # due: within a quarter of an hour of its end
        await smaregi.stores()
        assert asked(emulator, "/token") == 2
        emulator.expire_tokens()  # e.g. taken back by the vendor: the 401 is the signal
        await smaregi.stores()
        assert asked(emulator, "/token") == 3


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"client_secret": "not-the-secret"}, "AC-102"),
        ({"contract": "skother9"}, "AC-201"),
    ],
)
async def test_wrong_credentials(
    client: Callable[..., SmaregiClient], more: dict[str, str], code: str
) -> None:
    async with client(**more) as smaregi:
        with pytest.raises(SettingsError) as caught:
            await smaregi.stores()
    assert caught.value.code == code
    assert DEMO_CLIENT_SECRET not in repr(caught.value)
    assert more.get("client_secret", DEMO_CLIENT_SECRET) not in str(caught.value)


async def test_rights_that_are_missing_and_limits_that_are_met(
    emulator: SmaregiEmulator, client: Callable[..., SmaregiClient]
) -> None:
    emulator.scopes = frozenset({"pos.stores:read"})
    async with client() as smaregi:
        with pytest.raises(SettingsError) as caught:
            await smaregi.stores()
    assert (caught.value.code, caught.value.detail.vendor_code) == ("AC-203", "invalid_scope")
    emulator.scopes = frozenset({"pos.stores:read", "pos.transactions:read"})
    throttle = Fault(kind="status", path="/stores", status=429, headers={"retry-after": "0"})
    emulator.faults.add(throttle)
    emulator.faults.add(Fault(kind="drop_after", path="/stores"))
    emulator.faults.add(Fault(kind="maintenance", path="/stores"))
    async with client() as smaregi:
        assert len(await smaregi.stores()) == 2
    emulator.faults.add(Fault(kind="maintenance_200", path="/stores", times=None))
    async with client() as smaregi:
        with pytest.raises(AppConnectError) as unread:
            await smaregi.stores()
    assert unread.value.code == "AC-502"


async def test_a_token_that_is_echoed_shows_nowhere(
    emulator: SmaregiEmulator, client: Callable[..., SmaregiClient]
) -> None:
    async with client() as smaregi:
        await smaregi.stores()
        (token,) = emulator.tokens
        body = json.dumps({"title": f"bad {token}"})
        emulator.faults.add(Fault(kind="status", path="/stores", status=400, body=body))
        with pytest.raises(AppConnectError) as caught:
            await smaregi.stores()
    assert caught.value.detail.vendor_message == "bad ********"
    assert token not in f"{caught.value!r} {caught.value.as_dict()}"


@pytest.mark.parametrize("total", ["Infinity", "NaN", "1.5", "千円"])
def test_what_are_no_yen_spoil_their_own_sale_only(total: str) -> None:
    head = {"transactionHeadId": "1", "transactionHeadDivision": "1", "storeId": "1"}
    sale = Transaction.tolerant(
        {**head, "updDateTime": "2026-11-01T10:00:00+09:00", "total": total}
    )
    assert (sale.id, sale.problem) == (1, "total")


def test_which_hosts_a_block_means() -> None:
    def place(name: str, **more: str) -> Environment:
        given = {"contract": "sk01", "client_id": "c", "client_secret": "planted-secret"}
        return SmaregiCredentials(environment=name, **given, **more).place()

    assert place("製品版") == environment("production")
    assert place("製品版").profile.limit.per_second == 50
    assert place("サンドボックス").api_base == "https://api.smaregi.dev"
    emulated = place("URLを指定", api_url="http://127.0.0.1:1", id_url="http://127.0.0.1:2")
    assert (emulated.id_base, emulated.reads_per_second) == ("http://127.0.0.1:2", None)
    with pytest.raises(SettingsError, match="AC-205"):
        place("URLを指定", api_url="http://127.0.0.1:1")
    with pytest.raises(SettingsError, match="AC-207"):
        SmaregiClient(Environment("https://a.example", "https://b.example"), "sk01", "c", "s")


def test_windows_cover_every_day_once_and_every_moment() -> None:
    since, until = date(2026, 1, 1), date(2026, 4, 1)
    cut = list(windows(since, until))
    assert [(b - a).days + 1 for a, b in cut] == [31, 31, 29]
    days = [a + timedelta(days=n) for a, b in cut for n in range((b - a).days + 1)]
    assert days == [since + timedelta(days=n) for n in range(91)]
    assert list(windows(since, since)) == [(since, since)]
    assert list(windows(until, since)) == []
    start = datetime(2026, 1, 1, tzinfo=UTC)
    moments = list(windows(start, start + timedelta(days=70)))
    assert [(b - a).days for a, b in moments] == [31, 31, 8]
    assert [b for _, b in moments[:-1]] == [a for a, _ in moments[1:]]


async def test_a_day_of_many_sales_is_read_whole_while_it_changes(
    emulator: SmaregiEmulator, client: Callable[..., SmaregiClient]
) -> None:
    book = emulator.book
    for n in range(230):
        book.sell(str(1 + n % 2), DAY, [{"price": 100 + n, "tax": "out"}], pay=None)
    async with client() as smaregi:
        seen: list[Transaction] = []
        async for sale in smaregi.sales_of(DAY):
            if not seen:
                book.cancel(1)
                book.sell("1", DAY, [{"price": 9}])
            seen.append(sale)
        assert [sale.id for sale in seen] == list(range(1, 232))
        assert sum(sale.total for sale in seen) == sum(
            int(sale.head["total"]) for sale in book.sales.values()
        )
        assert asked(emulator, "/transactions") == 3
        only = await all_of(smaregi.sales_of(DAY, "2"))
        assert {sale.store for sale in only} == {"2"}
        assert sum(d.gross for sale in only for d in sale.details) == sum(s.total for s in only)


async def test_changes_are_sought_even_when_a_whole_page_has_one_timestamp(
    emulator: SmaregiEmulator, client: Callable[..., SmaregiClient], clock: Any
) -> None:
    book, start = emulator.book, clock.now
    for n in range(130):  # closed by the machine, all in the same second
        book.add_store(str(100 + n), f"{n}号店")
        book.sell(str(100 + n), DAY, [{"price": 100}])
        book.close(str(100 + n), DAY)
    clock.now += timedelta(hours=1)
    book.close("1", DAY)
    async with client() as smaregi:
        found = await all_of(smaregi.closings("upd_date_time", start, clock.now))
        assert {closing.store for closing in found} == {"1", *map(str, range(100, 230))}
        by_day = await all_of(smaregi.closings("sum_date", DAY, DAY, store_id="105"))
        assert [(c.total, c.cash, c.drawer) for c in by_day] == [(100, 100, "1")]
        heads = await all_of(smaregi.changed_sales(start, clock.now))
        assert (len(heads), heads[0].day, heads[0].details) == (130, DAY, ())


async def test_a_list_that_runs_backwards_is_not_believed(
    emulator: SmaregiEmulator, client: Callable[..., SmaregiClient]
) -> None:
    emulator.book.sell("1", DAY, [{"price": 100}])
    row = b"".join(
        (
            b'{"transactionHeadId":"%d","transactionHeadDivision":"1","cancelDivision":"0",' % n
            + b'"storeId":"1","sumDate":null,"updDateTime":"2026-11-20T00:00:00+09:00"},'
        )
        for n in range(100)
    )
    body = (b"[" + row.rstrip(b",") + b"]").decode()
    emulator.faults.add(Fault(kind="replace_body", path="/transactions", body=body, times=2))
    async with client() as smaregi:
        with pytest.raises(FaultError) as caught:
            await all_of(smaregi.sales_of(DAY))
    assert caught.value.code == "AC-302"


async def test_one_sale_that_cannot_be_read_does_not_hide_the_others(
    emulator: SmaregiEmulator, client: Callable[..., SmaregiClient]
) -> None:
    for _ in range(3):
        emulator.book.sell("1", DAY, [{"price": 100}])
    emulator.book.sales[2].head["total"] = "100.5"
    emulator.book.sales[3].details[0]["taxIncludeProportional"] = "九円"
    async with client() as smaregi:
        found = await all_of(smaregi.sales_of(DAY))
    assert [(sale.id, sale.problem) for sale in found] == [
        (1, ""),
        (2, "total"),
        (3, "details.0.taxIncludeProportional"),
    ]
    assert DEMO_CONTRACT not in found[1].problem
