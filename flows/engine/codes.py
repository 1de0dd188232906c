"""コード変換表 as a transform sees it: partner code -> 奉行 code, looked up record by record.

The engine makes one `CodeBook` when a run opens, from the table of the connection
(`flows.engine.code_table`) and from what exists in 奉行クラウド. A transform takes a fresh
`CodeReader` for each record, asks it for every code that the record needs, and then for the reject:

    codes = book.reader()
    account = codes(CodeKind.ACCOUNT, "経費科目", item.code, item.name)
    department = codes(CodeKind.DEPARTMENT, "部門", record.department)
    if (reject := codes.reject(source_key, label)) is not None:
        return reject

So a person reads every code that a record lacks at once, and the function stays pure. What is sent
is what was converted: an entry that changes means something to a record only when its own row
changes by it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from flows.engine.model import MissingCode, Reject

SUB_SEPARATOR = "/"
"""Between 勘定科目 and 補助科目 in the 奉行 code of a 補助科目, which has no meaning without its
勘定科目: ``521/0001``."""


EMPTY = "（空欄）"
"""How an empty code of the partner is written for a person."""


class CodeKind(enum.StrEnum):
    """What the code is at 奉行クラウド."""

    ACCOUNT = "勘定科目"
    SUB_ACCOUNT = "補助科目"
    """Its 奉行 code is ``勘定科目/補助科目``, e.g. ``521/0001``; see `CodeReader.sub_account`."""
    DEPARTMENT = "部門"
    TAX = "税区分"
    PARTNER = "取引先"
    EMPLOYEE = "社員番号"


@dataclass(frozen=True, slots=True)
class CodeUse:
    """What a connector looks up.

    Attributes:
        kind: What it is turned into.
        source: What the partner's code is, in Japanese: ``支払方法``, ``経費科目``, ``店舗``.
    """

    kind: CodeKind
    source: str


@runtime_checkable
class KnowsCodes(Protocol):
    """A sink that can tell which codes exist in 奉行クラウド."""

    async def codes(self, kind: CodeKind) -> Mapping[str, str] | None:
        """Code -> name of everything of this kind (補助科目: ``勘定科目/補助科目``).

        ``None`` = 奉行クラウド cannot tell: entries of the table are believed, and a code without
        one is unmapped.
        """
        ...


Entries = Mapping[tuple[str, str, str], str]
"""(kind, source, partner code) -> 奉行 code."""


@dataclass(frozen=True)
class CodeBook:
    """コード変換表 of a connection, as it was when the run opened.

    Attributes:
        connection: Its name, for the words of a reject.
        entries: The table.
        known: Kind -> the codes that 奉行クラウド has; a kind of which it cannot tell is not in it.
    """

    connection: str = ""
    entries: Entries = field(default_factory=dict)
    known: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def reader(self) -> CodeReader:
        """A fresh one; one for each record."""
        return CodeReader(self)


EMPTY_BOOK = CodeBook()
"""Of a connector that converts no codes."""


class CodeReader:
    """Looks up the codes of one record, and remembers those that there are none for."""

    __slots__ = ("_book", "_missing")

    def __init__(self, book: CodeBook) -> None:
        self._book = book
        self._missing: dict[tuple[str, str, str], MissingCode] = {}

    def __call__(self, kind: CodeKind, source: str, code: str, name: str = "") -> str:
        """The 奉行 code; empty, and remembered as missing, when there is none.

        A code without an entry is used as it is when 奉行クラウド has exactly that code.

        Args:
            kind: What it is turned into.
            source: What the partner's code is, as in `CodeUse`.
            code: The partner's code; an empty one can have an entry, too.
            name: What the partner calls it, for a person.
        """
        code = code.strip()
        found, wrong = self._look_up(kind, source, code, code)
        if not found:
            self._note(kind, source, code, name, wrong)
        return found

    def optional(self, kind: CodeKind, source: str, code: str, name: str = "") -> str:
        """The same for what a record can do without: no entry is not missing, a wrong one is."""
        code = code.strip()
        found, wrong = self._look_up(kind, source, code, code)
        if wrong:
            self._note(kind, source, code, name, wrong)
        return found

    def sub_account(
        self, account: str, source: str, code: str, name: str = "", *, required: bool = False
    ) -> str:
        """The 補助科目コード, without its 勘定科目; empty when there is none.

        Args:
            account: 奉行 code of the 勘定科目 that the line has; empty = that one is missing.
            source: What the partner's code is.
            code: The partner's code.
            name: What the partner calls it.
            required: Whether a line without one is a reject. An entry of another 勘定科目 is one
                in any case: the 補助科目 would be somebody else's.
        """
        code = code.strip()
        whole = f"{account}{SUB_SEPARATOR}{code}" if account and code else ""
        found, wrong = self._look_up(CodeKind.SUB_ACCOUNT, source, code, whole)
        above, _, below = found.partition(SUB_SEPARATOR)
        if found and account and above != account:
            wrong, below = found, ""
        if wrong or (required and not found):
            self._note(CodeKind.SUB_ACCOUNT, source, code, name, wrong)
        return below

    def reject(self, source_key: str, label: str) -> Reject | None:
        """One reject that names everything that is missing, or ``None`` when nothing is.

        Args:
            source_key: Key of the record.
            label: How a person recognises it.
        """
        if not self._missing:
            return None
        missing = tuple(self._missing.values())
        unmapped = [each for each in missing if not each.bugyo_code]
        wrong = [each for each in missing if each.bugyo_code]
        reason = ""
        if unmapped:
            listed = "、".join(f"{shown(each)}→{each.kind}" for each in unmapped)
            reason = f"コード変換表に対応がありません: {listed}。"
        if wrong:
            listed = "、".join(f"{shown(each)}→{each.kind}「{each.bugyo_code}」" for each in wrong)
            reason += (
                f"コード変換表の奉行コードが使えません（奉行クラウドにありません）: {listed}。"
            )
        return Reject(
            source_key,
            "AC-821" if unmapped else "AC-822",
            item="、".join(dict.fromkeys(each.kind for each in missing)),
            label=label,
            reason=reason,
            remedy=remedy(self._book.connection),
            missing=missing,
        )

    def _look_up(self, kind: CodeKind, source: str, code: str, itself: str) -> tuple[str, str]:
        """The 奉行 code, and the entry that cannot be used."""
        entry = self._book.entries.get((kind, source, code))
        exists = self._book.known.get(kind)
        if entry is None:
            return (itself if exists is not None and itself in exists else ""), ""
        return (entry, "") if exists is None or entry in exists else ("", entry)

    def _note(self, kind: CodeKind, source: str, code: str, name: str, wrong: str) -> None:
        self._missing[kind, source, code] = MissingCode(
            kind.value, source, code, name.strip(), wrong
        )


def shown(missing: MissingCode) -> str:
    """A partner's code, for a person: ``経費科目 E01（旅費交通費）``."""
    name = f"（{missing.name}）" if missing.name else ""
    return f"{missing.source} {missing.code or EMPTY}{name}"


def remedy(connection: str) -> str:
    """What to do about codes that are missing, on the screen and in the terminal."""
    return (
        f"「連携一覧」の「コード変換表」→「実行」→「条件を指定して実行」で、接続「{connection}」の"
        "「追加・変更」に奉行コードを入れる"
        f"（コマンドでは app-connect codes set {connection} …）"
        " → 手動実行する（止まっていたデータだけが登録されます）"
    )
