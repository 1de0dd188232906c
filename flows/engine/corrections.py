"""Corrections: what a person changed in rejected records, without touching the source.

A correction belongs to one version of its record: once the record changes at the source, what the
person saw is gone and the correction goes with it. It stays after the record went through, so that
reading the same record again makes the same row, and nothing has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from sqlalchemy import Connection, text

from connectors.kit import catalogue
from flows.engine.model import Reject, Row
from flows.engine.records import changed, source_hash

_READ = text(
    "SELECT source_key, source_hash, changes FROM correction "
    "WHERE connection = :connection AND entity = :entity"
)
_PUT = text(
    "INSERT INTO correction (connection, entity, source_key, source_hash, changes, made_at) "
    "VALUES (:connection, :entity, :source_key, :source_hash, CAST(:changes AS jsonb), now()) "
    "ON CONFLICT (connection, entity, source_key) DO UPDATE SET "
    "source_hash = excluded.source_hash, changes = excluded.changes, made_at = now() "
    "WHERE (correction.source_hash, correction.changes) "
    "IS DISTINCT FROM (excluded.source_hash, excluded.changes)"
)
_DROP = text(
    "DELETE FROM correction WHERE connection = :connection AND entity = :entity "
    "AND source_key = :source_key AND source_hash = :source_hash"
)

DROPPED = "（元データが変わったため、CSV で取り込んだ修正は使いませんでした）"
"""Said in the reason of a reject whose correction was dropped."""


@dataclass(frozen=True, slots=True)
class Correction:
    """What a person changed in one version of a record.

    Attributes:
        source_hash: Of the version.
        changes: Field (`flows.engine.records.flat`) -> the value used in its place.
    """

    source_hash: bytes
    changes: Mapping[str, str]


def read(db: Connection, connection: str, entity: str) -> dict[str, Correction]:
    """Every correction of a connection, by source key."""
    rows = db.execute(_READ, {"connection": connection, "entity": entity})
    return {row[0]: Correction(bytes(row[1]), row[2]) for row in rows}


def put(
    db: Connection, connection: str, entity: str, corrections: Mapping[str, Correction]
) -> list[str]:
    """Keep corrections by source key; one without changes takes back what was kept.

    Returns:
        Source keys of those that were not kept like this already.
    """
    done: list[str] = []
    for key in sorted(corrections):  # in one order: two people may import at the same moment
        each = corrections[key]
        values: dict[str, Any] = {
            "connection": connection,
            "entity": entity,
            "source_key": key,
            "source_hash": each.source_hash,
        }
        if each.changes:
            values["changes"] = orjson.dumps(dict(each.changes)).decode()
            written = db.execute(_PUT, values)
        else:
            written = db.execute(_DROP, values)
        if written.rowcount:
            done.append(key)
    return done


def drop(
    db: Connection, connection: str, entity: str, stale: Iterable[tuple[str, Correction]]
) -> None:
    """Forget corrections of versions that are gone; a newer one of the same record stays."""
    for key, each in stale:
        values = {
            "connection": connection,
            "entity": entity,
            "source_key": key,
            "source_hash": each.source_hash,
        }
        db.execute(_DROP, values)


@dataclass
class Corrector:
    """Applies corrections to the records of a run.

    Attributes:
        known: The corrections, by source key.
        stale: Those whose record has changed since, as they are met.
    """

    known: Mapping[str, Correction]
    stale: dict[str, Correction] = field(default_factory=dict)

    def __call__(self, source_key: str, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """The record, corrected when there is a correction of this very version."""
        correction = self.known.get(source_key)
        if correction is None:
            return record
        if correction.source_hash != source_hash(record):
            self.stale[source_key] = correction
            return record
        # A correction of a version always fits it: it was checked when it was imported.
        return changed(record, correction.changes)

    def noted(self, source_key: str, outcome: Row | Reject | None) -> Row | Reject | None:
        """The outcome, with a note when a person's correction could not be used."""
        if source_key not in self.stale or not isinstance(outcome, Reject):
            return outcome
        reason = outcome.reason or catalogue()[outcome.code].happened
        return replace(outcome, reason=f"{reason}{DROPPED}")
