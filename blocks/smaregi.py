"""Prefect block for スマレジ: the contract, and the app that may read it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from blocks.form import FormBlock
from connectors.kit import SettingsError
from connectors.smaregi import SERVICE, Environment, environment

EnvironmentName = Literal["製品版", "サンドボックス", "URLを指定"]
_NAMES = {"製品版": "production", "サンドボックス": "sandbox"}


class SmaregiCredentials(FormBlock):
    """Credentials of スマレジ: 契約ID and the client of a private app.

    Example:
        Load the credentials saved as ``sample``:

        ```python
        from blocks.smaregi import SmaregiCredentials

        credentials = await SmaregiCredentials.aload("sample")
        ```
    """

    _block_type_name = "スマレジ 接続情報"
    _block_type_slug = "smaregi-credentials"
    _description = "スマレジの接続情報（契約IDと、プライベートアプリのクライアント）です。"
    _logo = "smaregi"
    _manual = "smaregi"

    environment: EnvironmentName = Field(
        default="製品版",
        title="環境",
        description="接続するスマレジの環境です。",
    )
    contract: str = Field(
        title="契約ID",
        description="スマレジの管理画面の右上に表示されるIDです。",
        pattern=r"^[A-Za-z0-9_-]{2,40}$",
        examples=["skab1234"],
    )
    client_id: str = Field(
        title="クライアントID",
        description="スマレジ・デベロッパーズ → アプリ → 環境設定に表示されます。",
        min_length=1,
    )
    client_secret: SecretStr = Field(
        title="クライアントシークレット",
        description="クライアントIDと同じ画面に表示されます。",
    )
    api_url: str | None = Field(
        default=None, title="APIのURL", description="環境が「URLを指定」のときだけ使います。"
    )
    id_url: str | None = Field(
        default=None,
        title="トークン発行のURL",
        description="環境が「URLを指定」のときだけ使います。",
    )

    def place(self) -> Environment:
        """The hosts to talk to.

        Raises:
            SettingsError: ``AC-205``, the URLs are asked for and missing.
        """
        if self.environment != "URLを指定":
            return environment(_NAMES[self.environment])
        if not (self.api_url and self.id_url):
            raise SettingsError("AC-205", "APIのURLとトークン発行のURL", service=SERVICE)
        return Environment(self.id_url, self.api_url)
