"""What one 事業所 of the emulator holds: masters and journals, in the vendor's shapes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from connectors.mfexpense.client import Unit

Json = dict[str, Any]

KINDS: Final = ("item", "sub_item", "excise", "dept", "project_code", "ex_destination")
"""What a side of a journal points to; ``<kind>_id`` names it, ``<kind>`` embeds it."""


def opaque(*parts: object) -> str:
    """An id as the service makes them: 22 letters, digits, ``-`` and ``_``; always the same."""
    packed = "/".join(map(str, parts)).encode()
    digest = hashlib.blake2b(packed, digest_size=16).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass(slots=True)
class Kept:
    """One journal, with ids only: what they point to is put in when it is asked for."""

    id: str
    record: str
    day: date
    memo: str | None
    branches: list[Json]
    registration: str | None
    exception: str | None


@dataclass(slots=True)
class Book:
    """One 事業所.

    Attributes:
        id: Its id.
        name: Its name.
        masters: Entries by kind and id.
        journals: By unit, then by the id of the expense or report.
    """

    id: str
    name: str
    masters: dict[str, dict[str, Json]] = field(default_factory=lambda: {k: {} for k in KINDS})
    ex_items: dict[str, Json] = field(default_factory=dict)
    journals: dict[Unit, dict[str, Kept]] = field(
        default_factory=lambda: {"transaction": {}, "report": {}}
    )

    def add(self, kind: str, name: str, code: str | None = None, **more: Any) -> str:
        """Add an entry to a master; returns its id.

        Args:
            kind: One of `KINDS`.
            name: Its name.
            code: Its code; ``None`` = the company gives none.
            **more: Other members: ``rate`` of a 税区分, ``item_id`` of a 補助科目.

        Raises:
            KeyError: there is no such kind.
        """
        entries = self.masters[kind]
        number = opaque(self.id, kind, len(entries))
        entry: Json = {"id": number, "name": name, "code": code, **more}
        if kind == "excise":
            entry["long_name"] = entry.pop("name")
        entries[number] = entry
        if kind in ("item", "sub_item"):
            self._expense_item(entry, kind)
        return number

    def _expense_item(self, entry: Json, kind: str) -> None:
        """勘定科目 and 補助科目 have no list of their own: they are read from the 経費科目."""
        account = entry if kind == "item" else self.masters["item"][entry["item_id"]]
        number = opaque(self.id, "ex_item", len(self.ex_items))
        self.ex_items[number] = {
            "id": number,
            "name": entry["name"],
            "code": None,
            "is_active": True,
            "item_id": account["id"],
            "sub_item_id": entry["id"] if kind == "sub_item" else None,
            "default_excise_id": None,
            "item": account,
            "sub_item": entry if kind == "sub_item" else None,
            "default_dr_excise": None,
        }

    def post(
        self,
        day: date,
        branches: Iterable[Mapping[str, Any]],
        *,
        unit: Unit = "transaction",
        memo: str | None = None,
        registration: str | None = None,
        exception: str | None = None,
        record: str | None = None,
    ) -> str:
        """Add (or replace) the journal of one expense or report; returns the record's id.

        Args:
            day: 計上日.
            branches: Each with ``remark`` and ``sides`` (see `side`).
            unit: Kind of record.
            memo: メモ.
            registration: 登録番号.
            exception: 特例区分.
            record: Id of the record whose journal is replaced; ``None`` = a new one.
        """
        held = self.journals[unit]
        record = record or opaque(self.id, unit, len(held))
        journal = opaque(self.id, unit, record, "journal")
        lines = [{"branch_number": n, **branch} for n, branch in enumerate(branches, 1)]
        held[record] = Kept(journal, record, day, memo, lines, registration, exception)
        return record

    def cancel(self, record: str, unit: Unit = "transaction") -> None:
        """The expense or report was taken back: its journal is gone."""
        del self.journals[unit][record]

    def between(self, unit: Unit, first: date | None, last: date | None) -> list[Kept]:
        """Journals of a window, in the order in which they were made."""
        return [
            kept
            for kept in self.journals[unit].values()
            if (first is None or first <= kept.day) and (last is None or kept.day <= last)
        ]


def side(which: int, value: int, tax: int = 0, **ids: str | None) -> Json:
    """One side of a branch: ``side(1, 1100, 100, item=…, excise=…)``.

    Args:
        which: 1 = 借方, -1 = 貸方.
        value: Yen, with the tax.
        tax: Yen of tax in it.
        **ids: Ids by kind.
    """
    named = {f"{kind}_id": ids.get(kind) for kind in KINDS}
    return {**named, "side": which, "value": value, "excise_value": tax}
