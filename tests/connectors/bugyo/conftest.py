"""The emulator over real HTTP, and clients that do not wait long between attempts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from connectors.bugyo import PROFILE, BugyoClient, Environment, OAuthApp, fixed_token
from connectors.bugyo.emulator import (
    DEMO_CLIENT_ID,
    DEMO_CLIENT_SECRET,
    DEMO_FIXED_TOKEN,
    DEMO_REDIRECT_URI,
    DEMO_SUBSCRIPTION_KEY,
    DEMO_TENANTS,
    BugyoEmulator,
)
from connectors.kit import POST, READ, Authorizer, Timeouts
from connectors.kit.emulator import Emulator, serve

QUICK = replace(
    PROFILE,
    timeouts=Timeouts(connect=2, read=5, total=10),
    read=replace(READ, attempts=2, base=0.01),
    post=replace(POST, attempts=2, base=0.01),
)


@dataclass
class Service:
    emulator: BugyoEmulator
    url: str

    @property
    def environment(self) -> Environment:
        return Environment("emulator", self.url, self.url)

    def client(
        self,
        *,
        authorizer: Authorizer | None = None,
        tenant_id: str | None = DEMO_TENANTS[0].id,
        **more: Any,
    ) -> BugyoClient:
        options = {"subscription_key": DEMO_SUBSCRIPTION_KEY, "profile": QUICK, **more}
        return BugyoClient(
            self.environment,
            authorizer=authorizer or fixed_token(DEMO_FIXED_TOKEN),
            tenant_id=tenant_id,
            **options,
        )

    def app(self, **more: Any) -> OAuthApp:
        options = {
            "subscription_key": DEMO_SUBSCRIPTION_KEY,
            "client_id": DEMO_CLIENT_ID,
            "client_secret": DEMO_CLIENT_SECRET,
            "redirect_uri": DEMO_REDIRECT_URI,
            "profile": QUICK,
            **more,
        }
        return OAuthApp(self.environment, **options)

    def set(self, **settings: Any) -> None:
        self.emulator.settings = self.emulator.settings.model_copy(update=settings)

    def requests(self, path: str) -> int:
        return sum(
            count
            for name, count in self.emulator.faults.counts().items()
            if path.lower() in name.lower()
        )


class Stage(Emulator):
    """One server for all tests; each test puts its own emulator on it."""

    name = "stage"

    def play(self, emulator: Emulator) -> None:
        self.current = emulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.current.faults(scope, receive, send)


@pytest.fixture(scope="session")
def bugyo_stage() -> Iterator[tuple[Stage, str]]:
    stage = Stage()
    stage.faults = stage  # type: ignore[assignment]
    with serve(stage) as url:
        yield stage, url


@pytest.fixture
def service(bugyo_stage: tuple[Stage, str]) -> Service:
    stage, url = bugyo_stage
    emulator = BugyoEmulator()
    stage.play(emulator)
    return Service(emulator, url)


@pytest.fixture
def writes(service: Service) -> Callable[[], dict[str, int]]:
    """How often each code of the first tenant was written by imports."""
    return lambda: dict(service.emulator.books()["tenants"][DEMO_TENANTS[0].id]["writes"])
