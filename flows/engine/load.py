"""Load: rows -> 奉行クラウド, in batches, with the ledger before and after every request.

Three coroutines hand batches on: *prepare* (what has to be sent; intent rows), *send* (the
request), *record* (what became of it). While one batch is on its way, the next one's intent and
the last one's outcome are written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
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
from flows.engine.sending import Sent, deliver
from flows.engine.staging import Staged
from flows.engine.transform import Prepared

PREVIEW_ROWS = 200


@dataclass
class Batch:
    """One staged page on its way.

    Attributes:
        seq: The page; ``stage`` says which kind.
        rows: What has to be sent, with the matching ``intents``.
        passed: Source keys that need nothing more (sent or unchanged).
        rejected: Rows that cannot be sent.
        deferred: Rows that refer to something not posted yet.
    """

    stage: str
    seq: int
    batch_id: UUID = field(default_factory=uuid4)
    rows: list[Prepared] = field(default_factory=list)
    intents: list[Intent] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    rejected: list[Reject] = field(default_factory=list)
    deferred: list[Prepared] = field(default_factory=list)
    sent: Sent = field(default_factory=Sent)


async def load(run: RunContext) -> None:
    """Send every staged row; rows whose reference is still missing at the end are rejected."""
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
    to_send: asyncio.Queue[Batch | None] = asyncio.Queue(maxsize=1)
    to_record: asyncio.Queue[Batch | None] = asyncio.Queue(maxsize=1)
    not_sent: dict[UUID, Batch] = {}

    async def prepare_all() -> None:
        async for page in staging.pages(run.store, run.run_id, stage):
            batch = await _prepare(run, stage, page, last=last)
            not_sent[batch.batch_id] = batch
            await to_send.put(batch)
        await to_send.put(None)

    async def send_all(preparer: asyncio.Task[None], recorder: asyncio.Task[None]) -> None:
        try:
            while (batch := await to_send.get()) is not None:
                not_sent.pop(batch.batch_id)
                if batch.rows and not run.dry_run:
                    batch.sent = await _send(run, batch)
                await to_record.put(batch)
        except AppConnectError:
            # What was answered is still written; what was only prepared never left.
            preparer.cancel()
            await to_record.put(None)
            await recorder
            await _give_back(run, [i for b in not_sent.values() for i in b.intents])
            raise
        await to_record.put(None)

    async def record_all() -> None:
        while (batch := await to_record.get()) is not None:
            await run.store.do(_record, run, batch)
            counts = run.counts
            done = counts.created + counts.updated + counts.unchanged + counts.rejected
            await run.progress("登録", done)

    try:
        async with asyncio.TaskGroup() as group:
            preparer = group.create_task(prepare_all())
            recorder = group.create_task(record_all())
            group.create_task(send_all(preparer, recorder))
    except BaseExceptionGroup as group_error:
        raise _first(group_error) from None


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


async def _prepare(run: RunContext, stage: str, page: Staged, *, last: bool) -> Batch:
    rows = list({row[0]: row for row in orjson.loads(page.body)}.values())
    known = await run.store.do(run.ledger.known, [row[0] for row in rows])
    batch = Batch(stage, page.seq)
    candidates = [row for row in rows if not _settled_already(run, batch, row, known)]
    if candidates:
        await _decide(run, batch, candidates, known, last=last)
    if batch.intents and not run.dry_run:
        await run.store.do(
            run.ledger.intend,
            batch.intents,
            batch_id=batch.batch_id,
            run_id=run.run_id,
            fence=run.lease.fence,
        )
    return batch


def _settled_already(run: RunContext, batch: Batch, row: Prepared, known: dict[str, Known]) -> bool:
    """Whether 奉行クラウド already holds exactly this; counts it when it does."""
    entry = known.get(row[0])
    if entry is None or entry.state != POSTED or entry.content_hash.hex() != row[2]:
        return False
    batch.passed.append(row[0])
    # What this very run posted before it was interrupted is counted from the ledger at the end.
    if not run.resumed or entry.run_id != run.run_id:
        batch.sent.unchanged += 1
    return True


async def _decide(
    run: RunContext,
    batch: Batch,
    candidates: list[Prepared],
    known: dict[str, Known],
    *,
    last: bool,
) -> None:
    """Sort the rows that differ: duplicates, missing references, and what is to be sent."""
    references = _reference_columns(run)
    refers = {row[0]: _references(row, references) for row in candidates}
    keys = {row[1] for row in candidates}
    for wanted in refers.values():
        keys.update(wanted.values())
    holders = await run.store.do(run.ledger.holders, list(keys))
    posted = {key for key, (_, state) in holders.items() if state == POSTED}
    posted |= run.planned_keys
    # A row that we sent before is there; anything else has to be looked up: it may have been
    # registered by hand, and 登録 is not 更新.
    ours = {row[1] for row in candidates if _was_posted(known.get(row[0]), row)}
    unknown = sorted(keys - posted - ours)
    present = set(posted | ours)
    if unknown:
        present |= set(await run.sink.fetch(unknown, ()))
    taken: set[str] = set()
    for row in candidates:
        holder = holders.get(row[1], (row[0], ""))[0]
        if holder != row[0] or row[1] in taken or row[1] in run.planned_keys:
            batch.rejected.append(_duplicate(run, row, holder if holder != row[0] else None))
            continue
        missing = next((f for f, key in refers[row[0]].items() if key not in present), None)
        if missing is not None:
            if last:
                batch.rejected.append(_dangling(run, row, missing, refers[row[0]][missing]))
            else:
                batch.deferred.append(row)
            continue
        taken.add(row[1])
        if run.dry_run:
            run.planned_keys.add(row[1])
        action = "updated" if row[1] in present else "created"
        batch.rows.append(row)
        batch.intents.append(Intent(row[0], row[1], bytes.fromhex(row[2]), action))


def _was_posted(entry: Known | None, row: Prepared) -> bool:
    if entry is None or entry.key != row[1]:
        return False
    return entry.state == POSTED or (entry.state != UNSENT and entry.action == "updated")


def _reference_columns(run: RunContext) -> dict[str, int]:
    fields = run.transformer.fields
    return {name: fields.index(name) for name in run.pipeline.references if name in fields}


def _references(row: Prepared, columns: dict[str, int]) -> dict[str, str]:
    """Field -> key of another row that this row needs; its own key needs nothing."""
    wanted = {name: row[3][column] for name, column in columns.items()}
    return {name: key for name, key in wanted.items() if key and key != row[1]}


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
        words = {key: f"{r.vendor_code} {r.message}" for key, r in sent.refused.items()}
        run.ledger.rejected(db, words, batch.batch_id)


def _record(db: Connection, run: RunContext, batch: Batch) -> None:
    """Write what became of the batch and close its page, in one transaction."""
    counts, sent = run.counts, batch.sent
    if run.dry_run:
        _plan(run, batch)
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
        seq = batch.seq + (1_000_000 if batch.stage == staging.ROWS else 2_000_000)
        staging.put(db, run.run_id, "preview", seq, len(bad), orjson.dumps(preview))
    staging.remove(db, run.run_id, batch.stage, batch.seq)
    if batch.deferred:
        body = orjson.dumps(batch.deferred)
        staging.put(db, run.run_id, staging.DEFERRED, batch.seq, len(batch.deferred), body)
    save_counts(db, run.run_id, counts)


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
        body = staging.one(db, run.run_id, staging.RAW, batch.seq)
        records = dict(run.source.records(body)) if body else {}
        found = [(reject, records.get(reject.source_key, {})) for reject in bad]
        rejects.put(db, connection, entity, run.run_id, found)
    through = [*batch.passed, *batch.sent.posted]
    rejects.resolve(db, connection, entity, [k for k in through if k in run.open_rejects])


def _plan(run: RunContext, batch: Batch) -> None:
    fields = run.transformer.fields
    for row, intent in zip(batch.rows, batch.intents, strict=True):
        batch.sent.note(intent.action)
        if len(run.planned) < PREVIEW_ROWS:
            values = dict(zip(fields, row[3], strict=True))
            run.planned.append(Planned(intent.action, row[1], values))
