"""What every credentials block with OAuth has: the pair of tokens, and the books of its renewal.

None of these fields is on the form. They are written one by one (`flows.engine.tokens`), so that
a person who edits the form at the same moment loses nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from typing import ClassVar

from pydantic import Field, SecretStr

from blocks.form import AUTOMATIC, FormBlock
from connectors.kit import GrantLife


class OAuthBlock(FormBlock, ABC):
    """Credentials that may hold a consent (許可) by OAuth.

    Attributes:
        _grant_life: How long the service keeps a grant, and how certain that is.
    """

    _grant_life: ClassVar[GrantLife]

    access_token: SecretStr | None = Field(
        default=None,
        title="アクセストークン",
        description="「許可する」で自動的に入ります。",
        json_schema_extra=AUTOMATIC,
    )
    refresh_token: SecretStr | None = Field(
        default=None,
        title="リフレッシュトークン",
        description="「許可する」で自動的に入ります。",
        json_schema_extra=AUTOMATIC,
    )
    token_expires_at: datetime | None = Field(
        default=None,
        title="アクセストークンの期限",
        description="自動的に入ります。",
        json_schema_extra=AUTOMATIC,
    )
    token_issued_at: datetime | None = Field(
        default=None,
        title="連携トークンの更新日時",
        description="自動的に入ります。",
        json_schema_extra=AUTOMATIC,
    )
    renewal_state: str | None = Field(
        default=None,
        title="更新の状態",
        description="自動的に入ります（更新中・失敗・拒否）。",
        json_schema_extra=AUTOMATIC,
    )
    renewal_of: str | None = Field(
        default=None,
        title="更新の対象",
        description="自動的に入ります（更新前の連携トークンのハッシュ値）。",
        json_schema_extra=AUTOMATIC,
    )
    renewal_at: datetime | None = Field(
        default=None,
        title="更新の状態の日時",
        description="自動的に入ります。",
        json_schema_extra=AUTOMATIC,
    )
    renewal_by: str | None = Field(
        default=None,
        title="更新しているプロセス",
        description="自動的に入ります。",
        json_schema_extra=AUTOMATIC,
    )
    renewal_failures: int = Field(
        default=0,
        title="更新の連続失敗回数",
        description="自動的に入ります。",
        json_schema_extra=AUTOMATIC,
    )
    renewal_not_before: datetime | None = Field(
        default=None,
        title="次に更新できる日時",
        description="自動的に入ります。",
        json_schema_extra=AUTOMATIC,
    )

    consent_of: str | None = Field(
        default=None,
        title="許可の操作",
        description="自動的に入ります（「許可する」の画面を開いている操作）。",
        json_schema_extra=AUTOMATIC,
    )
    consent_verifier: SecretStr | None = Field(
        default=None,
        title="許可の操作の照合値",
        description="自動的に入り、「許可する」のあとに消えます。",
        json_schema_extra=AUTOMATIC,
    )

    @property
    @abstractmethod
    def uses_oauth(self) -> bool:
        """Whether runs use the pair, and not a token that never changes."""


def is_filled(secret: SecretStr | None) -> bool:
    """Whether a secret was typed in: an emptied field of a form may be ``""``."""
    return secret is not None and bool(secret.get_secret_value().strip())
