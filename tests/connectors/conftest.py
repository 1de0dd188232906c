<<<<<<< HEAD
"""What the tests of several services share."""

from __future__ import annotations

from collections.abc import Iterator
=======
"""One server for all emulators of the client tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
>>>>>>> dec653a (SmartHR: client that asks only for what is mapped, emulator with both limits, credentials block)

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
<<<<<<< HEAD
=======


@pytest.fixture
def on_stage(stage: tuple[Stage, str]) -> Callable[[Emulator], str]:
    """Puts an emulator on the session's server; returns its URL."""
    shown, base = stage

    def put(emulator: Emulator) -> str:
        shown.current = emulator
        return base

    return put
>>>>>>> dec653a (SmartHR: client that asks only for what is mapped, emulator with both limits, credentials block)
