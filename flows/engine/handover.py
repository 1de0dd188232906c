"""From extract to transform without a detour: pages that are still in memory.

The two stages run side by side. Extract *offers* each page; while a transform is there to take it,
the page travels with its records parsed, and is staged together with its rows, in one transaction.
Nobody there (a stage on its own, one after the other): extract stages the page itself, and the
transform reads it back. So the hand-over saves work and never holds anything that is needed: after
a crash the run goes on from what is staged.

Pages are numbered from 0 and are staged in that order, whoever does it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.engine.context import RunContext
from flows.engine.model import SourcePage

LIMIT = 1
"""Pages that wait for the transform at most. Each is a few MiB when parsed; what extract reads
ahead and what the transform works on come on top."""

Records = Sequence[tuple[str, Mapping[str, Any]]]
"""Records with their source keys."""


@dataclass(frozen=True, slots=True)
class ParsedPage(SourcePage):
    """A page whose source has its records at hand.

    Attributes:
        parsed: What `Source.records` would say about ``body``.
    """

    parsed: Records = ()


@dataclass(frozen=True, slots=True)
class Fetched:
    """A page that is not staged yet.

    Attributes:
        seq: Its number.
        page: The page.
        extracted: Records read so far, this page included.
        position: What a resumed run must know about extraction once this page is staged.
    """

    seq: int
    page: SourcePage
    extracted: int
    position: dict[str, Any]


class Handover:
    """Between the extract and the transform of one run, in one event loop.

    Attributes:
        closed: The transform has ended; what was handed over and not staged is not going to be.
    """

    def __init__(self) -> None:
        self.closed = False
        self._taken = False  # a transform is there
        self._staged: int | None = None  # pages in the store; unknown until extract begins
        self._finished = False  # extract has ended, well or not
        self._waiting: deque[Fetched] = deque()
        self._moved = asyncio.Event()

    def begin(self, staged: int) -> None:
        """Extract begins (or was done before) with ``staged`` pages in the store."""
        self._staged = staged
        self._wake()

    def finish(self) -> None:
        """No page will come any more."""
        self._finished = True
        self._wake()

    def attach(self) -> None:
        """A transform will take the pages from here on."""
        self._taken = True
        self._wake()

    def close(self) -> None:
        """The transform has ended."""
        self.closed = True
        self._waiting.clear()
        self._wake()

    def staged(self, seq: int) -> None:
        """Page ``seq`` is in the store."""
        self._staged = seq + 1
        self._wake()

    async def offer(self, page: Fetched) -> bool:
        """Hand a page over, once there is room; ``False`` = nobody takes it."""
        await self._until(lambda: self.closed or len(self._waiting) < LIMIT)
        if self.closed or not self._taken:
            return False
        self._waiting.append(page)
        self._wake()
        return True

    async def drained(self, pages: int) -> bool:
        """Wait until ``pages`` pages are staged; ``False`` = they never will be."""
        await self._until(lambda: self.closed or (self._staged or 0) >= pages)
        return (self._staged or 0) >= pages

    async def ready(self, seq: int) -> Fetched | bool:
        """Wait for page ``seq``.

        Returns:
            The page; ``True`` = read it from the store; ``False`` = there is none.
        """
        await self._until(
            lambda: bool(self._waiting) or self._finished or (self._staged or 0) > seq
        )
        if (self._staged or 0) > seq:
            return True
        if not self._waiting:
            return False
        found = self._waiting.popleft()
        self._wake()
        return found

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await self._moved.wait()


_open: dict[int, Handover] = {}


def of(run: RunContext) -> Handover:
    """The hand-over of a run: one for its extract and its transform, gone with the context.

    Not by run id: Prefect may run the same flow run again in this process, and the second attempt
    must not find the pages of the first.
    """
    found = _open.get(id(run))
    if found is None:
        found = _open[id(run)] = Handover()
        weakref.finalize(run, _open.pop, id(run), None)
    return found
