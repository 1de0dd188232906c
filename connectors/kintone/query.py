"""Conditions of kintone's query language, built so that no value can break out of its quotes.

Only conditions: ``order by``, ``limit`` and ``offset`` belong to the client's readers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

Comparison = Literal["=", "!=", ">", "<", ">=", "<=", "like", "not like"]
Value = str | int | Decimal | datetime

# A field code holds letters, digits and a few signs, never a space, a quote or an operator.
_FIELD_CODE = re.compile(r"\$id|[^\s\"'()=!<>,\\]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def field_code(code: str) -> str:
    """``code`` itself, when it can stand in a query.

    Raises:
        ValueError: it holds a character that would end the name.
    """
    if not _FIELD_CODE.fullmatch(code):
        raise ValueError(f"kintoneのフィールドコードとして使えません: {code!r}")
    return code


def literal(value: Value) -> str:
    """``value`` as a literal of the query language.

    Text and times are put in double quotes, the only ones that kintone accepts; quotes and
    backslashes are escaped. Control characters become spaces, because a raw tab or line break
    inside a literal is a syntax error (``CB_VA01``).

    Raises:
        ValueError: a time without a zone.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("時刻にはタイムゾーンが要ります")
        value = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    elif isinstance(value, int | Decimal):
        value = f"{value:f}" if isinstance(value, Decimal) else str(value)
    text = _CONTROL.sub(" ", value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def compare(field: str, operator: Comparison, value: Value) -> str:
    """``field operator value``, e.g. ``compare("更新日時", ">=", since)``."""
    return f"{field_code(field)} {operator} {literal(value)}"


def any_of(field: str, values: Iterable[Value]) -> str:
    """``field in (…)``; also the only equality that choice fields and tables know.

    Raises:
        ValueError: no values: the language has no condition that is never true.
    """
    literals = [literal(value) for value in values]
    if not literals:
        raise ValueError("値が1つもありません")
    return f"{field_code(field)} in ({', '.join(literals)})"


def and_(*conditions: str) -> str:
    """All of ``conditions``; empty ones are left out, and nothing at all stays empty."""
    present = [condition.strip() for condition in conditions if condition.strip()]
    if len(present) < 2:
        return "".join(present)
    return " and ".join(f"({condition})" for condition in present)
