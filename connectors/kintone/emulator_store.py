"""The emulator's apps and records: wire shapes, selection by query, speed.

A record is kept in the shape in which it travels, and its bytes are kept once they were asked for:
reading 100,000 records again costs a join, not an encoding.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from connectors.kintone.emulator_conditions import Form, Predicate, predicate
from connectors.kintone.emulator_errors import KintoneError
from connectors.kintone.emulator_functions import Caller
from connectors.kintone.emulator_query import DEFAULT_LIMIT, Both, Condition, Node, Query

PERMISSIONS = frozenset({"view", "add", "edit", "delete"})

# Every app has these, whether or not its form shows them.
_BUILT_IN = {
    "RECORD_NUMBER": "レコード番号",
    "CREATOR": "作成者",
    "CREATED_TIME": "作成日時",
    "MODIFIER": "更新者",
    "UPDATED_TIME": "更新日時",
}
_LISTS = frozenset(
    {
        "CHECK_BOX",
        "MULTI_SELECT",
        "CATEGORY",
        "USER_SELECT",
        "ORGANIZATION_SELECT",
        "GROUP_SELECT",
        "FILE",
        "SUBTABLE",
        "STATUS_ASSIGNEE",
    }
)
_NULL = frozenset({"DATE", "TIME", "DATETIME", "DROP_DOWN", "STATUS"})
_NO_VALUE = frozenset({"GROUP", "REFERENCE_TABLE", "LABEL", "HR", "SPACER"})
_NUMBERS = frozenset({"NUMBER", "CALC", "RECORD_NUMBER", "__ID__"})


def minute(moment: datetime) -> str:
    """A moment as 更新日時 keeps it: UTC, the seconds cut off."""
    return moment.strftime("%Y-%m-%dT%H:%M:00Z")


def empty(kind: str) -> Any:
    """The value of a field that nobody filled in."""
    if kind in _LISTS:
        return []
    return None if kind in _NULL else ""


def _named(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Field properties with their codes and labels, those inside tables included."""
    named: dict[str, dict[str, Any]] = {}
    for code, properties in fields.items():
        named[code] = {"code": code, "label": code, **properties}
        if "fields" in properties:
            named[code]["fields"] = _named(properties["fields"])
    return named


@dataclass(slots=True)
class Record:
    """One version of a record; a change makes a new one, so a snapshot is a copy of references."""

    id: int
    revision: int
    values: dict[str, Any]
    indexed_at: float = 0.0
    _bytes: dict[tuple[str, ...] | None, bytes] = field(default_factory=dict, repr=False)

    def encoded(self, types: Mapping[str, str], codes: tuple[str, ...] | None) -> bytes:
        """The record as it travels, with only the fields in ``codes`` (``None`` = all)."""
        cached = self._bytes.get(codes)
        if cached is None:
            if len(self._bytes) >= 2:
                self._bytes.clear()
            cached = self._bytes[codes] = orjson.dumps(self._wire(types, codes))
        return cached

    def _wire(self, types: Mapping[str, str], codes: tuple[str, ...] | None) -> dict[str, Any]:
        wire: dict[str, Any] = {}
        for code in types if codes is None else codes:
            if code in types:
                wire[code] = {"type": types[code], "value": self.values[code]}
        if codes is None or "$id" in codes:
            wire["$id"] = {"type": "__ID__", "value": str(self.id)}
        if codes is None or "$revision" in codes:
            wire["$revision"] = {"type": "__REVISION__", "value": str(self.revision)}
        return wire


@dataclass(slots=True)
class Selection:
    """What a query found; ``total`` is counted only when it was asked for."""

    records: list[Record]
    total: int | None


class App:
    """One app: its form, its records, who may do what.

    Args:
        app_id: Number of the app, as text.
        name: Name of the app.
        fields: Field properties by field code, as in ``app/form/fields.json``.
        tokens: What each API token may do.
        guest_space: The guest space that the app is in.
        users: What each login name may do; ``None`` = everybody everything.
    """

    def __init__(
        self,
        app_id: str,
        name: str,
        fields: Mapping[str, Mapping[str, Any]],
        *,
        tokens: Mapping[str, Collection[str]],
        guest_space: int | None,
        users: Mapping[str, Collection[str]] | None,
    ) -> None:
        self.id, self.name, self.guest_space = app_id, name, guest_space
        self.tokens = {token: frozenset(allowed) for token, allowed in tokens.items()}
        self.users = users
        self.fields = _named(fields)
        for kind, code in _BUILT_IN.items():
            if not any(properties["type"] == kind for properties in self.fields.values()):
                self.fields[code] = {"type": kind, "code": code, "label": code, "noLabel": False}
        self.types = {
            code: str(properties["type"])
            for code, properties in self.fields.items()
            if properties["type"] not in _NO_VALUE
        }
        self.built_in = {kind: code for code, kind in self.types.items() if kind in _BUILT_IN}
        self.inner = {
            code: (table, str(properties["type"]))
            for table, outer in self.fields.items()
            for code, properties in outer.get("fields", {}).items()
        }
        self.form = Form(self.types, self.inner, self._options())
        self.unique = [code for code, p in self.fields.items() if p.get("unique") is True]
        self.ids: list[int] = []
        self.records: dict[int, Record] = {}
        self.by_value: dict[str, dict[str, int]] = {code: {} for code in self.unique}
        self.next_id = 1
        self.next_row = 1
        self._blank = {code: empty(kind) for code, kind in self.types.items()}

    def _options(self) -> dict[str, Collection[str]]:
        inner = (p for outer in self.fields.values() for p in outer.get("fields", {}).items())
        every = [*self.fields.items(), *inner]
        return {code: list(p.get("options", {})) for code, p in every}

    # -- what changes records ------------------------------------------------------------------

    def insert(self, values: Mapping[str, Any], user: str, at: str, indexed_at: float) -> Record:
        """Add a record with wire values; fields that are left out are empty."""
        person = {"code": user, "name": user}
        number = self.next_id
        self.next_id += 1
        record = Record(number, 1, {**self._blank, **values}, indexed_at)
        record.values[self.built_in["RECORD_NUMBER"]] = str(number)
        record.values[self.built_in["CREATOR"]] = record.values[self.built_in["MODIFIER"]] = person
        record.values[self.built_in["CREATED_TIME"]] = at
        record.values[self.built_in["UPDATED_TIME"]] = at
        self.records[number] = record
        self.ids.append(number)
        self._index(record)
        return record

    def replace(
        self, number: int, values: Mapping[str, Any], user: str, at: str, indexed_at: float
    ) -> Record:
        """Change a record: a new version with ``values`` over the old ones."""
        old = self.get(number)
        record = Record(number, old.revision + 1, {**old.values, **values}, indexed_at)
        record.values[self.built_in["MODIFIER"]] = {"code": user, "name": user}
        record.values[self.built_in["UPDATED_TIME"]] = at
        self._unindex(old)
        self.records[number] = record
        self._index(record)
        return record

    def delete(self, number: int) -> None:
        """Remove a record."""
        self._unindex(self.get(number))
        del self.records[number]
        del self.ids[bisect_left(self.ids, number)]

    def get(self, number: int) -> Record:
        """One record.

        Raises:
            KintoneError: ``GAIA_RE01``, there is none.
        """
        if number not in self.records:
            raise KintoneError("GAIA_RE01", id=number)
        return self.records[number]

    def rows(self, table: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Rows of a table in wire shape, each with an id of its own."""
        wired = []
        for row in rows:
            value = {
                code: {"type": kind, "value": row.get(code, empty(kind))}
                for code, (outer, kind) in self.inner.items()
                if outer == table
            }
            wired.append({"id": str(self.next_row), "value": value})
            self.next_row += 1
        return wired

    def snapshot(self) -> Callable[[], None]:
        """Remember the records; the returned function puts them back (a transaction's end)."""
        kept = (list(self.ids), dict(self.records), self.next_id, self.next_row)
        indexes = {code: dict(index) for code, index in self.by_value.items()}

        def restore() -> None:
            self.ids, self.records, self.next_id, self.next_row = kept
            self.by_value = indexes

        return restore

    def _index(self, record: Record) -> None:
        for code, index in self.by_value.items():
            if value := record.values[code]:
                index[value] = record.id

    def _unindex(self, record: Record) -> None:
        for code, index in self.by_value.items():
            if index.get(record.values[code]) == record.id:
                del index[record.values[code]]

    # -- what reads them -----------------------------------------------------------------------

    def select(
        self, query: Query, caller: Caller, seconds: float, *, all_of_them: bool, total: bool
    ) -> Selection:
        """The records of a query.

        Args:
            query: The parsed query.
            caller: Who asks, for functions.
            seconds: Now, in the emulator's seconds.
            all_of_them: Ignore limit and offset (a cursor).
            total: Count every record that matches.

        Raises:
            KintoneError: any of the contract's query errors.
        """
        low, high, rest = _bounds(query.where)
        match = predicate(rest, self.form, caller, seconds) if rest is not None else None
        ids = self.ids[bisect_right(self.ids, low) : bisect_left(self.ids, high)]
        offset = 0 if all_of_them else query.offset or 0
        limit = len(ids) if all_of_them else DEFAULT_LIMIT if query.limit is None else query.limit
        # No order means by id, the newest first.
        order = query.order or (("$id", True),)
        for code, _ in order:
            if self.form.type_of(code)[0] is not None:
                raise KintoneError("GAIA_IQ03", field=code, op="order by")
        if order[0][0] == "$id":
            found = self._in_order(reversed(ids) if order[0][1] else ids, match)
        else:
            found = iter(self._sorted(self._in_order(reversed(ids), match), order))
        if match is None and order[0][0] == "$id":
            ordered = ids[::-1] if order[0][1] else ids
            chosen = [self.records[number] for number in ordered[offset : offset + limit]]
            return Selection(chosen, len(ids) if total else None)
        records: list[Record] = []
        matched = 0
        for matched, record in enumerate(found, 1):
            if offset < matched <= offset + limit:
                records.append(record)
            elif matched > offset + limit and not total:
                break
        return Selection(records, matched if total else None)

    def _in_order(self, ids: Iterable[int], match: Predicate | None) -> Iterator[Record]:
        for number in ids:
            record = self.records[number]
            if match is None or match(record):
                yield record

    def _sorted(self, found: Iterable[Record], order: Sequence[tuple[str, bool]]) -> list[Record]:
        records = list(found)
        for code, descending in reversed(order):
            records.sort(key=self._sort_key(code), reverse=descending)
        return records

    def _sort_key(self, code: str) -> Callable[[Record], Any]:
        if code == "$id":
            return lambda record: record.id
        if self.types[code] in _NUMBERS:
            return lambda record: (bool(v := record.values[code]), Decimal(v or 0))
        return lambda record: str(record.values[code] or "")


def _bounds(where: Node | None) -> tuple[int, float, Node | None]:
    """Ids that a query can match (exclusive bounds), and what is left of it.

    ``$id > n and …`` is how everybody pages, so it must not look at the records before ``n``.
    """
    low, high = 0, float("inf")
    rest: list[Node] = []
    for part in where.parts if isinstance(where, Both) else [where] if where else []:
        value = part.operands[0] if isinstance(part, Condition) and part.operands else None
        if (
            isinstance(part, Condition)
            and part.field == "$id"
            and part.operator in (">", ">=", "<", "<=")
            and isinstance(value, str)
            and value.isdigit()
        ):
            number = int(value)
            if part.operator.startswith(">"):
                low = max(low, number - ("=" in part.operator))
            else:
                high = min(high, number + ("=" in part.operator))
        else:
            rest.append(part)
    if not rest:
        return low, high, None
    return low, high, rest[0] if len(rest) == 1 else Both(tuple(rest))
