"""The HTTP client against a real server: what is repeated, what never, what is said."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest
from fastapi import Request
from fastapi.responses import JSONResponse, StreamingResponse

from connectors.kit import (
    POST,
    READ,
    Answer,
    ApiClient,
    AppConnectError,
    Authorizer,
    ErrorDetail,
    Failure,
    FaultError,
    Kind,
    Masker,
    RateLimit,
    RetryPolicy,
    ServiceProfile,
    SettingsError,
    StaticHeaders,
    Timeouts,
    Timer,
    UnknownOutcomeError,
    WaitError,
    error_for,
    parse_retry_after,
)
from connectors.kit.emulator import Emulator, Fault, serve

SECRET = "tok-3f9/81+secret="


class Toy(Emulator):
    """A service with one of everything: stores, echoes, drips, counts what runs at once."""

    name = "toy"

    def __init__(self) -> None:
        super().__init__()
        self.stored: list[Any] = []
        self.valid = "good"
        self.running = self.most = 0

        @self.api.get("/read")
        async def read() -> dict[str, bool]:
            return {"ok": True}

        @self.api.post("/post")
        async def post(request: Request) -> dict[str, int]:
            self.stored.append(orjson.loads(await request.body()))
            return {"stored": len(self.stored)}

        @self.api.get("/guarded")
        @self.api.post("/guarded")
        async def guarded(request: Request) -> JSONResponse:
            good = request.headers.get("authorization") == f"Bearer {self.valid}"
            return JSONResponse({"ok": good}, status_code=200 if good else 401)

        @self.api.get("/echo")
        async def echo(request: Request) -> JSONResponse:
            token = request.headers["authorization"]
            return JSONResponse({"message": f"bad token {token}"}, status_code=400)

        @self.api.get("/drip")
        async def drip() -> StreamingResponse:
            async def drops() -> AsyncIterator[bytes]:
                for _ in range(100):
                    yield b" "
                    await asyncio.sleep(0.05)

            return StreamingResponse(drops(), media_type="application/json")

        @self.api.get("/slow")
        async def slow() -> dict[str, bool]:
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(0.05)
            self.running -= 1
            return {"ok": True}


def classify(answer: Answer) -> AppConnectError | None:
    """A vendor like most: status first, then JSON, its message kept."""
    if answer.status == 200:
        answer.json()
        return None
    body = answer.body.decode(errors="replace")
    detail = replace(answer.detail, vendor_message=body[:200])
    match answer.status:
        case 429:
            return error_for("AC-503", detail=detail, failure=Failure.THROTTLED)
        case 503:
            return error_for("AC-502", detail=detail, failure=Failure.UNAVAILABLE)
        case status if status >= 500:
            return error_for("AC-301", detail=detail, failure=Failure.SERVER)
        case 401:
            return error_for("AC-102", detail=detail, failure=Failure.REFUSED)
    return error_for("AC-205", body, detail=detail, failure=Failure.REFUSED)


def quick(policy: RetryPolicy, **changes: Any) -> RetryPolicy:
    return replace(policy, base=0.001, cap=0.002, **changes)


PROFILE = ServiceProfile("トイ", read=quick(READ), post=quick(POST))


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Toy, str]]:
    toy = Toy()
    with serve(toy) as url:
        yield toy, url


@pytest.fixture
def toy(served: tuple[Toy, str]) -> Toy:
    served[0].faults.clear()
    served[0].faults.requests.clear()
    served[0].stored.clear()
    served[0].running = served[0].most = 0
    return served[0]


MakeClient = Callable[..., ApiClient]


@pytest.fixture
async def client_for(served: tuple[Toy, str]) -> AsyncIterator[MakeClient]:
    opened: list[ApiClient] = []

    def make(profile: ServiceProfile = PROFILE, **more: Any) -> ApiClient:
        opened.append(ApiClient(profile, more.pop("url", served[1]), classify=classify, **more))
        return opened[-1]

    yield make
    for client in opened:
        await client.close()


async def failing(client: ApiClient, method: str, path: str, kind: Kind) -> AppConnectError:
    with pytest.raises(AppConnectError) as caught:
        await client.request(method, path, kind=kind, json={"n": 1} if method == "POST" else None)
    return caught.value


# --- what is repeated ---------------------------------------------------------------------------

ANY_FAULT = [
    Fault(kind="status", status=500),
    Fault(kind="status", status=502),
    Fault(kind="status", status=429),
    Fault(kind="maintenance"),
    Fault(kind="maintenance_200"),
    Fault(kind="drop_before"),
    Fault(kind="drop_after"),
    Fault(kind="cut_body"),
    Fault(kind="replace_body", body="<html>"),
    Fault(kind="replace_body", body="no gzip", headers={"content-encoding": "gzip"}),
]


@pytest.mark.parametrize("fault", ANY_FAULT, ids=lambda f: f"{f.kind}-{f.status}")
async def test_a_read_is_repeated_whatever_happened(
    toy: Toy, client_for: MakeClient, fault: Fault
) -> None:
    toy.faults.add(fault)
    answer = await client_for().request("GET", "/read", kind="read")
    assert answer.json() == {"ok": True}
    assert toy.faults.counts() == {"GET /read": 2}


@pytest.mark.parametrize(
    ("fault", "code", "failure"),
    [
        (Fault(kind="status", status=500), "AC-301", Failure.SERVER),
        (Fault(kind="status", status=429), "AC-503", Failure.THROTTLED),
        (Fault(kind="maintenance"), "AC-502", Failure.UNAVAILABLE),
        (Fault(kind="maintenance_200"), "AC-303", Failure.UNREADABLE),
        (Fault(kind="drop_before"), "AC-301", Failure.DROPPED),
    ],
)
async def test_a_read_gives_up_after_its_attempts(
    toy: Toy, client_for: MakeClient, fault: Fault, code: str, failure: Failure
) -> None:
    toy.faults.add(fault.model_copy(update={"times": None}))
    error = await failing(client_for(), "GET", "/read", "read")
    assert (error.code, error.failure, error.service) == (code, failure, "トイ")
    assert toy.faults.counts() == {"GET /read": READ.attempts}


async def test_a_definite_no_is_not_repeated(toy: Toy, client_for: MakeClient) -> None:
    toy.faults.add(Fault(kind="status", status=400, body="違います", times=None))
    error = await failing(client_for(), "GET", "/read", "read")
    assert error.detail == ErrorDetail("トイ", "GET /read", 400, vendor_message="違います")
    assert toy.faults.counts() == {"GET /read": 1}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", status=500),
        Fault(kind="maintenance"),
        Fault(kind="maintenance_200"),
        Fault(kind="drop_before"),
        Fault(kind="drop_after"),
        Fault(kind="cut_body"),
        Fault(kind="replace_body", body="<html>"),
        Fault(kind="replace_body", body="no gzip", headers={"content-encoding": "gzip"}),
        Fault(kind="latency", seconds=1),
    ],
    ids=lambda f: f.kind,
)
async def test_a_post_without_a_definite_answer_leaves_once(
    toy: Toy, client_for: MakeClient, fault: Fault
) -> None:
    toy.faults.add(fault.model_copy(update={"times": None}))
    impatient = replace(PROFILE, timeouts=Timeouts(connect=1, read=0.2, total=5))
    error = await failing(client_for(impatient), "POST", "/post", "post")
    assert isinstance(error, UnknownOutcomeError)
    assert error.code == "AC-402"
    assert toy.faults.counts() == {"POST /post": 1}
    assert len(toy.stored) <= 1


async def test_a_throttled_post_is_repeated(toy: Toy, client_for: MakeClient) -> None:
    toy.faults.add(Fault(kind="status", status=429, times=2))
    await client_for().request("POST", "/post", kind="post", json={"n": 1})
    assert toy.stored == [{"n": 1}]
    assert toy.faults.counts() == {"POST /post": 3}


async def test_a_refused_post_has_a_known_outcome(toy: Toy, client_for: MakeClient) -> None:
    toy.faults.add(Fault(kind="status", status=422))
    error = await failing(client_for(), "POST", "/post", "post")
    assert not isinstance(error, UnknownOutcomeError)
    assert toy.stored == []


@pytest.mark.parametrize("fault", [Fault(kind="status", status=429), Fault(kind="drop_after")])
async def test_once_means_once(toy: Toy, client_for: MakeClient, fault: Fault) -> None:
    toy.faults.add(fault)
    await failing(client_for(), "POST", "/post", "once")
    assert toy.faults.counts() == {"POST /post": 1}


async def test_nobody_listens(client_for: MakeClient) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        client = client_for(url=f"http://{host}")
        for kind in ("read", "post"):
            error = await failing(client, "POST", "/post", kind)
            assert (error.code, error.failure, error.subject) == ("AC-501", Failure.CONNECT, host)


async def test_redirects_are_not_followed(toy: Toy, client_for: MakeClient) -> None:
    toy.faults.add(Fault(kind="status", status=302, headers={"location": "/post"}))
    assert (await failing(client_for(), "GET", "/read", "read")).detail.status == 302
    assert toy.faults.counts() == {"GET /read": 1}


# --- Retry-After --------------------------------------------------------------------------------

NOW = datetime(2026, 11, 22, 5, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("1", 1.0),
        (" 120 ", 120.0),
        ("0.5", 0.5),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("99999999999999999999", 1e20),
    ],
)
def test_retry_after_in_every_form(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, now=lambda: NOW) == seconds


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("0", 0.0, 0.6),
        ("1", 1.0, 1.8),
        ("nonsense", 0.0, 0.6),
        (None, 0.0, 0.6),
    ],
)
async def test_the_servers_wish_is_obeyed(
    toy: Toy, client_for: MakeClient, header: str | None, least: float, most: float
) -> None:
    headers = {} if header is None else {"retry-after": header}
    toy.faults.add(Fault(kind="status", status=429, headers=headers))
    client = client_for()
    start = time.monotonic()
    await client.request("GET", "/read", kind="read")
    assert least <= time.monotonic() - start < most


async def test_a_date_is_counted_from_our_clock(toy: Toy, client_for: MakeClient) -> None:
    when = format_datetime(NOW + timedelta(seconds=1), usegmt=True)
    toy.faults.add(Fault(kind="status", status=503, headers={"retry-after": when}))
    start = time.monotonic()
    await client_for(clock=lambda: NOW).request("GET", "/read", kind="read")
    assert 1.0 <= time.monotonic() - start < 1.8


async def test_more_patience_than_we_have_ends_the_request(
    toy: Toy, client_for: MakeClient
) -> None:
    toy.faults.add(Fault(kind="status", status=429, headers={"retry-after": "3600"}, times=None))
    start = time.monotonic()
    error = await failing(client_for(), "GET", "/read", "read")
    assert isinstance(error, WaitError)
    assert error.retry_after == 3600
    assert time.monotonic() - start < 0.6
    assert toy.faults.counts() == {"GET /read": 1}


# --- time-outs ----------------------------------------------------------------------------------

ONCE = replace(PROFILE, read=quick(READ, attempts=1))


async def timed(client: ApiClient, path: str) -> tuple[AppConnectError, float]:
    start = time.monotonic()
    error = await failing(client, "GET", path, "read")
    return error, time.monotonic() - start


async def test_read_timeout(toy: Toy, client_for: MakeClient) -> None:
    toy.faults.add(Fault(kind="latency", seconds=1.5))
    client = client_for(replace(ONCE, timeouts=Timeouts(connect=5, read=0.2, total=5)))
    error, seconds = await timed(client, "/read")
    assert (error.failure, error.code) == (Failure.DROPPED, "AC-301")
    assert 0.2 <= seconds < 1


async def test_total_timeout_stops_a_dripping_server(toy: Toy, client_for: MakeClient) -> None:
    client = client_for(replace(ONCE, timeouts=Timeouts(connect=5, read=2, total=0.4)))
    error, seconds = await timed(client, "/drip")
    assert error.failure == Failure.DROPPED
    assert 0.4 <= seconds < 1.5


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port whose queue is full: connecting to it neither works nor fails."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        callers = []
        for _ in range(8):
            caller = socket.socket()
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", port))
            callers.append(caller)
        yield port
        for caller in callers:
            caller.close()


async def test_connect_timeout(client_for: MakeClient) -> None:
    with deaf_port() as port:
        client = client_for(
            replace(ONCE, timeouts=Timeouts(connect=0.2, read=5, total=5)),
            url=f"http://127.0.0.1:{port}",
        )
        error, seconds = await timed(client, "/read")
    assert (error.failure, error.code) == (Failure.CONNECT, "AC-501")
    assert 0.2 <= seconds < 1


# --- 401 and credentials ------------------------------------------------------------------------


class Renewing:
    """An authorizer whose token becomes ``fresh`` when it is asked to renew."""

    def __init__(self, token: str, fresh: str) -> None:
        self.token, self.fresh, self.renewals = token, fresh, 0

    async def headers(self) -> Mapping[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    async def renew(self, rejected: Mapping[str, str]) -> bool:
        assert rejected == {"authorization": f"Bearer {self.token}"}
        self.renewals += 1
        self.token = self.fresh
        return True


@pytest.mark.parametrize(("method", "kind"), [("GET", "read"), ("POST", "post"), ("POST", "once")])
async def test_a_401_renews_once_and_repeats(
    toy: Toy, client_for: MakeClient, method: str, kind: Kind
) -> None:
    authorizer: Authorizer = Renewing("stale", "good")
    client = client_for(authorizer=authorizer)
    answer = await client.request(method, "/guarded", kind=kind)
    assert answer.json() == {"ok": True}
    assert toy.faults.counts() == {f"{method} /guarded": 2}


async def test_a_second_401_is_an_error(toy: Toy, client_for: MakeClient) -> None:
    authorizer = Renewing("stale", "stale too")
    error = await failing(client_for(authorizer=authorizer), "GET", "/guarded", "read")
    assert error.code == "AC-102"
    assert authorizer.renewals == 1
    assert toy.faults.counts() == {"GET /guarded": 2}


async def test_fixed_credentials_are_not_tried_twice(toy: Toy, client_for: MakeClient) -> None:
    client = client_for(authorizer=StaticHeaders({"authorization": "Bearer wrong"}))
    assert (await failing(client, "GET", "/guarded", "read")).code == "AC-102"
    assert toy.faults.counts() == {"GET /guarded": 1}


@pytest.mark.parametrize("broken", [f"{SECRET}\n", f"{SECRET}あ", f"{SECRET}\x00"])
@pytest.mark.parametrize("place", ["authorizer", "headers"])
async def test_credentials_that_http_cannot_carry(
    toy: Toy, client_for: MakeClient, broken: str, place: str
) -> None:
    values = {"authorization": broken}
    client = client_for(**{place: StaticHeaders(values) if place == "authorizer" else values})
    error = await failing(client, "GET", "/read", "read")
    assert isinstance(error, SettingsError)
    assert error.code == "AC-102"
    assert_no_secret(error)
    assert toy.faults.counts() == {}


# --- limits -------------------------------------------------------------------------------------


async def test_concurrency_is_bounded(toy: Toy, client_for: MakeClient) -> None:
    client = client_for(replace(PROFILE, limit=RateLimit(concurrency=3)))
    await asyncio.gather(*(client.request("GET", "/slow", kind="read") for _ in range(12)))
    assert toy.most == 3


async def test_requests_per_second_are_bounded(toy: Toy, client_for: MakeClient) -> None:
    client = client_for(replace(PROFILE, limit=RateLimit(per_second=20)))
    await asyncio.gather(*(client.request("GET", "/read", kind="read") for _ in range(11)))
    times = sorted(r.at for r in toy.faults.requests)
    assert times[-1] - times[0] >= 0.45


FULL = {"x-lim-remaining": "0", "x-lim-reset": "40"}
TOLD = replace(PROFILE, limit=RateLimit(headers=("x-lim-",)))


async def test_a_full_limit_is_waited_for_and_not_run_into(
    toy: Toy, client_for: MakeClient
) -> None:
    slept: list[float] = []
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    client = client_for(TOLD, timer=Timer(lambda: now, sleep))
    toy.faults.add(Fault(kind="status", status=200, headers=FULL, body='{"ok": true}'))
    toy.faults.add(Fault(kind="status", status=429, headers=FULL))
    await client.request("GET", "/read", kind="read")
    assert slept == []
    await client.request("GET", "/read", kind="read")
    assert slept == [40, 40]  # before the second request, and after its 429
    assert toy.faults.counts() == {"GET /read": 3}


async def test_a_limit_that_is_full_for_long_ends_the_request_before_it_leaves(
    toy: Toy, client_for: MakeClient
) -> None:
    client = client_for(TOLD)
    full = {**FULL, "x-lim-reset": "3000"}
    toy.faults.add(Fault(kind="status", status=200, headers=full, body='{"ok": true}'))
    await client.request("GET", "/read", kind="read")
    error = await failing(client, "GET", "/read", "read")
    assert (type(error), error.code) == (WaitError, "AC-503")
    assert error.retry_after == pytest.approx(3000, abs=5)
    assert toy.faults.counts() == {"GET /read": 1}


async def test_without_limits_requests_run_together(toy: Toy, client_for: MakeClient) -> None:
    client = client_for()
    await asyncio.gather(*(client.request("GET", "/slow", kind="read") for _ in range(8)))
    assert toy.most > 3


# --- secrets ------------------------------------------------------------------------------------


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, its causes and contexts, shown or suppressed."""
    todo, seen = [error], set[int]()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        todo += [e for e in (one.__cause__, one.__context__) if e is not None]


def assert_no_secret(error: AppConnectError) -> None:
    texts = ["".join(traceback.format_exception(error)), str(error.as_dict())]
    for one in chain(error):
        assert type(one).__module__.split(".")[0] not in ("httpx", "httpcore", "h11")
        texts += [str(one), repr(one), str(one.args), str(vars(one))]
    for text in texts:
        assert SECRET not in text


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("/echo", None),
        ("/read", Fault(kind="drop_before", times=None)),
        ("/read", Fault(kind="replace_body", body=SECRET, times=None)),
        ("/read", Fault(kind="status", status=500, body=f"upstream said {SECRET}", times=None)),
    ],
)
async def test_no_secret_in_any_error(
    toy: Toy,
    client_for: MakeClient,
    caplog: pytest.LogCaptureFixture,
    path: str,
    fault: Fault | None,
) -> None:
    caplog.set_level(logging.DEBUG, logger="connectors")
    if fault is not None:
        toy.faults.add(fault)
    client = client_for(
        authorizer=StaticHeaders({"authorization": f"Bearer {SECRET}"}), secrets=Masker([SECRET])
    )
    error = await failing(client, "GET", path, "read")
    assert_no_secret(error)
    assert SECRET not in caplog.text
    if path == "/echo":
        assert error.detail.vendor_message == '{"message":"bad token Bearer ********"}'


async def test_a_connection_that_fails_keeps_its_cause_without_secrets(
    client_for: MakeClient,
) -> None:
    client = client_for(url="http://127.0.0.1:1", secrets=Masker([SECRET]))
    error = await failing(client, "GET", f"/{SECRET}", "read")
    assert "ConnectError" in str(error.__cause__)


def test_masker_knows_the_shapes_in_which_a_secret_travels() -> None:
    masker = Masker([SECRET])
    shapes = [SECRET, "tok-3f9%2F81%2Bsecret%3D", "dG9rLTNmOS84MStzZWNyZXQ9"]
    assert masker.mask(" ".join(shapes)) == "******** ******** ********"
    masker.add("another-one")
    assert masker.mask(f"{SECRET}another-one") == "****************"
    assert SECRET not in repr(masker)
    assert Masker(["abc", ""]).mask("abc") == "abc"


# --- answers ------------------------------------------------------------------------------------


async def test_an_answer_knows_where_it_came_from(toy: Toy, client_for: MakeClient) -> None:
    toy.faults.add(
        Fault(kind="status", status=200, headers={"X-Request-Id": "r-1"}, body='{"a":"あ"}')
    )
    answer = await client_for().request("GET", "/read", kind="read")
    assert answer.json() == {"a": "あ"}
    assert answer.detail == ErrorDetail("トイ", "GET /read", 200, request_id="r-1")
    assert answer.date is not None
    assert abs((answer.date - datetime.now(UTC)).total_seconds()) < 60


async def test_the_servers_clock_is_the_servers(toy: Toy, client_for: MakeClient) -> None:
    toy.faults.add(Fault(kind="clock_skew", seconds=-7200))
    answer = await client_for().request("GET", "/read", kind="read")
    assert answer.date is not None
    assert 7100 < (datetime.now(UTC) - answer.date).total_seconds() < 7300


def test_a_body_that_is_not_json_is_an_error_of_ours() -> None:
    import httpx

    answer = Answer(200, httpx.Headers(), b"<html>", ErrorDetail(service="トイ"))
    with pytest.raises(FaultError) as caught:
        answer.json()
    assert (caught.value.code, caught.value.failure) == ("AC-303", Failure.UNREADABLE)
    assert answer.date is None


async def test_cancelling_is_not_an_error_of_the_service(toy: Toy, client_for: MakeClient) -> None:
    toy.faults.add(Fault(kind="latency", seconds=1.5))
    task = asyncio.create_task(client_for().request("GET", "/read", kind="read"))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gc.collect()


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:80"])
async def test_an_address_that_is_none_is_a_setting(client_for: MakeClient, url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        client_for(url=url)
    assert (caught.value.code, caught.value.recovery) == ("AC-205", "settings")
