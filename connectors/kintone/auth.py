"""Ways to prove who we are to kintone: API tokens, a login name, or OAuth.

OAuth facts: authorization and token endpoints are the contract's. The token endpoint takes the
client by HTTP Basic; access tokens live one hour; a refresh answers *without* a refresh token, the
old one stays valid until the user withdraws the consent [3rd: several public clients agree].
"""

from __future__ import annotations

import base64
import ssl
from dataclasses import replace

from connectors.kintone._host import PROFILE, base_url, host_headers, host_of
from connectors.kit import (
    Answer,
    ApiClient,
    AppConnectError,
    Authorizer,
    Consent,
    Failure,
    Masker,
    StaticHeaders,
    error_for,
)
from connectors.kit.token_endpoint import (
    TokenEndpoint,
    code_grant,
    consent_url,
    oauth_error,
    refresh_grant,
)
from connectors.kit.tokens import TOKEN_TIMEOUTS, Clock, GrantLife, Tokens, utc_now

MAX_TOKENS = 9
"""How many API tokens one request may carry (contract, [known])."""

SCOPES = ("k:app_record:read", "k:app_settings:read")
"""What reading records and the form needs; nothing that writes."""

GRANT_LIFE = GrantLife(None, "3rd")
"""A refresh token stays valid until the user withdraws the consent."""

TOKEN_PROFILE = replace(PROFILE, timeouts=TOKEN_TIMEOUTS)
"""The service's facts, at the token endpoint."""

SENDS_PKCE = True
"""Not in kintone's documentation [?]; a server that does not know it ignores it (RFC 6749, 3.1)."""


def api_token(*tokens: str) -> Authorizer:
    """API tokens of apps. A look-up field needs the token of the app it looks into as well.

    Raises:
        ValueError: none, more than nine, or one that is empty.
    """
    cleaned = [token.strip() for token in tokens]
    if not 1 <= len(cleaned) <= MAX_TOKENS or not all(cleaned):
        raise ValueError(f"APIトークンは1個以上{MAX_TOKENS}個以下です")
    return StaticHeaders({"X-Cybozu-API-Token": ",".join(cleaned)})


def password(login: str, secret: str) -> Authorizer:
    """A login name with its password; does not work for users with two-factor login."""
    pair = base64.b64encode(f"{login}:{secret}".encode()).decode()
    return StaticHeaders({"X-Cybozu-Authorization": pair})


class OAuthClient:
    """The OAuth client that an administrator registered in cybozu.com 共通管理.

    Args:
        subdomain: As for `KintoneClient`.
        client_id: クライアントID.
        client_secret: クライアントシークレット.
        redirect_uri: リダイレクトエンドポイント, exactly as registered.
        endpoint: Another address of the same host (emulator, proxy).
        masker: Learns every token that is issued.
        verify: TLS verification, as httpx takes it.
        clock: Aware time, for the expiry of what is issued.
    """

    def __init__(
        self,
        subdomain: str,
        client_id: str,
        client_secret: str,
        redirect_uri: str,
        *,
        endpoint: str | None = None,
        masker: Masker | None = None,
        verify: ssl.SSLContext | bool = True,
        clock: Clock = utc_now,
    ) -> None:
        self._host = host_of(subdomain)
        self._base = base_url(self._host, endpoint)
        self._headers = host_headers(self._host, endpoint)
        self._client_id = client_id
        self._redirect_uri = redirect_uri
        self._masker = masker or Masker()
        self._masker.add(client_secret)
        pair = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        self._masker.add(pair)
        self._verify = verify
        self._endpoint = TokenEndpoint(
            self._open,
            "/oauth2/token",
            self._host,
            self._masker,
            clock,
            headers={"Authorization": f"Basic {pair}"},
        )

    def begin_consent(self) -> Consent:
        """A new passage through the consent page; kintone always sends ``state`` back."""
        return Consent(PROFILE.name, pkce=SENDS_PKCE)

    def authorization_url(self, consent: Consent, scopes: tuple[str, ...] = SCOPES) -> str:
        """Where the user presses 許可.

        Args:
            consent: Of `begin_consent`; kept by the caller until the browser comes back.
            scopes: What is asked for.
        """
        page = f"{self._base}/oauth2/authorization"
        return consent_url(page, self._client_id, self._redirect_uri, consent, scopes)

    async def exchange_code(self, code: str, consent: Consent) -> Tokens:
        """Tokens for the code that the user came back with; a code works once.

        Args:
            code: Of `Consent.code`.
            consent: The passage that the code came from: it holds PKCE's verifier.

        Raises:
            ReauthorizeError: ``AC-101``, the code is wrong, used or too old.
            SettingsError: ``AC-102``, client id or secret are wrong.
            AppConnectError: no usable answer.
        """
        self._masker.add(code, consent.verifier)
        return await self._endpoint.ask(code_grant(code, self._redirect_uri, consent))

    async def refresh(self, tokens: Tokens) -> Tokens:
        """A new access token. May be repeated: kintone's refresh token works more than once.

        Raises:
            ReauthorizeError: ``AC-101``, the consent was withdrawn.
            SettingsError: ``AC-102``, client id or secret are wrong.
            AppConnectError: no usable answer; the consent is *not* gone.
        """
        self._masker.add(tokens.refresh_token)
        kept = tokens.refresh_token
        return await self._endpoint.ask(refresh_grant(tokens), kind="read", kept=kept)

    def _open(self) -> ApiClient:
        return ApiClient(
            TOKEN_PROFILE,
            self._base,
            classify=self._classify,
            headers=self._headers,
            secrets=self._masker,
            verify=self._verify,
        )

    def _classify(self, answer: Answer) -> AppConnectError | None:
        if answer.status == 200:
            return None
        match answer.status:
            case 404:
                code, failure = "AC-201", Failure.REFUSED
            case 429:
                code, failure = "AC-503", Failure.THROTTLED
            case 503:
                code, failure = "AC-502", Failure.UNAVAILABLE
            case status:
                code, failure = "AC-301", Failure.SERVER if status >= 500 else Failure.REFUSED
        other = error_for(code, self._host, detail=answer.detail, failure=failure)
        return oauth_error(answer, other)
