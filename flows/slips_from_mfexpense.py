"""マネーフォワード クラウド経費 → 仕訳伝票: the connector's settings, its transform, its flow.

One journal of クラウド経費, of an expense or of a whole report, is one slip; a branch is one line,
or several when a side holds several amounts. Its ids became codes and names in the source; here
they go through コード変換表.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import date
from decimal import ROUND_DOWN, Decimal
from itertools import zip_longest
from typing import Any, Final, Literal

from prefect import State, flow
from pydantic import Field

from blocks import Connection, MfExpenseCredentials
from connectors.bugyo.journal import MAX_SLIP_ROWS, JournalLine, JournalSide, JournalSlip
from connectors.mfexpense import CREDIT, DEBIT, Entry, Journal, Side, Unit
from connectors.mfexpense.facts import fact
from flows.engine import ModeName, Tools, run_connector, run_name
from flows.engine.clock import business_date, now
from flows.engine.codes import CodeKind, CodeReader, CodeUse
from flows.parts.fields import credentials_field
from flows.parts.journal import fitted
from flows.parts.mfexpense import DUPLICATE, ExpenseSource, office_of, open_expenses
from flows.parts.slips import BadValueError, SlipSettings, SlipTransform, slip_pipeline

_UNITS: Final[Mapping[str, Unit]] = {"経費明細ごと": "transaction", "経費申請ごと": "report"}

NO_NUMBER: Final = ":登録番号なし"
"""Behind the code of a 税区分 when the purchase is taxed and has no 登録番号: 経過措置 (80 % …)."""

_TAX_TOLERANCE = 1  # yen: the service rounds as the office's settings say

CODES: Final = (
    CodeUse(CodeKind.ACCOUNT, "勘定科目"),
    CodeUse(CodeKind.SUB_ACCOUNT, "補助科目"),
    CodeUse(CodeKind.DEPARTMENT, "部門"),
    CodeUse(CodeKind.TAX, "税区分"),
    CodeUse(CodeKind.PARTNER, "支払先"),
)


class ExpenseSlipSettings(SlipSettings):
    """設定: which journals, from when on, and how they are read."""

    start: date = Field(
        title="連携を始める計上日",
        description=(
            "この日より前の計上日の仕訳は連携しません。すでに手で入力した月を除きます。"
            "連携を始めたあとは変更しないでください。"
        ),
        examples=["2026-11-01"],
    )
    unit: Literal["経費明細ごと", "経費申請ごと"] = Field(
        default="経費明細ごと",
        title="仕訳の単位",
        description=(
            "伝票1枚にする単位です。「経費申請ごと」では、インボイスの登録番号を取得できません。"
            "連携を始めたあとは変更しないでください。"
        ),
    )
    months: int = Field(
        default=3,
        title="さかのぼって読む月数",
        description=(
            "承認が遅れた仕訳は古い計上日で現れるため、毎回この月数だけさかのぼって読み直します。"
        ),
        ge=1,
        le=12,
    )
    invoice: Literal["区別する", "区別しない"] = Field(
        default="区別する",
        title="登録番号のない課税仕入",
        description=(
            "「区別する」では、インボイスの登録番号も特例もない課税仕入を、コード変換表の"
            f"「税区分コード{NO_NUMBER}」で別の税区分（経過措置）に変換します。"
        ),
    )
    projects: bool = Field(
        default=False,
        title="プロジェクト",
        description="オンにすると、プロジェクトコードをそのまま奉行クラウドに連携します。",
    )


class SlipsFromMfExpenseConnection(Connection):
    """A connection of this connector.

    Example:
        ```python
        from flows.slips_from_mfexpense import SlipsFromMfExpenseConnection

        connection = await SlipsFromMfExpenseConnection.aload("keihi")
        ```
    """

    _block_type_name = "接続: 仕訳伝票 クラウド経費→勘定奉行"
    _block_type_slug = "slips-from-mfexpense"
    _description = (
        "マネーフォワード クラウド経費の仕訳を、勘定奉行クラウドの仕訳伝票に連携する接続です。"
    )
    _logo = "mfexpense"
    _manual = "mfexpense"

    mfexpense: MfExpenseCredentials = credentials_field(
        "マネーフォワード クラウド経費", "クラウド経費の"
    )
    settings: ExpenseSlipSettings = Field(
        title="設定", description="連携する仕訳と、その読み方です。"
    )

    def destination(self) -> str:
        """The 法人, and the unit: by report and by expense the same yen have other keys."""
        unit = "" if self.settings.unit == "経費明細ごと" else f"/{self.settings.unit}"
        return f"{super().destination()}{unit}"


class ExpenseSlipTransform(SlipTransform[ExpenseSlipSettings]):
    """One journal -> one slip.

    Taxes are checked here and not by the common check: the tax of a purchase without 登録番号 may
    be what can be deducted of it.
    """

    noun = "仕訳"
    tolerance = None

    def slip(self, record: Mapping[str, Any], codes: CodeReader) -> JournalSlip:
        """The slip of a journal."""
        if record.get(DUPLICATE):
            twice = (
                "同じ経費明細（または経費申請）の仕訳が2つあります。先に読んだほうだけを扱います"
            )
            raise BadValueError("仕訳", twice, "AC-836")
        journal = Journal.model_validate(record)
        number = (journal.invoice_registration_number or "").strip()
        lines: list[JournalLine] = []
        for row, branch in enumerate(journal.branches, 1):
            words = self.text(f"{row}行目の摘要", branch.remark or journal.memo or "")
            by_side: dict[int, list[JournalSide]] = {DEBIT: [], CREDIT: []}
            for side in branch.sides:
                if side.side not in by_side:
                    raise BadValueError("貸借", f"{row}行目: 借方でも貸方でもない行です")
                by_side[side.side].append(self._side(row, side, journal, codes))
            lines += [
                JournalLine(debit, credit, fitted(words, number))
                for debit, credit in zip_longest(by_side[DEBIT], by_side[CREDIT])
            ]
        if not lines:
            raise BadValueError("明細", "仕訳に明細行がありません", "AC-801")
        if len(lines) > MAX_SLIP_ROWS:
            many = f"仕訳が{len(lines):,}行あります。伝票1枚は{MAX_SLIP_ROWS}行までです"
            raise BadValueError("明細", many, "AC-835")
        common = self.text("メモ", journal.memo or "") or lines[0].description
        return JournalSlip(
            date=journal.recognized_at,
            voucher_number="",
            lines=tuple(lines),
            description=fitted(common),
        )

    def _side(self, row: int, side: Side, journal: Journal, codes: CodeReader) -> JournalSide:
        item, excise = side.entry("item"), side.entry("excise")
        if item is None:
            raise BadValueError("勘定科目", f"{row}行目: 勘定科目がありません", "AC-801")
        account = _code(codes, CodeKind.ACCOUNT, "勘定科目", item)
        rate = (excise and excise.rate) or Decimal(0)
        unnumbered = rate > 0 and self._lacks_number(journal)
        tax = side.excise_value or 0
        _check_tax(row, side.value, tax, rate, partial=unnumbered)
        tax_code = str(fact("no_tax_code"))
        if excise is not None:
            key, name = excise.key, excise.name
            if unnumbered:
                key, name = f"{key}{NO_NUMBER}", f"{name}（登録番号なし）"
            tax_code = codes(CodeKind.TAX, "税区分", key, name)
        reduced = excise is not None and str(fact("reduced_mark")) in excise.name
        payee, project = side.entry("ex_destination"), side.entry("project_code")
        return JournalSide(
            account=account,
            amount=side.value - tax,
            tax=tax,
            sub_account=_sub_account(codes, account, item, side.entry("sub_item")),
            department=_code(codes, CodeKind.DEPARTMENT, "部門", side.entry("dept")),
            tax_code=tax_code,
            tax_rate=f"{(rate * 100).normalize():f}" if rate else "",
            tax_rate_kind=("1" if reduced else "0") if rate else "",
            # A slip does without: most payees of expenses are not registered in 奉行クラウド.
            partner=codes.optional(CodeKind.PARTNER, "支払先", payee.key, payee.name)
            if payee
            else "",
            project=project.key if project and self.settings.projects else "",
        )

    def _lacks_number(self, journal: Journal) -> bool:
        """Whether a taxed purchase in it has neither 登録番号 nor an exception from needing one.

        Journals by report do not say, so there nothing is told apart.
        """
        if self.settings.invoice == "区別しない":
            return False
        says = "invoice_registration_number" in journal.model_fields_set
        number, exception = journal.invoice_registration_number, journal.special_exception_status
        return says and not (number or "").strip() and not (exception or "").strip()


def _code(codes: CodeReader, kind: CodeKind, source: str, entry: Entry | None) -> str:
    return "" if entry is None else codes(kind, source, entry.key, entry.name)


def _sub_account(codes: CodeReader, account: str, item: Entry, sub: Entry | None) -> str:
    """補助科目: looked up with its 勘定科目 first, because codes may repeat under another one."""
    if sub is None:
        return ""
    whole = codes.sub_account(account, "補助科目", f"{item.key}/{sub.key}", sub.name)
    return whole or codes.sub_account(account, "補助科目", sub.key, sub.name, required=True)


def _check_tax(row: int, value: int, tax: int, rate: Decimal, *, partial: bool) -> None:
    """See that the tax is the one in ``value``: were amounts without tax, all would be wrong.

    Args:
        row: Line, for the message.
        value: Yen with the tax.
        tax: Yen of tax in it.
        rate: Of the 税区分.
        partial: Without 登録番号 it may also be less: what can be deducted.

    Raises:
        BadValueError: ``AC-807``, it is another.
    """
    whole = int((value * rate / (1 + rate)).to_integral_value(ROUND_DOWN))
    wrong = abs(tax - whole) > _TAX_TOLERANCE
    if partial and abs(tax) <= abs(whole):
        wrong = False
    if wrong:
        raise BadValueError(
            "消費税額",
            f"{row}行目: 消費税額 {tax:,}円 が、税込金額 {value:,}円 の中の税額 {whole:,}円"
            " と一致していません",
        )


@contextlib.asynccontextmanager
async def _source(
    connection: SlipsFromMfExpenseConnection, tools: Tools
) -> AsyncIterator[ExpenseSource]:
    settings = connection.settings
    async with open_expenses(connection.mfexpense, tools) as client:
        office = await office_of(client, connection.mfexpense.office_id)
        yield ExpenseSource(
            client,
            office,
            _UNITS[settings.unit],
            await client.masters(office),
            start=settings.start,
            today=business_date(now()),
            months=settings.months,
        )


PIPELINE = slip_pipeline(
    key_label="経費明細（または経費申請）のID",
    connection_type=SlipsFromMfExpenseConnection,
    open_source=_source,
    transform=ExpenseSlipTransform,
    codes=CODES,
)


@flow(name=PIPELINE.connector, flow_run_name=run_name(PIPELINE), persist_result=False)
async def slips_from_mfexpense(
    connection: str,
    mode: ModeName = "差分",
    record_key: str | None = None,
    period_from: date | None = None,
    period_to: date | None = None,
    dry_run: bool = False,
    record_keys: list[str] = [],  # noqa: B006 (Prefect reads the default for the run form)
) -> State[None]:
    """マネーフォワード クラウド経費の仕訳を、勘定奉行クラウドの仕訳伝票に連携します。

    Args:
        connection: 接続（接続情報・設定）の名前です。
        mode: 差分はさかのぼって読む月数の仕訳とエラー明細、全件は連携を始める計上日からのすべて、
            期間は計上日がその期間の仕訳、1件は1件だけ、
            エラー明細のみはエラー明細にあるデータだけを処理します。
        record_key: 「1件」のときの経費明細（または経費申請）のIDです。
        period_from: 「期間」の開始日です。計上日がこの日以降の仕訳を処理します（日本時間）。
        period_to: 「期間」の終了日です。計上日がこの日までの仕訳を処理します。
        dry_run: オンにすると、送る内容を表示するだけで、奉行クラウドには何も送りません。
        record_keys: 「エラー明細のみ」のときに送るレコードの番号です。空ならすべてを送ります。
    """
    return await run_connector(
        PIPELINE, connection, mode, record_key, period_from, period_to, dry_run, record_keys
    )
