"""スマレジ → 仕訳伝票: the connector's settings, its pure transform, its flow.

One store-day that is closed (日次締め) is one balanced slip: payment methods to the debit, sales by
tax rate to the credit. What changes after it was posted (取消, 締め直し) is reported, or reversed
and posted anew (赤黒), as the settings say.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import date
from itertools import zip_longest
from typing import Any, Literal

from prefect import State, flow
from pydantic import Field

from blocks import Connection, SmaregiCredentials
from connectors.bugyo.journal import JournalLine, JournalSide, JournalSlip
from connectors.kit import SettingsError
from connectors.smaregi import CASH, CREDIT, StoreDay, Taxed
from flows.engine import ModeName, Tools, run_connector, run_name
from flows.engine.codes import CodeKind, CodeReader, CodeUse
from flows.parts.fields import credentials_field, overlap_field
from flows.parts.slips import BadValueError, SlipSettings, SlipTransform, slip_pipeline
from flows.parts.smaregi import StoreDays, open_smaregi

PAYMENT, STORE, RATE = "支払方法", "店舗", "税率"
"""What スマレジ's codes are, in コード変換表."""
_SEPARATE = "別の行にする"
_REDUCED = "8"  # 軽減税率: since 2019 nothing else is taxed at 8 % in a shop


class SmaregiSettings(SlipSettings):
    """設定: from which day, which accounts, what the slip looks like."""

    start: date = Field(
        title="開始日",
        description="この日以降に締めた（締め日がこの日以降の）売上を連携します。",
    )
    cash_account: str = Field(
        title="現金の勘定科目コード",
        description="現金で受け取った売上の借方です。",
        min_length=1,
        examples=["100"],
    )
    sales_account: str = Field(
        title="売上の勘定科目コード",
        description="売上の貸方です。税区分は、税率ごとにコード変換表で決めます。",
        min_length=1,
        examples=["500"],
    )
    reductions: Literal["売上から差し引く", "別の行にする"] = Field(
        default="売上から差し引く",
        title="値引・返品",
        description=(
            "小計値引・ポイント値引・クーポン・返品の扱いです。"
            "「別の行にする」は、差し引く前の売上を貸方に、値引・返品を借方に立てます。"
        ),
    )
    reductions_account: str = Field(
        default="",
        title="値引・返品の勘定科目コード",
        description="「値引・返品」が「別の行にする」のときの借方です。",
    )
    by_store: bool = Field(
        default=True,
        title="店舗ごとに部門を付ける",
        description="オンにすると、店舗の部門（コード変換表）をすべての行に付けます。",
    )
    description: str = Field(
        default="スマレジ売上",
        title="摘要",
        description="摘要の先頭に入れる文字です。そのあとに店舗名が付きます。",
    )
    overlap_minutes: int = overlap_field(10)


class SlipsFromSmaregiConnection(Connection):
    """A connection of this connector.

    Example:
        ```python
        from flows.slips_from_smaregi import SlipsFromSmaregiConnection

        connection = await SlipsFromSmaregiConnection.aload("uriage")
        ```
    """

    _block_type_name = "接続: 仕訳伝票 スマレジ→勘定奉行"
    _block_type_slug = "slips-from-smaregi"
    _description = "スマレジの日次締めの売上を、勘定奉行クラウドの仕訳伝票に連携する接続です。"
    _logo = "smaregi"
    _manual = "smaregi"

    smaregi: SmaregiCredentials = credentials_field("スマレジ", "スマレジの")
    settings: SmaregiSettings = Field(title="設定", description="開始日、勘定科目、伝票の形です。")


class StoreDayTransform(SlipTransform[SmaregiSettings]):
    """One store-day -> one slip.

    Taxes are not checked against rate x amount: they were rounded sale by sale, and their sum is
    checked against the closing instead.
    """

    noun = "店舗・締め日"
    tolerance = None

    def slip(self, record: Mapping[str, Any], codes: CodeReader) -> JournalSlip | None:
        """The slip of a store-day; none of a day on which nothing is left to post.

        Raises:
            BadValueError: ``AC-831`` closing and sales differ, ``AC-832`` the parts of a sale are
                not its total, ``AC-833`` there is a sale of a kind that cannot be booked.
        """
        day = StoreDay.model_validate(record)
        if day.problems:
            words = "。".join(words for _, words in day.problems)
            where = f"{day.store_name} {day.day:%Y/%m/%d}"
            raise BadValueError("日次締め", f"{where}: {words}", day.problems[0][0])
        department = ""
        if self.settings.by_store:
            department = codes(CodeKind.DEPARTMENT, STORE, day.store_code, day.store_name)
        debits: list[JournalSide] = []
        credits_: list[JournalSide] = []
        for side in [*self._payments(day, department, codes), *self._sales(day, department, codes)]:
            # Payments and what was taken off are negative here, sales are positive.
            (debits if side.total < 0 else credits_).append(_positive(side))
        if not debits and not credits_:
            return None
        lines = tuple(JournalLine(*pair) for pair in zip_longest(debits, credits_))
        words = self.text("摘要", f"{self.settings.description} {day.store_name}".strip())
        return JournalSlip(date=day.day, voucher_number="", lines=lines, description=words)

    def _payments(self, day: StoreDay, department: str, codes: CodeReader) -> Iterator[JournalSide]:
        for paid in (line.value for line in day.paid):
            account, sub = self.settings.cash_account, ""
            if paid.code != CASH:
                # With a word before it, no paymentMethodId is taken for an account of that number.
                code = paid.name if paid.code == CREDIT else f"ID:{paid.code}"
                account = codes(CodeKind.ACCOUNT, PAYMENT, code, paid.name)
                sub = codes.sub_account(account, PAYMENT, code, paid.name)
            yield JournalSide(account, -paid.amount, sub_account=sub, department=department)

    def _sales(self, day: StoreDay, department: str, codes: CodeReader) -> Iterator[JournalSide]:
        separate = self.settings.reductions == _SEPARATE
        for taxed in (line.value for line in day.taxes):
            word = f"{taxed.rate}%" if taxed.rate != "0" else "非課税"
            gross, tax = taxed.gross, taxed.tax
            if separate:
                gross, tax = gross + taxed.off, tax + taxed.off_tax
            account = self.settings.sales_account
            if gross:
                code = codes(CodeKind.TAX, RATE, word, f"{word}の売上")
                yield _taxed(account, gross, tax, taxed, code, department)
            if separate and taxed.off:
                account = self.settings.reductions_account
                code = codes(CodeKind.TAX, RATE, f"{word} 値引・返品", f"{word}の値引・返品")
                yield _taxed(account, -taxed.off, -taxed.off_tax, taxed, code, department)


def _taxed(
    account: str, gross: int, tax: int, taxed: Taxed, code: str, department: str
) -> JournalSide:
    return JournalSide(
        account,
        gross - tax,
        tax,
        department=department,
        tax_code=code,
        tax_rate="" if taxed.rate == "0" else taxed.rate,
        tax_rate_kind="1" if taxed.rate == _REDUCED else "",
    )


def _positive(side: JournalSide) -> JournalSide:
    return side if side.total > 0 else replace(side, amount=-side.amount, tax=-side.tax)


@contextlib.asynccontextmanager
async def _source(connection: SlipsFromSmaregiConnection, tools: Tools) -> AsyncIterator[StoreDays]:
    settings = connection.settings
    if settings.reductions == _SEPARATE and not settings.reductions_account.strip():
        raise SettingsError("AC-205", "「値引・返品の勘定科目コード」が空です")
    async with open_smaregi(connection.smaregi, tools) as client:
        yield StoreDays(client, await client.stores(), settings.start)


PIPELINE = slip_pipeline(
    key_label="店舗ID:締め日",
    connection_type=SlipsFromSmaregiConnection,
    open_source=_source,
    transform=StoreDayTransform,
    codes=(
        CodeUse(CodeKind.ACCOUNT, PAYMENT),
        CodeUse(CodeKind.SUB_ACCOUNT, PAYMENT),
        CodeUse(CodeKind.DEPARTMENT, STORE),
        CodeUse(CodeKind.TAX, RATE),
    ),
)


@flow(name=PIPELINE.connector, flow_run_name=run_name(PIPELINE), persist_result=False)
async def slips_from_smaregi(
    connection: str,
    mode: ModeName = "差分",
    record_key: str | None = None,
    period_from: date | None = None,
    period_to: date | None = None,
    dry_run: bool = False,
    record_keys: list[str] = [],  # noqa: B006 (Prefect reads the default for the run form)
) -> State[None]:
    """スマレジの日次締めの売上を、店舗ごとに1日1枚、勘定奉行クラウドの仕訳伝票に連携します。

    Args:
        connection: 接続（接続情報・設定）の名前です。
        mode: 差分は前回から変わったデータとエラー明細、全件は開始日からすべて、
            期間は締め日がその期間の売上、1件は1店舗の1日、
            エラー明細のみはエラー明細にあるデータだけを処理します。
        record_key: 「1件」のときの店舗IDと締め日です（例: 12:2026-11-20）。
        period_from: 「期間」の開始日です。締め日がこの日以降の売上を処理します（日本時間）。
        period_to: 「期間」の終了日です。締め日がこの日までの売上を処理します。
        dry_run: オンにすると、送る内容を表示するだけで、奉行クラウドには何も送りません。
        record_keys: 「エラー明細のみ」のときに送る店舗ID:締め日です。空ならすべてを送ります。
    """
    return await run_connector(
        PIPELINE, connection, mode, record_key, period_from, period_to, dry_run, record_keys
    )
