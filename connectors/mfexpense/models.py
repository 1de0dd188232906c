"""What the service answers, as values: offices, masters, journals.

Ids are opaque strings. A ``code`` may be missing or null: then only the id tells two things apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from pydantic import AliasChoices, Field

from connectors.kit.wire import Exact, Wire

DEBIT, CREDIT = 1, -1
"""``side`` of a journal's side: 借方, 貸方."""


class Office(Wire):
    """事業所.

    Attributes:
        id: Opaque.
        name: 事業所名.
        identification_code: 事業所番号, as people know it.
    """

    id: str
    name: str = ""
    identification_code: str = ""


class Entry(Wire):
    """One entry of any master: 勘定科目, 補助科目, 税区分, 部門, 支払先, プロジェクト.

    Attributes:
        id: Opaque.
        code: As the company numbers it; ``None`` = it does not.
        name: As people read it (``long_name`` of a 税区分).
        rate: Of a 税区分: 0.1 for 10 %.
    """

    id: str
    code: str | None = None
    name: str = Field(default="", validation_alias=AliasChoices("name", "long_name"))
    rate: Exact = None

    @property
    def key(self) -> str:
        """What the code table knows it by: the code, or the id where there is none."""
        return (self.code or "").strip() or self.id


class Side(Wire):
    """One side of a branch.

    Attributes:
        side: `DEBIT` or `CREDIT`.
        value: Yen, with the tax (``facts.toml``, value_includes_tax).
        excise_value: Yen of tax in it.
    """

    item_id: str | None = None
    sub_item_id: str | None = None
    excise_id: str | None = None
    dept_id: str | None = None
    project_code_id: str | None = None
    ex_destination_id: str | None = None
    side: int
    value: int
    excise_value: int | None = None
    item: Entry | None = None
    sub_item: Entry | None = None
    excise: Entry | None = None
    dept: Entry | None = None
    project_code: Entry | None = None
    ex_destination: Entry | None = None

    def entry(self, name: str) -> Entry | None:
        """What stands in ``name`` (``item``, ``dept`` …): embedded, or known by its id only."""
        found: Entry | None = getattr(self, name)
        number: str | None = getattr(self, f"{name}_id")
        if found is None and number:
            return Entry(id=number)
        return found


class Branch(Wire):
    """One line of a journal. Its sides are spelled in two ways: both are read."""

    branch_number: int | None = None
    remark: str | None = None
    sides: tuple[Side, ...] = Field(
        validation_alias=AliasChoices("journal_branch_sides", "ex_journal_branch_sides")
    )


class Journal(Wire):
    """仕訳 of one 経費明細 or one 経費申請.

    Attributes:
        id: Opaque.
        recognized_at: 計上日.
        ex_transaction_id: Of a journal by transaction.
        ex_report_id: Of a journal by report.
        invoice_registration_number: 登録番号 of the 適格請求書; by transaction only.
        special_exception_status: 特例区分; by transaction only.
    """

    id: str
    recognized_at: date
    memo: str | None = None
    branches: tuple[Branch, ...] = Field(validation_alias="ex_journal_branches")
    ex_transaction_id: str | None = None
    ex_report_id: str | None = None
    invoice_registration_number: str | None = None
    special_exception_status: str | None = None


@dataclass(frozen=True, slots=True)
class Masters:
    """Every master that a journal's ids point to, by kind and id.

    Kinds are the names that a side gives them: ``item``, ``sub_item``, ``excise``, ``dept``,
    ``project_code``, ``ex_destination``.
    """

    entries: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)

    def complete(self, journal: dict[str, Any]) -> dict[str, Any]:
        """The journal with what its sides' ids mean put beside them, where it is missing.

        Changes and returns ``journal``.
        """
        for branch in journal.get("ex_journal_branches") or []:
            sides = branch.get("journal_branch_sides") or branch.get("ex_journal_branch_sides")
            for side in sides or []:
                for kind, known in self.entries.items():
                    if not side.get(kind) and (entry := known.get(side.get(f"{kind}_id") or "")):
                        side[kind] = entry
        return journal
