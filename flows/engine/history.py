"""処理履歴: one row a run, in our own store, so that it outlives Prefect's retention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, func, literal, text, tuple_, update
from sqlmodel import Session, col, select

from connectors.kit import FaultError, SettingsError
from flows.engine.clock import business_date, jst_text, now
from flows.engine.model import Counts, Mode, Result, Trigger
from flows.engine.store import ConnectionRow, RunRow

_INTERRUPTED = "中断"
_ENDED_WELL = text(
    "SELECT scheduled_for, started_at, ended_at FROM run WHERE connection = :connection "
    "AND id <> :id AND scheduled_for >= :moment AND result IN ('SUCCESS', '一部エラー') "
    "AND NOT dry_run ORDER BY scheduled_for LIMIT 1"
)
_LAPSED = text(
    "SELECT r.id, r.connection, r.started_at, c.lease_owner FROM run r "
    "JOIN connection c ON c.name = r.connection WHERE r.result IS NULL AND "
    "CASE WHEN c.lease_owner = r.id THEN c.lease_expires <= clock_timestamp() "
    "ELSE r.started_at < clock_timestamp() - make_interval(secs => :patience) END "
    "FOR UPDATE OF c SKIP LOCKED"
)
_FORGOTTEN = text(
    "SELECT id, started_at FROM run WHERE result = '待機中' "
    "AND ended_at < clock_timestamp() - interval '24 hours' FOR UPDATE SKIP LOCKED"
)
"""Put off and not run again: cancelled meanwhile, or its deployment is gone."""

_EVICT = text(
    "UPDATE connection SET lease_owner = NULL, lease_expires = NULL, fence = fence + 1 "
    "WHERE name = :connection AND lease_owner = :run"
)
_PATIENCE = 600.0
"""Seconds after which a run that is not at work is given up: it waits for a lease for a minute."""

_SAVE = text(
    "UPDATE run SET extracted = :extracted, created = :created, updated = :updated, "
    "unchanged = :unchanged, rejected = :rejected, pending = :pending, vanished = :vanished, "
    "position = coalesce(CAST(:position AS jsonb), position) WHERE id = :id"
)


def open_run(
    session: Session,
    *,
    run_id: UUID,
    connection: str,
    connector: str,
    service: str,
    trigger: Trigger,
    mode: Mode,
    dry_run: bool,
    started_at: datetime,
    scheduled_for: datetime | None = None,
) -> RunRow:
    """Write the run's row, or reopen it when Prefect runs the same flow run again.

    Returns:
        The row; ``position`` is not empty when there is something to resume.

    Raises:
        SettingsError: ``AC-205``, a connection of another connector has this name.
    """
    known = session.get(ConnectionRow, connection)
    if known is None:
        session.add(ConnectionRow(name=connection, connector=connector))
        session.flush()
    elif known.connector != connector:
        # Blocks of two types may carry one name; the ledger must never mix them.
        raise SettingsError("AC-205", f"接続の名前「{connection}」は、ほかのコネクタが使っています")
    row = session.get(RunRow, run_id)
    if row is None:
        row = RunRow(
            id=run_id,
            connection=connection,
            connector=connector,
            service=service,
            trigger=trigger,
            mode=mode,
            dry_run=dry_run,
            business_date=business_date(started_at),
            started_at=started_at,
            scheduled_for=scheduled_for,
        )
        session.add(row)
    else:
        if row.result == Result.POSTPONED:
            row.started_at = started_at  # it works from now on; the hours between were no work
        row.ended_at = row.result = row.error = None
    return row


def mark_interrupted(session: Session, connection: str, *, current: UUID) -> list[UUID]:
    """Close runs of this connection that never ended: killed, or lost with their machine.

    Only the holder of the connection's lease may say so: no other run can be alive then.
    """
    stale = session.exec(
        select(RunRow).where(
            RunRow.connection == connection, col(RunRow.result).is_(None), RunRow.id != current
        )
    ).all()
    for row in stale:
        for name, value in _interruption(row.started_at).items():
            setattr(row, name, value)
        session.add(row)
    return [row.id for row in stale]


def _interruption(started_at: datetime) -> dict[str, Any]:
    error = FaultError("AC-602", f"{jst_text(started_at)} に始まった処理")
    return {
        "result": Result.ERROR,
        "ended_at": max(now(), started_at),
        "error": error.as_dict(),
        "message": f"{_INTERRUPTED}: {error.happened}",
    }


def mark_lapsed(db: Connection) -> list[UUID]:
    """Close runs whose lease has lapsed, of every connection; a worker asks now and then.

    Their lease is taken from them in the same transaction: should such a run only have been
    frozen, it can write nothing after this.

    Returns:
        The runs that are 中断 from now on.
    """
    found = db.execute(_LAPSED, {"patience": _PATIENCE}).all()
    for run, connection, started_at, owner in found:
        if owner == run:
            db.execute(_EVICT, {"connection": connection, "run": run})
        db.execute(
            update(RunRow)
            .where(col(RunRow.id) == run, col(RunRow.result).is_(None))
            .values(**_interruption(started_at))
        )
    for run, started_at in db.execute(_FORGOTTEN).all():
        closed = _interruption(started_at)
        db.execute(update(RunRow).where(col(RunRow.id) == run).values(**closed))
    return [row[0] for row in found]


def ended_well_since(
    db: Connection, run_id: UUID, connection: str, moment: datetime
) -> tuple[datetime, datetime, datetime] | None:
    """The scheduled run for ``moment`` or later, other than ``run_id``, that ended well.

    Returns:
        The time that it was meant for, its start and its end; ``None`` = there is none.
    """
    row = db.execute(
        _ENDED_WELL, {"connection": connection, "id": run_id, "moment": moment}
    ).first()
    return None if row is None else (row[0], row[1], row[2])


def same_destination(db: Connection, connection: str, destination: str) -> None:
    """See that a connection still writes where its books say.

    Raises:
        SettingsError: ``AC-205``, its books are about another 法人: what they call posted is not
            there, and what they call pending would be looked up in the wrong place.
    """
    row = db.execute(
        text("SELECT destination FROM connection WHERE name = :connection"),
        {"connection": connection},
    ).one()
    if row[0] not in (None, destination):
        raise SettingsError(
            "AC-205",
            f"接続「{connection}」の法人（または伝票にまとめる単位）が、これまでと違います。"
            "別の法人・別の単位で連携するときは、新しい接続を作ります",
        )


def note_destination(db: Connection, connection: str, destination: str) -> None:
    """Write down where a connection writes to, before its first intent."""
    db.execute(
        text(
            "UPDATE connection SET destination = :destination "
            "WHERE name = :connection AND destination IS NULL"
        ),
        {"connection": connection, "destination": destination},
    )


def save_counts(db: Connection, run_id: UUID, counts: Counts, **more: Any) -> None:
    """Bring the run's counts up to date, in the transaction that changed them."""
    if more.keys() <= {"position"}:
        # After every page: a statement that nobody has to compile.
        position = orjson.dumps(more["position"]).decode() if more else None
        db.execute(_SAVE, {**asdict(counts), "position": position, "id": run_id})
        return
    values = {**asdict(counts), **more}
    db.execute(update(RunRow).where(col(RunRow.id) == run_id).values(**values))


def settle_interrupted(db: Connection, posted: list[tuple[UUID, str]]) -> None:
    """A look-up found that rows of interrupted runs were stored: their history says so now.

    Args:
        db: The transaction that settles the ledger.
        posted: Run and action (``created`` or ``updated``) of each row.
    """
    for (run, action), found in Counter(posted).items():
        column = col(RunRow.created if action == "created" else RunRow.updated)
        db.execute(
            update(RunRow)
            .where(col(RunRow.id) == run, col(RunRow.result).is_not(None))
            .values(
                {column: column + found, RunRow.pending: func.greatest(RunRow.pending - found, 0)}
            )
        )


def close_run(
    db: Connection,
    run_id: UUID,
    *,
    result: Result,
    counts: Counts,
    message: str,
    error: dict[str, Any] | None,
) -> None:
    """Write how the run ended."""
    save_counts(
        db,
        run_id,
        counts,
        result=result,
        # A clock that was set back must not end a run before it began.
        ended_at=func.greatest(col(RunRow.started_at), now()),
        message=message,
        error=_storable(error),
    )


def _storable(error: dict[str, Any] | None) -> dict[str, Any] | None:
    """PostgreSQL's jsonb refuses NUL, and a vendor's message may hold one."""
    if error is None:
        return None
    storable: dict[str, Any] = orjson.loads(orjson.dumps(error).replace(b"\\u0000", b""))
    return storable


def ended(session: Session, runs: Sequence[UUID]) -> list[RunRow]:
    """Those of ``runs`` that have ended."""
    query = select(RunRow).where(col(RunRow.id).in_(runs), col(RunRow.result).is_not(None))
    return list(session.exec(query).all())


def recent(
    session: Session,
    *,
    connection: str | None = None,
    limit: int | None = 5,
    first: date | None = None,
    last: date | None = None,
    result: str | None = None,
    among: Sequence[str] = (),
    before: RunRow | None = None,
) -> list[RunRow]:
    """The newest runs first, of one connection or of all.

    Args:
        session: A session on the store.
        connection: Only of this one.
        among: Only of these; empty = of all.
        before: Only what comes after this one in the list: the next page.
        limit: How many at most; ``None`` = all.
        first: Only those that began on this day in Japan or later.
        last: Only those that began on this day in Japan or earlier.
        result: Only those with this 結果.
    """
    query = select(RunRow).order_by(col(RunRow.started_at).desc(), col(RunRow.id).desc())
    if among:
        query = query.where(col(RunRow.connection).in_(among))
    if before is not None:
        place = tuple_(col(RunRow.started_at), col(RunRow.id))
        query = query.where(place < tuple_(literal(before.started_at), literal(before.id)))
    if connection is not None:
        query = query.where(RunRow.connection == connection)
    if first is not None:
        query = query.where(RunRow.business_date >= first)
    if last is not None:
        query = query.where(RunRow.business_date <= last)
    if result is not None:
        query = query.where(RunRow.result == result)
    if limit is not None:
        query = query.limit(limit)
    return list(session.exec(query).all())


def set_watermark(db: Connection, connection: str, moment: datetime) -> None:
    """Move the watermark forward, never back."""
    db.execute(
        text(
            "UPDATE connection SET watermark = greatest(coalesce(watermark, :moment), :moment) "
            "WHERE name = :connection"
        ),
        {"connection": connection, "moment": moment},
    )


def watermark(session: Session, connection: str) -> datetime | None:
    """Source time up to which everything was handled, or ``None`` before the first good run."""
    row = session.get(ConnectionRow, connection)
    return None if row is None else row.watermark
