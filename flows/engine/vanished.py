"""Documents whose source record is gone (取消 at the source)."""

from __future__ import annotations

from collections.abc import Sequence

from flows.engine import documents, staging
from flows.engine.batch import Batch
from flows.engine.context import RunContext
from flows.engine.ledger import PENDING, POSTED, UNCLEAR, Known
from flows.engine.model import Changed, Reject
from flows.engine.transform import Prepared

_CHUNK = 500

AT_MOST, AT_MOST_SHARE = 20, 0.1
"""More documents at once, and more than this share of all, are never taken back by themselves: an
app that was emptied by mistake must not empty the books."""


async def of_full_run(run: RunContext) -> Batch | None:
    """Posted documents that a run over every record did not see; ``None`` = there are none."""
    seen: set[str] = set()
    async for page in staging.pages(run.store, run.run_id, staging.RAW):
        seen.update(key for key, _ in run.source.records(page.body))
    seen.difference_update(run.nothing)
    gone: list[Known] = []
    posted, after = 0, ""
    while rows := await run.store.do(run.ledger.in_state, POSTED, _CHUNK, after):
        after = rows[-1].source_key
        posted += len(rows)
        gone += [row for row in rows if row.source_key not in seen and row.acknowledged != ""]
    return await _batch(run, gone, posted)


async def of_retries(run: RunContext, keys: Sequence[str]) -> Batch | None:
    """Of records that were asked for and not found: the documents that had been posted of them.

    Those whose outcome is unknown stay 要確認, although their record is gone.
    """
    known = await run.store.do(run.ledger.documents, list(keys))
    gone = [row for row in known.values() if row.state == POSTED and row.acknowledged != ""]
    batch = await _batch(run, gone, len(gone))
    waiting = sum(row.state in (PENDING, UNCLEAR) for row in known.values())
    if waiting:
        batch = batch or Batch(staging.ROWS, [])
        batch.vanished += waiting
    return batch


async def _batch(run: RunContext, gone: Sequence[Known], posted: int) -> Batch | None:
    if not gone:
        return None
    batch = Batch(staging.ROWS, [])
    many = len(gone) > max(AT_MOST, posted * AT_MOST_SHARE) and run.mode is run.mode.FULL
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
