"""Adding, changing and deleting records over the emulator's API: checks first, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any

from connectors.kintone.emulator_errors import (
    BAD_DATE,
    DUPLICATE,
    NO_OPTION,
    NOT_NUMBER,
    NOT_UNIQUE_FIELD,
    REQUIRED,
    TOO_LONG,
    TOO_MANY,
    KintoneError,
    Text,
    missing,
)
from connectors.kintone.emulator_store import App, Record, empty

MAX_RECORDS = 100
"""Records in one write."""

_READ_ONLY = frozenset({"RECORD_NUMBER", "CALC", "CREATED_TIME", "UPDATED_TIME"})
_READ_ONLY_PEOPLE = frozenset({"CREATOR", "MODIFIER"})
_SINGLE_CHOICE = frozenset({"DROP_DOWN", "RADIO_BUTTON"})
_CHOICES = frozenset({"CHECK_BOX", "MULTI_SELECT"})

Insert = Callable[[App, Mapping[str, Any]], Record]
Replace = Callable[[App, int, Mapping[str, Any]], Record]
LookUp = Callable[[str, str, str, Mapping[str, str]], dict[str, Any]]
"""(app, key field, value, {own field: field there}) -> values to copy."""


class Writer:
    """Writes of one request.

    Args:
        insert: Adds wire values to an app.
        replace: Puts wire values over a record.
        look_up: Finds the record that a look-up field copies from.
    """

    def __init__(self, insert: Insert, replace: Replace, look_up: LookUp) -> None:
        self._insert, self._replace, self._look_up = insert, replace, look_up

    def add(self, app: App, records: Sequence[Any], place: str = "records") -> list[Record]:
        """Add all records, or none when one of them is wrong."""
        self._count(records, place)
        errors: dict[str, str | Text] = {}
        ready = []
        taken: set[tuple[str, str]] = set()
        for index, record in enumerate(records):
            here = f"{place}[{index}]" if place == "records" else place
            ready.append(self._wire(app, record, here, errors, taken, current=None))
        if errors:
            raise KintoneError("CB_VA01", errors=errors)
        return [self._insert(app, values) for values in ready]

    def change(self, app: App, entries: Sequence[Any], *, upsert: bool) -> list[tuple[Record, str]]:
        """Change records by id or update key; with ``upsert`` add those that are not there."""
        self._count(entries, "records")
        errors: dict[str, str | Text] = {}
        ready: list[tuple[int | None, dict[str, Any]]] = []
        taken: set[tuple[str, str]] = set()
        for index, entry in enumerate(entries):
            here = f"records[{index}]"
            number, key = self._find(app, entry, here, upsert=upsert)
            current = app.get(number) if number is not None else None
            revision = str(entry.get("revision", -1))
            if current is not None and revision not in ("-1", str(current.revision)):
                raise KintoneError("GAIA_CO02")
            # The key names the record; in a new one it becomes the field's value.
            body = {**(entry.get("record") or {}), **({} if current else key)}
            ready.append(
                (number, self._wire(app, body, f"{here}.record", errors, taken, current=current))
            )
        if errors:
            raise KintoneError("CB_VA01", errors=errors)
        return [
            (self._insert(app, values), "INSERT")
            if number is None
            else (self._replace(app, number, values), "UPDATE")
            for number, values in ready
        ]

    def remove(self, app: App, ids: Sequence[Any]) -> None:
        """Delete all of ``ids``, or none when one of them does not exist."""
        self._count(ids, "ids")
        numbers = []
        for value in ids:
            if not str(value).isdigit():
                raise KintoneError("CB_VA01", errors={"ids": NOT_NUMBER})
            numbers.append(app.get(int(value)).id)
        for number in dict.fromkeys(numbers):
            app.delete(number)

    @staticmethod
    def _count(items: Any, place: str) -> None:
        if not isinstance(items, list) or not items:
            raise missing(place)
        if len(items) > MAX_RECORDS:
            raise KintoneError("CB_VA01", errors={place: TOO_MANY.ja.format(n=MAX_RECORDS)})

    @staticmethod
    def _find(
        app: App, entry: Mapping[str, Any], here: str, *, upsert: bool
    ) -> tuple[int | None, dict[str, Any]]:
        if "id" in entry:
            if not str(entry["id"]).isdigit():
                raise KintoneError("CB_VA01", errors={f"{here}.id": NOT_NUMBER})
            return app.get(int(entry["id"])).id, {}
        key = entry.get("updateKey") or {}
        code, value = key.get("field"), key.get("value")
        if not code or value in (None, ""):
            raise missing(f"{here}.updateKey")
        if code not in app.by_value:
            raise KintoneError("CB_VA01", errors={f"{here}.updateKey.field": NOT_UNIQUE_FIELD})
        number = app.by_value[code].get(str(value))
        if number is None and not upsert:
            raise KintoneError("GAIA_RE01", id=value)
        return number, {code: {"value": str(value)}}

    def _wire(
        self,
        app: App,
        body: Any,
        here: str,
        errors: dict[str, str | Text],
        taken: set[tuple[str, str]],
        *,
        current: Record | None,
    ) -> dict[str, Any]:
        """The wire values of a request's record; what is wrong goes into ``errors``."""
        if not isinstance(body, Mapping):
            raise missing(here)
        values: dict[str, Any] = {}
        for code, cell in body.items():
            kind = app.types.get(code)
            # kintone ignores fields that do not exist, and those that only it may set.
            if kind is None or kind in _READ_ONLY | _READ_ONLY_PEOPLE or not isinstance(cell, dict):
                continue
            if kind == "SUBTABLE":
                values[code] = self._table(app, code, cell.get("value") or [], here, errors)
                continue
            values[code] = _value(kind, cell.get("value"))
            _check(app.fields[code], values[code], f"{here}.{code}", f"{here}[{code}]", errors)
            self._copy(app, code, values)
        for code, properties in app.fields.items():
            if current is None and code not in values and properties.get("defaultValue"):
                values[code] = properties["defaultValue"]
            looked_at = current is None or code in values
            if properties.get("required") is True and looked_at and not values.get(code):
                errors[f"{here}.{code}.value"] = REQUIRED
        for code in app.unique:
            value = values.get(code)
            owner = app.by_value[code].get(value) if value else None
            if owner not in (None, current.id if current else None) or (code, value) in taken:
                errors[f"{here}.{code}.value"] = DUPLICATE
            if value:
                taken.add((code, value))
        return values

    def _table(
        self, app: App, table: str, rows: Any, here: str, errors: dict[str, str | Text]
    ) -> list[dict[str, Any]]:
        plain = []
        for index, row in enumerate(rows):
            cells = {}
            for code, cell in row.get("value", {}).items():
                if code not in app.inner or app.inner[code][0] != table:
                    continue
                cells[code] = _value(app.inner[code][1], cell.get("value"))
                place = f"{here}.{table}.value[{index}].value.{code}"
                _check(app.fields[table]["fields"][code], cells[code], place, place, errors)
            plain.append(cells)
        return app.rows(table, plain)

    def _copy(self, app: App, code: str, values: dict[str, Any]) -> None:
        look_up = app.fields[code].get("lookup")
        if not look_up:
            return
        mapping = {m["field"]: m["relatedField"] for m in look_up.get("fieldMappings", [])}
        if not values[code]:
            values.update({own: empty(app.types[own]) for own in mapping})
            return
        try:
            values |= self._look_up(
                str(look_up["relatedApp"]["app"]), look_up["relatedKeyField"], values[code], mapping
            )
        except LookupError:
            raise KintoneError("GAIA_LO04", field=code, value=values[code]) from None


def _value(kind: str, value: Any) -> Any:
    """A request's value in the shape that the wire has: numbers are strings."""
    if value is None:
        return empty(kind)
    return str(value) if isinstance(value, int | float) else value


def _check(
    properties: Mapping[str, Any],
    value: Any,
    place: str,
    bracket: str,
    errors: dict[str, str | Text],
) -> None:
    kind = properties["type"]
    if not value:
        return
    if kind == "NUMBER":
        try:
            Decimal(value)
        except (InvalidOperation, TypeError):
            errors[f"{bracket}.value"] = NOT_NUMBER
        return
    if kind in _SINGLE_CHOICE and properties.get("options") and value not in properties["options"]:
        errors[f"{place}.value"] = NO_OPTION.ja.format(value=value)
    if kind in _CHOICES:
        wrong = [item for item in value if item not in properties.get("options", {})]
        if wrong:
            errors[f"{place}.values.value"] = NO_OPTION.ja.format(value=wrong[0])
    longest = properties.get("maxLength")
    if longest and isinstance(value, str) and len(value) > int(longest):
        errors[f"{place}.value"] = TOO_LONG.ja.format(n=longest)
    if kind in ("DATE", "TIME", "DATETIME") and not _is_time(kind, value):
        errors[f"{place}.value"] = BAD_DATE


def _is_time(kind: str, value: Any) -> bool:
    parse: Callable[[str], Any] = {
        "DATE": date.fromisoformat,
        "TIME": time.fromisoformat,
        "DATETIME": datetime.fromisoformat,
    }[kind]
    try:
        parse(value)
    except (ValueError, TypeError):
        return False
    return True
