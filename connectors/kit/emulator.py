"""The base of every service emulator: a FastAPI application, fault control, and a way to serve it.

An emulator is the strict, stateful stand-in for a vendor's API (design 9). It makes the first run
possible without an account, and it is what the tests break. The fault control sits *outside* the
application, so that a fault can happen before the request is processed, after it was committed, or
to the bytes of the answer.

Everything below ``/__emulator__/`` steers the emulator and does not exist at the real vendor.
"""

from __future__ import annotations

import asyncio
import email.utils
import re
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, Literal

import uvicorn
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTROL = "/__emulator__"


class Fault(BaseModel):
    """One fault, waiting for the requests that it is meant for.

    ``kind`` says what happens:

    - ``latency``: the answer is correct and comes ``seconds`` late, or at `FaultControl.release`.
    - ``status``: answered with ``status``/``headers``/``body``; the application never sees it.
    - ``drop_before``: the connection is reset before the application sees the request.
    - ``drop_after``: the application processes the request, then the connection is reset
      without a byte of the answer: stored, and the answer lost.
    - ``cut_body``: processed; half of the answer's body arrives, then the connection closes.
    - ``replace_body``: processed; the answer's body is replaced by ``body`` with status 200.
    - ``maintenance``: 503 with a text page, as during a vendor's maintenance.
    - ``maintenance_200``: the same page with status 200.
    - ``clock_skew``: the ``Date`` header is wrong by ``seconds``.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal[
        "latency",
        "status",
        "drop_before",
        "drop_after",
        "cut_body",
        "replace_body",
        "maintenance",
        "maintenance_200",
        "clock_skew",
    ]
    path: str = Field(default=".*", description="Regular expression, searched in the path.")
    method: str | None = None
    after: int = Field(default=0, ge=0, description="Matching requests let through first.")
    times: int | None = Field(default=1, ge=1, description="How often it happens; null = always.")
    status: int = 500
    headers: dict[str, str] = Field(default_factory=dict)
    body: str = ""
    seconds: float = 0.0

    def matches(self, method: str, path: str) -> bool:
        """Whether this request is one that the fault is meant for."""
        if self.method is not None and self.method.upper() != method:
            return False
        return re.search(self.path, path) is not None


class RequestRecord(BaseModel):
    """One request as it arrived: enough to count and to order, never a header or a body."""

    method: str
    path: str
    at: float


MAINTENANCE_PAGE = (
    "<html><head><title>Maintenance</title></head><body>Service Unavailable</body></html>"
)


class FaultControl:
    """ASGI middleware: keeps the books on requests and makes the faults that are waiting.

    Args:
        app: The service.
        steering: Who answers a request to `CONTROL`, which is neither counted nor faulty;
            by default ``app``.

    Attributes:
        requests: What arrived, faulty ones included.
        hook: Called with the path of each request that meets no fault, when it has been processed
            and before a byte of the answer leaves.
    """

    def __init__(self, app: ASGIApp, steering: Callable[[Scope], ASGIApp] | None = None) -> None:
        self._app = app
        self._steering = steering or (lambda _: app)
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._releases = 0
        self.requests: deque[RequestRecord] = deque(maxlen=200_000)
        self.hook: Callable[[str], None] | None = None

    def add(self, fault: Fault) -> None:
        """Let ``fault`` wait for its requests; faults are tried in the order they were added."""
        with self._lock:
            self._faults.append(fault.model_copy())

    def clear(self) -> None:
        """Forget every waiting fault."""
        with self._lock:
            self._faults.clear()

    def release(self) -> None:
        """Let every answer that ``latency`` holds back at this moment go."""
        self._releases += 1

    def waiting(self) -> list[Fault]:
        """The faults that have not happened yet."""
        with self._lock:
            return [fault.model_copy() for fault in self._faults]

    def counts(self) -> dict[str, int]:
        """How many requests arrived, by ``METHOD path``, faulty ones included."""
        return dict(Counter(f"{r.method} {r.path}" for r in list(self.requests)))

    def _take(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for index, fault in enumerate(self._faults):
                if not fault.matches(method, path):
                    continue
                if fault.after > 0:
                    fault.after -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times == 0:
                        del self._faults[index]
                return fault
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, with the first waiting fault that matches it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"].startswith(CONTROL):
            await self._steering(scope)(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        self.requests.append(RequestRecord(method=method, path=path, at=time.time()))
        fault = self._take(method, path)
        if fault is None:
            await self._app(scope, receive, self._watched(path, send))
            return
        await self._happen(fault, scope, receive, send)

    def _watched(self, path: str, send: Send) -> Send:
        if (hook := self.hook) is None:
            return send

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                hook(path)
            await send(message)

        return watched

    async def _happen(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        match fault.kind:
            case "drop_before":
                await _reset(receive)
            case "status":
                await _answer(send, fault.status, fault.headers, fault.body)
            case "maintenance" | "maintenance_200":
                status = 503 if fault.kind == "maintenance" else 200
                await _answer(
                    send, status, {"content-type": "text/html", **fault.headers}, MAINTENANCE_PAGE
                )
            case "latency":
                await self._late(fault.seconds, scope, receive, send)
            case _:
                await _after(self._app, fault, scope, receive, send)

    async def _late(self, seconds: float, scope: Scope, receive: Receive, send: Send) -> None:
        seen = self._releases  # the test that releases is another thread

        async def late_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                ends = time.monotonic() + seconds
                while self._releases == seen and (left := ends - time.monotonic()) > 0:  # noqa: ASYNC110
                    await asyncio.sleep(min(left, 0.05))
            await send(message)

        await self._app(scope, receive, late_send)


async def _after(app: ASGIApp, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
    """Let the application process the request, then spoil its answer."""
    start: Message = {"type": "http.response.start", "status": 500, "headers": []}
    body = bytearray()

    async def hold(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
        else:
            body.extend(message.get("body", b""))

    await app(scope, receive, hold)
    if fault.kind == "drop_after":
        await _reset(receive)
        return
    if fault.kind == "replace_body":
        await _answer(send, 200, fault.headers, fault.body)
        return
    if fault.kind == "clock_skew":
        await send(dated(start, receive, time.time() + fault.seconds))
        await send({"type": "http.response.body", "body": bytes(body)})
        return
    await send(start)  # cut_body: content-length promises more than will come
    await send(
        {"type": "http.response.body", "body": bytes(body[: len(body) // 2]), "more_body": True}
    )
    await _reset(receive)


def dated(start: Message, receive: Receive, moment: float) -> Message:
    """The beginning of an answer with another ``Date``: of a service whose clock is not ours.

    Args:
        start: The message ``http.response.start``.
        receive: As uvicorn gave it: uvicorn would add a date of its own.
        moment: Seconds since the epoch.
    """
    cycle = _cycle(receive)
    cycle.default_headers = [(k, v) for k, v in cycle.default_headers if k != b"date"]
    headers = [(k, v) for k, v in start["headers"] if k.lower() != b"date"]
    date = email.utils.formatdate(moment, usegmt=True).encode()
    return {**start, "headers": [*headers, (b"date", date)]}


def _cycle(receive: Receive) -> Any:
    """Uvicorn's object for one request: what ASGI has no message for is asked of it."""
    cycle = getattr(receive, "__self__", None)
    if not hasattr(cycle, "transport"):
        raise RuntimeError("this fault can be made under uvicorn only")
    return cycle


async def _reset(receive: Receive) -> None:
    """Cut the TCP connection, and wait until the server has noticed."""
    _cycle(receive).transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: Send, status: int, headers: dict[str, str], body: str) -> None:
    payload = body.encode()
    lowered = {k.lower(): v for k, v in headers.items()}
    lowered.setdefault(
        "content-type", "application/json" if body.startswith(("{", "[")) else "text/plain"
    )
    lowered["content-length"] = str(len(payload))
    raw = [(k.encode(), v.encode()) for k, v in lowered.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": payload})


class Emulator:
    """A vendor's API on loopback. Subclasses add routes to ``api`` and keep their own state.

    Attributes:
        name: Short ASCII name, e.g. ``kintone``.
        api: The FastAPI application with the vendor's routes.
        faults: The fault control around it.
    """

    name = "emulator"

    def __init__(self) -> None:
        self.api = FastAPI(
            title=f"{self.name} emulator", docs_url=None, redoc_url=None, openapi_url=None
        )
        self.faults = FaultControl(self.api, self._steering)

    def books(self) -> dict[str, Any]:
        """What the service holds, as JSON: a checker reads this, never our own books."""
        return {}

    def steering_routers(self) -> list[APIRouter]:
        """What `CONTROL` offers; a subclass adds its own.

        Made when the first such request comes: FastAPI takes milliseconds for each route, and
        most tests, which make emulators by the thousand, steer them as objects.
        """
        return [self._control()]

    @cached_property
    def _steering_api(self) -> FastAPI:
        api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        for router in self.steering_routers():
            api.include_router(router, prefix=CONTROL)
        return api

    def _steering(self, scope: Scope) -> ASGIApp:
        """Who answers a request to `CONTROL`: those routers, or else ``api``."""
        routes = self._steering_api.routes
        known = any(route.matches(scope)[0] is not Match.NONE for route in routes)
        return self._steering_api if known else self.api

    def _control(self) -> APIRouter:
        router = APIRouter()

        @router.get("/health")
        async def health() -> dict[str, str]:
            return {"name": self.name}

        @router.get("/faults")
        async def list_faults() -> list[Fault]:
            return self.faults.waiting()

        @router.post("/faults", status_code=201)
        async def add_fault(fault: Fault) -> None:
            self.faults.add(fault)

        @router.delete("/faults", status_code=204)
        async def clear_faults() -> None:
            self.faults.clear()

        @router.get("/requests")
        async def requests() -> dict[str, int]:
            return self.faults.counts()

        @router.get("/books")
        async def books() -> dict[str, Any]:
            return self.books()

        return router


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _hang_up(server: uvicorn.Server) -> None:
    """Refuse new connections from now on, and close those that are idle."""
    done = threading.Event()

    def close() -> None:
        for each in server.servers:
            each.close()
        for connection in list(server.server_state.connections):
            connection.shutdown()
        done.set()

    with suppress(RuntimeError):  # its loop has ended already
        server.servers[0].get_loop().call_soon_threadsafe(close)
        done.wait(timeout=5)


@contextmanager
def serve(emulator: Emulator, *, port: int | None = None) -> Iterator[str]:
    """Serve ``emulator`` on 127.0.0.1 from a thread of this process; yields its base URL."""
    # The protocol is named because asyncio turns Nagle's algorithm off only for sockets that name
    # it: without, every answer with a body comes 40 ms late.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port or 0))
    except OSError as error:
        listener.close()
        raise RuntimeError(f"the {emulator.name} emulator cannot use port {port}") from error
    chosen: int = listener.getsockname()[1]
    config = uvicorn.Config(
        emulator.faults, log_level="warning", lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=server.run,
        kwargs={"sockets": [listener]},
        name=f"{emulator.name}-emulator",
        daemon=True,
    )
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError(f"the {emulator.name} emulator did not start on port {chosen}")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{chosen}"
    finally:
        server.should_exit = True
        _hang_up(server)
        # By itself uvicorn looks for its end every 0.1 s and then waits as long again; that
        # matters to nobody but a request that is still at work.
        if server.server_state.tasks:
            thread.join(timeout=5)
