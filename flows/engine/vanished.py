"""Documents whose source record is gone (取消 at the source)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

from flows.engine import documents, staging
from flows.engine.batch import Batch
from flows.engine.context import RunContext
from flows.engine.ledger import PENDING, POSTED, UNCLEAR, Known
from flows.engine.model import Changed, Reject
from flows.engine.pipeline import Recurring
from flows.engine.transform import Prepared

_CHUNK = 500

AT_MOST, AT_MOST_SHARE = 20, 0.1
"""More documents at once, and more than this share of all, are never taken back by themselves: an
app that was emptied by mistake must not empty the books."""


def whole_days(run: RunContext) -> tuple[date, date] | None:
    """The days of which the run reads every record, if its source is `Recurring`."""
    return run.source.whole_days(run.window) if isinstance(run.source, Recurring) else None


async def of_whole_run(run: RunContext, leave: Collection[str] = ()) -> Batch | None:
    """Posted documents that a run over every record (of a period) did not see.

    Args:
        run: The run at work.
        leave: Records that are looked at elsewhere.

    Returns:
        What becomes of them; ``None`` = there are none.
    """
    days = whole_days(run)
    seen: set[str] = set()
    async for page in staging.pages(run.store, run.run_id, staging.RAW):
        seen.update(key for key, _ in run.source.records(page.body))
    seen.difference_update(run.nothing)
    gone: list[Known] = []
    posted, after = 0, ""
    while rows := await run.store.do(run.ledger.in_state, POSTED, _CHUNK, after):
        after = rows[-1].source_key
        posted += len(rows)
        gone += [
            row
            for row in rows
            if row.source_key not in seen
            and row.source_key not in leave
            and row.acknowledged != ""
            and (days is None or (row.day is not None and days[0] <= row.day <= days[1]))
        ]
    if gone and isinstance(run.source, Recurring):
        certain = await run.source.gone([row.source_key for row in gone])
        certain.update(run.nothing)
        gone = [row for row in gone if row.source_key in certain]
    return await _batch(run, gone, posted)


async def of_retries(run: RunContext, keys: Sequence[str]) -> Batch | None:
    """Of records that were asked for and not found: the documents that had been posted of them.

    Those whose outcome is unknown stay 要確認, although their record is gone.
    """
    known = await run.store.do(run.ledger.documents, list(keys))
    gone = [row for row in known.values() if row.state == POSTED and row.acknowledged != ""]
    batch = await _batch(run, gone, None)
    waiting = sum(row.state in (PENDING, UNCLEAR) for row in known.values())
    if waiting:
        batch = batch or Batch(staging.ROWS, [])
        batch.vanished += waiting
    return batch


async def _batch(run: RunContext, gone: Sequence[Known], posted: int | None) -> Batch | None:
    if not gone:
        return None
    batch = Batch(staging.ROWS, [])
    many = posted is not None and len(gone) > max(AT_MOST, posted * AT_MOST_SHARE)
    if run.changed is Changed.REPORT or many:
        for row in gone:
            batch.observed[row.source_key] = ""
            batch.doubts.append(_vanished(row, held=many and run.changed is not Changed.REPORT))
        batch.vanished = len(gone)
        return batch
    values = [""] * len(run.transformer.fields)
    rows: list[tuple[Prepared, Known]] = [
        ((row.source_key, f"証憑番号 {row.key}", row.content_hash, values), row) for row in gone
    ]
    for prepared, reversal in await documents.reversals(run, rows, gone=True):
        if isinstance(reversal, Reject):
            batch.observed[prepared[0]] = ""
            batch.doubts.append(reversal)
            batch.vanished += 1
        elif reversal is not None:
            batch.reversals.append(reversal)
    return batch


def _vanished(row: Known, *, held: bool) -> Reject:
    kept = "件数が多いため、赤伝票は作りませんでした。" if held else ""
    return Reject(
        source_key=row.source_key,
        code="AC-812",
        item="証憑番号",
        label=f"証憑番号 {row.key}",
        reason=(
            f"伝票（証憑番号 {row.key}、{row.amount or 0:,} 円）の元データがなくなりました。"
            f"奉行クラウドの伝票は登録したときのままです。{kept}"
        ),
    )
