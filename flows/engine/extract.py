"""Extract: partner pages -> staged pages, as received."""

from __future__ import annotations

import contextlib
from datetime import datetime

from sqlalchemy import Connection

from connectors.kit import FaultError
from flows.engine import staging
from flows.engine.context import RunContext
from flows.engine.history import save_counts
from flows.engine.model import SourcePage


async def extract(run: RunContext) -> None:
    """Stage every page of the window. Sources ask for the next page while this one is stored."""
    position = run.position.get("source")
    seq = int(run.position.get("pages", 0))
    _recall(run)
    if run.position.get("extracted"):
        return
    run.total = await run.source.count(run.window)
    async with contextlib.aclosing(run.source.pages(run.window, position)) as pages:
        async for page in pages:
            _remember(run, page)
            run.counts.extracted += page.records
            run.position = _position(run, source=page.position, pages=seq + 1)
            await run.store.do(_store_page, run, seq, page)
            seq += 1
            await run.progress("取得", run.counts.extracted)
    await _check_total(run)
    run.position = _position(run, source=None, pages=seq, extracted=True)
    await run.store.do(
        lambda db: save_counts(db, run.run_id, run.counts, position=run.position, stage="extracted")
    )


async def _check_total(run: RunContext) -> None:
    """Fewer records than announced: they were deleted meanwhile, or pages were lost on the way.

    Raises:
        FaultError: ``AC-302``, the source still announces more than it gave.
    """
    seen = run.counts.extracted
    if run.total is None or seen >= run.total:
        return
    announced = await run.source.count(run.window)
    if announced is not None and seen < announced:
        raise FaultError("AC-302", f"{announced:,} 件のはずが {seen:,} 件")


def _store_page(db: Connection, run: RunContext, seq: int, page: SourcePage) -> None:
    staging.put(db, run.run_id, staging.RAW, seq, page.records, page.body)
    save_counts(db, run.run_id, run.counts, position=run.position)


def _remember(run: RunContext, page: SourcePage) -> None:
    if page.newest is not None and (run.newest is None or page.newest > run.newest):
        run.newest = page.newest
    if run.server_time is None:
        run.server_time = page.server_time


def _position(run: RunContext, **more: object) -> dict[str, object]:
    """What a resumed run must know, as JSON."""
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
