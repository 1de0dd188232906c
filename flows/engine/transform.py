"""Transform: pages -> rows and rejects. The connector's function is pure; this stores."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson
from sqlalchemy import Connection

from flows.engine import handover, position, rejects, staging
from flows.engine.context import RunContext
from flows.engine.handover import Fetched, Handover, ParsedPage, Records
from flows.engine.model import Reject, Row
from flows.engine.staging import Staged
from flows.engine.store import relax

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
    """Turn every page into rows; a page is done when its rows are stored.

    Pages come from the extract beside this one, or, when they were staged before, from the store.
    An extract that fails ends this one too: after the pages that were handed over.
    """
    pages = handover.of(run)
    if run.position.get("extracted"):
        pages.begin(int(run.position["pages"]))
        pages.finish()
    pages.attach()
    storing: asyncio.Task[None] | None = None
    try:
        async with contextlib.aclosing(_converted(run, pages)) as converted:
            async for page in converted:
                # In order, one at a time; the next page is converted meanwhile.
                if storing is not None:
                    await storing
                storing = asyncio.create_task(_keep(run, pages, page))
                await asyncio.sleep(0)  # the lease is renewed by this very loop
        if storing is not None:
            await storing
    finally:
        if storing is not None:
            await asyncio.gather(storing, return_exceptions=True)
        pages.close()


@dataclass(frozen=True, slots=True)
class _Converted:
    """A page as rows and rejects, not stored yet; ``rejected`` counts those before it, too."""

    seq: int
    fetched: Fetched | None
    rows: list[Prepared]
    bad: list[tuple[Reject, object]]
    rejected: int


async def _converted(run: RunContext, pages: Handover) -> AsyncGenerator[_Converted, None]:
    first = int(run.position.get("transformed", 0))
    digest = hasher(run.transformer.fields)
    done = 0
    async with contextlib.aclosing(_arriving(run, pages)) as arriving:
        async for page in arriving:
            records, fetched = _records(run, page)
            done += len(records)
            if page.seq < first:
                _note_retries(run, [key for key, _ in records])
                continue
            rows, bad = _convert(run, records, digest)
            run.counts.rejected += len(bad)
            yield _Converted(page.seq, fetched, rows, bad, run.counts.rejected)
            await run.progress("変換", done)


async def _arriving(run: RunContext, pages: Handover) -> AsyncGenerator[Staged | Fetched, None]:
    """Every page in order, from the extract at work or from the store.

    Raises:
        RuntimeError: a page that was staged is gone.
    """
    seq = 0
    while (ready := await pages.ready(seq)) is not False:
        if ready is not True:
            yield ready
            seq += 1
            continue
        before = seq
        stored = staging.pages(run.store, run.run_id, staging.RAW, after=seq - 1)
        async with contextlib.aclosing(stored):
            async for page in stored:
                if page.seq != seq:
                    break
                yield page
                seq += 1
        if seq == before:
            raise RuntimeError(f"staged page {seq} of run {run.run_id} is gone")


def _records(run: RunContext, page: Staged | Fetched) -> tuple[Records, Fetched | None]:
    if isinstance(page, Staged):
        return list(run.source.records(page.body)), None
    if isinstance(page.page, ParsedPage):
        return page.page.parsed, page
    return list(run.source.records(page.page.body)), page


async def _keep(run: RunContext, pages: Handover, page: _Converted) -> None:
    try:
        await run.store.do(_store, run, page)
    except BaseException:
        # Both stages may be waiting, for the next page and for this one: now they need not.
        pages.close()
        raise
    # Only now: what is written here is believed by a run that goes on after a crash.
    run.position["transformed"] = page.seq + 1
    if page.fetched is not None:
        run.position.update(page.fetched.position)
        pages.staged(page.seq)


def _note_retries(run: RunContext, keys: Iterable[str]) -> None:
    if run.window.retry:
        run.seen_retries.update(set(run.window.retry).intersection(keys))


def _convert(
    run: RunContext, records: Records, digest: Callable[[Sequence[str]], str]
) -> tuple[list[Prepared], list[tuple[Reject, object]]]:
    convert = run.transformer
    rows: list[Prepared] = []
    bad: list[tuple[Reject, object]] = []
    for source_key, record in records:
        outcome = convert(source_key, record)
        if isinstance(outcome, Row):
            values = list(outcome.values.values())
            rows.append((source_key, outcome.key, digest(values), values))
        else:
            bad.append((outcome, record))
    _note_retries(run, [key for key, _ in records])
    return rows, bad


def _store(db: Connection, run: RunContext, page: _Converted) -> None:
    """Stage the rows, and the page itself when it is not staged yet, in one transaction."""
    relax(db)
    rows, bad, fetched = page.rows, page.bad, page.fetched
    where: dict[str, Any] = {"transformed": page.seq + 1}
    if fetched is not None:
        raw = fetched.page
        staging.put(db, run.run_id, staging.RAW, page.seq, raw.records, raw.body)
        where |= fetched.position
    if rows:
        staging.put(db, run.run_id, staging.ROWS, page.seq, len(rows), orjson.dumps(rows))
    if not run.dry_run:
        rejects.put(db, run.handle.connection, run.pipeline.entity, run.run_id, bad)
    elif bad:
        # A dry run changes no books; its rejects live in its own staged page until it is reported.
        preview = [(r.source_key, r.code, r.item, r.label, r.reason) for r, _ in bad]
        staging.put(db, run.run_id, "preview", page.seq, len(bad), orjson.dumps(preview))
    extracted = None if fetched is None else fetched.extracted
    position.save(db, run.run_id, where, extracted=extracted, rejected=page.rejected)
