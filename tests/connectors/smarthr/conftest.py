"""One emulator per test, over real HTTP, with limits that are counted in the test's own time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from connectors.kit import READ, Timer
from connectors.smarthr import PROFILE, SmartHRClient
from connectors.smarthr.emulator import SmartHREmulator
from tests.connectors.conftest import Stage

TOKEN = "shr_reader_0001"
BLIND = "shr_blind_0002"
NOBODY = "shr_nobody_0003"
QUICK = dataclasses.replace(PROFILE, read=dataclasses.replace(READ, base=0.002))


class Hands:
    """One time for client and emulator; whoever waits moves it."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.timer = Timer(self.ticks, self.sleep)

    def ticks(self) -> float:
        return self.passed

    def clock(self) -> datetime:
        return datetime(2026, 11, 22, 3, 4, 5, tzinfo=UTC) + timedelta(seconds=self.passed)

    async def sleep(self, seconds: float) -> None:
        self.passed += seconds


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def emulator(hands: Hands) -> SmartHREmulator:
    made = SmartHREmulator(clock=hands.clock, ticks=hands.ticks)
    made.add_token(TOKEN)
    made.add_token(BLIND, hidden={"birth_at", "address"})
    made.add_token(NOBODY, crews=False)
    return made


@pytest.fixture
def url(emulator: SmartHREmulator, stage: tuple[Stage, str]) -> str:
    shown, base = stage
    shown.current = emulator
    return base


@pytest.fixture
def client(url: str, hands: Hands) -> Callable[..., SmartHRClient]:
    def make(token: str = TOKEN, **more: Any) -> SmartHRClient:
        options: dict[str, Any] = {"endpoint": url, "profile": QUICK, "timer": hands.timer}
        return SmartHRClient(more.pop("subdomain", "example"), token=token, **(options | more))

    return make


@pytest.fixture
def api(url: str) -> Iterator[httpx.Client]:
    """A bare client: what the wire says."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=f"{url}/api/v1", headers=headers) as bare:
        yield bare
