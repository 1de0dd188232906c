"""Closing a run: what has to become true together when it ends, well or not."""

from __future__ import annotations

import contextlib
from typing import Any
from uuid import UUID

from sqlalchemy import text

from connectors.kit import AppConnectError, FaultError
from flows.engine import history, rejects
from flows.engine.clock import now
from flows.engine.context import RunContext
from flows.engine.ledger import PENDING, POSTED, REJECTED, UNCLEAR, UNSENT, Ledger, reversal_entity
from flows.engine.model import Counts, Mode, Result
from flows.engine.period import period_words
from flows.engine.pipeline import Pipeline, Remarks
from flows.engine.postponing import Postponement
from flows.engine.store import RunRow, Store

_COUNTS = text(
    "SELECT extracted, created, updated, unchanged, rejected, pending, vanished "
    "FROM run WHERE id = :id"
)


def preview_prefix(row: RunRow) -> str:
    """What stands before the counts of a dry run."""
    return "確認のみ（送信していません）: " if row.dry_run else ""


def ending_words(run: RunContext, row: RunRow) -> str:
    """What is said about a run that came to its end.

    Its period and counts, the codes that it lacked, and what the source left out.
    """
    first = preview_prefix(row) + period_words(run.window) + run.counts.sentence()
    said = [first, run.unmapped.sentence()]
    if isinstance(run.source, Remarks):
        said += run.source.remarks()
    return " / ".join(each for each in said if each)


def close(db: Any, run: RunContext, row: RunRow) -> tuple[Result, Counts]:
    """Everything that has to become true together when a run ends well.

    Raises:
        FaultError: ``AC-603``, what was read and what became of it do not add up.
    """
    counts = run.counts
    if run.dry_run:
        result = Result.PARTIAL if counts.rejected else Result.SUCCESS
    else:
        from_ledger(db, run.ledger, run.run_id, counts)
        reconcile(db, run, counts)
        if run.mode is not Mode.ONE:
            _let_go(db, run)
        # Beyond what was seen, and beyond the source's own clock, nothing is known to be handled.
        whole = run.mode in (Mode.INCREMENTAL, Mode.FULL)
        if whole and run.newest is not None and not counts.pending:
            history.set_watermark(db, row.connection, min(run.newest, run.server_time or now()))
        open_ends = counts.rejected or counts.pending or counts.vanished
        result = Result.PARTIAL if open_ends else Result.SUCCESS
    history.close_run(
        db,
        row.id,
        result=result,
        counts=counts,
        message=ending_words(run, row),
        error=None,
    )
    return result, counts


def reconcile(db: Any, run: RunContext, counts: Counts) -> None:
    """What was read is what was posted, unchanged, rejected or 要確認; the yen are those sent.

    Raises:
        FaultError: ``AC-603``, they do not add up: a record was lost on the way.
    """
    if run.resumed:
        # A page that was read twice over the interruption counts once: records, not readings.
        outcomes = (counts.created, counts.updated, counts.unchanged, counts.rejected)
        counts.extracted = sum(outcomes) + counts.pending
        return
    if not counts.balanced():
        raise FaultError("AC-603", counts.sentence())
    if run.changed is not None:
        booked = run.ledger.sums(db, run.run_id).get(POSTED, (0, 0))[0]
        if booked != run.posted_yen:
            words = f"送った金額 {run.posted_yen:,} 円、控えの金額 {booked:,} 円"
            raise FaultError("AC-603", words)


def _let_go(db: Any, run: RunContext) -> None:
    """Records that were asked for and are gone: their rejects go, and what we kept of them."""
    gone = [key for key in run.window.retry if key not in run.seen_retries]
    if run.changed is not None:
        known = run.ledger.documents(db, gone)
        # A posted document stays in the books for ever; an unknown outcome stays 要確認.
        held = {
            key
            for key, row in known.items()
            if row.state in (PENDING, UNCLEAR) or (row.state == POSTED and row.acknowledged != "")
        }
        free = [k for k, row in known.items() if row.state in (REJECTED, UNSENT)]
        rejects.resolve(
            db, run.handle.connection, run.pipeline.entity, [k for k in gone if k not in held]
        )
        run.ledger.release(db, free)
        return
    rejects.resolve(db, run.handle.connection, run.pipeline.entity, gone)
    run.ledger.release(db, gone)


def from_ledger(db: Any, ledger: Ledger, run_id: UUID, counts: Counts) -> None:
    """The books know what was posted, whatever this process remembers."""
    totals = ledger.totals(db, run_id)
    counts.created = totals.get((POSTED, "created"), 0)
    counts.updated = totals.get((POSTED, "updated"), 0)
    counts.pending = sum(n for (state, _), n in totals.items() if state in (PENDING, UNCLEAR))
    reds = Ledger(ledger.connection, reversal_entity(ledger.entity)).totals(db, run_id)
    for (state, action), n in reds.items():
        if state in (PENDING, UNCLEAR):
            if action == "cancelled":
                counts.vanished += n
            else:
                counts.pending += n


def close_with_error(
    db: Any,
    row: RunRow,
    pipeline: Pipeline[Any],
    result: Result,
    error: AppConnectError,
    later: Postponement | None = None,
) -> Counts:
    """Write that an error ended the run, or put it off, and tell ``error`` what is safe.

    Returns:
        The counts as the books know them.
    """
    saved = db.execute(_COUNTS, {"id": row.id}).one()
    counts = Counts(*saved)
    if result is not Result.SKIPPED:
        if not row.dry_run:
            from_ledger(db, Ledger(row.connection, pipeline.entity), row.id, counts)
        error.safe = _what_is_safe(counts, error)
    message = later.message(error) if later else str(error)
    history.close_run(
        db, row.id, result=result, counts=counts, message=message, error=error.as_dict()
    )
    return counts


def _what_is_safe(counts: Counts, error: AppConnectError) -> str:
    """The catalogue's statement, with this run's own numbers before it."""
    done = counts.created + counts.updated
    posted = (
        f"この処理で {done:,} 件を登録済みです。" if done else "この処理では何も登録していません。"
    )
    unknown = f"結果の分からないデータが {counts.pending:,} 件あります。" if counts.pending else ""
    return posted + unknown + error.safe


def close_cancelled(store: Store, row: RunRow) -> None:
    """Write that the run was taken back; what it left open is settled by the next one."""
    error = FaultError("AC-602", "取り消されました")
    with contextlib.suppress(AppConnectError), store.begin() as db:
        counts = Counts(*db.execute(_COUNTS, {"id": row.id}).one())
        history.close_run(
            db,
            row.id,
            result=Result.ERROR,
            counts=counts,
            message=str(error),
            error=error.as_dict(),
        )
