"""Reading: by id beyond the offset limit, by cursor that never stays, through every fault."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from contextlib import aclosing

import orjson
import pytest

from connectors.kintone import PROFILE, RecordPage, any_of, api_token, compare
from connectors.kintone.emulator import KintoneEmulator
from connectors.kit import AppConnectError, Failure, FaultError, SettingsError, WaitError
from connectors.kit.emulator import Fault

NAMES = "得意先コード", "得意先名"


def seed(emulator: KintoneEmulator, count: int) -> None:
    emulator.seed("1", ({"得意先コード": f"{n:06}", "得意先名": f"社{n}"} for n in range(count)))


async def read(pages) -> list[str]:
    async with aclosing(pages):
        return [r["$id"]["value"] async for page in pages for r in page.records]


async def failure(awaitable) -> AppConnectError:
    with pytest.raises(AppConnectError) as caught:
        await awaitable
    return caught.value


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that the emulator's own thread does."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 (another thread has no asyncio event)
            await asyncio.sleep(0.005)


# -- by id -------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [True, False])
async def test_reads_beyond_the_offset_limit(emulator, client, api, prefetch):
    seed(emulator, 10_750)
    refused = api.get("/records.json", params={"app": 1, "query": "limit 500 offset 10001"})
    assert (refused.status_code, refused.json()["code"]) == (400, "GAIA_QU02")
    async with client() as kintone:
        ids = await read(kintone.records_by_id("1", fields=NAMES, prefetch=prefetch))
    assert ids == [str(n) for n in range(1, 10_751)]


async def test_ends_only_at_an_empty_page(emulator, client):
    seed(emulator, 30)
    short = orjson.dumps(
        {
            "records": [
                {"$id": {"type": "__ID__", "value": str(n)}, "$revision": {"value": "1"}}
                for n in (1, 2, 3)
            ],
            "totalCount": None,
        }
    ).decode()
    emulator.faults.add(
        Fault(kind="replace_body", body=short, headers={"content-type": "application/json"})
    )
    async with client() as kintone:
        ids = await read(kintone.records_by_id("1", size=10))
    assert ids == [str(n) for n in range(1, 31)]
    # 3, then 10 + 10 + 7, then nothing: the end was asked for.
    assert emulator.faults.counts() == {"GET /k/v1/records.json": 5}


async def test_a_repeated_page_is_not_believed(emulator, client):
    seed(emulator, 20)
    async with client() as kintone:
        pages = kintone.records_by_id("1", size=10, prefetch=False)
        async with aclosing(pages):
            first = await anext(pages)
            emulator.faults.add(Fault(kind="replace_body", body=first.raw.decode()))
            with pytest.raises(FaultError) as caught:
                await anext(pages)
    assert caught.value.code == "AC-302"
    assert "ID 10 の次に ID 1" in caught.value.happened


async def test_pages_carry_bytes_identity_and_the_servers_clock(emulator, client):
    seed(emulator, 3)
    async with client() as kintone, aclosing(kintone.records_by_id("1", fields=NAMES)) as pages:
        page: RecordPage = await anext(pages)
    assert orjson.loads(page.raw)["records"] == page.records
    assert set(page.records[0]) == {*NAMES, "$id", "$revision"}
    assert page.last_id == 3
    assert page.server_date is not None
    assert page.server_date.tzinfo is not None


async def test_goes_on_where_it_stopped_and_keeps_the_condition(emulator, client):
    seed(emulator, 12)
    condition = f'{compare("得意先コード", "=", "000004")} or 得意先コード in ("000007", "000001")'
    async with client() as kintone:
        # The parentheses around an "or" matter: without them $id would bind to its last part.
        assert await read(kintone.records_by_id("1", condition=condition, after=2)) == ["5", "8"]
        assert await kintone.count("1", condition) == 3
        assert await kintone.count("1") == 12


async def test_a_long_condition_travels_in_the_body(emulator, client):
    seed(emulator, 3)
    condition = any_of("得意先コード", [f"{n:06}" for n in range(1, 900)])
    async with client() as kintone:
        assert await read(kintone.records_by_id("1", condition=condition)) == ["2", "3"]
    assert set(emulator.faults.counts()) == {"POST /k/v1/records.json"}


async def test_leaving_early_leaves_nothing_running(emulator, client):
    seed(emulator, 40)
    emulator.faults.add(Fault(kind="latency", seconds=5, after=1))
    async with client() as kintone, asyncio.timeout(2):
        async with aclosing(kintone.records_by_id("1", size=10)) as pages:
            await anext(pages)
        assert [t for t in asyncio.all_tasks() if "records_by_id" in repr(t.get_coro())] == []


# -- by cursor ---------------------------------------------------------------------------------


async def test_cursor_keeps_its_order_and_is_gone(emulator, client):
    seed(emulator, 25)
    async with client() as kintone:
        ids = await read(kintone.records_by_cursor("1", query="order by $id desc", size=10))
    assert ids == [str(n) for n in range(25, 0, -1)]
    assert emulator.books()["cursors"] == 0


async def test_cursor_is_deleted_when_the_caller_fails_or_leaves(emulator, client):
    seed(emulator, 25)
    async with client() as kintone:

        async def fail_while_reading() -> None:
            async with aclosing(kintone.records_by_cursor("1", size=10)) as pages:
                async for _ in pages:
                    assert emulator.books()["cursors"] == 1
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail_while_reading()
        async with aclosing(kintone.records_by_cursor("1", size=10)) as pages:
            await anext(pages)
    assert (emulator.books()["cursors"], emulator.books()["cursors_opened"]) == (0, 2)


async def test_cursor_is_deleted_when_a_fetch_fails_or_is_cancelled(emulator, client):
    seed(emulator, 25)
    async with client() as kintone:
        emulator.faults.add(Fault(kind="drop_after", path="cursor", method="GET"))
        error = await failure(read(kintone.records_by_cursor("1", size=10)))
        # The lost answer moved the cursor, so asking again would skip ten records.
        assert (error.code, error.failure) == ("AC-301", Failure.DROPPED)
        assert emulator.books()["cursors"] == 0
        emulator.faults.add(Fault(kind="latency", seconds=5, path="cursor", method="GET"))
        reading = asyncio.create_task(read(kintone.records_by_cursor("1", size=10)))
        await until(lambda: emulator.faults.counts().get("GET /k/v1/records/cursor.json", 0) == 2)
        assert emulator.books()["cursors"] == 1
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
    assert emulator.books()["cursors"] == 0


async def test_cursor_that_was_just_being_made_is_deleted_too(emulator, client):
    seed(emulator, 5)
    emulator.faults.add(Fault(kind="latency", seconds=0.3, path="cursor", method="POST"))
    async with client() as kintone:
        reading = asyncio.create_task(read(kintone.records_by_cursor("1")))
        await until(lambda: emulator.books()["cursors_opened"] == 1)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
    assert emulator.books()["cursors"] == 0


async def test_cursor_pages_must_hold_what_was_announced(emulator, client):
    seed(emulator, 25)
    async with client() as kintone:
        pages = kintone.records_by_cursor("1", size=10)
        async with aclosing(pages):
            await anext(pages)
            emulator.faults.add(Fault(kind="replace_body", body='{"records":[],"next":false}'))
            with pytest.raises(FaultError) as caught:
                await anext(pages)
    assert caught.value.code == "AC-302"
    assert "25 件のはずが 10 件" in caught.value.happened


async def test_cursor_that_repeats_its_page_for_ever_is_given_up(emulator, client):
    seed(emulator, 3)
    record = {name: {"type": "RECORD_NUMBER", "value": "1"} for name in ("$id", "$revision")}
    body = json.dumps({"records": [record], "next": True})
    page = Fault(kind="replace_body", path="cursor", method="GET", body=body, times=None)
    emulator.faults.add(page)
    async with client() as kintone:
        error = await failure(read(kintone.records_by_cursor("1")))
    assert (error.code, emulator.books()["cursors"]) == ("AC-302", 0)


async def test_no_cursor_left_in_the_domain(emulator, client, api):
    seed(emulator, 5)
    for _ in range(10):
        assert api.post("/records/cursor.json", json={"app": 1}).status_code == 200
    async with client() as kintone:
        error = await failure(read(kintone.records_by_cursor("1")))
    assert isinstance(error, WaitError)
    assert (error.code, error.detail.vendor_code) == ("AC-503", "GAIA_TM12")


# -- the form ----------------------------------------------------------------------------------


async def test_form_fields(client):
    async with client() as kintone:
        fields = await kintone.form_fields("1")
        assert await kintone.app_name("1") == "顧客管理"
    code = fields["得意先コード"]
    assert (code.type, code.unique, code.max_length) == ("SINGLE_LINE_TEXT", True, 13)
    assert fields["更新日時"].type == "UPDATED_TIME"
    assert set(fields["区分"].options) == {"A", "B"}
    assert fields["明細"].fields["数量"].type == "NUMBER"
    assert fields["備考"].max_length is None


# -- faults ------------------------------------------------------------------------------------


async def test_passing_faults_are_survived(emulator, client):
    seed(emulator, 45)
    locked = '{"code":"GAIA_DA02","id":"x","message":"データベースがロックされています。"}'
    for fault in (
        Fault(kind="drop_before"),
        Fault(kind="drop_after"),
        Fault(kind="cut_body", after=1),
        Fault(kind="status", status=520, body=locked, after=1),
        Fault(kind="status", status=500, body="oops", after=1),
        Fault(kind="status", status=429, body='{"code":"GAIA_TO04","message":"…"}', after=1),
        Fault(kind="maintenance", after=2),
        Fault(kind="maintenance_200", after=2),
    ):
        emulator.faults.add(fault)
    async with client() as kintone:
        assert await read(kintone.records_by_id("1", size=10)) == [str(n) for n in range(1, 46)]
    assert emulator.faults.waiting() == []


@pytest.mark.parametrize(
    ("fault", "code", "failed"),
    [
        (Fault(kind="maintenance", times=None), "AC-502", Failure.UNAVAILABLE),
        (Fault(kind="maintenance_200", times=None), "AC-502", Failure.UNAVAILABLE),
        (
            Fault(kind="status", status=503, body="503: Service Unavailable", times=None),
            "AC-502",
            Failure.UNAVAILABLE,
        ),
        (Fault(kind="replace_body", body="<html>?</html>", times=None), "AC-303", "unreadable"),
        (Fault(kind="replace_body", body="{not json}", times=None), "AC-303", "unreadable"),
        (Fault(kind="replace_body", body='{"records":{}}', times=None), "AC-303", "unreadable"),
        (Fault(kind="replace_body", body='{"records":[{}]}', times=None), "AC-303", "unreadable"),
        (Fault(kind="status", status=500, body="<html>", times=None), "AC-301", Failure.SERVER),
        (
            Fault(kind="status", status=520, body='{"code":"GAIA_RE18"}', times=None),
            "AC-301",
            Failure.UNAVAILABLE,
        ),
        (
            Fault(kind="status", status=429, body='{"code":"GAIA_TO04"}', times=None),
            "AC-503",
            Failure.THROTTLED,
        ),
        (Fault(kind="drop_before", times=None), "AC-301", Failure.DROPPED),
    ],
)
async def test_lasting_faults_have_a_name(emulator, client, fault, code, failed):
    emulator.faults.add(fault)
    async with client() as kintone:
        error = await failure(read(kintone.records_by_id("1")))
    assert (error.code, error.failure) == (code, failed)
    assert error.retryable


async def test_a_domain_with_too_many_requests_is_waited_for(emulator, client):
    emulator.api.user_middleware[0].kwargs["limit"] = 1
    emulator.faults.add(Fault(kind="latency", seconds=0.05, times=12))
    seed(emulator, 3)
    # Waits as in the product's profile: quick ones are over while another request is still held.
    async with client(profile=PROFILE) as kintone:
        assert await asyncio.gather(*(kintone.count("1") for _ in range(3))) == [3, 3, 3]
    assert sum(emulator.faults.counts().values()) > 3


# -- wrong settings ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "app", "condition", "code", "subject", "vendor"),
    [
        ({"token": "no-such-token"}, "1", "", "AC-102", "", "GAIA_IA02"),
        ({"token": "nobody-token-0003"}, "1", "", "AC-203", "アプリ 1", "CB_NO02"),
        ({"token": "other-app-token-4"}, "1", "", "AC-203", "アプリ 1", "GAIA_NO01"),
        ({}, "99", "", "AC-202", "99", "GAIA_AP01"),
        ({"guest_space": 7}, "1", "", "AC-203", "アプリ 1", "CB_NO02"),
        ({"subdomain": "someone-else"}, "1", "", "AC-201", "someone-else.cybozu.com", None),
        (
            {},
            "1",
            'ない = "1"',
            "AC-205",
            "指定されたフィールド（ない）が見つかりません",
            "GAIA_IQ11",
        ),
        ({}, "1", "得意先コード ==", "AC-205", "クエリ記法が間違っています", "CB_VA01"),
    ],
)
async def test_wrong_settings(client, settings, app, condition, code, subject, vendor):
    async with client(**settings) as kintone:
        error = await failure(read(kintone.records_by_id(app, condition=condition)))
    assert isinstance(error, SettingsError)
    assert error.code == code
    assert subject in error.subject
    assert error.detail.vendor_code == vendor
    assert not error.retryable
    if vendor:
        assert error.detail.vendor_message
        assert error.detail.request_id


async def test_errors_hold_no_secret(emulator, client):
    token = "token-that-nobody-may-see"
    emulator.faults.add(
        Fault(
            kind="status", status=400, body=f'{{"code":"CB_IL02","id":"q","message":"{token} ?"}}'
        )
    )
    authorizer = api_token(token)
    async with client(authorizer=authorizer) as kintone:
        error = await failure(kintone.form_fields("1"))
    assert "******** ?" in str(error)
    assert token not in f"{error} {error.as_dict()} {authorizer!r}"


@pytest.mark.parametrize("name", ["", "a.b", "example.evil.com", "例", "example.cybozu.com.evil"])
def test_only_kintone_hosts_are_talked_to(client, name):
    with pytest.raises(SettingsError) as caught:
        client(subdomain=name)
    assert caught.value.code == "AC-201"


@pytest.mark.parametrize(
    "name", ["example", "Example.cybozu.com", "https://example.cybozu.com/k/1/", " example "]
)
async def test_pasted_addresses_are_understood(client, name):
    async with client(subdomain=name) as kintone:
        assert kintone.host == "example.cybozu.com"
        assert await kintone.count("1") == 0


@pytest.mark.parametrize(
    ("number", "code"), [(socket.EAI_NONAME, "AC-201"), (socket.EAI_AGAIN, "AC-501")]
)
async def test_a_name_that_does_not_exist_is_a_setting(client, monkeypatch, number, code):
    # Only the resolver's definite no says so; a resolver that is down says nothing.
    def resolve(*_args, **_more):
        raise socket.gaierror(number, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with client(subdomain="no-such-company", endpoint=None) as kintone:
        error = await failure(kintone.count("1"))
    assert error.code == code
    assert error.subject == "no-such-company.cybozu.com"


async def test_nobody_listening(client):
    async with client(endpoint="http://127.0.0.1:9") as kintone:
        error = await failure(kintone.count("1"))
    assert (error.code, error.failure) == ("AC-501", Failure.CONNECT)
