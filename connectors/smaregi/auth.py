"""The app token: client credentials of one contract, good for an hour, kept in memory only.

Nobody presses 許可する and there is no refresh token: a new token is asked for when one is needed.
"""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import quote, urlsplit

from connectors.kit import Masker, Refresh, TokenAuthorizer
from connectors.kit.oauth import token_client
from connectors.kit.token_endpoint import TokenEndpoint
from connectors.kit.tokens import Clock, Tokens, basic, utc_now
from connectors.smaregi._facts import FACTS, Environment


class AppTokens:
    """Asks for app tokens, and is the one place that keeps the current one.

    Args:
        place: Which スマレジ.
        contract: 契約ID.
        client_id: クライアントID of the private app.
        client_secret: クライアントシークレット.
        masker: Learns the secret and every token.
        verify: TLS verification, as httpx takes it.
        clock: Aware time.
    """

    def __init__(
        self,
        place: Environment,
        contract: str,
        client_id: str,
        client_secret: str,
        *,
        masker: Masker,
        verify: ssl.SSLContext | bool = True,
        clock: Clock = utc_now,
    ) -> None:
        self._masker, self._clock = masker, clock
        named = f"契約ID {contract}"
        self._endpoint = TokenEndpoint(
            token_client(place.profile, place.id_base, named, masker, verify=verify),
            FACTS["token"]["path"].format(contract=quote(contract, safe="")),
            urlsplit(place.id_base).netloc,
            masker,
            clock,
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
            SettingsError: ``AC-102`` credentials, ``AC-201`` 契約ID, ``AC-203`` scope.
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
        grant = {"grant_type": "client_credentials", "scope": " ".join(FACTS["token"]["scopes"])}
        # Asking twice issues two tokens, and both are good.
        return await self._endpoint.ask(grant, kind="read")
