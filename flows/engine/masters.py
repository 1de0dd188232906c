"""Masters in the load stage: upserted by code, unchanged ones skipped, codes and references kept.

Which record holds a code is decided by the ledger: the first one keeps it.
"""

from __future__ import annotations

from sqlalchemy import Connection

from flows.engine.batch import Batch, opened
from flows.engine.context import RunContext
from flows.engine.ledger import POSTED, UNSENT, Intent, Known
from flows.engine.model import Reject
from flows.engine.staging import Staged
from flows.engine.transform import Prepared


async def read(run: RunContext, stage: str, pages: list[Staged]) -> Batch:
    """Read staged pages and drop what our books know to be unchanged."""
    batch, rows = opened(run, stage, pages)
    known = await run.store.do(run.ledger.known, [row[0] for row in rows])
    columns = _reference_columns(run)
    for row in rows:
        entry = known.get(row[0])
        if entry is not None and _settled_already(run, batch, row, entry):
            continue
        batch.candidates.append(row)
        if entry is not None and _was_posted(entry, row):
            batch.ours.add(row[1])
        if entry is not None and entry.state != POSTED:
            batch.tried.add(row[0])
    batch.wanted.update([row[1] for row in batch.candidates])
    for _, column in columns:
        batch.wanted.update(filter(None, [row[3][column] for row in batch.candidates]))
    return batch


async def ask(run: RunContext, batch: Batch) -> None:
    """Ask 奉行クラウド which of the keys are registered."""
    # A row that we sent before is there; anything else has to be looked up: it may have been
    # registered by hand, and 登録 is not 更新.
    unknown = sorted(batch.wanted - batch.ours - run.planned_keys)
    if unknown:
        batch.found = set(await run.masters.fetch(unknown, ()))


def _settled_already(run: RunContext, batch: Batch, row: Prepared, entry: Known) -> bool:
    """Whether 奉行クラウド already holds exactly this; counts it when it does."""
    if entry.state != POSTED or entry.content_hash != row[2]:
        return False
    batch.passed.append(row[0])
    # What this very run posted before it was interrupted is counted from the ledger at the end.
    if row[0] not in batch.again and (not run.resumed or entry.run_id != run.run_id):
        batch.sent.unchanged += 1
    return True


def plan(db: Connection, run: RunContext, batch: Batch, *, last: bool) -> None:
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
