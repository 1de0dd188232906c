"""Prefect block for kintone: the domain and how we prove who we are there."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr

from blocks.form import endpoint_field
from blocks.oauth import OAuthBlock, is_filled
from connectors.kintone.auth import GRANT_LIFE
from connectors.kit import GrantLife


class KintoneCredentials(OAuthBlock):
    """Credentials of kintone: sub-domain and API token, or OAuth.

    Example:
        Load the credentials saved as ``sample``:

        ```python
        from blocks.kintone import KintoneCredentials

        credentials = await KintoneCredentials.aload("sample")
        ```
    """

    _block_type_name = "kintone 接続情報"
    _block_type_slug = "kintone-credentials"
    _description = "kintone の接続情報（サブドメインと APIトークン、またはOAuth）です。"
    _logo = "kintone"
    _manual = "kintone"
    _grant_life: ClassVar[GrantLife] = GRANT_LIFE

    subdomain: str = Field(
        title="サブドメイン",
        description="https://（ここ）.cybozu.com の部分です。",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{1,61}[A-Za-z0-9]$",
        examples=["example"],
    )
    api_token: SecretStr | None = Field(
        default=None,
        title="APIトークン",
        description=(
            "アプリの設定 → APIトークンで発行します。「レコード閲覧」を付けてください。"
            "OAuthを使う場合は空欄にし、下の3つを入力します。複数のアプリを使うときはカンマで区切ります。"
        ),
    )
    client_id: str | None = Field(
        default=None, title="クライアントID", description="OAuthを使う場合に入力します。"
    )
    client_secret: SecretStr | None = Field(
        default=None,
        title="クライアントシークレット",
        description="OAuthを使う場合に入力します。",
    )
    redirect_uri: str | None = Field(
        default=None,
        title="リダイレクトエンドポイント",
        description="OAuthを使う場合に、cybozu.com 共通管理に登録したものと同じにします。",
    )
    guest_space: int | None = Field(
        default=None,
        title="ゲストスペースID",
        description="アプリがゲストスペースにあるときだけ入力します。",
    )
    endpoint: str | None = endpoint_field("cybozu.com 以外")

    @property
    def uses_oauth(self) -> bool:
        """Whether the consent of OAuth is used; an API token comes first and never expires."""
        return is_filled(self.refresh_token) and not is_filled(self.api_token)
