"""Prefect block for what a service has to know to tell us of events (Webhook)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from blocks.form import FormBlock

WebhookService = Literal["奉行クラウド", "SmartHR", "kintone", "その他"]


class WebhookSettings(FormBlock):
    """How events for one connection prove where they come from.

    The block is saved under the name of the connection that an event starts.

    Example:
        Load the settings of the connection ``sample``:

        ```python
        from blocks.webhook import WebhookSettings

        settings = await WebhookSettings.aload("sample")
        ```
    """

    _block_type_name = "Webhook 受信設定"
    _block_type_slug = "app-connect-webhook"
    _description = (
        "サービスからの通知（Webhook）で処理を始めるための設定です。接続と同じ名前で保存します。"
    )

    service: WebhookService = Field(title="サービス", description="通知を送るサービスです。")
    secret: SecretStr = Field(
        title="シークレット",
        description=(
            "通知を確かめるための値です（16文字以上）。"
            "サービスの Webhook の設定にも同じ値を入れます。"
            "kintone では、Webhook の URL の最後に付けます。"
        ),
        min_length=16,
    )
