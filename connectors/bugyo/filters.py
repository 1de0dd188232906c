"""Conditions on English field names, encoded to the API's filter tree inside this package.

Example:
    ``where("code").ge("1000") & where("memo3").ne("")``
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from connectors.bugyo.registry import Resource


class Filter:
    """A condition. Combine with ``&`` and ``|``."""

    def encode(self, codes: Mapping[str, str]) -> dict[str, Any]:
        """The API's tree.

        Args:
            codes: English field name -> 項目記号.

        Raises:
            KeyError: the resource has no such field.
        """
        raise NotImplementedError

    def __and__(self, other: Filter) -> Filter:
        return _Tree("and", (*_parts("and", self), *_parts("and", other)))

    def __or__(self, other: Filter) -> Filter:
        return _Tree("or", (*_parts("or", self), *_parts("or", other)))


@dataclass(frozen=True, slots=True)
class _Leaf(Filter):
    field: str
    operator: str
    value: str

    def encode(self, codes: Mapping[str, str]) -> dict[str, Any]:
        return {"itemKey": codes[self.field], "operator": self.operator, "value": self.value}


@dataclass(frozen=True, slots=True)
class _Tree(Filter):
    joint: Literal["and", "or"]
    parts: tuple[Filter, ...]

    def encode(self, codes: Mapping[str, str]) -> dict[str, Any]:
        return {self.joint: [part.encode(codes) for part in self.parts]}


@dataclass(frozen=True, slots=True)
class _AnyOf(Filter):
    """An ``or`` of equal signs: look-ups ask for hundreds of keys, so it is made in one go."""

    field: str
    values: tuple[str, ...]

    def encode(self, codes: Mapping[str, str]) -> dict[str, Any]:
        code = codes[self.field]
        return {"or": [{"itemKey": code, "operator": "eq", "value": v} for v in self.values]}


def _parts(joint: str, condition: Filter) -> tuple[Filter, ...]:
    """The operands of ``a & b & c`` in one list instead of nested pairs."""
    same = isinstance(condition, _Tree) and condition.joint == joint
    return condition.parts if same and isinstance(condition, _Tree) else (condition,)


@dataclass(frozen=True, slots=True)
class where:  # noqa: N801 (reads as a word: where("code").eq("1"))
    """A field, about to be compared. Which operators a field accepts is the registry's matter."""

    field: str

    def eq(self, value: str) -> Filter:
        """Equal."""
        return _Leaf(self.field, "eq", value)

    def ne(self, value: str) -> Filter:
        """Not equal."""
        return _Leaf(self.field, "ne", value)

    def ge(self, value: str) -> Filter:
        """Greater or equal, in the order of the strings."""
        return _Leaf(self.field, "ge", value)

    def le(self, value: str) -> Filter:
        """Less or equal, in the order of the strings."""
        return _Leaf(self.field, "le", value)


def any_of(field: str, values: Iterable[str]) -> Filter:
    """``field`` equals one of ``values``: a single leaf for one, an ``or`` of leaves for more.

    Raises:
        ValueError: no values; such a filter would match nothing, or everything.
    """
    listed = tuple(values)
    if not listed:
        raise ValueError("any_of needs at least one value")
    return where(field).eq(listed[0]) if len(listed) == 1 else _AnyOf(field, listed)


def keys_filter(registry: Resource, keys: Iterable[str]) -> Filter:
    """The rows with these keys, as `Resource.key_of` makes them.

    Keys of several parts are grouped by all but their first one (the month, in ``000123/2026/10``),
    so that a batch of one month is one short condition.

    Raises:
        ValueError: no keys.
    """
    first, *others = [item.field for item in registry.keys]
    if not others:
        return any_of(first, keys)
    groups: dict[tuple[str, ...], list[str]] = {}
    for key in keys:
        head, *tail = registry.split_key(key)
        groups.setdefault(tuple(tail), []).append(head)
    parts: list[Filter] = []
    for tail_values, heads in groups.items():
        condition: Filter = any_of(first, heads)
        for field, value in zip(others, tail_values, strict=True):
            condition &= where(field).eq(value)
        parts.append(condition)
    if not parts:
        raise ValueError("keys_filter needs at least one key")
    return parts[0] if len(parts) == 1 else _Tree("or", tuple(parts))
