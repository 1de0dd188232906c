"""What a condition means for a record: which operators a field type knows, and how it compares."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

from connectors.kintone.emulator_errors import KintoneError, bad_query
from connectors.kintone.emulator_functions import USERS, Caller, iso, span, user
from connectors.kintone.emulator_query import Both, Call, Condition, Either, Node

_ORDERED = frozenset({"=", "!=", "<", ">", "<=", ">="})
_IN = frozenset({"in", "not in"})
_LIKE = frozenset({"like", "not like"})
_IS = frozenset({"is", "is not"})

_NUMBERS = ("NUMBER", "CALC", "RECORD_NUMBER", "__ID__")
_TIMES = ("DATE", "TIME", "DATETIME", "CREATED_TIME", "UPDATED_TIME")
_PEOPLE = ("USER_SELECT", "ORGANIZATION_SELECT", "GROUP_SELECT", "CREATOR", "MODIFIER")
_OPTIONS = ("CHECK_BOX", "MULTI_SELECT", "RADIO_BUTTON", "DROP_DOWN")

# Vendor documentation, クエリの書き方: the operators of each field type.
_ALLOWED: dict[str, frozenset[str]] = {
    **dict.fromkeys(_NUMBERS, _ORDERED | _IN),
    **dict.fromkeys(_TIMES, _ORDERED),
    **dict.fromkeys((*_PEOPLE, *_OPTIONS, "STATUS_ASSIGNEE", "CATEGORY"), _IN),
    **dict.fromkeys(("SINGLE_LINE_TEXT", "LINK"), frozenset({"=", "!="}) | _IN | _LIKE),
    "STATUS": frozenset({"=", "!="}) | _IN,
    "MULTI_LINE_TEXT": _LIKE | _IS,
    "FILE": _LIKE | _IS,
    "RICH_TEXT": _LIKE,
}
_NEGATIVE = frozenset({"!=", "not in", "not like", "is not"})
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NUMBER_TEXT = re.compile(r"-?\d+(\.\d+)?")

Test = Callable[[Any], bool]
"""Looks at the wire value of one field."""


class Matchable(Protocol):
    """What a condition looks at."""

    @property
    def id(self) -> int:
        """The record's number."""
        ...

    @property
    def values(self) -> Mapping[str, Any]:
        """Wire values by field code."""
        ...

    @property
    def indexed_at(self) -> float:
        """When the search index knows the record, in the emulator's seconds."""
        ...


Predicate = Callable[[Any], bool]
"""Looks at one `Matchable`."""


@dataclass(frozen=True, slots=True)
class Form:
    """What the fields of an app are, as far as conditions care."""

    types: Mapping[str, str]
    inner: Mapping[str, tuple[str, str]]
    """Fields of tables: code -> (code of the table, type)."""
    options: Mapping[str, Collection[str]]

    def type_of(self, code: str) -> tuple[str | None, str]:
        """The table that ``code`` is in, if any, and its type.

        Raises:
            KintoneError: ``GAIA_IQ11``, there is no such field.
        """
        if code == "$id":
            return None, "__ID__"
        if code in self.types:
            return None, self.types[code]
        if code in self.inner:
            return self.inner[code]
        raise KintoneError("GAIA_IQ11", field=code)


def predicate(node: Node, form: Form, caller: Caller, seconds: float) -> Predicate:
    """A function that says whether a record meets ``node``.

    Args:
        node: The parsed condition.
        form: The app's fields.
        caller: Who asks.
        seconds: Now, in the emulator's seconds, for the search index.

    Raises:
        KintoneError: any of the contract's query errors.
    """
    if isinstance(node, Either):
        parts = [predicate(part, form, caller, seconds) for part in node.parts]
        return lambda record: any(part(record) for part in parts)
    if isinstance(node, Both):
        return _both(node, form, caller, seconds)
    table, test = _condition(node, form, caller)
    if table is not None:
        return _in_table(table, [(node.field, test)], negative=node.operator in _NEGATIVE)
    if node.field == "$id":
        return lambda record: test(str(record.id))
    code = node.field
    if node.operator in _LIKE:
        # The search index is built in the background: a fresh record is not in it yet.
        unknown = node.operator == "not like"
        return lambda record: (
            test(record.values.get(code)) if record.indexed_at <= seconds else unknown
        )
    return lambda record: test(record.values.get(code))


def _both(node: Both, form: Form, caller: Caller, seconds: float) -> Predicate:
    """``and``: positive conditions on one table have to hold in the same row."""
    parts: list[Predicate] = []
    rows: dict[str, list[tuple[str, Test]]] = {}
    for part in node.parts:
        if isinstance(part, Condition) and part.operator not in _NEGATIVE:
            table, test = _condition(part, form, caller)
            if table is not None:
                rows.setdefault(table, []).append((part.field, test))
                continue
        parts.append(predicate(part, form, caller, seconds))
    parts += [_in_table(table, tests, negative=False) for table, tests in rows.items()]
    return lambda record: all(part(record) for part in parts)


def _in_table(table: str, tests: list[tuple[str, Test]], *, negative: bool) -> Predicate:
    """Positive: one row meets all tests. Negative: every row does. No rows: never."""
    quantifier = all if negative else any

    def judge(record: Any) -> bool:
        rows = record.values.get(table) or []
        return bool(rows) and quantifier(
            all(test(row["value"].get(code, {}).get("value")) for code, test in tests)
            for row in rows
        )

    return judge


def _condition(node: Condition, form: Form, caller: Caller) -> tuple[str | None, Test]:
    table, kind = form.type_of(node.field)
    if kind in _OPTIONS:
        # kintone looks at the options before it looks at the operator.
        for value in node.operands:
            if isinstance(value, str) and value and value not in form.options[node.field]:
                raise KintoneError("GAIA_IQ10", field=node.field, value=value)
    if node.operator in ("=", "!=") and (table is not None or kind == "SUBTABLE"):
        raise KintoneError("GAIA_IQ07", field=node.field, op=node.operator)
    if node.operator not in _ALLOWED.get(kind, ()):
        raise KintoneError("GAIA_IQ03", field=node.field, op=node.operator)
    return table, _test(node, kind, caller)


def _test(node: Condition, kind: str, caller: Caller) -> Test:
    if node.operator in _IS:
        return (lambda v: not v) if node.operator == "is" else bool
    if node.operator in _LIKE:
        return _like(_texts(node, kind, caller)[0], negative=node.operator == "not like")
    if kind in _NUMBERS:
        return _number_test(node, kind, caller)
    if kind in _TIMES:
        return _time_test(node, kind, caller)
    wanted = frozenset(_texts(node, kind, caller))
    positive = node.operator in ("=", "in")
    # An unset value and an empty one are the same to a condition.
    return lambda value: (not wanted.isdisjoint(_codes(value))) is positive


def _codes(value: Any) -> list[str]:
    """The strings that a value is compared by; ``[""]`` for nothing."""
    items = value if isinstance(value, list) else [value]
    return [str(i["code"] if isinstance(i, dict) else i or "") for i in items] or [""]


def _texts(node: Condition, kind: str, caller: Caller) -> list[str]:
    texts = []
    for value in node.operands:
        if isinstance(value, str):
            texts.append(value)
        elif value.name in USERS and kind in _PEOPLE:
            texts.append(user(value, caller))
        else:
            raise KintoneError("GAIA_IQ23", name=value.name)
    return texts


def _like(word: str, *, negative: bool) -> Test:
    folded = word.casefold()

    def found(value: Any) -> bool:
        items = value if isinstance(value, list) else [value]
        texts = (str(i["name"] if isinstance(i, dict) else i or "") for i in items)
        return any(folded in text.casefold() for text in texts) is not negative

    return found


def _number_test(node: Condition, kind: str, caller: Caller) -> Test:
    def number(text: str) -> Decimal | None:
        if text == "":
            return None
        if not _NUMBER_TEXT.fullmatch(text):
            raise bad_query()
        return Decimal(text)

    wanted = [number(text) for text in _texts(node, kind, caller)]
    if node.operator in _COMPARE:
        compare, bound = _COMPARE[node.operator], wanted[0]
        if bound is None:
            raise bad_query()
        return lambda value: (n := _decimal(value)) is not None and compare(n, bound)
    positive = node.operator in ("=", "in")
    return lambda value: (_decimal(value) in wanted) is positive


def _decimal(value: Any) -> Decimal | None:
    try:
        return Decimal(value) if value else None
    except InvalidOperation:
        return None


def _time_test(node: Condition, kind: str, caller: Caller) -> Test:
    low, high = _span(node.operands[0], kind, caller)
    match node.operator:
        case "=":
            return lambda value: low <= (value or "") <= high
        case "!=":
            return lambda value: not low <= (value or "") <= high
        case "<":
            return lambda value: bool(value) and value < low
        case "<=":
            return lambda value: bool(value) and value <= high
        case ">":
            return lambda value: bool(value) and value > high
        case _:
            return lambda value: bool(value) and value >= low


def _span(value: str | Call, kind: str, caller: Caller) -> tuple[str, str]:
    """First and last wire value that a literal or a function stands for."""
    if isinstance(value, Call):
        if kind == "TIME" or value.name in USERS:
            raise KintoneError("GAIA_IQ23", name=value.name)
        return span(value, caller, dates=kind == "DATE")
    if value == "":
        return "", ""
    try:
        if kind == "TIME":
            text = time.fromisoformat(value).strftime("%H:%M")
        else:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=caller.zone)
            text = moment.date().isoformat() if kind == "DATE" else iso(moment)
    except ValueError:
        raise bad_query() from None
    return text, text
