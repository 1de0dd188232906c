"""Load: rows -> 奉行クラウド, in batches, with the ledger before and after every request.

Five coroutines hand batches on: *read* (what our books know), *ask* (what 奉行クラウド knows),
*plan* (what has to be sent; intent rows), *send* (the request), *record* (what became of it). While
one batch is on its way, the next ones are looked up and planned, and the last one's outcome is
written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import replace
from types import ModuleType
from uuid import UUID

import orjson
from sqlalchemy import Connection

from connectors.kit import AppConnectError, UnknownOutcomeError
from flows.engine import documents, masters, points, rejects, staging, vanished
from flows.engine.batch import Batch, Reversal, label_of, refused
from flows.engine.context import Planned, RunContext
from flows.engine.history import note_destination, save_counts
from flows.engine.ledger import REJECTED, UNSENT, Intent, Ledger
from flows.engine.model import Mode, Reject
from flows.engine.pipeline import Record
from flows.engine.sending import Books, Sent, deliver
from flows.engine.staging import Staged
from flows.engine.store import relax, to_its_end
from flows.engine.transform import Prepared

PREVIEW_ROWS = 200

_ANALYZE_AFTER = frozenset(4**n for n in range(12))
"""After how many batches with new rows the ledger's statistics are renewed."""


async def load(run: RunContext) -> None:
    """Send every staged row; rows whose reference is still missing at the end are rejected."""
    gone = [key for key in run.window.retry if key not in run.seen_retries]
    if gone and not run.dry_run and run.changed is None:
        # Before anything is decided: a record that is gone no longer holds its code.
        await run.store.do(run.ledger.release, gone)
    await _pass(run, staging.ROWS, last=False)
    waiting = await run.store.do(_deferred, run)
    while waiting:
        await _pass(run, staging.DEFERRED, last=False)
        left = await run.store.do(_deferred, run)
        if left >= waiting:
            # Nothing moved: what these rows refer to will not appear in this run.
            await _pass(run, staging.DEFERRED, last=True)
            break
        waiting = left
    if run.changed is not None and not run.dry_run:
        await _vanish(run, gone)


async def _vanish(run: RunContext, gone: Sequence[str]) -> None:
    """Documents whose source record is gone: reported, or taken back, as the connection says."""
    full = run.mode is Mode.FULL
    asked = [*dict.fromkeys([*gone, *run.nothing])]
    found: list[Batch | None] = []
    if full or vanished.whole_days(run) is not None:
        found.append(await vanished.of_whole_run(run, leave=() if full else frozenset(asked)))
    if not full:
        found.append(await vanished.of_retries(run, asked))
    for batch in found:
        if batch is not None:
            await run.store.do(documents.plan, run, batch, last=True)
            await _send(run, batch)
            await run.store.do(_record, run, batch)


def _deferred(db: Connection, run: RunContext) -> int:
    return staging.count(db, run.run_id, staging.DEFERRED)


async def _pass(run: RunContext, stage: str, *, last: bool) -> None:
    to_ask: asyncio.Queue[Batch | None] = asyncio.Queue(maxsize=1)
    to_plan: asyncio.Queue[Batch | None] = asyncio.Queue(maxsize=1)
    to_send: asyncio.Queue[Batch | None] = asyncio.Queue(maxsize=1)
    to_record: asyncio.Queue[Batch | None] = asyncio.Queue(maxsize=1)
    not_sent: dict[UUID, Batch] = {}
    kind: ModuleType = masters if run.changed is None else documents

    async def read_all() -> None:
        async for pages in _joined(run, stage):
            await to_ask.put(await kind.read(run, stage, pages))
        await to_ask.put(None)

    async def ask_all() -> None:
        while (batch := await to_ask.get()) is not None:
            await kind.ask(run, batch)
            await to_plan.put(batch)
        await to_plan.put(None)

    async def plan_all() -> None:
        noted = run.dry_run
        # In order, each in one transaction: a batch sees the intents of all before it.
        while (batch := await to_plan.get()) is not None:
            if batch.planned:
                points.reached("before-intent")
                if not noted:
                    # By now 奉行クラウド has answered for this 法人.
                    where = (run.handle.connection, run.destination)
                    await run.store.do(note_destination, *where)
                    noted = True
                # Before it is written: what is cancelled here is in the books all the same.
                not_sent[batch.batch_id] = batch
                await to_its_end(run.store.do(kind.plan, run, batch, last=last))
            await to_send.put(batch)
        await to_send.put(None)

    async def send_all(*before: asyncio.Task[None], recorder: asyncio.Task[None]) -> None:
        try:
            while (batch := await to_send.get()) is not None:
                not_sent.pop(batch.batch_id, None)
                if (batch.rows or batch.reversals) and not run.dry_run:
                    await _send(run, batch)
                await to_record.put(batch)
        except AppConnectError:
            # What was answered is still written.
            for task in before:
                task.cancel()
            await asyncio.gather(*before, return_exceptions=True)
            await to_record.put(None)
            await recorder
            raise
        await to_record.put(None)

    async def record_all() -> None:
        grown = 0
        while (batch := await to_record.get()) is not None:
            await run.store.do(_record, run, batch)
            grown += bool(batch.sent.created)
            if batch.sent.created and grown in _ANALYZE_AFTER:
                await run.store.do(run.ledger.analyze)
            counts = run.counts
            done = counts.created + counts.updated + counts.unchanged + counts.rejected
            await run.progress("登録", done)

    try:
        async with asyncio.TaskGroup() as group:
            first = (read_all(), ask_all(), plan_all())
            before = [group.create_task(each) for each in first]
            recorder = group.create_task(record_all())
            group.create_task(send_all(*before, recorder=recorder))
    except BaseExceptionGroup as group_error:
        raise first_error([group_error]) or group_error from None
    finally:
        # What was only prepared never left, however the work ended. What cannot be given back is
        # looked up by the next run.
        with contextlib.suppress(AppConnectError):
            await to_its_end(_give_back_all(run, not_sent.values()))


async def _joined(run: RunContext, stage: str) -> AsyncGenerator[list[Staged], None]:
    """Staged pages, those that share a request together: deferred rows come few to a page."""
    ahead: list[Staged] = []
    async with contextlib.aclosing(staging.pages(run.store, run.run_id, stage)) as pages:
        async for page in pages:
            if ahead and sum(p.records for p in ahead) + page.records > run.sink.batch_size:
                yield ahead
                ahead = []
            ahead.append(page)
    if ahead:
        yield ahead


async def _give_back_all(run: RunContext, batches: Iterable[Batch]) -> None:
    for batch in batches:
        await _give_back(run, run.ledger, batch.intents)
        await _give_back(run, run.reversals, [each.intent for each in batch.reversals])


async def _give_back(run: RunContext, ledger: Ledger, intents: Sequence[Intent]) -> None:
    """These rows are certainly not stored: no need to look them up before they are sent again."""
    if intents and not run.dry_run:
        await run.store.do(
            ledger.settle,
            unsent=[intent.source_key for intent in intents],
            run=run.run_id,
            fence=run.lease.fence,
        )


def first_error(problems: Sequence[BaseException]) -> BaseException | None:
    """What ended the work, groups looked into: ours before any other, for it has the words."""
    flat: list[BaseException] = []
    queue = [*problems]
    while queue:
        error = queue.pop(0)
        if isinstance(error, BaseExceptionGroup):
            queue.extend(error.exceptions)
        else:
            flat.append(error)
    ours = [error for error in flat if isinstance(error, AppConnectError)]
    return next(iter([*ours, *flat]), None)


async def _send(run: RunContext, batch: Batch) -> None:
    if batch.reversals:
        await _take_back(run, batch)
    batch.new_ones_first()
    books = Books(run.ledger, batch.batch_id)
    try:
        await deliver(run, books, batch.rows, batch.intents, batch.sent)
    except AppConnectError as error:
        await _half_way(run, books, batch.intents, batch.sent, error)
        raise


async def _take_back(run: RunContext, batch: Batch) -> None:
    """Post the reversals; what replaces a document is posted only when its reversal is."""
    books = Books(run.reversals, batch.batch_id)
    intents = [each.intent for each in batch.reversals]
    sent = Sent()
    try:
        await deliver(run, books, [each.red for each in batch.reversals], intents, sent)
    except AppConnectError as error:
        await _half_way(run, books, intents, sent, error, batch.reversals)
        await _give_back(run, run.ledger, batch.intents)
        raise
    through = set(sent.posted)
    blacks = [
        each.black
        for each in batch.reversals
        if each.black is not None and each.intent.source_key in through
    ]

    def write(db: Connection) -> None:
        _answers(db, run, books, sent, batch.reversals)
        if blacks:
            run.ledger.intend(
                db,
                [intent for _, intent in blacks],
                batch_id=batch.batch_id,
                run_id=run.run_id,
                fence=run.lease.fence,
            )

    await run.store.do(write)
    batch.rows += [row for row, _ in blacks]
    batch.intents += [intent for _, intent in blacks]
    for each in batch.reversals:
        shown = each.black[0] if each.black else each.red
        rejected = refused(run, shown, sent, each.intent.source_key)
        if rejected is not None:
            words = f"赤伝票が登録できませんでした。{rejected.reason}"
            reject = replace(rejected, source_key=each.source_key, reason=words)
            if each.black is None:
                batch.vanished += 1
            (batch.rejected if each.black else batch.doubts).append(reject)


async def _half_way(
    run: RunContext,
    books: Books,
    intents: Sequence[Intent],
    sent: Sent,
    error: AppConnectError,
    reversals: Sequence[Reversal] = (),
) -> None:
    """Parts of the batch may have their answer already; it must not be forgotten."""
    await run.store.do(_answers, run, books, sent, reversals)
    if error.failure is not None and not isinstance(error, UnknownOutcomeError):
        done = {*sent.posted, *sent.refused, *sent.given_up, *sent.unclear}
        await _give_back(run, books.ledger, [i for i in intents if i.source_key not in done])


def _answers(
    db: Connection,
    run: RunContext,
    books: Books,
    sent: Sent,
    reversals: Sequence[Reversal] = (),
) -> None:
    if sent.posted:
        books.ledger.posted(db, sent.posted, books.batch_id)
    for state, refusals in ((REJECTED, sent.refused), (UNSENT, sent.given_up)):
        # PostgreSQL's text refuses NUL, and a vendor's message may echo one.
        words = {
            key: f"{r.vendor_code} {r.message}".replace("\x00", "") for key, r in refusals.items()
        }
        if words:
            books.ledger.rejected(db, words, books.batch_id, state)
    if sent.unclear:
        books.ledger.doubt(db, sent.unclear, run=run.run_id, fence=run.lease.fence)
    through = set(sent.posted)
    taken_back = {r.source_key: r.revision for r in reversals if r.intent.source_key in through}
    run.ledger.reversed(db, taken_back, run=run.run_id)


def _record(db: Connection, run: RunContext, batch: Batch) -> None:
    """Write what became of the batch and close its page, in one transaction."""
    relax(db)
    counts, sent = run.counts, batch.sent
    if run.dry_run:
        _preview(run, batch)
    else:
        _answers(db, run, Books(run.ledger, batch.batch_id), sent)
        if sent.refused or sent.given_up:
            lines = [refused(run, row, sent, row[0]) for row in batch.rows]
            batch.rejected.extend([line for line in lines if line is not None])
    if run.changed is not None:
        documents.counted(batch)
        run.posted_yen += batch.yen
        batch.doubts.extend(
            documents.unclear(row[0], label_of(run, row), row[1], sent.unclear[row[0]])
            for row in batch.rows
            if row[0] in sent.unclear
        )
    bad = batch.rejected
    counts.extracted -= batch.repeated
    counts.vanished += batch.vanished
    counts.created += sent.created
    counts.updated += sent.updated
    counts.unchanged += sent.unchanged
    counts.pending += sent.pending
    counts.rejected += len(bad)
    if not run.dry_run:
        _keep_rejects(db, run, batch, bad)
    elif bad:
        preview = [(r.source_key, r.code, r.item, r.label, r.reason) for r in bad]
        # Beside the previews of the transform, whose pages have the same numbers.
        seq = batch.seqs[0] + (1_000_000 if batch.stage == staging.ROWS else 2_000_000)
        staging.put(db, run.run_id, "preview", seq, len(bad), orjson.dumps(preview))
    for seq in batch.seqs:
        staging.remove(db, run.run_id, batch.stage, seq)
    _put_back(db, run, batch)
    save_counts(db, run.run_id, counts)


def _put_back(db: Connection, run: RunContext, batch: Batch) -> None:
    waiting: dict[int, list[Prepared]] = {}
    for row in batch.deferred:
        waiting.setdefault(batch.page_of[row[0]], []).append(row)
    for seq, rows in waiting.items():
        staging.put(db, run.run_id, staging.DEFERRED, seq, len(rows), orjson.dumps(rows))


def _keep_rejects(db: Connection, run: RunContext, batch: Batch, bad: list[Reject]) -> None:
    connection, entity = run.handle.connection, run.pipeline.entity
    bad = [*bad, *batch.doubts]
    if bad:
        records: dict[str, Record] = {}
        for seq in batch.seqs:
            body = staging.one(db, run.run_id, staging.RAW, seq)
            records.update(run.source.records(body) if body else ())
        found = [(reject, records.get(reject.source_key, {})) for reject in bad]
        rejects.put(db, connection, entity, run.run_id, found)
    through = [*batch.passed, *batch.sent.posted]
    rejects.resolve(db, connection, entity, [k for k in through if k in run.open_rejects])


def _preview(run: RunContext, batch: Batch) -> None:
    fields = run.transformer.fields
    for row, intent in zip(batch.rows, batch.intents, strict=True):
        batch.sent.note(intent.action)
        if len(run.planned) < PREVIEW_ROWS:
            values = dict(zip(fields, row[3], strict=True))
            for name in run.pipeline.hidden:
                values.pop(name, None)
            run.planned.append(Planned(intent.action, row[1], values))
