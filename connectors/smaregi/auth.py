"""The app token: client credentials of one contract, good for an hour, kept in memory only.

Nobody presses 許可する and there is no refresh token: a new token is asked for when one is needed.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import replace
from urllib.parse import quote, urlsplit

from connectors.kit import (
    Answer,
    ApiClient,
    AppConnectError,
    Masker,
    Refresh,
    TokenAuthorizer,
)
from connectors.kit.token_endpoint import TokenEndpoint
from connectors.kit.tokens import TOKEN_TIMEOUTS, Clock, Tokens, utc_now
from connectors.smaregi._errors import classify
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
        self._place, self._contract = place, contract
        pair = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        masker.add(client_secret, pair)
        self._masker, self._verify, self._clock = masker, verify, clock
        self._endpoint = TokenEndpoint(
            self._open,
            FACTS["token"]["path"].format(contract=quote(contract, safe="")),
            urlsplit(place.id_base).netloc,
            masker,
            clock,
            headers={"Authorization": f"Basic {pair}"},
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

    def _open(self) -> ApiClient:
        return ApiClient(
            replace(self._place.profile, timeouts=TOKEN_TIMEOUTS),
            self._place.id_base,
            classify=self._judged,
            secrets=self._masker,
            verify=self._verify,
        )

    def _judged(self, answer: Answer) -> AppConnectError | None:
        return classify(answer, f"契約ID {self._contract}")
