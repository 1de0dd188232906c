"""Prefect block for a 接続: a configured connector of one company.

A connector subclasses `Connection` beside its flow, adding the partner's credentials and its own
settings model, so that its form shows exactly what that connector needs.
"""

from __future__ import annotations

from typing import Annotated

from prefect.blocks.core import Block
from pydantic import Field, StringConstraints

from blocks.bugyo import BugyoCredentials

CRON_DAILY_0500 = "0 5 * * *"
"""Every day at 05:00, the time the original product promises; in `TIMEZONE`."""

TIMEZONE = "Asia/Tokyo"


class Connection(Block):
    """What every connection has: licence, 奉行クラウド credentials, schedule."""

    _block_type_name = "接続"
    _block_type_slug = "app-connect-connection"
    _description = "接続（コネクタの契約、接続情報、設定、スケジュール）の共通部分です。"

    registration_number: Annotated[str, StringConstraints(strip_whitespace=True)] = Field(
        title="登録番号", description="コネクタの登録番号です。", examples=["AC-0000-0000"]
    )
    phone: str = Field(
        title="電話番号",
        description="登録番号と一緒に登録した電話番号です。",
        examples=["03-0000-0000"],
    )
    bugyo: BugyoCredentials = Field(
        title="奉行クラウド", description="奉行クラウドの接続情報を選びます。"
    )
    schedule: str = Field(
        default=CRON_DAILY_0500,
        title="スケジュール（cron）",
        description="処理を始める時刻です。日本時間で、既定は毎日5時です。",
    )
