"""The emulators of the local stack: ``python -m deployments.emulators``.

Each holds its sample; 奉行クラウド keeps what was registered in the state folder, so that a restart
of the stack meets the books as they were: our ledger remembers them, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import orjson
import uvicorn

from connectors.bugyo.emulator import DEMO_CLIENT_ID, BugyoEmulator
from connectors.kit.consent import CALLBACK
from connectors.kit.emulator import Emulator
from deployments.samples import samples
from deployments.stack.settings import StackSettings

_SAVE_SECONDS = 0.5


class Books:
    """What 奉行クラウド's emulator holds, in a file: written shortly after it changed."""

    def __init__(self, emulator: BugyoEmulator, path: Path) -> None:
        self._emulator = emulator
        self._path = path
        self._saved = 0

    def load(self) -> None:
        """Put back what an earlier emulator held."""
        if self._path.exists():
            self._emulator.restore(orjson.loads(self._path.read_bytes()))
        self._saved = self._emulator.version

    def save(self) -> None:
        """Write the books, if they changed; a crash leaves the old file or the new one."""
        version = self._emulator.version
        if version == self._saved:
            return
        draft = self._path.with_suffix(".new")
        draft.write_bytes(orjson.dumps(self._emulator.dump()))
        draft.replace(self._path)
        self._saved = version

    async def keep(self) -> None:
        """`save` now and then, until cancelled."""
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            self.save()


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: several of them share this process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_all(settings: StackSettings) -> None:
    """Serve every sample's emulator until SIGTERM or SIGINT."""
    emulators = {service: sample.emulator() for service, sample in samples().items()}
    bugyo = emulators["bugyo"]
    if not isinstance(bugyo, BugyoEmulator):
        raise TypeError("the sample of 奉行クラウド brings another emulator")
    # 許可する leads back to the gateway of this stack, as it would be registered at OBC.
    bugyo.accounts.applications[DEMO_CLIENT_ID].redirect_uris.add(settings.gateway_url + CALLBACK)
    books = Books(bugyo, settings.state_dir / "bugyo-emulator.json")
    books.load()
    servers = [
        _server(emulator, settings.host, getattr(settings, f"{service}_port"))
        for service, emulator in emulators.items()
    ]

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    keeper = asyncio.create_task(books.keep())
    try:
        await asyncio.gather(*(server.serve() for server in servers))
    finally:
        keeper.cancel()
        books.save()


def _server(emulator: Emulator, host: str, port: int) -> _Server:
    return _Server(
        uvicorn.Config(
            emulator.faults,
            host=host,
            port=port,
            log_level="warning",
            lifespan="off",
            timeout_graceful_shutdown=3,
        )
    )


if __name__ == "__main__":
    asyncio.run(serve_all(StackSettings()))
