"""エラー明細: records that could not be posted, kept with their source until they go through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from connectors.kit import DataError, catalogue
from flows.engine import code_table, corrections
from flows.engine.ledger import Ledger
from flows.engine.model import Reject
from flows.engine.reject_csv import Line
from flows.engine.staging import compress, decompress

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
_WHICH = (
    "FROM reject WHERE connection = :connection AND entity NOT LIKE '%.recheck.seen' "
    "AND (CAST(:run AS uuid) IS NULL OR run_id = :run) "
    "ORDER BY code, length(source_key), source_key LIMIT :limit"
)
_LIST = text(
    "SELECT source_key, label, code, item, reason, remedy, first_seen, run_id, entity " + _WHICH
)
_SOURCES = text("SELECT entity, source_key, source " + _WHICH)
_FINISHED = text(
    "SELECT source_key FROM ledger WHERE connection = :connection "
    "AND state IN ('posted', 'reversed') AND source_key = ANY(:sources) "
    "UNION SELECT source_key FROM correction WHERE connection = :connection "
    "AND source_key = ANY(:sources)"
)
_SEEN = text(
    "WITH moved AS (DELETE FROM reject WHERE connection = :connection AND entity = :entity "
    "AND source_key = ANY(:sources) RETURNING *) "
    "INSERT INTO reject (connection, entity, source_key, run_id, code, item, label, reason, "
    "remedy, holder, source, first_seen, last_seen) SELECT connection, :seen, source_key, run_id, "
    "code, item, label, reason, remedy, holder, source, first_seen, now() FROM moved "
    "ON CONFLICT (connection, entity, source_key) DO UPDATE SET code = excluded.code, "
    "reason = excluded.reason, last_seen = now()"
)

ACKNOWLEDGED_BY_A_PERSON = frozenset({"AC-811", "AC-812", "AC-813"})
"""Codes of rejects that only a person can deal with: 対応済みにする."""


def recheck_entity(entity: str) -> str:
    """Under which entity the findings of 再確認 are kept: no run of the connector ends them."""
    return f"{entity}.recheck"


def seen_entity(entity: str) -> str:
    """The same for findings that a person has dealt with: they are not reported again."""
    return f"{recheck_entity(entity)}.seen"


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
    entity: str

    @property
    def title(self) -> str:
        """Short name of what is wrong."""
        return catalogue()[self.code].title

    @property
    def words(self) -> tuple[str, ...]:
        """The texts of `flows.engine.reject_csv.WORDS`."""
        return (
            *(self.source_key, self.label, self.code, self.title),
            *(self.item, self.reason, self.remedy),
        )


def _clean(text_: str) -> str:
    return text_.replace("\x00", "\N{SYMBOL FOR NULL}")


def put(
    db: Connection,
    connection: str,
    entity: str,
    run_id: UUID,
    found: Sequence[tuple[Reject, object]],
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
        code_table.note(db, connection, entity, [reject for reject, _ in found])


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


def lines(db: Connection, connection: str, *, run: UUID | None = None) -> list[Line]:
    """The same with the source records and what was corrected in them, for the CSV."""
    values = {"connection": connection, "run": run, "limit": 1_000_000}
    found = listed(db, connection, run=run)
    sources = {(r[0], r[1]): bytes(r[2]) for r in db.execute(_SOURCES, values)}
    made = {each: corrections.read(db, connection, each) for each in {r.entity for r in found}}
    return [
        Line(
            r.entity,
            r.words,
            orjson.loads(decompress(sources[r.entity, r.source_key])),
            made[r.entity].get(r.source_key),
        )
        for r in found
        if (r.entity, r.source_key) in sources
    ]


def finished(db: Connection, connection: str, sources: Sequence[str]) -> list[str]:
    """Which of these records are dealt with: posted, or corrected and gone at the source."""
    rows = db.execute(_FINISHED, {"connection": connection, "sources": list(sources)})
    return [row[0] for row in rows]


def chosen(
    db: Connection, connection: str, sources: Sequence[str]
) -> tuple[list[Listed], list[str]]:
    """The open rejects that a person named (none named = all), and which of them are done already.

    Raises:
        DataError: ``AC-816``, a record is neither open nor done.
    """
    found = listed(db, connection)
    if not sources:
        return found, []
    wanted = dict.fromkeys(key for each in sources if (key := each.strip()))
    found = [each for each in found if each.source_key in wanted]
    missing = [key for key in wanted if key not in {each.source_key for each in found}]
    done = finished(db, connection, missing)
    unknown = [key for key in missing if key not in done]
    if unknown:
        raise DataError("AC-816", "、".join(unknown))
    return found, done


def acknowledge(db: Connection, connection: str, sources: Sequence[str]) -> list[str]:
    """対応済みにする: a person has dealt with what changed after posting; its rejects go.

    Args:
        db: The transaction.
        connection: Name of the connection.
        sources: Source keys; none = every reject that can be acknowledged.

    Returns:
        The source keys that it applied to; pressing twice changes nothing.

    Raises:
        DataError: ``AC-816``, no such reject; ``AC-817``, one that has to be put right.
    """
    found, _ = chosen(db, connection, sources)
    others = [each for each in found if each.code not in ACKNOWLEDGED_BY_A_PERSON]
    if sources and others:
        raise DataError("AC-817", _named(others))
    by_entity: dict[str, list[Listed]] = {}
    for each in found:
        if each.code in ACKNOWLEDGED_BY_A_PERSON:
            by_entity.setdefault(each.entity, []).append(each)
    done: list[str] = []
    for entity, some in by_entity.items():
        keys = [each.source_key for each in some]
        if entity.endswith(".recheck"):
            values = {"connection": connection, "entity": entity, "seen": f"{entity}.seen"}
            db.execute(_SEEN, {**values, "sources": keys})
            done += keys
            continue
        agreed = Ledger(connection, entity).acknowledge(db, keys)
        resolve(db, connection, entity, agreed)
        done += agreed
        left = [each for each in some if each.source_key not in agreed]
        if sources and left:
            raise DataError(
                "AC-817", f"{_named(left)}: 手動実行してから、もう一度「対応済みにする」を選びます"
            )
    return done


def _named(some: Sequence[Listed]) -> str:
    named = [f"レコード {each.source_key}: {each.code} {each.title}" for each in some[:10]]
    return "、".join(named) + (f" ほか {len(some) - 10:,} 件" if len(some) > 10 else "")
