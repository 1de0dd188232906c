"""Prefect block for KING OF TIME: the access token."""

from __future__ import annotations

from pydantic import Field, SecretStr

from blocks.form import FormBlock, endpoint_field


class KingOfTimeCredentials(FormBlock):
    """Credentials of KING OF TIME: an access token of the administration screen.

    Example:
        Load the credentials saved as ``sample``:

        ```python
        from blocks.kingoftime import KingOfTimeCredentials

        credentials = await KingOfTimeCredentials.aload("sample")
        ```
    """

    _block_type_name = "KING OF TIME 接続情報"
    _block_type_slug = "kingoftime-credentials"
    _description = "KING OF TIME の接続情報（アクセストークン）です。"
    _logo = "kingoftime"
    _manual = "kingoftime"

    access_token: SecretStr = Field(
        title="アクセストークン",
        description=(
            "KING OF TIME の管理画面 → 外部サービス連携 → WebAPI連携設定で発行します。"
            "会社・所属・従業員・日別勤怠・月別勤怠の「参照」を付け、"
            "このコンピューターのIPアドレスを許可してください。"
        ),
    )
    endpoint: str | None = endpoint_field("KING OF TIME 以外")
