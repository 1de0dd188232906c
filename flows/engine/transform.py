"""Transform: pages -> rows and rejects. The connector's function is pure; this stores."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson
from sqlalchemy import Connection

from flows.engine import code_table, corrections, handover, position, rejects, staging
from flows.engine.context import RunContext
from flows.engine.corrections import Correction, Corrector
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
    if run.pipeline.codes:
        await run.store.do(_tell_unmapped, run)


def _tell_unmapped(db: Connection, run: RunContext) -> None:
    """未対応のコード of everything that was read: known before anything is sent."""
    run.unmapped = (
        code_table.previewed(db, run.run_id)
        if run.dry_run
        else code_table.unmapped(db, run.handle.connection, run.run_id)
    )
    if run.unmapped.codes:
        run.log("%s", run.unmapped.sentence())


@dataclass(frozen=True, slots=True)
class _Converted:
    """A page as rows and rejects, not stored yet; ``rejected`` counts those before it, too.

    ``stale`` are corrections that a person made of records which have changed since, ``nothing``
    the records so far of which there is nothing to post.
    """

    seq: int
    fetched: Fetched | None
    rows: list[Prepared]
    bad: list[tuple[Reject, object]]
    rejected: int
    stale: list[tuple[str, Correction]]
    nothing: list[str]


async def _converted(run: RunContext, pages: Handover) -> AsyncGenerator[_Converted, None]:
    first = int(run.position.get("transformed", 0))
    digest = hasher(run.transformer.fields)
    connection, entity = run.handle.connection, run.pipeline.entity
    correct = Corrector(await run.store.do(corrections.read, connection, entity))
    done = 0
    async with contextlib.aclosing(_arriving(run, pages)) as arriving:
        async for page in arriving:
            records, fetched = _records(run, page)
            done += len(records)
            if page.seq < first:
                _note_retries(run, [key for key, _ in records])
                continue
            rows, bad, nothing = _convert(run, records, digest, correct)
            run.counts.rejected += len(bad)
            run.counts.extracted -= len(nothing)
            run.nothing += nothing
            stale = list(correct.stale.items())
            correct.stale.clear()
            if stale:
                keys = "、".join(key for key, _ in stale[:20])
                run.log("元データが変わったため、修正を取り消しました: レコード %s", keys)
            rejected, empty = run.counts.rejected, [*run.nothing]
            yield _Converted(page.seq, fetched, rows, bad, rejected, stale, empty)
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
        run.seen_retries.update(set(run.window.retry).intersection(keys).difference(run.nothing))


_WRONG_SHAPE = (KeyError, IndexError, TypeError, AttributeError, ValueError)
"""What a connector's function raises at a record that is not built as its form was: a field is gone
or holds another kind of value. That record is rejected; the others go on."""


def _misshapen(run: RunContext, source_key: str, error: Exception, *, first: bool) -> Reject:
    # A missing field is a KeyError of its code; other errors may quote a value, and are not shown.
    name = str(error.args[0]) if isinstance(error, KeyError) and error.args else ""
    if first:  # of a page: where it happened, once, for the operator
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
        run.log("元データの形が変わっています: レコード %s（%s）", source_key, where)
    missing = f"項目「{name}」がありません。" if name and name != "value" else ""
    return Reject(
        source_key=source_key,
        code="AC-807",
        item=name if missing else "",
        label=f"レコード {source_key}",
        reason=f"元データの形が、接続を設定したときと変わっています。{missing}",
        remedy=(
            "元のサービスで、項目（フィールド）が削除されたり種類が変わったりしていないかを確かめる"
            " → 接続の「設定」の項目の対応を直す → 次回の処理（または手動実行）が自動で送り直します"
        ),
    )


def _convert(
    run: RunContext,
    records: Records,
    digest: Callable[[Sequence[str]], str],
    correct: Corrector,
) -> tuple[list[Prepared], list[tuple[Reject, object]], list[str]]:
    convert = run.transformer
    rows: list[Prepared] = []
    bad: list[tuple[Reject, object]] = []
    nothing: list[str] = []
    for source_key, record in records:
        try:
            if source_key in correct.known:
                corrected = convert(source_key, correct(source_key, record))
                outcome = correct.noted(source_key, corrected)
            else:
                outcome = convert(source_key, record)
        except _WRONG_SHAPE as error:
            outcome = _misshapen(run, source_key, error, first=not bad)
        if isinstance(outcome, Row):
            values = list(outcome.values.values())
            rows.append((source_key, outcome.key, digest(values), values))
        elif outcome is None:
            nothing.append(source_key)
        else:
            bad.append((outcome, record))
    _note_retries(run, {key for key, _ in records}.difference(nothing))
    return rows, bad, nothing


def _store(db: Connection, run: RunContext, page: _Converted) -> None:
    """Stage the rows, and the page itself when it is not staged yet, in one transaction."""
    relax(db)
    rows, bad, fetched = page.rows, page.bad, page.fetched
    where: dict[str, Any] = {"transformed": page.seq + 1}
    if page.nothing:
        where["nothing"] = page.nothing
    if fetched is not None:
        raw = fetched.page
        staging.put(db, run.run_id, staging.RAW, page.seq, raw.records, raw.body)
        where |= fetched.position
    if rows:
        staging.put(db, run.run_id, staging.ROWS, page.seq, len(rows), orjson.dumps(rows))
    if not run.dry_run:
        rejects.put(db, run.handle.connection, run.pipeline.entity, run.run_id, bad)
        corrections.drop(db, run.handle.connection, run.pipeline.entity, page.stale)
    elif bad:
        # A dry run changes no books; its rejects live in its own staged page until it is reported.
        preview = [
            (r.source_key, r.code, r.item, r.label, r.reason, code_table.as_preview(r))
            for r, _ in bad
        ]
        staging.put(db, run.run_id, "preview", page.seq, len(bad), orjson.dumps(preview))
    extracted = None if fetched is None else fetched.extracted
    position.save(db, run.run_id, where, extracted=extracted, rejected=page.rejected)
