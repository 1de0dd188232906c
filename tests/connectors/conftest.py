"""What the tests of several services share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.types import Receive, Scope, Send

from connectors.kit.emulator import Emulator, FaultControl, serve


class Stage(FaultControl):
    """One server for all tests, in front of the emulator of the test that runs.

    Starting and stopping a server takes a quarter of a second; an emulator takes none.
    """

    current: Emulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.current.faults(scope, receive, send)


@pytest.fixture(scope="session")
def stage() -> Iterator[tuple[Stage, str]]:
    front = Emulator()
    front.faults = shown = Stage(front.api)
    with serve(front) as base:
        yield shown, base
