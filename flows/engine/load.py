"""Load: rows -> 奉行クラウド, in batches, with the ledger before and after every request.

Four coroutines hand batches on: *look up* (what our books and 奉行クラウド know), *plan* (what has
to be sent; intent rows), *send* (the request), *record* (what became of it). While one batch is on
its way, the next one is looked up and planned, and the last one's outcome is written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import orjson
from sqlalchemy import Connection

from connectors.kit import AppConnectError, UnknownOutcomeError
from flows.engine import rejects, staging
from flows.engine.context import Planned, RunContext
from flows.engine.history import save_counts
from flows.engine.ledger import POSTED, UNSENT, Intent, Known
from flows.engine.model import Reject, RowRefusal
from flows.engine.pipeline import Record
from flows.engine.sending import Sent, deliver
from flows.engine.staging import Staged
from flows.engine.transform import Prepared

PREVIEW_ROWS = 200

_ANALYZE_AFTER = frozenset(4**n for n in range(12))
"""After how many batches with new rows the ledger's statistics are renewed."""


@dataclass
class Batch:
    """One staged page on its way, or several short ones.

    Attributes:
        seqs: The pages; ``stage`` says which kind.
        page_of: Source key -> its page, where a row goes back to when it has to wait.
        candidates: Rows that differ from what was sent last.
        ours: Keys of those that we have sent before, so they are there.
        wanted: Keys of the candidates and of what they refer to.
        found: Those of the others that 奉行クラウド already had.
        rows: What has to be sent, with the matching ``intents``.
        passed: Source keys that need nothing more (sent or unchanged).
        rejected: Rows that cannot be sent.
        deferred: Rows that refer to something not posted yet.
    """

    stage: str
    seqs: list[int]
    page_of: dict[str, int] = field(default_factory=dict)
    batch_id: UUID = field(default_factory=uuid4)
    candidates: list[Prepared] = field(default_factory=list)
    ours: set[str] = field(default_factory=set)
    wanted: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)
    rows: list[Prepared] = field(default_factory=list)
    intents: list[Intent] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    rejected: list[Reject] = field(default_factory=list)
    deferred: list[Prepared] = field(default_factory=list)
    sent: Sent = field(default_factory=Sent)


async def load(run: RunContext) -> None:
    """Send every staged row; rows whose reference is still missing at the end are rejected."""
    gone = [key for key in run.window.retry if key not in run.seen_retries]
    if gone and not run.dry_run:
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
            return
        waiting = left


def _deferred(db: Connection, run: RunContext) -> int:
    return staging.count(db, run.run_id, staging.DEFERRED)


async def _pass(run: RunContext, stage: str, *, last: bool) -> None:
    to_plan: asyncio.Queue[Batch | None] = asyncio.Queue(maxsize=1)
    to_send: asyncio.Queue[Batch | None] = asyncio.Queue(maxsize=1)
    to_record: asyncio.Queue[Batch | None] = asyncio.Queue(maxsize=1)
    not_sent: dict[UUID, Batch] = {}

    async def look_up_all() -> None:
        async for pages in _joined(run, stage):
            await to_plan.put(await _look_up(run, stage, pages))
        await to_plan.put(None)

    async def plan_all() -> None:
        # In order, each in one transaction: a batch sees the intents of all before it.
        while (batch := await to_plan.get()) is not None:
            if batch.candidates:
                await run.store.do(_plan, run, batch, last=last)
                not_sent[batch.batch_id] = batch
            await to_send.put(batch)
        await to_send.put(None)

    async def send_all(*before: asyncio.Task[None], recorder: asyncio.Task[None]) -> None:
        try:
            while (batch := await to_send.get()) is not None:
                not_sent.pop(batch.batch_id, None)
                if batch.rows and not run.dry_run:
                    batch.sent = await _send(run, batch)
                await to_record.put(batch)
        except AppConnectError:
            # What was answered is still written; what was only prepared never left.
            for task in before:
                task.cancel()
            await to_record.put(None)
            await recorder
            await _give_back(run, [i for b in not_sent.values() for i in b.intents])
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
            before = [group.create_task(look_up_all()), group.create_task(plan_all())]
            recorder = group.create_task(record_all())
            group.create_task(send_all(*before, recorder=recorder))
    except BaseExceptionGroup as group_error:
        raise _first(group_error) from None


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


async def _give_back(run: RunContext, intents: Sequence[Intent]) -> None:
    """These rows are certainly not stored: no need to look them up before they are sent again."""
    if intents and not run.dry_run:
        await run.store.do(
            run.ledger.settle,
            posted=[],
            unsent=[intent.source_key for intent in intents],
            run=run.run_id,
            fence=run.lease.fence,
        )


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the pass: ours before any other, for it has the words."""
    flat: list[BaseException] = []
    queue: list[BaseException] = [group]
    while queue:
        error = queue.pop(0)
        if isinstance(error, BaseExceptionGroup):
            queue.extend(error.exceptions)
        else:
            flat.append(error)
    return next((e for e in flat if isinstance(e, AppConnectError)), flat[0])


async def _look_up(run: RunContext, stage: str, pages: list[Staged]) -> Batch:
    """Read staged pages, drop what is unchanged, and ask which of the other keys are registered."""
    batch = Batch(stage, [page.seq for page in pages])
    unique: dict[str, Prepared] = {}
    for page in pages:
        for row in orjson.loads(page.body):
            unique[row[0]] = row
            batch.page_of[row[0]] = page.seq
    known = await run.store.do(run.ledger.known, list(unique))
    columns = _reference_columns(run)
    for row in unique.values():
        entry = known.get(row[0])
        if entry is not None and _settled_already(run, batch, row, entry):
            continue
        batch.candidates.append(row)
        batch.wanted.add(row[1])
        batch.wanted.update([key for _, column in columns if (key := row[3][column])])
        if entry is not None and _was_posted(entry, row):
            batch.ours.add(row[1])
    # A row that we sent before is there; anything else has to be looked up: it may have been
    # registered by hand, and 登録 is not 更新.
    unknown = sorted(batch.wanted - batch.ours - run.planned_keys)
    if unknown:
        batch.found = set(await run.sink.fetch(unknown, ()))
    return batch


def _settled_already(run: RunContext, batch: Batch, row: Prepared, entry: Known) -> bool:
    """Whether 奉行クラウド already holds exactly this; counts it when it does."""
    if entry.state != POSTED or entry.content_hash != row[2]:
        return False
    batch.passed.append(row[0])
    # What this very run posted before it was interrupted is counted from the ledger at the end.
    if not run.resumed or entry.run_id != run.run_id:
        batch.sent.unchanged += 1
    return True


def _plan(db: Connection, run: RunContext, batch: Batch, *, last: bool) -> None:
    """Sort the candidates — duplicates, missing references, to be sent — and write the intents."""
    holders = run.ledger.holders(db, list(batch.wanted))
    present = batch.found | batch.ours | run.planned_keys
    present.update([key for key, (_, state) in holders.items() if state == POSTED])
    columns = _reference_columns(run)
    taken: dict[str, str] = {}
    for row in batch.candidates:
        source, key, digest, values = row
        # The first record of this very batch holds its code just as one of an earlier batch does.
        holder = taken.get(key) or holders.get(key, (source, ""))[0]
        if holder != source or key in run.planned_keys:
            batch.rejected.append(_duplicate(run, row, holder if holder != source else None))
            continue
        missing = _missing(values, key, columns, present)
        if missing is not None:
            if last:
                batch.rejected.append(_dangling(run, row, *missing))
            else:
                batch.deferred.append(row)
            continue
        taken[key] = source
        batch.rows.append(row)
        action = "updated" if key in present else "created"
        batch.intents.append(Intent(source, key, digest, action))
    batch.candidates = []
    if run.dry_run:
        run.planned_keys.update(taken)
    elif batch.intents:
        run.ledger.intend(
            db, batch.intents, batch_id=batch.batch_id, run_id=run.run_id, fence=run.lease.fence
        )


def _was_posted(entry: Known, row: Prepared) -> bool:
    if entry.key != row[1]:
        return False
    return entry.state == POSTED or (entry.state != UNSENT and entry.action == "updated")


def _reference_columns(run: RunContext) -> list[tuple[str, int]]:
    fields = run.transformer.fields
    return [(name, fields.index(name)) for name in run.pipeline.references if name in fields]


def _missing(
    values: list[str], key: str, columns: list[tuple[str, int]], present: set[str]
) -> tuple[str, str] | None:
    """Field and key of another row that this row needs and that is not there yet."""
    for name, column in columns:
        wanted = values[column]
        if wanted and wanted != key and wanted not in present:
            return name, wanted
    return None


def _duplicate(run: RunContext, row: Prepared, holder: str | None) -> Reject:
    other = f"（レコード {holder}）" if holder else ""
    return Reject(
        source_key=row[0],
        code="AC-804",
        item=run.pipeline.key_label,
        label=row[1],
        reason=f"{run.pipeline.key_label}「{row[1]}」は、ほかのレコード{other}が使っています。",
        holder=holder,
    )


def _dangling(run: RunContext, row: Prepared, name: str, key: str) -> Reject:
    label = run.pipeline.references[name]
    return Reject(
        source_key=row[0],
        code="AC-805",
        item=label,
        label=row[1],
        reason=f"{label}「{key}」が奉行クラウドに登録されていません。",
    )


async def _send(run: RunContext, batch: Batch) -> Sent:
    try:
        return await deliver(run, batch.rows, batch.intents, batch.sent)
    except AppConnectError as error:
        # Halves of the batch may have their answer already; it must not be forgotten.
        await run.store.do(_record_answers, run, batch)
        if error.failure is not None and not isinstance(error, UnknownOutcomeError):
            done = {*batch.sent.posted, *batch.sent.refused}
            await _give_back(run, [i for i in batch.intents if i.source_key not in done])
        raise


def _record_answers(db: Connection, run: RunContext, batch: Batch) -> None:
    sent = batch.sent
    if sent.posted:
        run.ledger.posted(db, sent.posted, batch.batch_id)
    if sent.refused:
        # PostgreSQL's text refuses NUL, and a vendor's message may echo one.
        words = {
            key: f"{r.vendor_code} {r.message}".replace("\x00", "")
            for key, r in sent.refused.items()
        }
        run.ledger.rejected(db, words, batch.batch_id)


def _record(db: Connection, run: RunContext, batch: Batch) -> None:
    """Write what became of the batch and close its page, in one transaction."""
    counts, sent = run.counts, batch.sent
    if run.dry_run:
        _preview(run, batch)
    else:
        _record_answers(db, run, batch)
        batch.rejected.extend(
            _refused(row, sent.refused[row[0]]) for row in batch.rows if row[0] in sent.refused
        )
    bad = batch.rejected
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


def _refused(row: Prepared, refusal: RowRefusal) -> Reject:
    return Reject(
        source_key=row[0],
        code="AC-806",
        item=refusal.item,
        label=row[1],
        reason=f"奉行クラウドのメッセージ: {refusal.message or refusal.vendor_code or '(なし)'}",
    )


def _keep_rejects(db: Connection, run: RunContext, batch: Batch, bad: list[Reject]) -> None:
    connection, entity = run.handle.connection, run.pipeline.entity
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
            run.planned.append(Planned(intent.action, row[1], values))
