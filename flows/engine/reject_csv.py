"""エラー明細 as a CSV that a person corrects in Excel, and what that person changed in it.

A row names its record, says what is wrong, and carries the record's own fields behind that. The
column 照合キー ties a row to its connection, its record and the very version of it, so that no
correction meets a record that it was not made for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from typing import Any, Final

from connectors.kit import DataError, catalogue
from connectors.kit.tables import cp932_csv, read_cp932_csv, read_table, shown
from connectors.kit.text import GETA, cp932_problems
from flows.engine.corrections import Correction
from flows.engine.records import changed, editable, flat, kinds, source_hash

WORDS: Final = ("レコード", "対象", "エラーコード", "エラー", "項目", "理由", "対処")
"""Columns that say what is wrong."""
UNSHOWN: Final = "使えない文字"
CHECK: Final = "照合キー"
_OURS: Final = frozenset({*WORDS, UNSHOWN, CHECK})
_OWN: Final = "（元データ）"  # behind a field that is called like one of our columns

CANNOT_BE_CORRECTED: Final = frozenset({"AC-403", "AC-811", "AC-812", "AC-813"})
"""Rejects of documents that are, or may be, posted: nothing in them is sent again."""

_SHOWN_PROBLEMS = 20

_ZEROS = re.compile(r"0[0-9]+")
_DIGITS = re.compile(r"[0-9]+")
_EXPONENT = re.compile(r"[0-9](\.[0-9]+)?E\+[0-9]+", re.IGNORECASE)
_LOOKS_LIKE_DATE = re.compile(r"[0-9]{1,4}[-/][0-9]{1,2}([-/][0-9]{1,2})?")
_DATE = re.compile(r"([0-9]{4})[-/]([0-9]{1,2})[-/]([0-9]{1,2})")
_MADE_DATE = re.compile(
    r"[0-9]{1,4}[-/][0-9]{1,2}([-/][0-9]{1,2})?|[0-9]{1,2}月[0-9]{1,2}日"
    r"|[0-9]{4}年[0-9]{1,2}月([0-9]{1,2}日)?|[0-9]{1,2}-[A-Z][a-z]{2}|[A-Z][a-z]{2}-[0-9]{2}"
)


@dataclass(frozen=True, slots=True)
class Line:
    """An open reject with its record, as the CSV needs it.

    Attributes:
        entity: What is moved.
        words: Texts of `WORDS`.
        source: The record as it was read; empty = it is gone.
        correction: What was imported for this record, if anything was.
    """

    entity: str
    words: tuple[str, ...]
    source: Mapping[str, Any]
    correction: Correction | None = None

    @property
    def key(self) -> str:
        """Source key."""
        return self.words[0]

    @property
    def code(self) -> str:
        """Catalogue code."""
        return self.words[2]

    @property
    def current(self) -> Mapping[str, Any]:
        """The record with what was corrected in it so far."""
        known = self.correction
        if known is None or known.source_hash != source_hash(self.source):
            return self.source
        return changed(self.source, known.changes)


@dataclass
class Import:
    """What a person's CSV comes to.

    Attributes:
        corrections: By (entity, source key); one without changes takes an earlier one back.
        unchanged: Source keys of rows that nobody changed.
        done: Source keys of rows whose record has gone through since.
    """

    corrections: dict[tuple[str, str], Correction] = field(default_factory=dict)
    unchanged: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    @property
    def keys(self) -> list[str]:
        """Source keys of the rows that are still to be sent."""
        return [key for _, key in self.corrections]

    def sentence(self) -> str:
        """What was read, for a person."""
        words = f"CSV から {len(self.corrections):,} 件の修正を読み取りました。"
        if self.unchanged:
            words += f"修正のない行: {len(self.unchanged):,} 件。"
        if self.done:
            words += f"すでに登録済みなどで、エラー明細にない行: {len(self.done):,} 件。"
        return words


def check_key(connection: str, source_key: str, record: Mapping[str, Any]) -> str:
    """Text of the column 照合キー: connection, record, version of the record."""
    which = blake2b(source_key.encode(), digest_size=5).hexdigest()
    return f"{connection}/k{which}/v{source_hash(record).hex()[:16]}"


def write(connection: str, lines: Sequence[Line]) -> bytes:
    """The CSV of these rejects: CP932, CRLF, formula-safe.

    Args:
        connection: Name of the connection.
        lines: The rejects.
    """
    shown_fields = [flat(line.current) for line in lines]
    fields = [*dict.fromkeys(name for each in shown_fields for name in each)]
    labels = [f"{name}{_OWN}" if name in _OURS else name for name in fields]
    rows = (
        [
            *line.words,
            check_key(connection, line.key, line.source),
            *[values.get(name, "") for name in fields],
        ]
        for line, values in zip(lines, shown_fields, strict=True)
    )
    return cp932_csv([*WORDS, CHECK, *labels], rows, unshown=UNSHOWN, at=len(WORDS))


def parse(data: bytes | str) -> list[dict[str, str]]:
    """The rows of a person's CSV, or of cells that were pasted.

    Raises:
        DataError: ``AC-814``, it cannot be read, or it is not our CSV.
    """
    try:
        rows = read_table(data) if isinstance(data, str) else read_cp932_csv(data)
    except DataError as error:
        words = error.subject
        if "文字コード" in words:
            words = "文字コードが Shift_JIS でも UTF-8 でもありません"
        elif "行目" in words:
            words = f"{words}の列が、見出しより多くあります"
        problem = words
    else:
        if not rows:
            raise DataError("AC-814", "見出しの下にデータの行がありません")
        missing = [name for name in (WORDS[0], CHECK) if name not in rows[0]]
        if not missing:
            return rows
        listed = "、".join(f"「{name}」" for name in missing)
        problem = f"1行目の見出しに{listed}の列がありません"
    raise DataError("AC-814", problem)


def understand(
    rows: Iterable[Mapping[str, str]],
    connection: str,
    open_lines: Mapping[str, Line],
    finished: Iterable[str],
) -> Import:
    """What changed in each row, checked against the records as they are known.

    Args:
        rows: See `parse`.
        connection: Name of the connection that they are meant for.
        open_lines: The open rejects, by source key.
        finished: Those of the other source keys of the rows that are dealt with.

    Raises:
        DataError: ``AC-814``, the CSV of another connection; ``AC-815``, rows that cannot be
            imported: which, and why.
    """
    found, problems, seen = Import(), list[str](), set[str]()
    done = set(finished)
    for number, row in enumerate(rows, 2):
        key, check = row[WORDS[0]].strip(), row[CHECK].strip()
        other = check.partition("/")[0]
        if other != connection and re.fullmatch(r"[a-z0-9-]+/k[0-9a-f]+/v[0-9a-f]+", check):
            raise DataError("AC-814", f"接続「{other}」から書き出した CSV です")
        where = f"{number}行目（レコード {key}）"
        if key in seen:
            problems.append(f"{where}: 同じレコードの行が2つあります")
            continue
        seen.add(key)
        line = open_lines.get(key)
        if line is None:
            if key in done:
                found.done.append(key)
            else:
                problems.append(f"{where}: エラー明細にないレコードです")
            continue
        problem = _check(check, connection, line)
        if problem is None:
            changes, wrong = _changes(row, line)
            problems += [f"{where}の{each}" for each in wrong]
            problem = _sort(found, line, changes) if not wrong else None
        if problem is not None:
            problems.append(f"{where}: {problem}")
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        rest = f" ほか {more:,} 件" if more > 0 else ""
        raise DataError("AC-815", " / ".join(problems[:_SHOWN_PROBLEMS]) + rest)
    return found


def _check(check: str, connection: str, line: Line) -> str | None:
    right = check_key(connection, line.key, line.source)
    if check == right:
        return None
    if check.rpartition("/")[0] == right.rpartition("/")[0]:
        return "CSV に書き出したあとで元データが変わりました（書き出し直してください）"
    return "「レコード」または「照合キー」の列が書き換えられています"


def _sort(found: Import, line: Line, changes: dict[str, str]) -> str | None:
    if changes and line.code in CANNOT_BE_CORRECTED:
        title = catalogue()[line.code].title
        return f"「{title}」は CSV の修正では直せません（「対処」の列に従ってください）"
    if changes or (line.correction and line.correction.changes):
        found.corrections[line.entity, line.key] = Correction(source_hash(line.source), changes)
    else:
        found.unchanged.append(line.key)
    return None


def _changes(row: Mapping[str, str], line: Line) -> tuple[dict[str, str], list[str]]:
    """Field -> new value; and what is wrong with cells."""
    original, current = flat(line.source), flat(line.current)
    allowed, types = editable(line.source), kinds(line.source)
    changes: dict[str, str] = {}
    problems: list[str] = []
    for name, before in original.items():
        label = f"{name}{_OWN}" if name in _OURS else name
        # Columns that a person deleted, and cells cut off at the end of a line, say nothing new.
        cell = row.get(label, current[name])
        if _same(before, cell, types[name]):
            continue
        if _same(current[name], cell, types[name]):
            changes[name] = current[name]
        elif (wrong := _wrong(before, cell, name in allowed)) is not None:
            problems.append(f"「{name}」: {wrong}")
        else:
            day = _day(cell) if types[name] == "DATE" else None
            changes[name] = day.isoformat() if day else cell
    added = [name for name in row if name not in _OURS and row[name].strip()]
    unknown = [n for n in added if n.removesuffix(_OWN) not in original]
    problems += [f"「{name}」: このレコードにない項目です" for name in unknown]
    return changes, problems


def _same(value: str, cell: str, kind: str) -> bool:
    """Whether a cell still says ``value``, after Excel has opened and saved it."""
    if _lines(shown(value)) == _lines(cell):
        return True
    one, two = _day(value), _day(cell)
    if one is not None and one == two:
        return True  # 2026-11-02 comes back as 2026/11/2
    if kind == "NUMBER":
        try:
            return Decimal(value) == Decimal(cell.replace(",", ""))
        except InvalidOperation:
            return False
    return False


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _day(text: str) -> date | None:
    if (match := _DATE.fullmatch(text)) is None:
        return None
    try:
        return date(*map(int, match.groups()))
    except ValueError:
        return None


def _wrong(before: str, cell: str, allowed: bool) -> str | None:
    """Why a changed cell cannot be meant, or cannot be used."""
    if not allowed:
        return "この項目は CSV では直せません（元の値のままにしてください）"
    if _ZEROS.fullmatch(before) and _DIGITS.fullmatch(cell) and len(cell) < len(before):
        return f"先頭の 0 が消えています（元の値 {before}、CSV の値 {cell}）"
    if _DIGITS.fullmatch(before) and _EXPONENT.fullmatch(cell):
        return f"Excel が数値に変えています（元の値 {before}、CSV の値 {cell}）"
    if _LOOKS_LIKE_DATE.fullmatch(before) and _MADE_DATE.fullmatch(cell) and _day(before) is None:
        return f"Excel が日付に変えています（元の値 {before}、CSV の値 {cell}）"
    if GETA in cell and cp932_problems(before):
        return "使えない文字の代わりの 〓 が残っています（正しい文字に直すか、取り除いてください）"
    return None
