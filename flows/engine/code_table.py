"""コード変換表 in the store: the entries of a connection, and the codes that it lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from flows.engine import staging
from flows.engine.codes import EMPTY_BOOK, CodeBook, CodeUse, KnowsCodes
from flows.engine.model import MissingCode, Reject
from flows.engine.store import Store

_ENTRIES = text(
    "SELECT kind, source, partner_code, name, bugyo_code FROM code_mapping "
    "WHERE connection = :connection ORDER BY kind, source, length(partner_code), partner_code"
)
_PUT = text(
    "INSERT INTO code_mapping (connection, kind, source, partner_code, name, bugyo_code, "
    "updated_at) VALUES (:connection, :kind, :source, :code, :name, :bugyo_code, now()) "
    "ON CONFLICT (connection, kind, source, partner_code) DO UPDATE SET name = excluded.name, "
    "bugyo_code = excluded.bugyo_code, updated_at = now()"
)
_REMOVE = text(
    "DELETE FROM code_mapping WHERE connection = :connection AND kind = :kind "
    "AND source = :source AND partner_code = :code"
)
_FORGET = text(
    "DELETE FROM unmapped_code WHERE connection = :connection AND entity = :entity "
    "AND source_key = ANY(:sources)"
)
_NOTE = text(
    "INSERT INTO unmapped_code (connection, entity, source_key, kind, source, partner_code, name, "
    "bugyo_code) VALUES (:connection, :entity, :source_key, :kind, :source, :code, :name, "
    ":bugyo_code) ON CONFLICT DO NOTHING"
)
_OPEN = (
    "FROM unmapped_code u JOIN reject r USING (connection, entity, source_key) "
    "LEFT JOIN code_mapping m ON (m.connection, m.kind, m.source, m.partner_code) "
    "= (u.connection, u.kind, u.source, u.partner_code) "
    "WHERE u.connection = :connection AND (CAST(:run AS uuid) IS NULL OR r.run_id = :run) "
    # What was mapped meanwhile only waits for the next run.
    "AND coalesce(m.bugyo_code, '') = u.bugyo_code "
)
_BLOCKED = text(
    "SELECT u.kind, u.source, u.partner_code, max(u.name), u.bugyo_code, count(*) "
    f"{_OPEN} GROUP BY u.kind, u.source, u.partner_code, u.bugyo_code "
    "ORDER BY u.kind, u.source, length(u.partner_code), u.partner_code"
)
_RECORDS = text(f"SELECT count(DISTINCT (u.entity, u.source_key)) {_OPEN}")
_PREVIEWED = text(
    "SELECT body FROM staged_page WHERE run_id = :run AND stage = 'preview' ORDER BY seq"
)

LONGEST: Final = 200
"""Characters of a code, or of its name, at most; an index of PostgreSQL takes no endless ones."""

Key = tuple[str, str, str]
"""Kind, source, partner code."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the table."""

    kind: str
    source: str
    code: str
    name: str
    bugyo_code: str

    @property
    def key(self) -> Key:
        """What it is the entry of."""
        return self.kind, self.source, self.code


@dataclass(frozen=True, slots=True)
class Blocked:
    """A code that cannot be converted, and how many records wait for it."""

    missing: MissingCode
    records: int

    @property
    def key(self) -> Key:
        """Of the entry that is missing or wrong."""
        return self.missing.kind, self.missing.source, self.missing.code


@dataclass(frozen=True, slots=True)
class Unmapped:
    """未対応のコード.

    Attributes:
        codes: Each with the records that it blocks.
        records: How many records are blocked; one may lack several codes.
    """

    codes: list[Blocked] = field(default_factory=list)
    records: int = 0

    def sentence(self) -> str:
        """For state messages: ``未対応コード 3種類（12件）``; empty when there are none."""
        if not self.codes:
            return ""
        return f"未対応コード {len(self.codes):,}種類（{self.records:,}件）"


async def open_book(
    store: Store, connection: str, uses: Sequence[CodeUse], sink: object
) -> CodeBook:
    """The table of a connection, and of the kinds that it uses what exists in 奉行クラウド.

    Raises:
        AppConnectError: 奉行クラウド could not be asked.
    """
    if not uses:
        return EMPTY_BOOK
    found = await store.do(entries, connection)
    known: dict[str, Mapping[str, str]] = {}
    if isinstance(sink, KnowsCodes):
        for kind in dict.fromkeys(use.kind for use in uses):
            exists = await sink.codes(kind)
            if exists is not None:
                known[kind] = exists
    return CodeBook(connection, {each.key: each.bugyo_code for each in found}, known)


def entries(db: Connection, connection: str) -> list[Entry]:
    """The table of a connection."""
    return [Entry(*row) for row in db.execute(_ENTRIES, {"connection": connection})]


def put(db: Connection, connection: str, changed: Iterable[Entry]) -> None:
    """Add entries, or change those that there are."""
    rows = [
        {
            "connection": connection,
            "kind": each.kind,
            "source": each.source,
            "code": each.code,
            "name": each.name,
            "bugyo_code": each.bugyo_code,
        }
        for each in changed
    ]
    if rows:
        db.execute(_PUT, rows)


def remove(db: Connection, connection: str, keys: Iterable[Key]) -> int:
    """Take entries away; returns how many there were."""
    return sum(
        db.execute(
            _REMOVE, {"connection": connection, "kind": kind, "source": source, "code": code}
        ).rowcount
        for kind, source, code in keys
    )


def note(db: Connection, connection: str, entity: str, found: Sequence[Reject]) -> None:
    """Which codes these rejects lack, in place of what was known of them before.

    Their rows go with the rejects (``ON DELETE CASCADE``): nothing has to be said when a record
    went through.
    """
    which = {"connection": connection, "entity": entity}
    db.execute(_FORGET, {**which, "sources": [reject.source_key for reject in found]})
    rows = [
        {
            **which,
            "source_key": reject.source_key,
            "kind": each.kind,
            "source": each.source,
            "code": _storable(each.code),
            "name": _storable(each.name),
            "bugyo_code": each.bugyo_code,
        }
        for reject in found
        for each in reject.missing
    ]
    if rows:
        db.execute(_NOTE, rows)


def _storable(words: str) -> str:
    words = words.replace("\x00", "\N{SYMBOL FOR NULL}")
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}…"


def as_preview(reject: Reject) -> list[list[str]]:
    """The codes of a reject for the staged preview of a dry run; see `previewed`."""
    return [
        [each.kind, each.source, _storable(each.code), _storable(each.name), each.bugyo_code]
        for each in reject.missing
    ]


def unmapped(db: Connection, connection: str, run: UUID | None = None) -> Unmapped:
    """What blocks records of a connection, or those that one run rejected.

    A code that was mapped since is not among them, although its records wait for the next run.
    """
    values = {"connection": connection, "run": run}
    codes = [
        Blocked(MissingCode(*row[:5]), row[5]) for row in db.execute(_BLOCKED, values).tuples()
    ]
    return Unmapped(codes, db.execute(_RECORDS, values).scalar_one() if codes else 0)


def previewed(db: Connection, run: UUID) -> Unmapped:
    """The same of a dry run, which keeps no books."""
    counted: Counter[MissingCode] = Counter()
    records: set[str] = set()
    for (body,) in db.execute(_PREVIEWED, {"run": run}):
        for line in orjson.loads(staging.decompress(bytes(body))):
            for each in _codes_of(line):
                counted[each] += 1
                records.add(line[0])
    by_code = sorted(counted, key=lambda c: (c.kind, c.source, len(c.code), c.code))
    return Unmapped([Blocked(each, counted[each]) for each in by_code], len(records))


def _codes_of(line: Sequence[Any]) -> list[MissingCode]:
    return [MissingCode(*each) for each in (line[5] if len(line) > 5 else ())]
