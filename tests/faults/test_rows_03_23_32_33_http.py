"""Rows 3, 23, 32 and 33 of the fault matrix: what a network and a server can do to one request.

Both real clients, kintone's reads and 奉行クラウド's posts, against the emulators, with the fault
control where the server misbehaves and a TCP proxy where the network does.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from connectors.bugyo import BugyoClient, Environment, fixed_token
from connectors.bugyo.client import PROFILE as BUGYO
from connectors.bugyo.emulator import (
    DEMO_FIXED_TOKEN,
    DEMO_SUBSCRIPTION_KEY,
    DEMO_TENANTS,
    BugyoEmulator,
)
from connectors.kintone import PROFILE as KINTONE
from connectors.kintone import KintoneClient, api_token
from connectors.kintone.emulator import KintoneEmulator
from connectors.kit import (
    ApiClient,
    AppConnectError,
    Failure,
    RetryPolicy,
    ServiceProfile,
    Timeouts,
    UnknownOutcomeError,
    WaitError,
)
from connectors.kit.emulator import Fault, serve
from tests.faults.toxics import ToxicProxy, Toxics, toxic_proxy

TOKEN = "row-tests-token-0001"
APP = "1"
TENANT = DEMO_TENANTS[0].id
ALL = "^/(?!__)"


def quick(profile: ServiceProfile, **times: float) -> ServiceProfile:
    """The service's own policies with back-offs and time-outs that a test can wait for."""
    return replace(
        profile,
        read=replace(profile.read, base=0.002),
        post=replace(profile.post, base=0.002),
        timeouts=Timeouts(**{"connect": 1.0, "read": 1.0, "total": 5.0, **times}),
    )


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[KintoneEmulator, str, BugyoEmulator, str]]:
    kintone, bugyo = KintoneEmulator(), BugyoEmulator()
    fields = {"名": {"type": "SINGLE_LINE_TEXT", "label": "名"}}
    kintone.add_app(APP, "顧客", fields, tokens={TOKEN: {"view"}})
    kintone.seed(APP, [{"名": f"得意先{n}"} for n in range(1, 31)])
    with serve(kintone) as kintone_url, serve(bugyo) as bugyo_url:
        yield kintone, kintone_url, bugyo, bugyo_url


@pytest.fixture
def kintone(services: Any) -> KintoneEmulator:
    services[0].faults.clear()
    services[0].faults.requests.clear()
    return services[0]


@pytest.fixture
def bugyo(services: Any) -> BugyoEmulator:
    services[2].faults.clear()
    services[2].faults.requests.clear()
    services[2].customers[TENANT].rows.clear()
    return services[2]


Reader = Callable[..., contextlib.AbstractAsyncContextManager[KintoneClient]]
Poster = Callable[..., contextlib.AbstractAsyncContextManager[BugyoClient]]


@pytest.fixture
def reader(services: Any) -> Reader:
    def make(url: str = "", **times: float) -> KintoneClient:
        return KintoneClient(
            "example",
            authorizer=api_token(TOKEN),
            endpoint=url or services[1],
            profile=quick(KINTONE, **times),
        )

    return make


@pytest.fixture
def poster(services: Any) -> Poster:
    def make(url: str = "", **times: float) -> BugyoClient:
        where = url or services[3]
        return BugyoClient(
            Environment("custom", where, where),
            subscription_key=DEMO_SUBSCRIPTION_KEY,
            authorizer=fixed_token(DEMO_FIXED_TOKEN),
            tenant_id=TENANT,
            profile=quick(BUGYO, **times),
        )

    return make


@pytest.fixture
async def to_kintone(kintone: KintoneEmulator, services: Any) -> AsyncIterator[ToxicProxy]:
    async with toxic_proxy(services[1]) as proxy:
        yield proxy


@pytest.fixture
async def to_bugyo(bugyo: BugyoEmulator, services: Any) -> AsyncIterator[ToxicProxy]:
    async with toxic_proxy(services[3]) as proxy:
        yield proxy


def row(number: int = 1) -> Any:
    return {"code": f"{number:04d}", "name": f"得意先{number}"}


def stored(emulator: BugyoEmulator) -> list[str]:
    return sorted(emulator.customers[TENANT].rows)


def imports(emulator: BugyoEmulator) -> int:
    return sum(n for name, n in emulator.faults.counts().items() if "ImportCustomer" in name)


def asked(emulator: KintoneEmulator) -> int:
    return sum(emulator.faults.counts().values())


async def read_all(client: KintoneClient) -> int:
    pages = client.records_by_id(APP, prefetch=False)
    return sum([len(page.records) async for page in pages])


async def failure(work: Any) -> AppConnectError:
    with pytest.raises(AppConnectError) as caught:
        await work
    return caught.value


# --- row 3: 429 with every kind of Retry-After --------------------------------------------------


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("0", 0.0, 0.5),
        ("1", 0.98, 1.8),
        # A whole second is lost in the format, at most.
        (lambda: in_seconds(2), 0.98, 2.8),
        (lambda: in_seconds(-60), 0.0, 0.5),
        (None, 0.0, 0.5),
        ("", 0.0, 0.5),
        ("soon", 0.0, 0.5),
        ("-1", 0.0, 0.5),
        ("1e999", 0.0, 0.5),
    ],
    ids=["0", "1", "date", "past-date", "absent", "empty", "word", "negative", "overflow"],
)
@pytest.mark.parametrize("side", ["read", "post"])
async def test_row_03_the_wait_that_the_server_asks_for_is_kept(
    kintone: Any,
    bugyo: Any,
    reader: Any,
    poster: Any,
    side: str,
    header: Any,
    least: Any,
    most: Any,
) -> None:
    value = header() if callable(header) else header
    fault = Fault(
        kind="status",
        status=429,
        path=ALL,
        headers={} if value is None else {"retry-after": value},
    )
    began = time.monotonic()
    if side == "read":
        kintone.faults.add(fault)
        async with reader() as client:
            assert await client.count(APP) == 30
        assert asked(kintone) == 2
    else:
        bugyo.faults.add(fault)
        async with poster() as client:
            assert (await client.import_customers([row()])).others_stored
        assert imports(bugyo) == 2
        assert stored(bugyo) == ["0001"]
    assert least <= time.monotonic() - began < most


async def test_row_03_a_wait_of_120_seconds_is_kept_and_a_longer_one_postpones_the_run(
    kintone: Any, reader: Any
) -> None:
    policy = RetryPolicy(on=frozenset({Failure.THROTTLED}))
    state: Any = type("State", (), {"attempt_number": 1})()
    outcome = WaitError("AC-503", retry_after=120.0)
    state.outcome = type("Outcome", (), {"exception": lambda self: outcome})()
    assert policy.backoff(state) == 120.0
    for value in ("121", in_seconds(3600)):
        kintone.faults.add(
            Fault(kind="status", status=429, path=ALL, headers={"retry-after": value})
        )
        kintone.faults.requests.clear()
        began = time.monotonic()
        async with reader() as client:
            error = await failure(client.count(APP))
        assert (error.code, error.recovery) == ("AC-503", "wait")
        assert error.retry_after is not None
        assert error.retry_after > 120
        assert time.monotonic() - began < 0.5
        assert asked(kintone) == 1


async def test_row_03_a_server_that_never_stops_asking_for_patience_ends_by_the_budget(
    kintone: Any, services: Any
) -> None:
    kintone.faults.add(
        Fault(kind="status", status=429, path=ALL, times=None, headers={"retry-after": "0.2"})
    )
    impatient = replace(KINTONE, read=replace(KINTONE.read, attempts=1000, budget=0.7))
    began = time.monotonic()
    async with KintoneClient(
        "example", authorizer=api_token(TOKEN), endpoint=services[1], profile=impatient
    ) as client:
        error = await failure(client.count(APP))
    assert error.code == "AC-503"
    assert 0.5 < time.monotonic() - began < 1.0
    assert 3 <= asked(kintone) <= 4


async def test_row_03_no_other_stream_is_held_up(kintone: Any, reader: Any) -> None:
    kintone.faults.add(
        Fault(kind="status", status=429, path="app.json", headers={"retry-after": "1"})
    )
    async with reader() as client:
        waiting = asyncio.create_task(client.app_name(APP))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        for _ in range(5):
            assert await client.count(APP) == 30
        assert time.monotonic() - began < 0.5
        assert not waiting.done()
        assert await waiting == "顧客"


# --- row 23: answers that are none --------------------------------------------------------------


def longer(data: bytes) -> bytes:
    """An answer that promises more than it brings."""
    return _with_length(data, lambda n: n + 100)


def shorter(data: bytes) -> bytes:
    """An answer that promises less than it brings."""
    return _with_length(data, lambda n: n - 5)


def _with_length(data: bytes, change: Callable[[int], int]) -> bytes:
    head, _, rest = data.partition(b"content-length: ")
    if not rest:
        return data
    number, _, tail = rest.partition(b"\r\n")
    return b"%scontent-length: %d\r\n%s" % (head, change(int(number)), tail)


BROKEN_GZIP = gzip.compress(b'{"records": []}')[:-4].decode("latin-1")
BAD_ANSWERS = {
    "body-cut": Toxics(cut_after=250),
    "reset-in-the-body": Toxics(reset_after=250),
    "reset-before-the-answer": Toxics(reset_after=0),
    "length-too-long": Toxics(rewrite=longer, cut_after=10_000),
    "length-too-short": Toxics(rewrite=shorter),
}
BAD_BODIES = {
    "html": Fault(kind="replace_body", path=ALL, body="<html><body>Proxy login</body></html>"),
    "gzip-broken": Fault(
        kind="replace_body", path=ALL, body=BROKEN_GZIP, headers={"content-encoding": "gzip"}
    ),
    "gzip-that-is-none": Fault(
        kind="replace_body", path=ALL, body="plain", headers={"content-encoding": "gzip"}
    ),
    "error-inside": Fault(
        kind="replace_body", path=ALL, body='{"code":"CB_VA01","id":"x","message":"壊れています"}'
    ),
    "not-an-object": Fault(kind="replace_body", path=ALL, body='["records"]'),
}


@pytest.mark.parametrize("toxics", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_row_23_a_spoilt_answer_is_read_again(
    kintone: Any, reader: Any, to_kintone: ToxicProxy, toxics: Toxics
) -> None:
    to_kintone.queue = [replace(toxics, latency=0.01)]
    async with reader(to_kintone.url, read=0.4) as client:
        assert await read_all(client) == 30
    # A page twice, and the empty one; and what a too short length leaves in the connection spoils
    # the answer after it.
    assert asked(kintone) == (4 if toxics.rewrite is shorter else 3)


@pytest.mark.parametrize("toxics", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_row_23_an_answer_that_stays_spoilt_has_a_name(
    reader: Any, to_kintone: ToxicProxy, toxics: Toxics
) -> None:
    to_kintone.toxics = toxics
    async with reader(to_kintone.url, read=0.2) as client:
        error = await failure(read_all(client))
    assert error.code in ("AC-301", "AC-303")
    assert error.service == "kintone"
    assert error.next_steps


@pytest.mark.parametrize("fault", BAD_BODIES.values(), ids=BAD_BODIES)
async def test_row_23_a_body_of_something_else_has_a_name(
    kintone: Any, reader: Any, fault: Fault
) -> None:
    kintone.faults.add(fault.model_copy(update={"times": None}))
    async with reader() as client:
        error = await failure(read_all(client))
    assert error.code in ("AC-301", "AC-303")
    assert "Traceback" not in str(error)


@pytest.mark.parametrize(
    "toxics", [t for name, t in BAD_ANSWERS.items() if name != "length-too-short"]
)
async def test_row_23_a_post_with_a_spoilt_answer_leaves_once_and_is_unknown(
    bugyo: Any, poster: Any, to_bugyo: ToxicProxy, toxics: Toxics
) -> None:
    # 奉行クラウド says "nothing" with an empty body, so only a head that is cut tells anything.
    to_bugyo.toxics = replace(toxics, cut_after=60) if toxics.cut_after == 250 else toxics
    if toxics.reset_after == 250:
        to_bugyo.toxics = replace(toxics, reset_after=60)
    async with poster(to_bugyo.url, read=0.3) as client:
        error = await failure(client.import_customers([row()]))
    assert isinstance(error, UnknownOutcomeError)
    assert error.code == "AC-402"
    for _ in range(600):  # the client may have given up before
        if stored(bugyo):
            break
        await asyncio.sleep(0.1)
    assert (imports(bugyo), stored(bugyo)) == (1, ["0001"])


async def test_row_23_what_one_answer_leaves_over_is_not_read_as_the_next(
    bugyo: Any, poster: Any, to_bugyo: ToxicProxy
) -> None:
    to_bugyo.toxics = Toxics(rewrite=lambda data: data + b"[]")
    async with poster(to_bugyo.url) as client:
        assert (await client.import_customers([row(1)])).others_stored
        error = await failure(client.import_customers([row(2)]))
    assert isinstance(error, UnknownOutcomeError)  # and never a success that was not its own
    assert imports(bugyo) == 2


# --- row 32: slow networks ----------------------------------------------------------------------


async def test_row_32_latency_bandwidth_and_slices_are_borne(
    reader: Any, to_kintone: ToxicProxy
) -> None:
    for toxics in (
        Toxics(latency=0.3),
        Toxics(bandwidth=20_000),
        Toxics(slice=10, slice_delay=0.0005),
        Toxics(slow_close=0.5),
    ):
        to_kintone.toxics = toxics
        async with reader(to_kintone.url, read=0.5, total=5.0) as client:
            assert await read_all(client) == 30


async def test_row_32_latency_and_slices_do_not_post_twice(
    bugyo: Any, poster: Any, to_bugyo: ToxicProxy
) -> None:
    to_bugyo.toxics = Toxics(latency=0.2, slice=10, slice_delay=0.001)
    async with poster(to_bugyo.url) as client:
        await client.import_customers([row(1), row(2)])
    assert imports(bugyo) == 1
    assert stored(bugyo) == ["0001", "0002"]


async def test_row_32_the_time_to_connect_is_bounded_by_itself(services: Any) -> None:
    async def nobody_answers(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return []

    profile = quick(KINTONE, connect=0.3, read=30.0, total=30.0)
    client = ApiClient(
        replace(profile, read=replace(profile.read, attempts=1)),
        "https://example.cybozu.com",
        classify=lambda answer: None,
        resolver=nobody_answers,
    )
    began = time.monotonic()
    async with client:
        error = await failure(client.request("GET", "/", kind="read"))
    assert (error.code, error.failure) == ("AC-501", Failure.CONNECT)
    assert 0.25 < time.monotonic() - began < 1.0


@pytest.mark.parametrize("side", ["read", "post"])
@pytest.mark.parametrize(
    ("toxics", "times", "seconds"),
    [
        # Silence is bounded by the time to read, whatever the whole may take …
        (Toxics(accept=False), {"read": 0.2, "total": 30.0}, 0.2),
        (Toxics(latency=5.0), {"read": 0.2, "total": 30.0}, 0.2),
        # … and a server that drips, so that no read ever is late, by the whole.
        (Toxics(slice=1, slice_delay=0.05), {"read": 1.0, "total": 0.5}, 0.5),
        (Toxics(bandwidth=100), {"read": 1.0, "total": 0.5}, 0.5),
    ],
    ids=["accepts-and-is-silent", "too-late", "drips", "trickles"],
)
async def test_row_32_silence_and_dripping_are_bounded_apart(
    services: Any,
    bugyo: Any,
    to_kintone: ToxicProxy,
    to_bugyo: ToxicProxy,
    side: str,
    toxics: Toxics,
    times: dict[str, float],
    seconds: float,
) -> None:
    proxy, profile = (to_kintone, KINTONE) if side == "read" else (to_bugyo, BUGYO)
    proxy.toxics = toxics
    profile = quick(profile, **times)
    profile = replace(profile, read=replace(profile.read, attempts=2))
    began = time.monotonic()
    if side == "read":
        async with KintoneClient(
            "example", authorizer=api_token(TOKEN), endpoint=proxy.url, profile=profile
        ) as client:
            error = await failure(client.count(APP))
        assert error.code == "AC-301"
        assert proxy.connections == 2
        seconds *= 2
    else:
        async with BugyoClient(
            Environment("custom", proxy.url, proxy.url),
            subscription_key=DEMO_SUBSCRIPTION_KEY,
            authorizer=fixed_token(DEMO_FIXED_TOKEN),
            tenant_id=TENANT,
            profile=profile,
        ) as client:
            error = await failure(client.import_customers([row()]))
        assert error.code == "AC-402"
        assert imports(bugyo) <= 1
        assert proxy.connections == 1
    assert seconds * 0.9 < time.monotonic() - began < seconds + 0.8


# --- row 33: names that lead somewhere else -----------------------------------------------------


def resolving_to(*addresses: str) -> Any:
    async def resolve(host: str, port: int) -> list[str]:
        resolve.asked.append((host, port))
        return list(addresses)

    resolve.asked = []
    return resolve


def direct(resolver: Any, profile: ServiceProfile = KINTONE, **more: Any) -> ApiClient:
    return ApiClient(
        replace(quick(profile), read=replace(profile.read, attempts=3, base=0.002)),
        more.pop("url", "https://example.cybozu.com"),
        classify=lambda answer: None,
        resolver=resolver,
        **more,
    )


REFUSED = (
    "127.0.0.1",
    "169.254.169.254",  # metadata of AWS, GCP, Azure
    "100.100.100.200",  # of Alibaba
    "168.63.129.16",  # of Azure's inside
    "10.0.0.5",
    "172.16.0.1",
    "192.168.1.1",
    "0.0.0.0",
    "224.0.0.1",
    "::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::a9fe:a9fe",  # 169.254.169.254 through NAT64
    "2002:7f00:1::1",  # 127.0.0.1 through 6to4
)


@pytest.mark.parametrize("address", REFUSED)
@pytest.mark.parametrize("kind", ["read", "post"])
async def test_row_33_a_name_that_leads_inside_is_refused(address: str, kind: Any) -> None:
    resolver = resolving_to("203.0.113.7", address) if address == "10.0.0.5" else None
    resolver = resolver or resolving_to(address)
    async with direct(resolver) as client:
        error = await failure(client.request("GET", "/k/v1/app.json", kind=kind))
    assert (error.code, error.subject, error.recovery) == (
        "AC-504",
        "example.cybozu.com",
        "settings",
    )
    assert resolver.asked == [("example.cybozu.com", 443)]  # not tried again
    assert "APP_CONNECT_HTTPS_PROXY" in str(error)


async def test_row_33_a_redirect_inside_is_not_followed(
    kintone: Any, bugyo: Any, reader: Any, poster: Any
) -> None:
    for location in ("http://169.254.169.254/latest/meta-data/?secret=1", "//127.0.0.1:9/x"):
        for status in (301, 302, 303, 307, 308):
            fault = Fault(
                kind="status", status=status, path=ALL, headers={"location": location}, times=1
            )
            kintone.faults.add(fault)
            async with reader() as client:
                error = await failure(client.count(APP))
            assert error.code == "AC-505"
            assert error.subject in ("169.254.169.254", "127.0.0.1")
            assert "secret" not in str(error)
            bugyo.faults.add(fault)
            async with poster() as client:
                unknown = await failure(client.import_customers([row()]))
            assert unknown.code == "AC-402"
    assert asked(kintone) == imports(bugyo) == 10


async def test_row_33_dns_that_fails_is_told_by_name() -> None:
    async def no_such_name(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with direct(no_such_name) as client:
        error = await failure(client.request("GET", "/", kind="read"))
    assert (error.code, error.failure) == ("AC-501", Failure.CONNECT)
    assert error.subject == "example.cybozu.com"
    # kintone knows that the name is a person's own sub-domain (AC-201): see
    # test_a_name_that_does_not_exist_is_a_setting.
