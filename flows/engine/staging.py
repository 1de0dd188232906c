"""Staged pages: what one stage leaves for the next, compressed, in the store."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import zstandard
from sqlalchemy import Connection, text

from flows.engine.store import Store

RAW, ROWS, DEFERRED = "raw", "rows", "deferred"
"""Stages: as received; as it will be sent; put back until what it refers to is posted."""

_PUT = text(
    "INSERT INTO staged_page (run_id, stage, seq, records, body) "
    "VALUES (:run, :stage, :seq, :records, :body) "
    "ON CONFLICT (run_id, stage, seq) DO UPDATE SET records = excluded.records, "
    "body = excluded.body"
)
_NEXT = text(
    "SELECT seq, records, body FROM staged_page WHERE run_id = :run AND stage = :stage "
    "AND seq > :after ORDER BY seq LIMIT :limit"
)
_ONE = text("SELECT body FROM staged_page WHERE run_id = :run AND stage = :stage AND seq = :seq")
_COUNT = text(
    "SELECT coalesce(sum(records), 0) FROM staged_page WHERE run_id = :run AND stage = :stage"
)
_DELETE = text("DELETE FROM staged_page WHERE run_id = :run AND stage = :stage AND seq = :seq")


_AHEAD = 4
"""Pages that one transaction reads back: compressed they are small, and a transaction for each of
them costs more than the pages."""


class _Zstd(threading.local):
    """One compressor and one decompressor a thread: they may not be shared between threads."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=1)
        self.decompressor = zstandard.ZstdDecompressor()


_zstd = _Zstd()


def compress(data: bytes) -> bytes:
    """zstd, fastest level: the point is less I/O, not the smallest size."""
    return _zstd.compressor.compress(data)


def decompress(data: bytes) -> bytes:
    """The bytes that `compress` was given."""
    return _zstd.decompressor.decompress(data)


@dataclass(frozen=True, slots=True)
class Staged:
    """A page read back."""

    seq: int
    records: int
    body: bytes


def put(db: Connection, run_id: UUID, stage: str, seq: int, records: int, body: bytes) -> None:
    """Stage ``body``; staging the same page again replaces it."""
    db.execute(
        _PUT,
        {"run": run_id, "stage": stage, "seq": seq, "records": records, "body": compress(body)},
    )


def remove(db: Connection, run_id: UUID, stage: str, seq: int) -> None:
    """Forget a page that has been dealt with."""
    db.execute(_DELETE, {"run": run_id, "stage": stage, "seq": seq})


def count(db: Connection, run_id: UUID, stage: str) -> int:
    """How many records are staged."""
    found = db.execute(_COUNT, {"run": run_id, "stage": stage}).scalar_one()
    return int(found)


def one(db: Connection, run_id: UUID, stage: str, seq: int) -> bytes | None:
    """The body of one page, or ``None`` when it is gone."""
    row = db.execute(_ONE, {"run": run_id, "stage": stage, "seq": seq}).first()
    return None if row is None else decompress(bytes(row[0]))


def _next(db: Connection, run_id: UUID, stage: str, after: int) -> list[tuple[int, int, bytes]]:
    values = {"run": run_id, "stage": stage, "after": after, "limit": _AHEAD}
    return [(row[0], row[1], bytes(row[2])) for row in db.execute(_NEXT, values)]


async def pages(
    store: Store, run_id: UUID, stage: str, *, after: int = -1
) -> AsyncGenerator[Staged, None]:
    """The staged pages behind ``after`` in order; the next few are fetched in advance."""
    ahead = asyncio.create_task(store.do(_next, run_id, stage, after))
    try:
        while found := await ahead:
            ahead = asyncio.create_task(store.do(_next, run_id, stage, found[-1][0]))
            for seq, records, body in found:
                yield Staged(seq, records, decompress(body))
    finally:
        if not ahead.done():
            ahead.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ahead


def purge(db: Connection, connection: str, *, keep: UUID | None = None) -> None:
    """Delete the staged pages of a connection: personal data does not linger.

    A run whose pages go can no longer be resumed where it stopped, so its position goes too.
    """
    who: dict[str, Any] = {"connection": connection, "keep": keep}
    db.execute(
        text(
            "DELETE FROM staged_page WHERE run_id IN "
            "(SELECT id FROM run WHERE connection = :connection "
            "AND (CAST(:keep AS uuid) IS NULL OR id <> :keep))"
        ),
        who,
    )
    db.execute(
        text(
            "UPDATE run SET position = '{}', stage = 'open' WHERE connection = :connection "
            "AND position <> '{}' AND (CAST(:keep AS uuid) IS NULL OR id <> :keep)"
        ),
        who,
    )
