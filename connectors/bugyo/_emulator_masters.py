"""The emulator's masters of one tenant: strict about everything that the registry says."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

from connectors.bugyo._emulator_demo import built_in, demo_rows
from connectors.bugyo._emulator_query import Query
from connectors.bugyo._emulator_settings import EmulatorSettings
from connectors.bugyo._emulator_values import (
    ImportResult,
    Refusal,
    Row,
    checks,
    data_list,
    padded,
    refusal,
)
from connectors.bugyo.registry import masters, operation, resource

Clock = Callable[[], datetime]
_Found = list[tuple[str, str, str]]
"""Code, message and 項目記号 of each error in a row."""


class MasterBook:
    """The rows of one master of one tenant, by key.

    Attributes:
        rows: Key (`Resource.key_of`) -> full row, 項目記号 -> value.
        writes: Key -> how many times an import wrote it. Seeding is not an import.
        imports: Import calls that stored something.
        version: Changes with every change of the book.
    """

    def __init__(self, name: str, peers: Mapping[str, MasterBook], clock: Clock) -> None:
        self.registry = registry = resource(name)
        self._peers = peers
        self._clock = clock
        self._keys = [item.code for item in registry.keys]
        self._output = tuple(item.code for item in registry.items if item.exportable)
        self._required = [item for item in registry.items if item.required]
        self._dates = [item.code for item in registry.items if item.type == "date"]
        self._stamped = registry.codes.get("updated_at")
        self._own_key = [registry.codes[field] for field in registry.own_key]
        self._references = [
            (registry.by_field[field], target) for field, target in registry.references.items()
        ]
        self._words = [
            (registry.by_field[field], frozenset(words.values()))
            for field, words in registry.words.items()
        ]
        self._reserved = operation(registry.import_).reserved_keys if registry.import_ else ()
        self.version = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything but what the product itself brings along (その他)."""
        self.rows: dict[str, Row] = {}
        self.writes: Counter[str] = Counter()
        self.imports = 0
        self.seed(built_in(self.registry.name))

    def key_of(self, row: Mapping[str, str]) -> str:
        """The key of a row by 項目記号."""
        if len(self._keys) == 1:
            return row.get(self._keys[0], "")
        return "/".join(row.get(code, "") for code in self._keys)

    def seed(self, rows: Iterable[Mapping[str, str]]) -> None:
        """Put in rows by English field names, as if they had always been there; no check.

        Raises:
            KeyError: there is no such field.
        """
        codes, stamp = self.registry.codes, self._stamp()
        for row in rows:
            coded = {codes[field]: str(value) for field, value in row.items()}
            self._store(coded, coded.get(self._stamped or "") or stamp)
        self.version += 1

    def remove(self, key: str) -> bool:
        """A person deletes a row; whether there was one."""
        gone = self.rows.pop(key, None) is not None
        self.version += gone
        return gone

    def named(self) -> list[Row]:
        """Every row in our field names, by key."""
        items = [item for item in self.registry.items if item.exportable]
        return [
            {item.field: self.rows[key][item.code] for item in items} for key in sorted(self.rows)
        ]

    def _stamp(self) -> str:
        return self._clock().strftime("%Y/%m/%d %H:%M:%S")

    def _store(self, row: Row, stamp: str) -> None:
        key = self.key_of(row)
        kept = self.rows.get(key)
        if kept is None:
            kept = self.rows[key] = dict.fromkeys(self._output, "")
        kept.update(row)
        if self._stamped is not None:
            kept[self._stamped] = stamp
        for code in self._own_key:
            kept[code] = kept[code] or key
        for code in self._dates:
            kept[code] = padded(kept[code]) if kept[code] else ""

    def dump(self) -> dict[str, Any]:
        """Everything the book holds, as JSON can hold it."""
        return {"rows": self.rows, "writes": dict(self.writes), "imports": self.imports}

    def restore(self, held: Mapping[str, Any]) -> None:
        """Hold what another book dumped."""
        self.rows = dict(held["rows"])
        self.writes = Counter(held["writes"])
        self.imports = int(held["imports"])
        self.version += 1

    # --- import --------------------------------------------------------------------------------

    def take(self, body: Any, settings: EmulatorSettings) -> ImportResult:
        """The Import operation.

        Raises:
            Refusal: nothing was stored.
        """
        rows = data_list(body, settings.max_rows)
        errors: list[dict[str, Any]] = []
        accepted: list[Row] = []
        known: set[str] = set()
        for number, row in enumerate(rows, 1):
            found = self._errors(row, known, settings)
            if found:
                errors += [
                    {"code": c, "message": m, "rowNo": number, "itemKey": k} for c, m, k in found
                ]
            else:
                accepted.append(row)
                known.add(self.key_of(row))
        if errors and settings.import_mode == "bare_400":
            raise refusal("E0009", "受入データに誤りがあります。")
        if errors and settings.import_mode == "all_or_nothing":
            raise Refusal(errors)
        if accepted:
            stamp = self._stamp()
            for row in accepted:
                self._store(row, stamp)
            self.writes.update(self.key_of(row) for row in accepted)
            self.imports += 1
            self.version += 1
        return ImportResult(rows=len(rows), errors=errors)

    def _errors(self, row: Any, known: Collection[str], settings: EmulatorSettings) -> _Found:
        if not isinstance(row, dict):
            return [("E1001", "行の形式が正しくありません。", "")]
        table = checks(self.registry.name)
        found: _Found = []
        for code, value in row.items():
            check = table.get(code)
            if check is None:
                exists = code in self.registry.by_code
                reason = "は受け入れできない項目です。" if exists else "は存在しない項目です。"
                found.append(("E1002", f"{code}{reason}", code))
            elif (wrong := check(value)) is not None:
                found.append((*wrong, code))
        if found:
            return found  # nothing else can be said about values that are none
        key = self.key_of(row)
        new = key not in self.rows and key not in known
        for item in self._required:
            value = row.get(item.code)
            if (value is None and (new or item.code in self._keys)) or (
                value is not None and not value.strip()
            ):
                found.append(("E1007", f"{item.label}は必須です。", item.code))
        if key in self._reserved:
            label = self.registry.key.label
            found.append(("E1008", f"{label}「{key}」は受け入れできません。", self._keys[0]))
        found += self._wrong_values(row)
        found += self._dangling(row, key, known)
        found += self._closed(row, settings)
        return found

    def _wrong_values(self, row: Row) -> Iterator[tuple[str, str, str]]:
        for code in self._dates:
            if row.get(code) and day_of(row[code]) is None:
                label = self.registry.by_code[code].label
                yield "E1006", f"{label}「{row[code]}」は存在しない日付です。", code
        for item, codes in self._words:
            value = row.get(item.code, "")
            if value and value not in codes:
                yield "E1010", f"{item.label}「{value}」は使用できません。", item.code

    def _dangling(
        self, row: Row, key: str, known: Collection[str]
    ) -> Iterator[tuple[str, str, str]]:
        for item, target in self._references:
            value = row.get(item.code, "")
            if not value or value in self._peers[target].rows:
                continue
            if target != self.registry.name or (value != key and value not in known):
                yield "E1009", f"{item.label}「{value}」は登録されていません。", item.code

    def _closed(self, row: Row, settings: EmulatorSettings) -> Iterator[tuple[str, str, str]]:
        if self.registry.name != "attendance" or settings.closed_month is None:
            return
        item = self.registry.by_field["month"]
        month = row.get(item.code, "")
        if month and month <= settings.closed_month:
            yield "E4001", f"{item.label}「{month}」の勤怠は締め済みです。", item.code

    # --- export --------------------------------------------------------------------------------

    def export(self, body: Any) -> list[Row]:
        """The Export operation.

        Raises:
            Refusal: the request is not one that the contract allows.
        """
        query = Query.of(self.registry, body)
        rows: Iterable[Row] = self.rows.values()
        if query.keys is not None and len(self._keys) == 1:
            rows = [self.rows[key] for key in query.keys if key in self.rows]
        found = [row for row in rows if query.matches(row)]
        for code, descending in reversed(query.order or [(code, False) for code in self._keys]):
            found.sort(key=operator.itemgetter(code), reverse=descending)
        return [{code: row[code] for code in query.columns} for row in found]


class Masters:
    """Every master of one tenant: what is exported is what slips and rows may use.

    Attributes:
        books: Resource name -> book.
    """

    def __init__(self, clock: Clock) -> None:
        self.books: dict[str, MasterBook] = {}
        for name in masters():
            self.books[name] = MasterBook(name, self.books, clock)
            self.books[name].seed(demo_rows(name))

    def __getitem__(self, name: str) -> MasterBook:
        return self.books[name]

    def has(self, name: str, key: str) -> bool:
        """Whether a code is registered."""
        return key in self.books[name].rows

    def value(self, name: str, key: str, field: str) -> str:
        """One item of a registered row; empty when there is none."""
        book = self.books[name]
        return book.rows.get(key, {}).get(book.registry.codes[field], "")


def day_of(text: str) -> date | None:
    """The day in ``2026/8/1``; ``None`` when there is no such day."""
    try:
        return date(*map(int, text.split("/")))
    except (ValueError, TypeError):
        return None
