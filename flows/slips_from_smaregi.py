"""スマレジ → 仕訳伝票: the connector's settings, its pure transform, its flow.

One store-day that is closed (日次締め) is one balanced slip: payment methods to the debit, sales by
tax rate to the credit. What changes after it was posted (取消, 締め直し) is reported, or reversed
and posted anew (赤黒), as the settings say.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import date

from prefect import State, flow
from pydantic import Field

from blocks import Connection, SmaregiCredentials
from flows.engine import ModeName, Tools, run_connector, run_name
from flows.parts.fields import credentials_field, overlap_field
from flows.parts.slips import slip_pipeline
from flows.parts.smaregi import StoreDays, open_smaregi
from flows.parts.store_days import CODES, StoreDaySettings, StoreDayTransform


class SmaregiSettings(StoreDaySettings):
    """設定: those of every POS."""

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


@contextlib.asynccontextmanager
async def _source(connection: SlipsFromSmaregiConnection, tools: Tools) -> AsyncIterator[StoreDays]:
    settings = connection.settings
    settings.check()
    async with open_smaregi(connection.smaregi, tools) as client:
        yield StoreDays(client, await client.stores(), settings.start)


PIPELINE = slip_pipeline(
    key_label="店舗ID:締め日",
    connection_type=SlipsFromSmaregiConnection,
    open_source=_source,
    transform=StoreDayTransform,
    codes=CODES,
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
