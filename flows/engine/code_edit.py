"""What a person changes in コード変換表: in a form, in a terminal, or in a CSV from Excel.

The CSV holds the whole table and, with an empty 奉行コード, every code that records wait for; the
same file is taken in again. Excel turns some texts into numbers or dates as soon as a CSV is
opened: such cells are written in brackets, ``「007」``, which Excel leaves alone and which are
taken off when they come back. What was typed without them and came out changed is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from connectors.kit import DataError
from connectors.kit.tables import cp932_csv, numbered_rows, shown
from connectors.kit.text import GETA, normalise_code
from flows.engine.code_table import LONGEST, Blocked, Entry, Key
from flows.engine.codes import EMPTY, SUB_SEPARATOR, CodeKind, CodeUse

KIND, SOURCE, CODE, NAME, BUGYO = "種類", "相手側の項目", "コード", "名称", "奉行コード"
COLUMNS: Final = (KIND, SOURCE, CODE, NAME, BUGYO, "止まっている件数")
"""Of the table on screens and in the CSV; the last one is ours and is not read."""

_SHOWN_PROBLEMS = 20
_AS_TYPED = re.compile(r"0|[1-9][0-9]{0,10}")  # numbers that Excel shows as they are
_LIKE_DATE = re.compile(
    r"(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[-/. ]*[0-9]"
    r"|(?:[MTSHRmtshr]|明治?|大正?|昭和?|平成?|令和?)[0-9]+[-/.年]"
)
_BY_EXCEL = re.compile(
    r"[0-9](?:\.[0-9]+)?[Ee]\+[0-9]+|[0-9]{1,2}月[0-9]{1,2}日"
    r"|[0-9]{1,2}-[A-Z][a-z]{2}|[A-Z][a-z]{2}-[0-9]{2}|#N/A|#NAME\?|#REF!|#VALUE!|#DIV/0!"
)


@dataclass(frozen=True, slots=True)
class Typed:
    """An entry as a person wrote it.

    Attributes:
        where: Which line or row it is, for that person: ``3行目``.
    """

    where: str
    kind: str
    source: str
    code: str
    name: str = ""
    bugyo_code: str = ""


@dataclass
class Changes:
    """What a person's entries come to.

    Attributes:
        entries: Those that are new or differ.
        added: How many of them are new.
        unchanged: How many say what the table says.
        empty: Lines of codes that nobody has given a 奉行コード yet.
    """

    entries: list[Entry] = field(default_factory=list)
    added: int = 0
    unchanged: int = 0
    empty: int = 0

    def sentence(self) -> str:
        """For a person."""
        words = (
            f"追加 {self.added:,} 件 / 変更 {len(self.entries) - self.added:,} 件 / "
            f"変更なし {self.unchanged:,} 件"
        )
        return f"{words} / 奉行コードが空の行 {self.empty:,} 件" if self.empty else words


def lines(entries: Sequence[Entry], blocked: Sequence[Blocked]) -> list[list[str]]:
    """Texts of `COLUMNS`: what has to be filled in, then the table."""
    records = {each.key: each.records for each in blocked}
    todo = [Entry(*b.key, b.missing.name, "") for b in blocked if not b.missing.bugyo_code]
    return [
        [
            *(each.kind, each.source, each.code or EMPTY, each.name, each.bugyo_code),
            f"{records[each.key]:,}" if each.key in records else "",
        ]
        for each in [*todo, *entries]
    ]


def write(table: Iterable[Sequence[str]]) -> bytes:
    """The CSV of `lines`: CP932, CRLF, formula-safe, and left alone by Excel.

    Args:
        table: Texts of `COLUMNS`.
    """
    return cp932_csv(COLUMNS, ([*map(_guarded, line[:-1]), line[-1]] for line in table))


def read(data: bytes | str) -> list[Typed]:
    """The lines of a person's CSV, or of cells that were pasted.

    Raises:
        DataError: ``AC-823``, it cannot be read, or it is not our CSV.
    """
    try:
        rows = numbered_rows(data)
    except DataError as error:
        words = error.subject
        if "文字コード" in words:
            words = "文字コードが Shift_JIS でも UTF-8 でもありません"
        elif "行目" in words:
            words = f'{words}の列が見出しより多いか、引用符（"）が閉じていません'
        problem = words
    else:
        if not rows:
            raise DataError("AC-823", "見出しの下にデータの行がありません")
        missing = [name for name in (KIND, SOURCE, CODE, BUGYO) if name not in rows[0][1]]
        if not missing:
            return [
                Typed(
                    where=f"{number}行目",
                    kind=_unguarded(row[KIND]),
                    source=_unguarded(row[SOURCE]),
                    code=_unguarded(row[CODE]),
                    name=_unguarded(row.get(NAME, "")),
                    bugyo_code=_unguarded(row[BUGYO]),
                )
                for number, row in rows
            ]
        listed = "、".join(f"「{name}」" for name in missing)
        problem = f"1行目の見出しに{listed}の列がありません"
    raise DataError("AC-823", problem)


def understand(
    typed: Sequence[Typed],
    uses: Sequence[CodeUse],
    entries: Sequence[Entry],
    blocked: Sequence[Blocked],
    *,
    may_be_empty: bool = False,
) -> Changes:
    """What these lines change, checked against the table and what the connector looks up.

    Args:
        typed: What a person wrote.
        uses: What the connector looks up.
        entries: The table as it is.
        blocked: The codes that records wait for.
        may_be_empty: Whether a line without a 奉行コード is one that nobody has filled in yet.

    Raises:
        DataError: ``AC-824``, lines that cannot be taken in: which, which column, and why.
    """
    desk = _Desk(uses, entries, blocked)
    found, problems, seen = Changes(), list[str](), dict[Key, str]()
    for each in typed:
        try:
            key = desk.key(each)
            code = desk.bugyo_code(each, key, may_be_empty=may_be_empty)
            if code and seen.get(key, code) != code:
                raise _WrongError(CODE, "同じコードの行が2つあり、奉行コードが違います")
        except _WrongError as wrong:
            problems.append(f"{each.where}の「{wrong.column}」: {wrong}")
            continue
        if key not in seen:
            desk.sort(found, key, each.name.strip(), code)
        if code:
            seen[key] = code
    if problems:
        raise DataError("AC-824", _listed(problems))
    return found


def keys(
    typed: Sequence[Typed],
    uses: Sequence[CodeUse],
    entries: Sequence[Entry],
    blocked: Sequence[Blocked],
) -> list[Key]:
    """Which entries a person named.

    Raises:
        DataError: ``AC-824``, as `understand`.
    """
    desk = _Desk(uses, entries, blocked)
    found, problems = list[Key](), list[str]()
    for each in typed:
        try:
            found.append(desk.key(each))
        except _WrongError as wrong:
            problems.append(f"{each.where}の「{wrong.column}」: {wrong}")
    if problems:
        raise DataError("AC-824", _listed(problems))
    return found


def _listed(problems: Sequence[str]) -> str:
    more = len(problems) - _SHOWN_PROBLEMS
    return " / ".join(problems[:_SHOWN_PROBLEMS]) + (f" ほか {more:,} 件" if more > 0 else "")


class _WrongError(Exception):
    def __init__(self, column: str, message: str) -> None:
        super().__init__(message)
        self.column = column


class _Desk:
    """Checks what was typed against what is known of a connection."""

    def __init__(
        self, uses: Sequence[CodeUse], entries: Sequence[Entry], blocked: Sequence[Blocked]
    ) -> None:
        self._sources: dict[str, list[str]] = {}
        for use in uses:
            self._sources.setdefault(use.kind, []).append(use.source)
        self._table = {each.key: each for each in entries}
        self._names = {each.key: each.missing.name for each in blocked}
        self._codes: dict[tuple[str, str], dict[str, str]] = {}
        for kind, source, code in [*self._table, *self._names]:
            # By how it looks in a CSV: there, a character that CP932 lacks is a 〓.
            self._codes.setdefault((kind, source), {})[shown(code)] = code
        self._bugyo: dict[str, set[str]] = {}
        for each in entries:
            self._bugyo.setdefault(each.kind, set()).add(each.bugyo_code)

    def key(self, typed: Typed) -> Key:
        kind = typed.kind.strip()
        if kind not in self._sources:
            used = "・".join(self._sources)
            words = f"使えるのは {used} です" if used else "この接続はコード変換表を使いません"
            raise _WrongError(KIND, f"「{_short(kind)}」は使えません。{words}")
        source, sources = typed.source.strip(), self._sources[kind]
        if not source and len(sources) == 1:
            source = sources[0]
        if source not in sources:
            words = f"「{_short(source)}」は使えません。使えるのは {'・'.join(sources)} です"
            raise _WrongError(SOURCE, words)
        return kind, source, self._partner_code(typed.code.strip(), kind, source)

    def _partner_code(self, code: str, kind: str, source: str) -> str:
        known = self._codes.get((kind, source), {})
        if code == EMPTY:
            return ""
        if not code:
            raise _WrongError(CODE, f"空です（相手側の値が空のときは {EMPTY} と書きます）")
        if code in known:
            return known[code]
        if shown(code) in known:
            return known[shown(code)]
        _check(CODE, code, known)
        if GETA in code:
            raise _WrongError(CODE, "使えない文字の代わりの 〓 があり、どのコードか分かりません")
        return code

    def bugyo_code(self, typed: Typed, key: Key, *, may_be_empty: bool) -> str:
        code = normalise_code(typed.bugyo_code, width=None)
        if not code:
            if may_be_empty and key not in self._table:
                return ""
            raise _WrongError(BUGYO, "空です（対応をやめるときは「削除」を使います）")
        _check(BUGYO, code, self._bugyo.get(key[0], ()))
        above, separator, below = code.partition(SUB_SEPARATOR)
        if key[0] == CodeKind.SUB_ACCOUNT and not (above and separator and below):
            words = f"補助科目は 勘定科目コード{SUB_SEPARATOR}補助科目コード の形で書きます"
            raise _WrongError(BUGYO, f"{words}（例: 521{SUB_SEPARATOR}0001）")
        return code

    def sort(self, found: Changes, key: Key, name: str, bugyo_code: str) -> None:
        """Note what one line comes to; a name that was left out, or lost, is kept."""
        if not bugyo_code:
            found.empty += 1
            return
        old = self._table.get(key)
        before = old.name if old is not None and old.name else self._names.get(key, "")
        if not name or name == shown(before) or _BY_EXCEL.fullmatch(name):
            name = before
        entry = Entry(*key, _fitting(name), bugyo_code)
        if old == entry:
            found.unchanged += 1
        else:
            found.entries.append(entry)
            found.added += old is None


def _check(column: str, code: str, known: Iterable[str]) -> None:
    """Whether a code that is not known yet can be meant."""
    if len(code) > LONGEST:
        raise _WrongError(column, f"長すぎます（{LONGEST}文字まで）")
    if not code.isprintable():
        raise _WrongError(column, "改行や制御文字は使えません")
    if _BY_EXCEL.fullmatch(code):
        words = f"Excel が変えた値です（{code}）。「」で囲んで入れ直してください（例: 「0012」）"
        raise _WrongError(column, words)
    if code.isascii() and code.isdigit() and code not in known:
        zeros = [k for k in known if k.isdigit() and k != code and k.lstrip("0") == code]
        if zeros:
            words = f"先頭の 0 が消えています（{code}、正しくは {zeros[0]}）"
            raise _WrongError(column, f"{words}。「{zeros[0]}」のように「」で囲むと消えません")


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"


def _fitting(name: str) -> str:
    name = " ".join(name.replace("\x00", "").split())
    return name[:LONGEST]


def _guarded(text: str) -> str:
    """A text in brackets when Excel would take it for something else, or it has brackets."""
    return f"「{text}」" if _bracketed(text) or _changed_by_excel(text) else text


def _unguarded(cell: str) -> str:
    cell = cell.strip()
    return cell[1:-1] if _bracketed(cell) else cell


def _bracketed(text: str) -> bool:
    return len(text) > 2 and text.startswith("「") and text.endswith("」")


def _changed_by_excel(text: str) -> bool:
    """Whether a Japanese Excel makes something else of it when a CSV is opened by double click."""
    if text.upper() in ("TRUE", "FALSE") or _LIKE_DATE.match(text):
        return True
    if not any(c.isdigit() for c in text) or _AS_TYPED.fullmatch(text):
        return False
    return not text[0].isalpha()
