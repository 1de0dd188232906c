"""OAuth of マネーフォワード クラウド経費: the consent page, and the tokens that follow.

The token endpoint takes forms, with the client's id and secret in them. A refresh answers with a
new access token *and* a new refresh token; that the old one is dead then is inferred (facts.toml),
so a refresh leaves once and the `connectors.kit.TokenKeeper` decides who sends it.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from connectors.kit import (
    TOKEN_TIMEOUTS,
    Answer,
    ApiClient,
    AppConnectError,
    Clock,
    Consent,
    Failure,
    GrantLife,
    Masker,
    Tokens,
    bearer,
    error_for,
    utc_now,
)
from connectors.kit.token_endpoint import (
    FORM,
    TokenEndpoint,
    code_grant,
    consent_url,
    oauth_error,
    oauth_word,
    refresh_grant,
    unreadable,
)
from connectors.mfexpense._errors import classifier
from connectors.mfexpense._host import HOST, PROFILE, SERVICE, base_url
from connectors.mfexpense.facts import fact

SCOPES: tuple[str, ...] = tuple(fact("scopes"))
"""What is asked for. The service has no scopes for reading alone, except public_resource."""

GRANT_LIFE = GrantLife(None, "?")
"""Nobody says how long an unused grant is good for."""

TOKEN_PROFILE = replace(PROFILE, timeouts=TOKEN_TIMEOUTS)
"""The service's facts, at the token endpoint."""


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What the service says of an access token.

    Attributes:
        scopes: What it may do.
        expires_in: Seconds that it is still good for.
    """

    scopes: tuple[str, ...]
    expires_in: int


class OAuthClient:
    """An application that was registered in クラウド経費 (API連携（開発者向け）).

    Args:
        client_id: Client ID.
        client_secret: Client Secret.
        redirect_uri: Redirect URI, exactly as registered; the service takes https only.
        endpoint: Another address of the service (emulator).
        masker: Learns every token that is issued.
        verify: TLS verification, as httpx takes it.
        clock: Aware time, for the expiry of what is issued.
    """

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        redirect_uri: str,
        *,
        endpoint: str | None = None,
        masker: Masker | None = None,
        verify: ssl.SSLContext | bool = True,
        clock: Clock = utc_now,
    ) -> None:
        self._base = base_url(endpoint)
        self._client_id = client_id
        self._redirect_uri = redirect_uri
        self._masker = masker or Masker()
        self._masker.add(client_secret)
        self._verify = verify
        self._endpoint = TokenEndpoint(
            self._api,
            "/oauth/token",
            HOST,
            self._masker,
            clock,
            client={"client_id": client_id, "client_secret": client_secret},
        )

    def begin_consent(self) -> Consent:
        """A new passage through the consent page."""
        return Consent(SERVICE, pkce=fact("pkce"))

    def authorization_url(self, consent: Consent, scopes: tuple[str, ...] = SCOPES) -> str:
        """Where the person presses 許可.

        Args:
            consent: Of `begin_consent`; kept by the caller until the browser comes back.
            scopes: What is asked for.
        """
        page = f"{self._base}/oauth/authorize"
        return consent_url(page, self._client_id, self._redirect_uri, consent, scopes)

    async def exchange_code(self, code: str, consent: Consent) -> Tokens:
        """Tokens for the code that the person came back with; it works once, for ten minutes.

        Args:
            code: Of `Consent.code`.
            consent: The passage that the code came from: it holds PKCE's verifier.

        Raises:
            ReauthorizeError: ``AC-101``, the code is wrong, used or too old.
            SettingsError: ``AC-102``, client id or secret are wrong.
            WaitError, FaultError: no usable answer.
        """
        self._masker.add(code, consent.verifier)
        return await self._endpoint.ask(code_grant(code, self._redirect_uri, consent))

    async def refresh(self, tokens: Tokens) -> Tokens:
        """The next pair. Call it through a `TokenKeeper` only: ``tokens`` may be dead afterwards.

        Raises:
            ReauthorizeError: ``AC-101``, the service says that the grant is dead.
            SettingsError: ``AC-102``, client id or secret are wrong.
            WaitError, FaultError: no definite answer; the grant may well be alive.
        """
        self._masker.add(tokens.access_token, tokens.refresh_token)
        return await self._endpoint.ask(refresh_grant(tokens), kept=tokens.refresh_token)

    async def revoke(self, tokens: Tokens) -> None:
        """Give the grant back: neither token works afterwards.

        Raises:
            AppConnectError: it was not confirmed.
        """
        self._masker.add(tokens.access_token, tokens.refresh_token)
        form = urlencode({**self._endpoint.client, "token": tokens.access_token}).encode()
        async with self._api() as http:
            await http.request("POST", "/oauth/revoke", kind="once", content=form, headers=FORM)

    async def token_info(self, tokens: Tokens) -> TokenInfo:
        """What an access token may do, and for how long.

        Raises:
            ReauthorizeError: ``AC-101``, it is worth nothing (any more).
            AppConnectError: no usable answer.
        """
        self._masker.add(tokens.access_token)
        async with self._api() as http:
            answer = await http.request(
                "GET", "/oauth/token/info", kind="read", headers=bearer(tokens.access_token)
            )
        said = answer.json()
        try:
            return TokenInfo(tuple(map(str, said["scope"])), int(said["expires_in"]))
        except (KeyError, TypeError, ValueError):
            raise unreadable(answer) from None

    def _api(self) -> ApiClient:
        return ApiClient(
            TOKEN_PROFILE,
            self._base,
            classify=self._classify,
            secrets=self._masker,
            verify=self._verify,
        )

    def _classify(self, answer: Answer) -> AppConnectError | None:
        error = classifier(self._masker)(answer)
        if oauth_word(answer) == "invalid_token":
            detail = error.detail if error is not None else answer.detail
            return error_for("AC-101", detail=detail, failure=Failure.REFUSED)
        return oauth_error(answer, error)
