"""処理履歴: one row a run, in our own store, so that it outlives Prefect's retention."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, func, text, update
from sqlmodel import Session, col, select

from connectors.kit import FaultError, SettingsError
from flows.engine.clock import business_date, jst_text, now
from flows.engine.model import Counts, Mode, Result, Trigger
from flows.engine.store import ConnectionRow, RunRow

_INTERRUPTED = "中断"
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
        )
        session.add(row)
    else:
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
        error = FaultError("AC-602", f"{jst_text(row.started_at)} に始まった処理")
        row.result = Result.ERROR
        row.ended_at = now()
        row.error = error.as_dict()
        row.message = f"{_INTERRUPTED}: {error.happened}"
        session.add(row)
    return [row.id for row in stale]


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
        db, run_id, counts, result=result, ended_at=now(), message=message, error=_storable(error)
    )


def _storable(error: dict[str, Any] | None) -> dict[str, Any] | None:
    """PostgreSQL's jsonb refuses NUL, and a vendor's message may hold one."""
    if error is None:
        return None
    storable: dict[str, Any] = orjson.loads(orjson.dumps(error).replace(b"\\u0000", b""))
    return storable


def recent(
    session: Session, *, connection: str | None = None, limit: int | None = 5
) -> list[RunRow]:
    """The newest runs first, of one connection or of all."""
    query = select(RunRow).order_by(col(RunRow.started_at).desc())
    if connection is not None:
        query = query.where(RunRow.connection == connection)
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
