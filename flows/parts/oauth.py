"""The OAuth client behind a credentials block, whatever the service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from blocks import BugyoCredentials, KintoneCredentials, OAuthBlock
from connectors.kit import Consent, Tokens
from flows.engine.pipeline import Tools
from flows.parts import bugyo, kintone


class OAuthClient(Protocol):
    """What every service's OAuth client can do."""

    def begin_consent(self) -> Consent:
        """A new passage through the consent page."""
        ...

    def authorization_url(self, consent: Consent) -> str:
        """Where a person presses 許可する."""
        ...

    async def exchange_code(self, code: str, consent: Consent) -> Tokens:
        """The first pair."""
        ...

    async def refresh(self, tokens: Tokens) -> Tokens:
        """The next pair."""
        ...


_CLIENTS: Mapping[type[OAuthBlock], Callable[[Any, Tools], OAuthClient]] = {
    BugyoCredentials: bugyo.oauth_app,
    KintoneCredentials: kintone.oauth_app,
}


def oauth_blocks() -> list[type[OAuthBlock]]:
    """Every block type that may hold a consent."""
    return list(_CLIENTS)


def oauth_client(credentials: OAuthBlock, tools: Tools) -> OAuthClient:
    """The OAuth client of a block.

    Raises:
        SettingsError: client id, secret, callback URL or address is missing or wrong.
    """
    return _CLIENTS[type(credentials)](credentials, tools)
