"""Tokens of an application that acts for itself: client credentials (RFC 6749, 4.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Unpack

from connectors.kit._client import Wiring
from connectors.kit._masking import Masker
from connectors.kit._retry import ServiceProfile
from connectors.kit.oauth import token_client
from connectors.kit.token_endpoint import TokenEndpoint
from connectors.kit.tokens import Refresh, TokenAuthorizer, Tokens, basic, utc_now


class AppTokens:
    """Asks for tokens, and is the one place that keeps the current one, in memory only.

    Nobody presses 許可する and there is no refresh token: a new token is asked for when one is
    needed.

    Args:
        profile: The service's facts.
        host: Of the token endpoint.
        path: Of the token endpoint.
        client_id: Of the application.
        client_secret: Of the application; both travel as HTTP Basic.
        scopes: What is asked for.
        place: Whom errors name.
        wiring: See `Wiring`; the masker learns the secret and every token.
    """

    def __init__(
        self,
        profile: ServiceProfile,
        host: str,
        path: str,
        client_id: str,
        client_secret: str,
        scopes: Sequence[str],
        place: str,
        /,
        **wiring: Unpack[Wiring],
    ) -> None:
        wiring["masker"] = self._masker = masker = wiring.get("masker") or Masker()
        self._clock = wiring.get("clock", utc_now)
        self._grant = {"grant_type": "client_credentials", "scope": " ".join(scopes)}
        self._endpoint = TokenEndpoint(
            token_client(profile, host, place, **wiring),
            path,
            host,
            masker,
            self._clock,
            headers=basic(client_id, client_secret, masker),
        )
        self._tokens: Tokens | None = None
        self._turn = asyncio.Lock()

    def authorizer(self) -> TokenAuthorizer:
        """Sends the token, renews it before it expires and after a 401."""
        return TokenAuthorizer(self, self._ask, masker=self._masker, clock=self._clock)

    async def current(self) -> Tokens:
        """The token, asked for by the first who needs it.

        Raises:
            SettingsError: ``AC-102`` credentials, ``AC-201`` address, ``AC-203`` scope.
            AppConnectError: no usable answer.
        """
        async with self._turn:
            if self._tokens is None:
                self._tokens = await self._ask()
            return self._tokens

    async def renew(self, stale: Tokens, refresh: Refresh) -> Tokens:
        """The token after ``stale``: another task's if there is one already."""
        async with self._turn:
            if self._tokens is None or self._tokens is stale:
                self._tokens = await refresh(stale)
            return self._tokens

    async def _ask(self, _: Tokens | None = None) -> Tokens:
        # Asking twice issues two tokens, and both are good.
        return await self._endpoint.ask(self._grant, kind="read")
