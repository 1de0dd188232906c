"""The emulator's 得意先 of one tenant: strict about everything that the registry says."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import orjson

from connectors.bugyo._emulator_settings import ImportMode
from connectors.bugyo.models import OTHER_CUSTOMER_CODE
from connectors.bugyo.registry import Item, item_types, operation, resource

Row = dict[str, str]
Check = Callable[[object], "tuple[str, str] | None"]

CUSTOMER = resource("customer")
KEY = CUSTOMER.key.code
UPDATED_AT = CUSTOMER.codes["updated_at"]
BILLING = CUSTOMER.codes["billing_code"]
NAME = CUSTOMER.codes["name"]
_OUTPUT = tuple(item.code for item in CUSTOMER.items if item.exportable)
_REQUIRED = tuple(item for item in CUSTOMER.items if item.required)
_RESERVED = operation("ImportCustomer").reserved_keys
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "ge": operator.ge,
    "le": operator.le,
    "gt": operator.gt,
    "lt": operator.lt,
    "like": operator.contains,
    "contains": operator.contains,
}


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


@cache
def checks() -> dict[str, Check]:
    """項目記号 -> check of a value that arrives; the answer is code and message, or ``None``."""
    return {item.code: _check(item) for item in CUSTOMER.items if item.importable}


def _check(item: Item) -> Check:
    safe, matches, shape = (
        item.safe_length,
        item_types()[item.type].matches,
        item_types()[item.type].shape,
    )

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


class CustomerBook:
    """得意先 of one tenant, by code.

    Attributes:
        rows: Code -> full row, 項目記号 -> value.
        writes: Code -> how many times an import wrote it. Seeding is not an import.
        imports: Import calls that stored something.
        clock: Aware; its local date and time become 最終更新日時.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.rows: dict[str, Row] = {}
        self.writes: Counter[str] = Counter()
        self.imports = 0
        self._store({KEY: OTHER_CUSTOMER_CODE, NAME: "その他"}, self._stamp())

    def seed(self, rows: Iterable[Row]) -> None:
        """Put rows in without any check, as if they had always been there."""
        stamp = self._stamp()
        for row in rows:
            self._store(row, row.get(UPDATED_AT) or stamp)

    def _stamp(self) -> str:
        return self.clock().strftime("%Y/%m/%d %H:%M:%S")

    def _store(self, row: Row, stamp: str) -> None:
        code = row[KEY]
        kept = self.rows.get(code)
        if kept is None:
            kept = self.rows[code] = dict.fromkeys(_OUTPUT, "")
        kept.update(row)
        kept[UPDATED_AT] = stamp
        if not kept[BILLING]:
            kept[BILLING] = code

    def dump(self) -> dict[str, Any]:
        """Everything the book holds, as JSON can hold it."""
        return {"rows": self.rows, "writes": dict(self.writes), "imports": self.imports}

    def restore(self, held: dict[str, Any]) -> None:
        """Hold what another book dumped."""
        self.rows = dict(held["rows"])
        self.writes = Counter(held["writes"])
        self.imports = int(held["imports"])

    # --- import --------------------------------------------------------------------------------

    def take(self, body: Any, *, mode: ImportMode, max_rows: int) -> ImportResult:
        """``ImportCustomer``.

        Raises:
            Refusal: nothing was stored.
        """
        if not isinstance(body, dict) or set(body) != {"dataList"}:
            raise refusal("E0001", "dataList だけを指定してください。")
        rows = body["dataList"]
        if not isinstance(rows, list) or not rows:
            raise refusal("E0002", "dataList に1件以上の行を指定してください。")
        if len(rows) > max_rows:
            raise refusal("E0003", f"一度に受け入れできるのは{max_rows}件までです。")
        errors: list[dict[str, Any]] = []
        accepted: list[Row] = []
        known: set[str] = set()
        for number, row in enumerate(rows, 1):
            found = self._errors(row, known)
            if found:
                errors += [
                    {"code": c, "message": m, "rowNo": number, "itemKey": k} for c, m, k in found
                ]
            else:
                accepted.append(row)
                known.add(row[KEY])
        if errors and mode != "partial_200":
            if mode == "bare_400":
                raise refusal("E0009", "受入データに誤りがあります。")
            raise Refusal(errors)
        if accepted:
            stamp = self._stamp()
            for row in accepted:
                self._store(row, stamp)
            self.writes.update(row[KEY] for row in accepted)
            self.imports += 1
        return ImportResult(rows=len(rows), errors=errors)

    def _errors(self, row: Any, known: Collection[str]) -> list[tuple[str, str, str]]:
        if not isinstance(row, dict):
            return [("E1001", "行の形式が正しくありません。", "")]
        table = checks()
        found: list[tuple[str, str, str]] = []
        for code, value in row.items():
            check = table.get(code)
            if check is None:
                known_item = CUSTOMER.by_code.get(code)
                reason = "は受け入れできない項目です。" if known_item else "は存在しない項目です。"
                found.append(("E1002", f"{code}{reason}", code))
            elif (wrong := check(value)) is not None:
                found.append((*wrong, code))
        if found:
            return found
        key = row.get(KEY, "")
        new = key not in self.rows and key not in known
        for item in _REQUIRED:
            value = row.get(item.code)
            if (value is None and (new or item.code == KEY)) or (
                value is not None and not value.strip()
            ):
                found.append(("E1007", f"{item.label}は必須です。", item.code))
        if key in _RESERVED:
            found.append(("E1008", f"得意先コード「{key}」は受け入れできません。", KEY))
        billing = row.get(BILLING, "")
        if billing and billing != key and billing not in self.rows and billing not in known:
            message = f"請求先コード「{billing}」は登録されていません。"
            found.append(("E1009", message, BILLING))
        return found

    # --- export --------------------------------------------------------------------------------

    def export(self, body: Any) -> list[Row]:
        """``ExportCustomer``.

        Raises:
            Refusal: the request is not one that the contract allows.
        """
        if not isinstance(body, dict):
            raise refusal("E0001", "要求の形式が正しくありません。")
        if unknown := set(body) - {"filter", "sort", "itemList"}:
            raise refusal("E2001", f"使用できない指定です: {', '.join(sorted(unknown))}")
        columns = self._columns(body.get("itemList", list(_OUTPUT)))
        rows = self._selected(body["filter"]) if "filter" in body else list(self.rows.values())
        for code, descending in reversed(self._order(body.get("sort", [KEY]))):
            rows.sort(key=operator.itemgetter(code), reverse=descending)
        return [{code: row[code] for code in columns} for row in rows]

    @staticmethod
    def _columns(wanted: Any) -> list[str]:
        if not isinstance(wanted, list) or not wanted:
            raise refusal("E2002", "itemList は項目記号の配列で指定してください。")
        for code in wanted:
            if code not in _OUTPUT:
                raise refusal("E2002", f"{code} は出力できない項目です。", itemKey=str(code))
        return wanted

    @staticmethod
    def _order(wanted: Any) -> list[tuple[str, bool]]:
        if not isinstance(wanted, list) or not all(isinstance(each, str) for each in wanted):
            raise refusal("E2003", "sort は文字列の配列で指定してください。")
        order = []
        for each in wanted:
            code, _, direction = each.partition(" ")
            item = CUSTOMER.by_code.get(code)
            if item is None or not item.sortable or direction not in ("", "desc"):
                raise refusal("E2003", f"{each} では並べ替えできません。", itemKey=code)
            order.append((code, direction == "desc"))
        return order

    def _selected(self, condition: Any) -> list[Row]:
        matches = _predicate(condition)
        keys = _keys(condition)
        if keys is None:
            return [row for row in self.rows.values() if matches(row)]
        rows = (self.rows[key] for key in dict.fromkeys(keys) if key in self.rows)
        # Every key of an or-of-eq meets the condition by itself; only an "and" has more to ask.
        return [row for row in rows if "and" not in condition or matches(row)]


def _predicate(condition: Any) -> Callable[[Row], bool]:
    """The condition as a function, checked to the last leaf."""
    if not isinstance(condition, dict):
        raise refusal("E2004", "filter の形式が正しくありません。")
    for joint, combine in (("and", all), ("or", any)):
        if set(condition) == {joint}:
            parts = condition[joint]
            if not isinstance(parts, list) or not parts:
                raise refusal("E2004", f"filter の {joint} は1件以上の配列で指定してください。")
            return _joined([_predicate(part) for part in parts], combine)
    if set(condition) != {"itemKey", "operator", "value"}:
        raise refusal("E2004", "filter は itemKey, operator, value で指定してください。")
    return _leaf(condition["itemKey"], condition["operator"], condition["value"])


def _joined(
    tests: list[Callable[[Row], bool]], combine: Callable[[Iterable[bool]], bool]
) -> Callable[[Row], bool]:
    return lambda row: combine(test(row) for test in tests)


def _leaf(code: Any, name: Any, value: Any) -> Callable[[Row], bool]:
    item = CUSTOMER.by_code.get(code) if isinstance(code, str) else None
    if item is None or not item.filterable:
        raise refusal("E2005", f"{code} は抽出条件に使用できない項目です。", itemKey=str(code))
    if name not in item.operators:
        raise refusal("E2006", f"{item.label}に演算子 {name} は使用できません。", itemKey=item.code)
    matches = item_types()[item.type].matches
    if type(value) is not str or (value and matches is not None and not matches(value)):
        raise refusal("E2007", f"{item.label}の値が正しくありません。", itemKey=item.code)
    compare = _OPERATORS[name]
    return lambda row: compare(row[item.code], value)


def _keys(condition: dict[str, Any]) -> list[str] | None:
    """The key values to which a checked condition confines itself; ``None`` = look at every row."""
    if condition.get("itemKey") == KEY and condition["operator"] == "eq":
        return [condition["value"]]
    if "or" in condition:
        found: list[str] = []
        for part in condition["or"]:
            keys = None if "and" in part else _keys(part)
            if keys is None:
                return None
            found += keys
        return found
    return next(_confined(condition.get("and", ())), None)


def _confined(parts: Iterable[dict[str, Any]]) -> Iterator[list[str]]:
    for part in parts:
        keys = _keys(part)
        if keys is not None and "and" not in part:
            yield keys


def encode(rows: list[Row]) -> bytes:
    """An export's body: nothing found is an empty body, not ``[]`` (contract 5.4)."""
    return orjson.dumps(rows) if rows else b""
