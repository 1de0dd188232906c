"""Ways to prove who we are to kintone: API tokens, a login name, or OAuth.

OAuth facts: authorization and token endpoints are the contract's. The token endpoint takes the
client by HTTP Basic; access tokens live one hour; a refresh answers *without* a refresh token, the
old one stays valid until the user withdraws the consent [3rd: several public clients agree].
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlencode

import orjson

from connectors.kintone._errors import reworded
from connectors.kintone._host import PROFILE, base_url, host_headers, host_of
from connectors.kit import (
    Answer,
    ApiClient,
    AppConnectError,
    Authorizer,
    Consent,
    Failure,
    FaultError,
    Kind,
    Masker,
    ReauthorizeError,
    SettingsError,
    StaticHeaders,
    error_for,
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
        self._basic = {"Authorization": f"Basic {pair}"}
        self._masker.add(pair)
        self._verify = verify
        self._clock = clock

    def begin_consent(self) -> Consent:
        """A new passage through the consent page; kintone always sends ``state`` back."""
        return Consent(PROFILE.name, pkce=SENDS_PKCE)

    def authorization_url(self, consent: Consent, scopes: tuple[str, ...] = SCOPES) -> str:
        """Where the user presses 許可.

        Args:
            consent: Of `begin_consent`; kept by the caller until the browser comes back.
            scopes: What is asked for.
        """
        query = urlencode(
            {
                "client_id": self._client_id,
                "redirect_uri": self._redirect_uri,
                "response_type": "code",
                "scope": " ".join(scopes),
                **consent.query(),
            }
        )
        return f"{self._base}/oauth2/authorization?{query}"

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
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            **consent.proof(),
        }
        return await self._ask(form, kind="once", refresh_token="")

    async def refresh(self, tokens: Tokens) -> Tokens:
        """A new access token. May be repeated: kintone's refresh token works more than once.

        Raises:
            ReauthorizeError: ``AC-101``, the consent was withdrawn.
            SettingsError: ``AC-102``, client id or secret are wrong.
            AppConnectError: no usable answer; the consent is *not* gone.
        """
        self._masker.add(tokens.refresh_token)
        form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token}
        return await self._ask(form, kind="read", refresh_token=tokens.refresh_token)

    async def _ask(self, form: Mapping[str, str], *, kind: Kind, refresh_token: str) -> Tokens:
        async with ApiClient(
            TOKEN_PROFILE,
            self._base,
            classify=self._classify,
            headers=self._headers,
            secrets=self._masker,
            verify=self._verify,
        ) as http:
            try:
                answer = await http.request(
                    "POST",
                    "/oauth2/token",
                    kind=kind,
                    content=urlencode(form).encode(),
                    headers={"content-type": "application/x-www-form-urlencoded", **self._basic},
                )
            except AppConnectError as error:
                raise reworded(error) from error.__cause__
        return self._tokens(answer, refresh_token)

    def _tokens(self, answer: Answer, refresh_token: str) -> Tokens:
        said, issued = answer.json(), self._clock()
        try:
            tokens = Tokens(
                access_token=str(said["access_token"]),
                refresh_token=str(said.get("refresh_token") or refresh_token),
                issued_at=issued,
                expires_at=issued + timedelta(seconds=int(said["expires_in"])),
                scope=str(said.get("scope", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise FaultError("AC-303", detail=answer.detail, failure=Failure.UNREADABLE) from None
        self._masker.add(tokens.access_token, tokens.refresh_token)
        return tokens

    def _classify(self, answer: Answer) -> AppConnectError | None:
        """OAuth's own errors (RFC 6749, 5.2); only ``invalid_grant`` means that consent is gone."""
        if answer.status == 200:
            return None
        try:
            said = str(orjson.loads(answer.body)["error"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            said = ""
        if said == "invalid_grant":
            return ReauthorizeError("AC-101", detail=answer.detail, failure=Failure.REFUSED)
        if said in ("invalid_client", "unauthorized_client") or answer.status == 401:
            return SettingsError("AC-102", detail=answer.detail, failure=Failure.REFUSED)
        match answer.status:
            case 404:
                code, failure = "AC-201", Failure.REFUSED
            case 429:
                code, failure = "AC-503", Failure.THROTTLED
            case 503:
                code, failure = "AC-502", Failure.UNAVAILABLE
            case status:
                code, failure = "AC-301", Failure.SERVER if status >= 500 else Failure.REFUSED
        return error_for(code, self._host, detail=answer.detail, failure=failure)
