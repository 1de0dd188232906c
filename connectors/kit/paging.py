"""Readers of pages, and their guards: who repeats or shuffles its pages is not believed."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Hashable,
    Iterable,
    Iterator,
    Sequence,
)
from itertools import islice
from typing import TypeVar

from connectors.kit._retry import Failure
from connectors.kit.errors import FaultError

T = TypeVar("T")
P = TypeVar("P")


def ensure_increasing(last: int, ids: Sequence[int], service: str) -> int:
    """Check that a page of a seek by id goes on where the one before it ended.

    Args:
        last: The last id seen so far.
        ids: The ids of this page, in its order.
        service: The service's name, for the error.

    Returns:
        The last id seen now.

    Raises:
        FaultError: ``AC-302``, an id is not greater than the one before it.
    """
    for number in ids:
        if number <= last:
            raise FaultError(
                "AC-302",
                f"ID {last} の次に ID {number}",
                service=service,
                failure=Failure.UNREADABLE,
            )
        last = number
    return last


class NoRepeat:
    """Remembers what led to each page (a next link, a cursor, a page number).

    Args:
        service: The service's name, for the error.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._seen: set[Hashable] = set()

    def check(self, key: Hashable) -> None:
        """Let ``key`` pass once.

        Raises:
            FaultError: ``AC-302``, it led to a page before: the pages would never end.
        """
        if key in self._seen:
            raise FaultError(
                "AC-302",
                f"{len(self._seen)} ページ目の次に同じページ",
                service=self._service,
                failure=Failure.UNREADABLE,
            )
        self._seen.add(key)


async def read_pages(
    page: Callable[[T], Awaitable[P]], first: T, following: Callable[[P], T | None], *, ahead: bool
) -> AsyncGenerator[P, None]:
    """Pages, one after the other. Close it (`contextlib.aclosing`) when you leave early.

    Args:
        page: Asks for a page.
        first: Where the first one begins.
        following: Where the one after a page begins; ``None`` = that page was behind the end.
        ahead: Ask for the next page while the caller works on this one.
    """
    current = await page(first)
    while (begin := following(current)) is not None:
        if not ahead:
            yield current
            current = await page(begin)
            continue
        coming = asyncio.ensure_future(page(begin))
        try:
            yield current
            current = await coming
        finally:
            coming.cancel()
            # Its error, when nobody waits for it any more, is nobody's news.
            await asyncio.gather(coming, return_exceptions=True)


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items, the last one shorter; nothing for no items.

    Raises:
        ValueError: ``size`` is not positive.
    """
    if size < 1:
        raise ValueError(f"size must be positive, not {size}")
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
