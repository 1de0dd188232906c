"""Documents (slips) in the load stage: posted once under a key of ours, never rewritten.

Before the first request for a record its key is looked up: books that were restored from an older
backup, or lost, do not make us post it again. What changed at the source after it was posted is
reported, or reversed and posted anew (赤黒), as the connection says.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from connectors.kit import catalogue
from flows.engine.batch import Batch, Reversal, in_turn, label_of, opened
from flows.engine.context import RunContext
from flows.engine.doubt import verdict
from flows.engine.ledger import PENDING, POSTED, REVERSED, UNCLEAR, Intent, Known
from flows.engine.model import Changed, Found, Reject
from flows.engine.staging import Staged
from flows.engine.transform import Prepared


async def read(run: RunContext, stage: str, pages: list[Staged]) -> Batch:
    """Read staged pages and sort the records by what our books know of them."""
    batch, rows = opened(run, stage, pages)
    known = await run.store.do(run.ledger.documents, [row[0] for row in rows])
    for row in rows:
        if row[0] in batch.again:
            continue
        entry = known.get(row[0])
        if entry is None or entry.state not in (POSTED, PENDING, UNCLEAR):
            intent = _intent(run, row, _next_revision(entry))
            batch.intents.append(intent)
            batch.candidates.append(_under(row, intent.key))
            if entry is not None:
                batch.tried.add(row[0])
        elif entry.state != POSTED:
            batch.waiting.append(row[0])
            if entry.state == UNCLEAR:
                _doubt(run, batch, _under(row, entry.key), entry.error or "")
        elif row[2] in (entry.content_hash, entry.acknowledged):
            batch.passed.append(row[0])
            # What this very run posted before it was interrupted is counted from the ledger.
            if not run.resumed or entry.run_id != run.run_id:
                batch.sent.unchanged += 1
        else:
            batch.changed.append((row, entry))
    return batch


async def ask(run: RunContext, batch: Batch) -> None:
    """Ask 奉行クラウド what it holds of them."""
    await _find_candidates(run, batch)
    await _sort_changed(run, batch, batch.changed)


async def _find_candidates(run: RunContext, batch: Batch) -> None:
    intents = {intent.key: intent for intent in batch.intents}
    batch.intents = []
    found = await run.documents.find({key: i.day or "" for key, i in intents.items()})
    left: list[Prepared] = []
    for row in batch.candidates:
        intent = intents[row[1]]
        there = found.get(intent.key)
        if there is None:
            left.append(row)
            batch.intents.append(intent)
            continue
        batch.adopted.append(intent)
        problem = verdict(there, intent.amount)
        if problem is None:
            batch.passed.append(row[0])
        else:
            _doubt(run, batch, row, problem)
    batch.candidates = left


async def _sort_changed(
    run: RunContext, batch: Batch, changed: Sequence[tuple[Prepared, Known]]
) -> None:
    if not changed:
        return
    if run.changed is Changed.REPORT:
        for row, entry in changed:
            batch.observed[row[0]] = row[2]
            batch.rejected.append(_changed(row, entry))
        return
    entries = {row[0]: entry for row, entry in changed}
    for row, reversal in await reversals(run, changed):
        if isinstance(reversal, Reject):
            batch.observed[row[0]] = row[2]  # so that a person can say that it is dealt with
            batch.rejected.append(reversal)
        elif reversal is None:
            batch.waiting.append(row[0])
            batch.waiting_reds.append(mark_of(entries[row[0]]))
        else:
            batch.reversals.append(reversal)


def mark_of(entry: Known) -> str:
    """Source key of the reversal of a document, in the books of reversals."""
    return f"{entry.source_key}#{entry.revision}"


async def reversals(
    run: RunContext, changed: Sequence[tuple[Prepared, Known]], *, gone: bool = False
) -> list[tuple[Prepared, Reversal | Reject | None]]:
    """What takes back posted documents: a reversal, why there is none, or ``None`` = not known yet.

    The reversal is made of what 奉行クラウド holds, not of what we remember.

    Args:
        run: The run at work.
        changed: The record as it is now, with its ledger row.
        gone: The records are gone: nothing is posted in place of the documents.
    """
    originals = await run.documents.find(
        {entry.key: entry.day.isoformat() if entry.day else "" for _, entry in changed}
    )
    reds = await run.store.do(run.reversals.documents, [mark_of(entry) for _, entry in changed])
    sorted_: list[tuple[Prepared, Reversal | Reject | None]] = []
    for row, entry in in_turn(changed, lambda each: mark_of(each[1]) in reds):
        mark = mark_of(entry)
        red = reds.get(mark)
        original = originals.get(entry.key)
        problem = verdict(original, entry.amount)
        if red is not None and red.state in (PENDING, UNCLEAR):
            sorted_.append((row, None))
        elif problem is not None or original is None:
            sorted_.append((row, _not_ours_any_more(row, entry, problem or "")))
        else:
            sorted_.append((row, _reversal(run, row, entry, mark, original, gone=gone)))
    return sorted_


def _reversal(
    run: RunContext, row: Prepared, entry: Known, mark: str, original: Found, *, gone: bool
) -> Reversal:
    ledger = run.reversals
    key = run.documents.key(ledger.connection, ledger.entity, mark, 1)
    values = run.documents.reversal(original)
    taken_back = [values.get(name, "") for name in run.transformer.fields]
    red: Prepared = (mark, key, entry.content_hash, taken_back)
    action = "cancelled" if gone else "reversed"
    amount, day = int(values["amount"]), values["date"]
    intent = Intent(mark, key, entry.content_hash, action, 1, amount, day)
    if gone:
        return Reversal(red, intent, entry.source_key, entry.revision)
    black = _intent(run, row, entry.revision + 1)
    return Reversal(red, intent, entry.source_key, entry.revision, (_under(row, black.key), black))


def plan(db: Connection, run: RunContext, batch: Batch, *, last: bool) -> None:
    """Write the intents of what will be sent, and what the look-up found out."""
    del last
    batch.rows, batch.candidates = batch.candidates, []
    if run.dry_run:
        for each in batch.reversals:
            if each.black is not None:
                batch.rows.append(each.black[0])
                batch.intents.append(each.black[1])
        return
    batch_id, run_id, fence = batch.batch_id, run.run_id, run.lease.fence
    if batch.adopted:
        run.ledger.adopt(db, batch.adopted, batch_id=batch_id, run_id=run_id, fence=fence)
    if batch.unclear:
        ledger = run.ledger
        adopted = {i.source_key for i in batch.adopted}
        new = {k: why for k, why in batch.unclear.items() if k in adopted}
        ledger.doubt(db, new, run=run.run_id, fence=run.lease.fence)
    if batch.rows:
        run.ledger.intend(db, batch.intents, batch_id=batch_id, run_id=run_id, fence=fence)
    if batch.reversals:
        run.reversals.intend(
            db,
            [each.intent for each in batch.reversals],
            batch_id=batch_id,
            run_id=run_id,
            fence=fence,
        )
    run.ledger.own(db, batch.waiting, run.run_id)
    run.reversals.own(db, batch.waiting_reds, run.run_id)
    run.ledger.observe(db, batch.observed)


def counted(batch: Batch) -> None:
    """Put what needs no request into the batch's counts and rejects."""
    unclear = set(batch.unclear)
    adopted = [i for i in batch.adopted if i.source_key not in unclear]
    batch.sent.unchanged += len(adopted)
    posted = set(batch.sent.posted)
    batch.yen = sum(i.amount or 0 for i in adopted)
    batch.yen += sum(i.amount or 0 for i in batch.intents if i.source_key in posted)
    batch.sent.pending += len({*batch.waiting, *unclear})


def unclear(source_key: str, label: str, key: str, why: str) -> Reject:
    """A document that a person has to look at (要確認), as a line of エラー明細."""
    return Reject(
        source_key=source_key,
        code="AC-403",
        item="証憑番号",
        label=label,
        reason=f"{catalogue()['AC-403'].happened}証憑番号 {key}: {why}。",
    )


def _doubt(run: RunContext, batch: Batch, row: Prepared, why: str) -> None:
    batch.unclear[row[0]] = why
    batch.doubts.append(unclear(row[0], label_of(run, row), row[1], why))


def _next_revision(entry: Known | None) -> int:
    if entry is None:
        return 1
    return entry.revision + 1 if entry.state == REVERSED else entry.revision


def _intent(run: RunContext, row: Prepared, revision: int) -> Intent:
    fields = run.transformer.fields
    ledger = run.ledger
    return Intent(
        row[0],
        run.documents.key(ledger.connection, ledger.entity, row[0], revision),
        row[2],
        "created" if revision == 1 else "updated",
        revision,
        int(row[3][fields.index("amount")]),
        row[3][fields.index("date")],
    )


def _under(row: Prepared, key: str) -> Prepared:
    return row[0], key, row[2], row[3]


def _changed(row: Prepared, entry: Known) -> Reject:
    return Reject(
        source_key=row[0],
        code="AC-811",
        item="証憑番号",
        label=row[1],
        reason=(
            f"伝票（証憑番号 {entry.key}）を登録したあとに、元データが変わりました。"
            "奉行クラウドの伝票は登録したときのままです。"
        ),
    )


def _not_ours_any_more(row: Prepared, entry: Known, problem: str) -> Reject:
    return Reject(
        source_key=row[0],
        code="AC-813",
        item="証憑番号",
        label=row[1],
        reason=(
            f"登録した伝票（証憑番号 {entry.key}）が、奉行クラウドで変更または削除されています"
            f"（{problem}）。赤伝票は作りませんでした。"
        ),
    )
