"""An emulated contract over real HTTP, with a clock that a test moves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from connectors.kit import READ
from connectors.smaregi import Environment, SmaregiClient
from connectors.smaregi.emulator import (
    DEMO_CLIENT_ID,
    DEMO_CLIENT_SECRET,
    DEMO_CONTRACT,
    SmaregiEmulator,
)
from tests.connectors.conftest import Stage


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 3, 4, 56, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Quick(Environment):
    """An emulator's place, with back-offs that a test can wait for."""

    @property
    def profile(self) -> Any:
        return dataclasses.replace(super().profile, read=dataclasses.replace(READ, base=0.002))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def emulator(clock: Clock) -> SmaregiEmulator:
    made = SmaregiEmulator(clock=clock)
    made.book.add_store("1", "渋谷店")
    made.book.add_store("2", "梅田店")
    return made


@pytest.fixture
def url(emulator: SmaregiEmulator, stage: tuple[Stage, str]) -> str:
    shown, base = stage
    shown.current = emulator
    return base


@pytest.fixture
def client(url: str, clock: Clock) -> Callable[..., SmaregiClient]:
    def make(**more: Any) -> SmaregiClient:
        options: dict[str, Any] = {
            "contract": DEMO_CONTRACT,
            "client_id": DEMO_CLIENT_ID,
            "client_secret": DEMO_CLIENT_SECRET,
            "clock": clock,
        }
        return SmaregiClient(Quick(url, url), **(options | more))

    return make


@pytest.fixture
def api(url: str) -> Iterator[httpx.Client]:
    """A bare client with a token: what the wire says."""
    asked = {
        "grant_type": "client_credentials",
        "scope": "pos.transactions:read pos.stores:read",
    }
    pair = (DEMO_CLIENT_ID, DEMO_CLIENT_SECRET)
    said = httpx.post(f"{url}/app/{DEMO_CONTRACT}/token", data=asked, auth=pair).json()
    assert said | {"access_token": ""} == {
        "scope": "pos.stores:read pos.transactions:read",
        "token_type": "Bearer",
        "expires_in": 3600,
        "access_token": "",
    }
    headers = {"Authorization": f"Bearer {said['access_token']}"}
    with httpx.Client(base_url=f"{url}/{DEMO_CONTRACT}/pos", headers=headers) as bare:
        yield bare
