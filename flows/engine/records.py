"""A source record as a person sees it in a table, and changed as that person says.

A record maps fields to cells. A cell is a value, or an object that holds one under ``value`` (as
kintone's do, beside its ``type``). A value that is a list of rows is a table inside the record (the
lines of a slip); its cells are named ``明細[1].借方金額``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import orjson

_UNSEEN: Final = frozenset({"__ID__", "__REVISION__"})
"""Types of cells that say nothing to a person; the record's number has a column of its own."""

_OF_THE_SERVICE: Final = frozenset(
    {"RECORD_NUMBER", "CREATED_TIME", "UPDATED_TIME", "CREATOR", "MODIFIER", "CALC", "STATUS"}
)
"""Types of cells that the service writes itself: to correct one would mean nothing."""

Record = Mapping[str, Any]


def source_hash(record: Record) -> bytes:
    """16 bytes over the record; another record, another hash, whatever the order of its fields."""
    return blake2b(orjson.dumps(record, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def flat(record: Record) -> dict[str, str]:
    """Field -> its value as text, tables row by row, in the order of the record."""
    return {name: _text(_value(cell)) for name, cell in _cells(record)}


def editable(record: Record) -> frozenset[str]:
    """The fields of `flat` that a person may change: those that hold one text or one number."""
    return frozenset(
        name
        for name, cell in _cells(record)
        if not isinstance(_value(cell), list | Mapping) and _type(cell) not in _OF_THE_SERVICE
    )


def kinds(record: Record) -> dict[str, str]:
    """Field of `flat` -> type of its cell, as the service calls it; empty = it has none."""
    return {name: _type(cell) for name, cell in _cells(record)}


def changed(record: Record, changes: Mapping[str, str]) -> Record:
    """A copy of the record with other values in some fields of `flat`.

    Raises:
        KeyError: there is no such field that can be changed.
    """
    made = copy.deepcopy(dict(record))
    homes = dict(_homes(made))
    allowed = editable(record)
    for name, text in changes.items():
        if name not in allowed:
            raise KeyError(name)
        home, key = homes[name]
        if isinstance(home[key], dict) and "value" in home[key]:
            home[key]["value"] = text
        else:
            home[key] = text
    return made


def _cells(record: Record) -> Iterator[tuple[str, Any]]:
    for name, (home, key) in _homes(record):
        yield name, home[key]


def _homes(record: Any) -> Iterator[tuple[str, tuple[Any, str]]]:
    """Each field of `flat` with the mapping that holds its cell, and under which name."""
    for name, cell in record.items():
        if _type(cell) in _UNSEEN:
            continue
        value = _value(cell)
        if not _is_table(value):
            yield name, (record, name)
            continue
        for number, row in enumerate(value, 1):
            inner = _value(row)
            for column in inner:
                yield f"{name}[{number}].{column}", (inner, column)


def _value(cell: Any) -> Any:
    return cell["value"] if isinstance(cell, Mapping) and "value" in cell else cell


def _type(cell: Any) -> str:
    return str(cell.get("type", "")) if isinstance(cell, Mapping) and "value" in cell else ""


def _is_table(value: Any) -> bool:
    """Whether a value is rows of cells. People and files come in lists of objects, too."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and bool(value)
        and all(isinstance(_value(row), Mapping) and "value" in row for row in value)
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return "、".join(_text(each) for each in value)
    if isinstance(value, Mapping):
        return _text(value.get("name") or value.get("code") or orjson.dumps(value).decode())
    return str(value)
