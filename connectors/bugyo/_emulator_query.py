"""The export language of the emulator for any resource: itemList, sort and filter, strictly."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.bugyo._emulator_values import padded, refusal
from connectors.bugyo.registry import Resource, item_types

Predicate = Callable[[Mapping[str, str]], bool]

_COMPARE: dict[str, Callable[[str, str], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "ge": operator.ge,
    "le": operator.le,
    "gt": operator.gt,
    "lt": operator.lt,
    "like": operator.contains,
    "contains": operator.contains,
}


@dataclass(frozen=True, slots=True)
class Query:
    """One export request, checked to the last leaf.

    Attributes:
        columns: 項目記号 wanted, in order.
        order: 項目記号 and whether it is descending, first priority first.
        matches: The condition, on a row.
        keys: Values of the key item to which the condition confines itself; ``None`` = any.
    """

    columns: list[str]
    order: list[tuple[str, bool]]
    matches: Predicate
    keys: frozenset[str] | None

    @classmethod
    def of(cls, registry: Resource, body: Any) -> Query:
        """The query in a request body.

        Raises:
            Refusal: the request is not one that the contract allows.
        """
        if not isinstance(body, dict):
            raise refusal("E0001", "要求の形式が正しくありません。")
        if unknown := set(body) - {"filter", "sort", "itemList"}:
            raise refusal("E2001", f"使用できない指定です: {', '.join(sorted(unknown))}")
        output = [item.code for item in registry.items if item.exportable]
        matches: Predicate = _everything
        keys: frozenset[str] | None = None
        if "filter" in body:
            matches = _predicate(registry, body["filter"])
            keys = _keys(registry.key.code, body["filter"])
        return cls(
            columns=_columns(output, body.get("itemList", output)),
            order=_order(registry, body.get("sort", [])),
            matches=matches,
            keys=keys,
        )


def _everything(row: Mapping[str, str]) -> bool:  # noqa: ARG001 (a predicate)
    return True


def _columns(output: list[str], wanted: Any) -> list[str]:
    if not isinstance(wanted, list) or not wanted:
        raise refusal("E2002", "itemList は項目記号の配列で指定してください。")
    for code in wanted:
        if code not in output:
            raise refusal("E2002", f"{code} は出力できない項目です。", itemKey=str(code))
    return wanted


def _order(registry: Resource, wanted: Any) -> list[tuple[str, bool]]:
    if not isinstance(wanted, list) or not all(isinstance(each, str) for each in wanted):
        raise refusal("E2003", "sort は文字列の配列で指定してください。")
    order = []
    for each in wanted:
        code, _, direction = each.partition(" ")
        item = registry.by_code.get(code)
        if item is None or not item.sortable or direction not in ("", "desc"):
            raise refusal("E2003", f"{each} では並べ替えできません。", itemKey=code)
        order.append((code, direction == "desc"))
    return order


def _predicate(registry: Resource, condition: Any) -> Predicate:
    if not isinstance(condition, dict):
        raise refusal("E2004", "filter の形式が正しくありません。")
    for joint, combine in (("and", all), ("or", any)):
        if set(condition) == {joint}:
            parts = condition[joint]
            if not isinstance(parts, list) or not parts:
                raise refusal("E2004", f"filter の {joint} は1件以上の配列で指定してください。")
            tests = [_predicate(registry, part) for part in parts]
            if joint == "or" and (same := _one_of(parts)) is not None:
                item, values = registry.by_code[same[0]], same[1]
                if item.type == "date":
                    values = frozenset(map(padded, values))
                return lambda row: row.get(item.code, "") in values
            return lambda row, combine=combine: combine(test(row) for test in tests)  # type: ignore[misc]
    if set(condition) != {"itemKey", "operator", "value"}:
        raise refusal("E2004", "filter は itemKey, operator, value で指定してください。")
    return _leaf(registry, condition["itemKey"], condition["operator"], condition["value"])


def _one_of(parts: list[dict[str, Any]]) -> tuple[str, frozenset[str]] | None:
    """Item and values of an or-of-equals about one item: look-ups ask for hundreds of keys."""
    if not all(part.get("operator") == "eq" for part in parts):
        return None
    items = {part["itemKey"] for part in parts}
    return (items.pop(), frozenset(part["value"] for part in parts)) if len(items) == 1 else None


def _leaf(registry: Resource, code: Any, name: Any, value: Any) -> Predicate:
    item = registry.by_code.get(code) if isinstance(code, str) else None
    if item is None or not item.filterable:
        raise refusal("E2005", f"{code} は抽出条件に使用できない項目です。", itemKey=str(code))
    if name not in item.operators:
        raise refusal("E2006", f"{item.label}に演算子 {name} は使用できません。", itemKey=item.code)
    shape = item_types()[item.type].matches
    if type(value) is not str or (value and shape is not None and not shape(value)):
        raise refusal("E2007", f"{item.label}の値が正しくありません。", itemKey=item.code)
    wanted, key, compare = (
        padded(value) if item.type == "date" else value,
        item.code,
        _COMPARE[name],
    )
    return lambda row: compare(row.get(key, ""), wanted)


def _keys(key: str, condition: dict[str, Any]) -> frozenset[str] | None:
    """The key values that a checked condition can be true for; ``None`` = look at every row."""
    if condition.get("itemKey") == key and condition["operator"] == "eq":
        return frozenset([condition["value"]])
    if "or" in condition:
        parts = [_keys(key, part) for part in condition["or"]]
        known = [part for part in parts if part is not None]
        return frozenset().union(*known) if len(known) == len(parts) else None
    parts = [_keys(key, part) for part in condition.get("and", ())]
    return next((part for part in parts if part is not None), None)
