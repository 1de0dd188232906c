"""kintone's query language: grammar, and what a parsed query asks for.

Contract, partners.md 4: double quotes only, full-width space is white space, raw tabs and line
breaks inside a literal are a syntax error. Which operator a field type knows is judged in
`connectors.kintone.emulator_conditions`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedInput

from connectors.kintone.emulator_errors import KintoneError, bad_query

MAX_LIMIT, MAX_OFFSET, DEFAULT_LIMIT = 500, 10_000, 100

_GRAMMAR = r"""
start: [expr] [order] [limit] [offset]
?expr: conj (_OR conj)*                     -> either
?conj: atom (_AND atom)*                    -> both
?atom: "(" expr ")" | compare | member | search | empty
compare: FIELD OP value
member: FIELD [NOT] _IN "(" value ("," value)* ")"
search: FIELD [NOT] _LIKE value
empty: FIELD _IS [NOT] _EMPTY
?value: STRING -> text | NUMBER -> number | call
call: FUNCTION "(" [argument ("," argument)*] ")"
argument: INTEGER | WORD
order: _ORDER_BY term ("," term)*
term: FIELD [DIRECTION]
limit: _LIMIT INTEGER
offset: _OFFSET INTEGER

_OR.3: /or(?!\w)/i
_AND.3: /and(?!\w)/i
NOT.3: /not(?!\w)/i
_IN.3: /in(?!\w)/i
_LIKE.3: /like(?!\w)/i
_IS.3: /is(?!\w)/i
_EMPTY.3: /empty(?!\w)/i
_ORDER_BY.3: /order\s+by(?!\w)/i
DIRECTION.3: /(asc|desc)(?!\w)/i
_LIMIT.3: /limit(?!\w)/i
_OFFSET.3: /offset(?!\w)/i
OP: "=" | "!=" | ">=" | "<=" | ">" | "<"
FIELD: /\$id|[^\W\d][\w・･＿＄￥]*/
FUNCTION.2: /[A-Z_]+(?=\s*\()/
WORD: /[A-Z]+/
INTEGER: /-?\d+/
NUMBER: /-?\d+(\.\d+)?/
STRING: /"(\\["\\]|[^"\\\t\r\n])*"/
%ignore /\s+/
"""


@dataclass(frozen=True, slots=True)
class Call:
    """A function in the place of a value, e.g. ``FROM_TODAY(-5, DAYS)``."""

    name: str
    arguments: tuple[str, ...]


Operand = str | Call


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison. ``operator`` is spelt as in the error texts: ``not in``, ``is not``."""

    field: str
    operator: str
    operands: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Both:
    """``and``."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """``or``."""

    parts: tuple[Node, ...]


Node = Condition | Both | Either


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query. ``order`` is pairs of field code and "descending"."""

    where: Node | None
    order: tuple[tuple[str, bool], ...]
    limit: int | None
    offset: int | None


class _Builder(Transformer[Token, Any]):
    def start(self, parts: list[Any]) -> Query:
        where, order, limit, offset = parts
        return Query(where, order or (), limit, offset)

    def either(self, parts: list[Node]) -> Node:
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def both(self, parts: list[Node]) -> Node:
        # "(a and b) and c" is "a and b and c": the same row of a table has to meet all of them.
        flat: list[Node] = []
        for part in parts:
            flat.extend(part.parts if isinstance(part, Both) else (part,))
        return flat[0] if len(flat) == 1 else Both(tuple(flat))

    def compare(self, parts: list[Any]) -> Condition:
        field, operator, value = parts
        return Condition(str(field), str(operator), (value,))

    def member(self, parts: list[Any]) -> Condition:
        field, negated, *values = parts
        return Condition(str(field), "not in" if negated else "in", tuple(values))

    def search(self, parts: list[Any]) -> Condition:
        field, negated, value = parts
        return Condition(str(field), "not like" if negated else "like", (value,))

    def empty(self, parts: list[Any]) -> Condition:
        field, negated = parts
        return Condition(str(field), "is not" if negated else "is", ())

    def text(self, parts: list[Token]) -> str:
        return re.sub(r"\\(.)", r"\1", parts[0][1:-1])

    def number(self, parts: list[Token]) -> str:
        return str(parts[0])

    def call(self, parts: list[Any]) -> Call:
        name, *arguments = parts
        return Call(str(name), tuple(a for a in arguments if a is not None))

    def argument(self, parts: list[Token]) -> str:
        return str(parts[0])

    def order(self, parts: list[tuple[str, bool]]) -> tuple[tuple[str, bool], ...]:
        return tuple(parts)

    def term(self, parts: list[Any]) -> tuple[str, bool]:
        field, direction = parts
        return str(field), direction is not None and direction.lower() == "desc"

    def limit(self, parts: list[Token]) -> int:
        return int(parts[0])

    def offset(self, parts: list[Token]) -> int:
        return int(parts[0])


_PARSER = Lark(_GRAMMAR, parser="lalr", maybe_placeholders=True, transformer=_Builder())


@lru_cache(maxsize=1024)
def parse(text: str) -> Query:
    """Parse a query and check its limits.

    Raises:
        KintoneError: ``CB_VA01`` syntax, ``GAIA_QU01`` limit, ``GAIA_QU02`` offset.
    """
    try:
        query: Query = _PARSER.parse(text)  # type: ignore[assignment]  # the transformer's result
    except UnexpectedInput:
        raise bad_query() from None
    if (query.limit or 0) < 0 or (query.offset or 0) < 0:
        raise bad_query()
    if (query.limit or 0) > MAX_LIMIT:
        raise KintoneError("GAIA_QU01")
    if (query.offset or 0) > MAX_OFFSET:
        raise KintoneError("GAIA_QU02")
    return query
