"""Prefect block for マネーフォワード クラウド経費: the application, the consent, the office."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr

from blocks.form import endpoint_field
from blocks.oauth import OAuthBlock, is_filled
from connectors.kit import GrantLife
from connectors.mfexpense.auth import GRANT_LIFE


class MfExpenseCredentials(OAuthBlock):
    """Credentials of マネーフォワード クラウド経費: an application, and which office is read.

    Example:
        Load the credentials saved as ``sample``:

        ```python
        from blocks.mfexpense import MfExpenseCredentials

        credentials = await MfExpenseCredentials.aload("sample")
        ```
    """

    _block_type_name = "マネーフォワード クラウド経費 接続情報"
    _block_type_slug = "mfexpense-credentials"
    _description = "マネーフォワード クラウド経費の接続情報（アプリケーションと事業所）です。"
    _logo = "mfexpense"
    _manual = "mfexpense"
    _grant_life: ClassVar[GrantLife] = GRANT_LIFE

    client_id: str = Field(
        title="クライアントID",
        description=(
            "クラウド経費の「API連携（開発者向け）」で作ったアプリケーションの Client ID です。"
        ),
        min_length=1,
    )
    client_secret: SecretStr = Field(
        title="クライアントシークレット",
        description="同じアプリケーションの Client Secret です。",
    )
    redirect_uri: str = Field(
        title="コールバックURL",
        description=(
            "アプリケーションに登録した Redirect URI と同じにします。https で始まるURLだけを"
            "登録できます。"
        ),
        pattern=r"^https://",
        examples=["https://localhost:8765/callback"],
    )
    office_id: str | None = Field(
        default=None,
        title="事業所ID",
        description=(
            "連携する事業所のIDです。事業所が1つだけなら空欄で構いません。"
            "複数あるのに空欄のときは、エラーに名前とIDの一覧を表示します。"
        ),
    )
    endpoint: str | None = endpoint_field("マネーフォワード以外")

    @property
    def uses_oauth(self) -> bool:
        """Whether a person pressed 許可する; there is no other way in."""
        return is_filled(self.refresh_token)
