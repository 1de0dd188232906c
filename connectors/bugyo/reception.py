"""汎用データ受入 (OBC受入形式): rows of a resource as a file that a person takes in at 奉行.

The way in where no API is known: the first line names the columns by 受入記号, lines end in CRLF,
every text is quoted (leading zeros survive), the encoding is CP932 or UTF-8 with BOM (contract 8).
Codes and their evidence are a data file, ``registry/reception.toml``.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from connectors.bugyo.registry import Assumption, Item, as_evidence, data, resource
from connectors.bugyo.validation import CONTROL
from connectors.kit.tables import like_formula
from connectors.kit.text import cp932_problems, to_cp932_twins

_SOURCE: Final = "reception.toml"
# Nothing but a sum to a spreadsheet: telephone numbers, time differences.
_HARMLESS: Final = re.compile(r"[+-][0-9 ()-]+")


@dataclass(frozen=True, slots=True)
class Unwritable:
    """Why a row cannot be written.

    Attributes:
        label: 項目名 of the item at fault.
        message: What is wrong, for a person.
    """

    label: str
    message: str


def header_codes(name: str) -> dict[str, str]:
    """English field name -> 受入記号."""
    known: dict[str, Any] = data("reception").get(name, {})
    return {**resource(name).codes, **known.get("codes", {})}


def unwritable(name: str, row: Mapping[str, str], *, utf8: bool = False) -> Unwritable | None:
    """What in a row cannot stand in the file; ``None`` = nothing.

    Nothing is replaced here: a value that is changed unseen is worse than one that a person sees.

    Args:
        name: The resource.
        row: By English field names.
        utf8: The encoding is UTF-8 instead of CP932.

    Raises:
        KeyError: there is no such field.
    """
    items = resource(name).by_field
    for field, value in row.items():
        if (reason := _reason(value, utf8=utf8)) is not None:
            return Unwritable(items[field].label, f"{items[field].label}{reason}")
    return None


def _reason(value: str, *, utf8: bool) -> str | None:
    if match := CONTROL.search(value):
        return f"に使えない文字（U+{ord(match.group()):04X}）があります"
    if not utf8 and (found := cp932_problems(to_cp932_twins(value))):
        listed = "、".join(f"{c}（U+{ord(c):04X}）" for c in found)
        return f"に受入ファイルへ書けない文字があります: {listed}"
    if like_formula(value) and not _HARMLESS.fullmatch(value):
        return "が表計算の数式として動く値です（先頭の文字を取り除いてください）"
    return None


def reception_file(
    name: str, fields: Sequence[str], rows: Iterable[Mapping[str, str]], *, utf8: bool = False
) -> bytes:
    """The file. Rows of slips begin with 区切 ``*``, as `flatten` makes them.

    Args:
        name: The resource.
        fields: English names of the columns, in order; a row may lack some.
        rows: None of which is `unwritable`.
        utf8: UTF-8 with BOM instead of CP932.

    Raises:
        KeyError: there is no such field.
        UnicodeEncodeError: a row was unwritable.
    """
    codes = header_codes(name)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n", quoting=csv.QUOTE_ALL)
    writer.writerow([codes[field] for field in fields])
    for row in rows:
        writer.writerow([row.get(field, "") for field in fields])
    if utf8:
        return codecs.BOM_UTF8 + out.getvalue().encode()
    return to_cp932_twins(out.getvalue()).encode("cp932")


def reception_assumptions(name: str, fields: Sequence[str]) -> list[Assumption]:
    """Every unproven statement that a connection depends on which delivers files."""
    entry: dict[str, Any] = data("reception").get(name, {})
    found = [
        Assumption("受入ファイル", as_evidence(each["evidence"]), each["statement"], _SOURCE)
        for each in entry.get("unproven", ())
    ]
    codes, items = header_codes(name), resource(name).by_field
    return found + [_assumption(items[field], codes[field], entry) for field in fields]


def _assumption(item: Item, code: str, entry: Mapping[str, Any]) -> Assumption:
    mark = entry["evidence"] if code != item.code else item.evidence
    unit = "半角" if item.unit == "half" else ""
    statement = f"受入記号 {code}、桁数 {unit}{item.length}文字、種別 {item.type}"
    return Assumption(item.label, as_evidence(mark if mark != "V" else "I"), statement, _SOURCE)
