"""Transform: staged pages -> rows and rejects. The connector's function is pure; this stores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import orjson
from sqlalchemy import Connection

from flows.engine import rejects, staging
from flows.engine.context import RunContext
from flows.engine.history import save_counts
from flows.engine.model import Reject, Row

Prepared = tuple[str, str, str, list[str]]
"""A staged row: source key, key at 奉行クラウド, content hash (hex), values in field order."""


def hasher(fields: Sequence[str]) -> Callable[[Sequence[str]], str]:
    """A function that hashes values in the order of ``fields``: 16 bytes, as hex.

    The fields are part of the hash: when the mapping changes, everything is sent again.
    """
    base = blake2b(orjson.dumps(list(fields)), digest_size=16)

    def digest(values: Sequence[str]) -> str:
        state = base.copy()
        state.update(orjson.dumps(values))
        return state.hexdigest()

    return digest


async def transform(run: RunContext) -> None:
    """Turn every staged page into rows; a page is done when its rows are stored."""
    first = int(run.position.get("transformed", 0))
    digest = hasher(run.transformer.fields)
    done = 0
    async for page in staging.pages(run.store, run.run_id, staging.RAW):
        done += page.records
        if page.seq < first:
            _note_retries(run, (key for key, _ in run.source.records(page.body)))
            continue
        rows, bad = _convert(run, page.body, digest)
        run.counts.rejected += len(bad)
        run.position["transformed"] = page.seq + 1
        await run.store.do(_store, run, page.seq, rows, bad)
        await run.progress("変換", done)
        await asyncio.sleep(0)  # the lease is renewed by this very loop


def _note_retries(run: RunContext, keys: Any) -> None:
    if run.window.retry:
        run.seen_retries.update(set(run.window.retry).intersection(keys))


def _convert(
    run: RunContext, body: bytes, digest: Callable[[Sequence[str]], str]
) -> tuple[list[Prepared], list[tuple[Reject, object]]]:
    convert = run.transformer
    rows: list[Prepared] = []
    bad: list[tuple[Reject, object]] = []
    keys: list[str] = []
    for source_key, record in run.source.records(body):
        keys.append(source_key)
        outcome = convert(source_key, record)
        if isinstance(outcome, Row):
            values = list(outcome.values.values())
            rows.append((source_key, outcome.key, digest(values), values))
        else:
            bad.append((outcome, record))
    _note_retries(run, keys)
    return rows, bad


def _store(
    db: Connection,
    run: RunContext,
    seq: int,
    rows: list[Prepared],
    bad: list[tuple[Reject, object]],
) -> None:
    if rows:
        staging.put(db, run.run_id, staging.ROWS, seq, len(rows), orjson.dumps(rows))
    if not run.dry_run:
        rejects.put(db, run.handle.connection, run.pipeline.entity, run.run_id, bad)
    elif bad:
        # A dry run changes no books; its rejects live in its own staged page until it is reported.
        preview = [(r.source_key, r.code, r.item, r.label, r.reason) for r, _ in bad]
        staging.put(db, run.run_id, "preview", seq, len(bad), orjson.dumps(preview))
    save_counts(db, run.run_id, run.counts, position=run.position)
