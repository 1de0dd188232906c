"""The item registry: what OBC's own workbooks say about a resource, as data files.

``registry/customer.csv`` carries the workbook's columns (項目名 項目記号 桁数 種別 必須 受入 出力
名称出力 抽出 並び順) plus our English field name and the evidence mark. Everything that the
contract marks [I] or [?] lives in these files and nowhere in code: the day somebody holds the
real workbook, a table is edited, not a program.

The ``evidence`` of an item speaks of its *existence* (code and label) only. Length, unit, type and
flags are [I] unless the item's note says 確認済み.
"""

from __future__ import annotations

import csv
import io
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any, Literal

from connectors.kit.text import width

Evidence = Literal["V", "V2", "I", "?"]
Unit = Literal["half", "char"]

_TRUE = {"true": True, "false": False}
_KEY_JOINT = "/"


@dataclass(frozen=True, slots=True)
class ItemType:
    """What a value may look like.

    Attributes:
        name: E.g. ``code``.
        matches: Full match of a non-empty value; ``None`` = any text.
        shape: The same for a person, e.g. 半角の英数字とハイフン.
    """

    name: str
    matches: Callable[[str], object] | None
    shape: str


@dataclass(frozen=True, slots=True)
class Item:
    """One 項目 of a resource.

    Attributes:
        code: 項目記号, e.g. ``AR2010001``. Never leaves ``connectors.bugyo``.
        label: 項目名, as a person knows it.
        field: Our English name, the key in domain objects.
        length: 桁数, in ``unit``.
        unit: ``half`` = half-width columns (a full-width character takes two); ``char`` =
            characters.
        type: Name of an `ItemType`.
        required: 必須, when a row is created.
        importable: 受入.
        exportable: 出力.
        name_output: 名称出力: a companion ``<code>_N`` exists.
        filterable: 抽出.
        operators: Filter operators that are accepted for this item.
        sortable: 並び順.
        evidence: How sure the item's existence is.
        note: What is verified and what is not.
    """

    code: str
    label: str
    field: str
    length: int
    unit: Unit
    type: str
    required: bool
    importable: bool
    exportable: bool
    name_output: bool
    filterable: bool
    operators: frozenset[str]
    sortable: bool
    evidence: Evidence
    note: str

    def measure(self, value: str) -> int:
        """Length of ``value`` in this item's unit."""
        return len(value) if self.unit == "char" else width(value)

    @property
    def safe_length(self) -> int:
        """Characters that fit whatever they are: the shortcut that spares measuring."""
        return self.length if self.unit == "char" else self.length // 2


@dataclass(frozen=True)
class Resource:
    """The items of one resource, key items first, and what ``resources.toml`` says about it.

    Attributes:
        name: E.g. ``employee``.
        items: 項目.
        label: As a person knows it: 社員.
        keys: The items that identify a row together; most resources have one.
        export: Name of the operation that reads it.
        import_: Name of the operation that writes it; ``None`` = read only.
        references: Field -> name of the resource in whose rows its value must be a code.
        own_key: Fields that hold the row's own key when they are empty.
        words: Field -> our word -> code, of items that take codes of a fixed list.
    """

    name: str
    items: tuple[Item, ...]
    label: str
    keys: tuple[Item, ...]
    export: str
    import_: str | None
    references: Mapping[str, str]
    own_key: frozenset[str]
    words: Mapping[str, Mapping[str, str]]

    @property
    def key(self) -> Item:
        """The item that identifies a row, or the first of several."""
        return self.items[0]

    @property
    def key_label(self) -> str:
        """社員番号/対象年月: the label of a row's key."""
        return _KEY_JOINT.join(item.label for item in self.keys)

    def key_of(self, row: Mapping[str, str]) -> str:
        """The key of a row by English field names as one text: ``000123/2026/10``.

        It is what the engine's ``Row.key`` has to be.

        Raises:
            KeyError: the row lacks a part of its key.
        """
        return _KEY_JOINT.join(row[item.field] for item in self.keys)

    def split_key(self, key: str) -> tuple[str, ...]:
        """The parts of a text that `key_of` made; missing ones are empty."""
        parts = key.split(_KEY_JOINT, len(self.keys) - 1)
        return (*parts, *[""] * (len(self.keys) - len(parts)))

    @cached_property
    def by_field(self) -> dict[str, Item]:
        """English field name -> item."""
        return {item.field: item for item in self.items}

    @cached_property
    def by_code(self) -> dict[str, Item]:
        """項目記号 -> item."""
        return {item.code: item for item in self.items}

    @cached_property
    def codes(self) -> dict[str, str]:
        """English field name -> 項目記号."""
        return {item.field: item.code for item in self.items}


@dataclass(frozen=True, slots=True)
class Operation:
    """One API operation.

    Attributes:
        name: E.g. ``ImportCustomer``.
        path: Below the API host (``Authorize``: below the id host).
        method: HTTP method.
        evidence: How sure its name and path are.
        mode: ``sync``, or ``async`` when a second call fetches the result.
        max_rows: Rows per call that a caller should send at most; ``None`` for reads.
        reserved_keys: Key values that belong to the product and cannot be imported.
        unproven: Pairs of evidence and Japanese statement that the client relies on.
    """

    name: str
    path: str
    method: str
    evidence: Evidence
    mode: Literal["sync", "async"]
    max_rows: int | None
    reserved_keys: frozenset[str]
    unproven: tuple[tuple[Evidence, str], ...]

    @property
    def endpoint(self) -> str:
        """``METHOD /path``, as errors name it."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Assumption:
    """One thing that is not proven and that a connection depends on, for ``bugyo check``.

    Attributes:
        subject: What it is about: an operation, an item's label, an environment.
        evidence: ``V2``, ``I`` or ``?`` (``V`` facts are no assumptions).
        statement: What we assume, in Japanese.
        source: The data file in which it is changed.
    """

    subject: str
    evidence: Evidence
    statement: str
    source: str


def _text(name: str) -> str:
    return resources.files("connectors.bugyo").joinpath("registry", name).read_text("utf-8")


@cache
def data(name: str) -> dict[str, Any]:
    """A TOML file of the registry, e.g. ``environments``."""
    return tomllib.loads(_text(f"{name}.toml"))


@cache
def item_types() -> dict[str, ItemType]:
    """The item types by name."""
    return {
        name: ItemType(
            name=name,
            matches=re.compile(entry["pattern"]).fullmatch if entry["pattern"] else None,
            shape=entry["shape"],
        )
        for name, entry in data("types").items()
    }


@cache
def resource(name: str) -> Resource:
    """The registry of one resource, e.g. ``customer``.

    Raises:
        FileNotFoundError: there is no such resource.
        ValueError: the file contradicts itself; the message names the item.
    """
    items = tuple(_item(row) for row in csv.DictReader(io.StringIO(_text(f"{name}.csv"))))
    for attribute in ("code", "field"):
        values = [getattr(item, attribute) for item in items]
        if len(set(values)) != len(values):
            raise ValueError(f"{name}.csv: a {attribute} occurs twice")
    entry = data("resources")[name]
    keys = items[: len(entry["key"])]
    named = {item.field for item in items}
    about = {*entry.get("references", ()), *entry.get("own_key", ()), *entry.get("words", ())}
    if [item.field for item in keys] != entry["key"] or not about <= named:
        raise ValueError(f"resources.toml: {name} speaks of other fields than {name}.csv")
    return Resource(
        name=name,
        items=items,
        label=entry["label"],
        keys=keys,
        export=entry["export"],
        import_=entry.get("import"),
        references=entry.get("references", {}),
        own_key=frozenset(entry.get("own_key", ())),
        words=entry.get("words", {}),
    )


@cache
def masters() -> tuple[str, ...]:
    """Names of the resources that are rows by key: every one but the slips."""
    return tuple(name for name in data("resources") if name != "journal_slip")


def master_operations(name: str) -> tuple[str, ...]:
    """What a connector of this master calls, for its pipeline's ``operations``."""
    found = resource(name)
    return tuple(each for each in ("SearchTenant", found.export, found.import_) if each)


def _item(row: dict[str, str]) -> Item:
    if row["type"] not in item_types():
        raise ValueError(f"{row['code']}: unknown type {row['type']!r}")
    if row["unit"] not in ("half", "char") or row["evidence"] not in ("V", "V2", "I", "?"):
        raise ValueError(f"{row['code']}: unknown unit or evidence")
    flags = {
        name: _TRUE[row[name]]
        for name in ("required", "importable", "exportable", "name_output", "filterable")
    }
    return Item(
        code=row["code"],
        label=row["label"],
        field=row["field"],
        length=int(row["length"]),
        unit="half" if row["unit"] == "half" else "char",
        type=row["type"],
        operators=frozenset(row["operators"].split()),
        sortable=_TRUE[row["sortable"]],
        evidence=as_evidence(row["evidence"]),
        note=row["note"],
        **flags,
    )


def as_evidence(mark: str) -> Evidence:
    """A mark of a data file as the type that it is.

    Raises:
        KeyError: there is no such mark.
    """
    marks: dict[str, Evidence] = {"V": "V", "V2": "V2", "I": "I", "?": "?"}
    return marks[mark]


@cache
def operation(name: str) -> Operation:
    """An operation by name.

    Raises:
        KeyError: it is not in ``operations.toml``.
    """
    entry = data("operations")[name]
    return Operation(
        name=name,
        path=entry["path"],
        method=entry["method"],
        evidence=as_evidence(entry["evidence"]),
        mode=entry["mode"],
        max_rows=entry.get("max_rows"),
        reserved_keys=frozenset(entry.get("reserved_keys", ())),
        unproven=tuple(
            (as_evidence(each["evidence"]), each["statement"]) for each in entry.get("unproven", ())
        ),
    )


def assumptions(
    operations: Iterable[str],
    items: Iterable[str],
    *,
    of: str = "customer",
    environment: str | None = None,
) -> list[Assumption]:
    """Every unproven statement that a connection depends on.

    Args:
        operations: Names of the operations that it calls.
        items: English field names of the items that it sends or reads.
        of: The resource whose items these are.
        environment: ``production`` or ``sandbox``; ``None`` = not one of OBC's own.
    """
    found: list[Assumption] = []
    if environment is not None:
        entry = data("environments")["environments"][environment]
        found += [
            Assumption(entry["label"], entry[f"{which}_evidence"], statement, "environments.toml")
            for which, statement in (
                ("api", f"APIの接続先は {entry['api_base']}"),
                ("id", f"ログイン画面の接続先は {entry['id_base']}"),
            )
            if entry[f"{which}_evidence"] != "V"
        ]
    for name in operations:
        one = operation(name)
        if one.evidence != "V":
            found.append(
                Assumption(name, one.evidence, f"操作のパスは {one.path}", "operations.toml")
            )
        found += [Assumption(name, mark, text, "operations.toml") for mark, text in one.unproven]
    registry = resource(of)
    for name in items:
        item = registry.by_field[name]
        unit = "半角" if item.unit == "half" else ""
        statement = (
            f"記号 {item.code}、桁数 {unit}{item.length}文字、種別 {item.type}（{item.note}）"
        )
        # A verified item still has a length nobody has published: inferred at best.
        mark: Evidence = "I" if item.evidence == "V" else item.evidence
        found.append(Assumption(item.label, mark, statement, f"{of}.csv"))
    return found
