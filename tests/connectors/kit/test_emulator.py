"""Each fault that the emulator base can make, seen from a plain HTTP client."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from connectors.kit.emulator import CONTROL, Emulator, Fault, serve


class Counter(Emulator):
    name = "counter"

    def __init__(self) -> None:
        super().__init__()
        self.stored = 0

        @self.api.get("/things")
        async def things() -> dict[str, Any]:
            return {"things": ["a" * 400] * 10}

        @self.api.post("/things")
        async def add() -> dict[str, int]:
            self.stored += 1
            return {"stored": self.stored}

    def books(self) -> dict[str, Any]:
        return {"stored": self.stored}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Counter, str]]:
    emulator = Counter()
    with serve(emulator) as url:
        yield emulator, url


@pytest.fixture
def emulator(served: tuple[Counter, str]) -> Counter:
    served[0].faults.clear()
    served[0].faults.requests.clear()
    served[0].stored = 0
    return served[0]


@pytest.fixture
def http(served: tuple[Counter, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served[1], trust_env=False, timeout=5) as client:
        yield client


def test_no_fault(emulator: Counter, http: httpx.Client) -> None:
    assert len(http.get("/things").json()["things"]) == 10
    assert emulator.faults.counts() == {"GET /things": 1}


def test_status_with_headers_and_body(emulator: Counter, http: httpx.Client) -> None:
    emulator.faults.add(
        Fault(kind="status", status=429, headers={"Retry-After": "7"}, body='{"code":"x"}')
    )
    answer = http.post("/things")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json() == {"code": "x"}
    assert emulator.stored == 0
    assert http.post("/things").status_code == 200


def test_drop_before_stores_nothing(emulator: Counter, http: httpx.Client) -> None:
    emulator.faults.add(Fault(kind="drop_before"))
    with pytest.raises(httpx.TransportError):
        http.post("/things")
    assert emulator.stored == 0


def test_drop_after_stores_and_loses_the_answer(
    emulator: Counter, http: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.faults.add(Fault(kind="drop_after"))
    with pytest.raises(httpx.TransportError):
        http.post("/things")
    assert emulator.stored == 1
    http.get("/things")
    assert [r.getMessage() for r in caplog.records if r.name.startswith("uvicorn")] == []


def test_cut_body(emulator: Counter, http: httpx.Client) -> None:
    emulator.faults.add(Fault(kind="cut_body"))
    with pytest.raises(httpx.TransportError):
        http.get("/things")
    emulator.faults.add(Fault(kind="cut_body"))
    received = 0
    with http.stream("GET", "/things") as answer:
        assert answer.status_code == 200
        pieces = answer.iter_raw()
        received += len(next(pieces))
        with pytest.raises(httpx.TransportError):
            next(pieces)
    assert 0 < received < int(answer.headers["content-length"])


def test_replace_body(emulator: Counter, http: httpx.Client) -> None:
    emulator.faults.add(Fault(kind="replace_body", body='{"error":"inside"}'))
    answer = http.post("/things")
    assert (answer.status_code, answer.json()) == (200, {"error": "inside"})
    assert emulator.stored == 1


@pytest.mark.parametrize(("kind", "status"), [("maintenance", 503), ("maintenance_200", 200)])
def test_maintenance(emulator: Counter, http: httpx.Client, kind: Any, status: int) -> None:
    emulator.faults.add(Fault(kind=kind))
    answer = http.post("/things")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html"
    assert "Service Unavailable" in answer.text
    assert emulator.stored == 0


def test_latency(emulator: Counter, http: httpx.Client) -> None:
    emulator.faults.add(Fault(kind="latency", seconds=0.3))
    start = time.monotonic()
    assert http.post("/things").json() == {"stored": 1}
    assert time.monotonic() - start >= 0.3


def test_clock_skew(emulator: Counter, http: httpx.Client) -> None:
    emulator.faults.add(Fault(kind="clock_skew", seconds=-3600))
    answer = http.get("/things")
    wrong = parsedate_to_datetime(answer.headers["date"]).timestamp()
    assert time.time() - 3610 < wrong < time.time() - 3590
    assert len(answer.json()["things"]) == 10


def test_a_fault_waits_for_its_requests(emulator: Counter, http: httpx.Client) -> None:
    emulator.faults.add(Fault(kind="status", path="/things$", method="post", after=1, times=2))
    codes = [http.get("/things").status_code, *(http.post("/things").status_code for _ in range(4))]
    assert codes == [200, 200, 500, 500, 200]
    assert emulator.faults.waiting() == []


def test_a_fault_for_ever_ends_when_cleared(emulator: Counter, http: httpx.Client) -> None:
    emulator.faults.add(Fault(kind="status", times=None))
    assert {http.get("/things").status_code for _ in range(3)} == {500}
    emulator.faults.clear()
    assert http.get("/things").status_code == 200


def test_steering_over_http(emulator: Counter, http: httpx.Client) -> None:
    assert http.get(f"{CONTROL}/health").json() == {"name": "counter"}
    assert http.post(f"{CONTROL}/faults", json={"kind": "status", "times": None}).status_code == 201
    assert http.post(f"{CONTROL}/faults", json={"kind": "earthquake"}).status_code == 422
    assert [f["kind"] for f in http.get(f"{CONTROL}/faults").json()] == ["status"]
    assert http.post("/things").status_code == 500
    assert http.delete(f"{CONTROL}/faults").status_code == 204
    http.post("/things")
    assert http.get(f"{CONTROL}/books").json() == {"stored": 1}
    assert http.get(f"{CONTROL}/requests").json() == {"POST /things": 2}


def test_a_port_in_use_is_an_error(served: tuple[Counter, str]) -> None:
    port = int(served[1].rsplit(":", 1)[1])
    with pytest.raises(RuntimeError, match=str(port)), serve(Counter(), port=port):
        pass


def test_stopping_does_not_wait_for_a_slow_answer() -> None:
    emulator = Counter()
    emulator.faults.add(Fault(kind="latency", seconds=30))
    with serve(emulator) as url, pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{url}/things", timeout=0.2, trust_env=False)
    start = time.monotonic()
    with serve(emulator) as url:
        assert httpx.get(f"{url}/things", trust_env=False).status_code == 200
    assert time.monotonic() - start < 4
