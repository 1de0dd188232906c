"""What every part of the emulator says no to: requests and single values, in the same words."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson

from connectors.bugyo.registry import Item, item_types, resource

Row = dict[str, str]
Check = Callable[[object], "tuple[str, str] | None"]
"""Of a value that arrives; the answer is code and message, or ``None``."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Refusal(Exception):  # noqa: N818 (not a failure of the emulator)
    """A 400 with these errors."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(str(errors))
        self.errors = errors


def refusal(code: str, message: str, **more: Any) -> Refusal:
    """A `Refusal` with one error."""
    return Refusal([{"code": code, "message": message, **more}])


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did: rows taken, and the errors of those that were not (partial only)."""

    rows: int
    errors: list[dict[str, Any]]


def data_list(body: Any, max_rows: int) -> list[Any]:
    """The rows of an import call.

    Raises:
        Refusal: the request is not one that the contract allows.
    """
    if not isinstance(body, dict) or set(body) != {"dataList"}:
        raise refusal("E0001", "dataList だけを指定してください。")
    rows = body["dataList"]
    if not isinstance(rows, list) or not rows:
        raise refusal("E0002", "dataList に1件以上の行を指定してください。")
    if len(rows) > max_rows:
        raise refusal("E0003", f"一度に受け入れできるのは{max_rows}件までです。")
    return rows


@cache
def checks(name: str) -> dict[str, Check]:
    """項目記号 -> check, of everything in a resource that can be imported."""
    return {item.code: check_of(item) for item in resource(name).items if item.importable}


def check_of(item: Item) -> Check:
    """The check of one item's values."""
    kind = item_types()[item.type]
    safe, matches, shape = item.safe_length, kind.matches, kind.shape

    def check(value: object) -> tuple[str, str] | None:
        if type(value) is not str:
            return "E1003", f"{item.label}は文字列で指定してください。"
        if len(value) > safe and (length := item.measure(value)) > item.length:
            return "E1004", f"{item.label}の桁数が超過しています。（{length}/{item.length}）"
        if not value.isprintable() and _CONTROL.search(value):
            return "E1005", f"{item.label}に制御文字が含まれています。"
        if matches is not None and value and not matches(value):
            return "E1006", f"{item.label}は{shape}で指定してください。"
        return None

    return check


def padded(day: str) -> str:
    """``2026/8/1`` as ``2026/08/01``: dates are compared as strings."""
    return "/".join(part.rjust(2, "0") for part in day.split("/"))


def encode(rows: list[Row]) -> bytes:
    """An export's body: nothing found is an empty body, not ``[]`` (contract 5.4)."""
    return orjson.dumps(rows) if rows else b""
