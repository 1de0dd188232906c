"""Prefect block for 奉行クラウド: who we are there, and which 法人 we work for."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, SecretStr

from blocks.oauth import OAuthBlock, is_filled
from connectors.bugyo import GRANT_LIFE
from connectors.kit import GrantLife

EnvironmentName = Literal["製品版", "検証環境", "URLを指定"]


class BugyoCredentials(OAuthBlock):
    """Credentials of 奉行クラウド: environment, subscription key, token and 法人.

    Example:
        Load the credentials saved as ``sample``:

        ```python
        from blocks.bugyo import BugyoCredentials

        credentials = await BugyoCredentials.aload("sample")
        ```
    """

    _block_type_name = "奉行クラウド 接続情報"
    _block_type_slug = "bugyo-credentials"
    _description = "奉行クラウドの接続情報（サブスクリプションキー、連携トークン、法人）です。"
    _logo = "bugyo"
    _grant_life: ClassVar[GrantLife] = GRANT_LIFE

    environment: EnvironmentName = Field(
        default="製品版",
        title="環境",
        description="接続する奉行クラウドの環境です。",
    )
    subscription_key: SecretStr = Field(
        title="サブスクリプションキー",
        description="API契約で発行されたキーです。プライマリ・セカンダリのどちらでも使えます。",
    )
    tenant_id: str | None = Field(
        default=None,
        title="法人（テナントID）",
        description="管理ポータル → 運用環境情報 → 法人管理 → 法人接続情報で確認できます。",
    )
    fixed_token: SecretStr | None = Field(
        default=None,
        title="固定アクセストークン",
        description=(
            "管理ポータル → 外部サービス連携 → 連携アプリケーションで発行したトークンです。"
            "OBCiDでログインして許可する場合は空欄にし、下の3つを入力します。"
        ),
    )
    client_id: str | None = Field(
        default=None,
        title="クライアントID",
        description="OBCiDでログインして許可する場合に使います。",
    )
    client_secret: SecretStr | None = Field(
        default=None,
        title="クライアント秘密キー",
        description="OBCiDでログインして許可する場合に使います。",
    )
    redirect_uri: str | None = Field(
        default=None,
        title="コールバックURL",
        description=(
            "「許可する」のあとに戻るURLです。App Connect のゲートウェイのURLに /oauth/callback を"
            "付けたもので、奉行クラウドに登録したものと同じにします。"
        ),
    )
    api_url: str | None = Field(
        default=None,
        title="APIのURL",
        description="環境が「URLを指定」のときだけ使います。",
    )
    id_url: str | None = Field(
        default=None,
        title="ログイン画面のURL",
        description="環境が「URLを指定」のときだけ使います。",
    )

    @property
    def uses_oauth(self) -> bool:
        """Whether a person pressed 許可する; a fixed token comes first and is never renewed."""
        return is_filled(self.refresh_token) and not is_filled(self.fixed_token)
