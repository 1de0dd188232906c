"""kintone → 仕訳伝票: the connector's settings, its pure transform, its flow.

One record is one slip; the rows of a table in it are the slip's lines. A slip is posted once: what
changes in kintone afterwards is reported, or reversed and posted anew (赤黒), as the settings say.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import date
from typing import Any

from prefect import State, flow
from pydantic import Field

from blocks import Connection, KintoneCredentials
from connectors.bugyo.journal import JournalLine, JournalSide, JournalSlip
from flows.engine import ModeName, Tools, run_connector, run_name
from flows.engine.codes import CodeReader
from flows.parts.fields import credentials_field, overlap_field
from flows.parts.kintone import (
    KintoneSource,
    app_field,
    condition_field,
    kintone_source,
    needed_field,
    open_kintone,
    text_of,
)
from flows.parts.slips import (
    BadValueError,
    SlipSettings,
    SlipTransform,
    amount,
    code,
    day,
    slip_pipeline,
)

_SIDES = {"debit": "借方", "credit": "貸方"}
_CODES = {
    "account": "勘定科目",
    "sub_account": "補助科目",
    "department": "部門",
    "tax_code": "税区分",
    "tax_rate": "税率",
    "partner": "取引先",
}


class KintoneSlipSettings(SlipSettings):
    """設定: which app, which records, which fields make a slip.

    The columns of the table are recognised by their field codes: 借方 or 貸方, then 勘定科目,
    補助科目, 部門, 税区分, 税率, 取引先, 金額, 消費税額; and 摘要.
    """

    app: str = app_field("伝票アプリ", "2")
    condition: str = condition_field('ステータス = "承認済み"')
    day: str = needed_field("伝票日付")
    description: str = Field(
        default="摘要",
        title="摘要 ←",
        description="明細に摘要がない行に入れる摘要です。空欄にすると連携しません。",
    )
    table: str = Field(
        default="明細",
        title="明細テーブル ←",
        description=(
            "明細が入っているテーブルのフィールドコードです。列のフィールドコードは"
            "「借方勘定科目」「貸方金額」のように、借方・貸方と項目名をつなげたものにします。"
        ),
        min_length=1,
    )
    overlap_minutes: int = overlap_field(1)


class SlipsFromKintoneConnection(Connection):
    """A connection of this connector.

    Example:
        ```python
        from flows.slips_from_kintone import SlipsFromKintoneConnection

        connection = await SlipsFromKintoneConnection.aload("keihi")
        ```
    """

    _block_type_name = "接続: 仕訳伝票 kintone→勘定奉行"
    _block_type_slug = "slips-from-kintone"
    _description = "kintone の伝票アプリを、勘定奉行クラウドの仕訳伝票に連携する接続です。"
    _manual = "kintone-slips"

    kintone: KintoneCredentials = credentials_field("kintone", "kintone の")
    settings: KintoneSlipSettings = Field(
        title="設定", description="連携するアプリと、項目の対応です。"
    )


class KintoneSlipTransform(SlipTransform[KintoneSlipSettings]):
    """One kintone record -> one slip. Its codes are those of 奉行クラウド already."""

    def slip(self, record: Mapping[str, Any], codes: CodeReader) -> JournalSlip:  # noqa: ARG002
        """The slip of a record."""
        date = day("伝票日付", text_of(record, self.settings.day))
        rows = record[self.settings.table]["value"] or []
        if not rows:
            raise BadValueError("明細", "明細が1行もありません", "AC-801")
        lines = tuple(self._line(number, row["value"]) for number, row in enumerate(rows, 1))
        common = ""
        if self.settings.description:
            common = self.text("摘要", text_of(record, self.settings.description))
        return JournalSlip(date=date, voucher_number="", lines=lines, description=common)

    def _line(self, number: int, row: Mapping[str, Any]) -> JournalLine:
        sides = {name: _side(number, word, row) for name, word in _SIDES.items()}
        text = self.text(f"{number}行目の摘要", _cell(row, "摘要"))
        return JournalLine(debit=sides["debit"], credit=sides["credit"], description=text)


def _side(number: int, word: str, row: Mapping[str, Any]) -> JournalSide | None:
    codes = {name: code(_cell(row, f"{word}{column}")) for name, column in _CODES.items()}
    net, tax = (
        amount(f"{word}{column}", _cell(row, f"{word}{column}"), where=f"{number}行目: ")
        for column in ("金額", "消費税額")
    )
    if not net and not tax and not codes["account"]:
        return None
    return JournalSide(amount=net, tax=tax, **codes)


def _cell(row: Mapping[str, Any], code: str) -> str:
    return text_of(row, code) if code in row else ""


@contextlib.asynccontextmanager
async def _source(
    connection: SlipsFromKintoneConnection, tools: Tools
) -> AsyncIterator[KintoneSource]:
    settings = connection.settings
    fields = [code for code in (settings.day, settings.description, settings.table) if code]
    async with open_kintone(connection.kintone, tools) as client:
        yield await kintone_source(client, settings.app, settings.condition, fields, "$id")


PIPELINE = slip_pipeline(
    key_label="レコード番号",
    connection_type=SlipsFromKintoneConnection,
    open_source=_source,
    transform=KintoneSlipTransform,
)


@flow(name=PIPELINE.connector, flow_run_name=run_name(PIPELINE), persist_result=False)
async def slips_from_kintone(
    connection: str,
    mode: ModeName = "差分",
    record_key: str | None = None,
    period_from: date | None = None,
    period_to: date | None = None,
    dry_run: bool = False,
    record_keys: list[str] = [],  # noqa: B006 (Prefect reads the default for the run form)
) -> State[None]:
    """kintone の伝票アプリを、勘定奉行クラウドの仕訳伝票に連携します。

    Args:
        connection: 接続（接続情報・設定）の名前です。
        mode: 差分は前回から変わったデータとエラー明細、全件はすべて、
            期間はその期間に更新されたデータ、1件は1件だけ、
            エラー明細のみはエラー明細にあるデータだけを処理します。
        record_key: 「1件」のときのレコード番号です。
        period_from: 「期間」の開始日です。更新日時がこの日以降のデータを処理します（日本時間）。
        period_to: 「期間」の終了日です。更新日時がこの日までのデータを処理します。
        dry_run: オンにすると、送る内容を表示するだけで、奉行クラウドには何も送りません。
        record_keys: 「エラー明細のみ」のときに送るレコードの番号です。空ならすべてを送ります。
    """
    return await run_connector(
        PIPELINE, connection, mode, record_key, period_from, period_to, dry_run, record_keys
    )
