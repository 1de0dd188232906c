"""Extract: partner pages -> staged pages, as received. Transform runs beside it."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from connectors.kit import FaultError
from flows.engine import handover, position, staging
from flows.engine.context import RunContext
from flows.engine.handover import Fetched, Handover
from flows.engine.model import SourcePage
from flows.engine.store import relax


async def extract(run: RunContext) -> None:
    """Read every page of the window and see it staged, by the transform or here.

    Sources ask for the next page while this one is worked on. When the transform has failed, this
    ends quietly: the error is the transform's, and a resumed run reads on from what is staged.
    """
    pages = handover.of(run)
    _recall(run)
    pages.begin(_staged(run))
    try:
        if not run.position.get("extracted"):
            await _extract(run, pages)
    finally:
        pages.finish()


async def _extract(run: RunContext, pages: Handover) -> None:
    seq = _staged(run)
    start = run.position.get("source")
    run.total = await run.source.count(run.window)
    async with contextlib.aclosing(run.source.pages(run.window, start)) as source:
        async for page in source:
            _remember(run, page)
            run.counts.extracted += page.records
            where = _where(run, source=page.position, pages=seq + 1)
            fetched = Fetched(seq, page, run.counts.extracted, where)
            if not await pages.offer(fetched):
                if pages.closed:
                    return
                await run.store.do(_store_page, run, fetched)
                pages.staged(seq)
            seq += 1
            await run.progress("取得", run.counts.extracted)
    await _check_total(run)
    if not await pages.drained(seq):
        return
    where = _where(run, source=None, pages=seq, extracted=True)
    await run.store.do(
        position.save, run.run_id, where, extracted=run.counts.extracted, stage="extracted"
    )
    run.position.update(where)


def _staged(run: RunContext) -> int:
    return int(run.position.get("pages", 0))


async def _check_total(run: RunContext) -> None:
    """Fewer records than announced: they were deleted meanwhile, or pages were lost on the way.

    Raises:
        FaultError: ``AC-302``, the source still announces more than it gave.
    """
    seen = run.counts.extracted + len(run.nothing)
    if run.total is None or seen >= run.total:
        return
    announced = await run.source.count(run.window)
    if announced is not None and seen < announced:
        raise FaultError("AC-302", f"{announced:,} 件のはずが {seen:,} 件")


def _store_page(db: Connection, run: RunContext, fetched: Fetched) -> None:
    relax(db)
    page = fetched.page
    staging.put(db, run.run_id, staging.RAW, fetched.seq, page.records, page.body)
    position.save(db, run.run_id, fetched.position, extracted=fetched.extracted)


def _remember(run: RunContext, page: SourcePage) -> None:
    if page.newest is not None and (run.newest is None or page.newest > run.newest):
        run.newest = page.newest
    if run.server_time is None:
        run.server_time = page.server_time


def _where(run: RunContext, **more: object) -> dict[str, Any]:
    """What a resumed run must know about extraction, as JSON."""
    return {
        **more,
        "newest": run.newest.isoformat() if run.newest else None,
        "server_time": run.server_time.isoformat() if run.server_time else None,
    }


def _recall(run: RunContext) -> None:
    for name in ("newest", "server_time"):
        value = run.position.get(name)
        if value:
            setattr(run, name, datetime.fromisoformat(str(value)))
