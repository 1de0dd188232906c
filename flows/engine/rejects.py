"""エラー明細: records that could not be posted, kept with their source until they go through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from connectors.kit import catalogue
from flows.engine.model import Reject
from flows.engine.staging import compress

_PUT = text(
    "INSERT INTO reject (connection, entity, source_key, run_id, code, item, label, reason, "
    "remedy, holder, source, first_seen, last_seen) VALUES (:connection, :entity, :source_key, "
    ":run_id, :code, :item, :label, :reason, :remedy, :holder, :source, now(), now()) "
    "ON CONFLICT (connection, entity, source_key) DO UPDATE SET run_id = excluded.run_id, "
    "code = excluded.code, item = excluded.item, label = excluded.label, "
    "reason = excluded.reason, remedy = excluded.remedy, holder = excluded.holder, "
    "source = excluded.source, last_seen = now()"
)
_RESOLVE = text(
    "DELETE FROM reject WHERE connection = :connection AND entity = :entity "
    "AND source_key = ANY(:sources)"
)
_OPEN = text(
    "SELECT source_key, holder FROM reject WHERE connection = :connection AND entity = :entity"
)
_LIST = text(
    "SELECT source_key, label, code, item, reason, remedy, first_seen, run_id FROM reject "
    "WHERE connection = :connection AND (CAST(:run AS uuid) IS NULL OR run_id = :run) "
    "ORDER BY code, length(source_key), source_key LIMIT :limit"
)


@dataclass(frozen=True, slots=True)
class Listed:
    """An open reject, as a person sees it in a list."""

    source_key: str
    label: str
    code: str
    item: str
    reason: str
    remedy: str
    first_seen: datetime
    run_id: UUID

    @property
    def title(self) -> str:
        """Short name of what is wrong."""
        return catalogue()[self.code].title


def _clean(text_: str) -> str:
    return text_.replace("\x00", "\N{SYMBOL FOR NULL}")


def put(
    db: Connection,
    connection: str,
    entity: str,
    run_id: UUID,
    found: Iterable[tuple[Reject, object]],
) -> None:
    """Keep rejects with their source records; a reject that is known already is brought up to date.

    Args:
        db: The transaction in which the page that held them is dealt with.
        connection: Name of the connection.
        entity: What is moved, e.g. ``customer``.
        run_id: The run that found them.
        found: Each reject with its source record (anything JSON can hold).
    """
    rows = [
        {
            "connection": connection,
            "entity": entity,
            "source_key": reject.source_key,
            "run_id": run_id,
            "code": reject.code,
            "item": _clean(reject.item),
            "label": _clean(reject.label),
            "reason": _clean(reject.reason or catalogue()[reject.code].happened),
            "remedy": _clean(reject.remedy or _catalogue_remedy(reject)),
            "holder": reject.holder,
            "source": compress(orjson.dumps(record)),
        }
        for reject, record in found
    ]
    if rows:
        db.execute(_PUT, rows)


def _catalogue_remedy(reject: Reject) -> str:
    steps = catalogue()[reject.code].next
    return " → ".join(step.replace("{subject}", reject.item or "項目") for step in steps)


def resolve(db: Connection, connection: str, entity: str, sources: Sequence[str]) -> None:
    """These records went through, or are gone at the source."""
    if sources:
        db.execute(_RESOLVE, {"connection": connection, "entity": entity, "sources": list(sources)})


def open_keys(db: Connection, connection: str, entity: str) -> dict[str, str | None]:
    """Every open reject: source key -> source key of the record that holds its code."""
    rows = db.execute(_OPEN, {"connection": connection, "entity": entity})
    return {row[0]: row[1] for row in rows}


def listed(
    db: Connection, connection: str, *, run: UUID | None = None, limit: int = 1_000_000
) -> list[Listed]:
    """Open rejects of a connection, or only those that one run found."""
    rows = db.execute(_LIST, {"connection": connection, "run": run, "limit": limit})
    return [Listed(*row) for row in rows]
