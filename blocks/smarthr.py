"""Prefect block for SmartHR: the sub-domain and an access token."""

from __future__ import annotations

from pydantic import Field, SecretStr

from blocks.form import FormBlock, endpoint_field


class SmartHRCredentials(FormBlock):
    """Credentials of SmartHR: sub-domain and access token.

    Example:
        Load the credentials saved as ``sample``:

        ```python
        from blocks.smarthr import SmartHRCredentials

        credentials = await SmartHRCredentials.aload("sample")
        ```
    """

    _block_type_name = "SmartHR 接続情報"
    _block_type_slug = "smarthr-credentials"
    _description = "SmartHR の接続情報（サブドメインとアクセストークン）です。"
    _logo = "smarthr"
    _manual = "smarthr"

    subdomain: str = Field(
        title="サブドメイン",
        description="https://（ここ）.smarthr.jp の部分です。サンドボックスはURLのまま入力します。",
        min_length=1,
        examples=["example"],
    )
    access_token: SecretStr = Field(
        title="アクセストークン",
        description=(
            "SmartHR の「共通設定」→「外部システム連携」で発行します。"
            "従業員情報の参照だけを許可してください。"
        ),
    )
    endpoint: str | None = endpoint_field("SmartHR 以外")
