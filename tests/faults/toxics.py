"""A TCP proxy that spoils what a server answers: toxiproxy's toxics, in the test's own process.

It knows nothing of HTTP: bytes from the client pass at once, bytes from the server go through the
toxics. `Toxics` are read anew for each connection, so that a test may change them between two.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Toxics:
    """What happens to the answers of one connection.

    Attributes:
        latency: Seconds before the first byte of an answer.
        bandwidth: Bytes a second; 0 = as fast as it goes.
        slice: Bytes of one packet; 0 = as they come.
        slice_delay: Seconds between two packets.
        reset_after: The connection is reset (RST) after so many bytes.
        cut_after: The connection is closed in order (FIN) after so many bytes.
        slow_close: Seconds that the end of the connection is held back.
        accept: ``False`` = the connection stands, and nobody reads or writes.
        rewrite: Applied to each piece that comes from the server.
    """

    latency: float = 0.0
    bandwidth: int = 0
    slice: int = 0
    slice_delay: float = 0.0
    reset_after: int | None = None
    cut_after: int | None = None
    slow_close: float = 0.0
    accept: bool = True
    rewrite: Callable[[bytes], bytes] | None = None


CLEAN = Toxics()


class ToxicProxy:
    """One proxy in front of one server.

    Attributes:
        url: Where clients connect.
        toxics: For the connections from now on, unless ``queue`` has some.
        queue: Toxics of the next connections, one each.
        connections: How many there were.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.toxics = CLEAN
        self.queue: list[Toxics] = []
        self.connections = 0

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        toxics = self.queue.pop(0) if self.queue else self.toxics
        try:
            await self._serve(reader, writer, toxics)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, toxics: Toxics
    ) -> None:
        if not toxics.accept:
            await asyncio.Event().wait()
        up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        forward = asyncio.create_task(_pass_on(reader, up_writer))
        try:
            await _spoil(up_reader, writer, toxics)
        finally:
            forward.cancel()
            up_writer.close()
            await asyncio.gather(forward, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


async def _spoil(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, toxics: Toxics
) -> None:
    limits = [n for n in (toxics.reset_after, toxics.cut_after) if n is not None]
    left = min(limits) if limits else None
    size = toxics.slice or (max(1, toxics.bandwidth // 10) if toxics.bandwidth else 65536)
    while data := await reader.read(65536):
        await asyncio.sleep(toxics.latency)
        if toxics.rewrite is not None:
            data = toxics.rewrite(data)
        if left is not None:
            data, left = data[:left], max(0, left - len(data))
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            writer.write(piece)
            await writer.drain()
            pause = len(piece) / toxics.bandwidth if toxics.bandwidth else 0.0
            await asyncio.sleep(max(pause, toxics.slice_delay))
        if left == 0:
            if toxics.reset_after is not None:
                _reset(writer)
            break
    await asyncio.sleep(toxics.slow_close)


def _reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN: closing a socket that does not linger."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def toxic_proxy(upstream: str, toxics: Toxics = CLEAN) -> AsyncIterator[ToxicProxy]:
    """A proxy in front of ``upstream`` (``http://127.0.0.1:port``), stopped at the end."""
    proxy = ToxicProxy(upstream)
    proxy.toxics = toxics
    server = await proxy.start()
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()
