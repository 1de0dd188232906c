"""OAuth of マネーフォワード クラウド経費: the consent page, and the tokens that follow.

The token endpoint takes forms, with the client's id and secret in them. A refresh answers with a
new access token *and* a new refresh token; that the old one is dead then is inferred (facts.toml),
so a refresh leaves once and the `connectors.kit.TokenKeeper` decides who sends it.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from urllib.parse import urlencode

from connectors.kit import (
    TOKEN_TIMEOUTS,
    Answer,
    ApiClient,
    AppConnectError,
    Clock,
    Consent,
    Failure,
    FaultError,
    GrantLife,
    Masker,
    Tokens,
    UnknownOutcomeError,
    WaitError,
    bearer,
    error_for,
    utc_now,
)
from connectors.mfexpense._errors import classifier, said_in
from connectors.mfexpense._host import HOST, PROFILE, SERVICE, base_url
from connectors.mfexpense.facts import fact

SCOPES: tuple[str, ...] = tuple(fact("scopes"))
"""What is asked for. The service has no scopes for reading alone, except public_resource."""

GRANT_LIFE = GrantLife(None, "?")
"""Nobody says how long an unused grant is good for."""

TOKEN_PROFILE = replace(PROFILE, timeouts=TOKEN_TIMEOUTS)
"""The service's facts, at the token endpoint."""

_FORM = {"content-type": "application/x-www-form-urlencoded"}


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
        self._client_secret = client_secret
        self._redirect_uri = redirect_uri
        self._masker = masker or Masker()
        self._masker.add(client_secret)
        self._verify = verify
        self._clock = clock

    def begin_consent(self) -> Consent:
        """A new passage through the consent page."""
        return Consent(SERVICE, pkce=fact("pkce"))

    def authorization_url(self, consent: Consent, scopes: tuple[str, ...] = SCOPES) -> str:
        """Where the person presses 許可.

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
        return f"{self._base}/oauth/authorize?{query}"

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
        grant = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            **consent.proof(),
        }
        return self._tokens(await self._post("/oauth/token", grant), kept="")

    async def refresh(self, tokens: Tokens) -> Tokens:
        """The next pair. Call it through a `TokenKeeper` only: ``tokens`` may be dead afterwards.

        Raises:
            ReauthorizeError: ``AC-101``, the service says that the grant is dead.
            SettingsError: ``AC-102``, client id or secret are wrong.
            WaitError, FaultError: no definite answer; the grant may well be alive.
        """
        self._masker.add(tokens.access_token, tokens.refresh_token)
        grant = {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token}
        return self._tokens(await self._post("/oauth/token", grant), kept=tokens.refresh_token)

    async def revoke(self, tokens: Tokens) -> None:
        """Give the grant back: neither token works afterwards.

        Raises:
            AppConnectError: it was not confirmed.
        """
        self._masker.add(tokens.access_token, tokens.refresh_token)
        await self._post("/oauth/revoke", {"token": tokens.access_token})

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
            raise _unreadable(answer) from None

    def _api(self) -> ApiClient:
        return ApiClient(
            TOKEN_PROFILE,
            self._base,
            classify=self._classify,
            secrets=self._masker,
            verify=self._verify,
        )

    async def _post(self, path: str, form: Mapping[str, str]) -> Answer:
        whole = {"client_id": self._client_id, "client_secret": self._client_secret, **form}
        async with self._api() as http:
            try:
                return await http.request(
                    "POST", path, kind="once", content=urlencode(whole).encode(), headers=_FORM
                )
            except UnknownOutcomeError as error:
                # Nothing was posted. No failure class is passed on: whatever needed the token must
                # not repeat a refresh whose token may be used up.
                if error.failure is Failure.UNAVAILABLE:
                    raise WaitError(
                        "AC-502", detail=error.detail, retry_after=error.retry_after
                    ) from error.__cause__
                raise FaultError("AC-501", HOST, detail=error.detail) from error.__cause__

    def _tokens(self, answer: Answer, *, kept: str) -> Tokens:
        said, issued = answer.json(), self._clock()
        try:
            tokens = Tokens(
                access_token=str(said["access_token"]),
                refresh_token=str(said.get("refresh_token") or kept),
                issued_at=issued,
                expires_at=issued + timedelta(seconds=int(said["expires_in"])),
                scope=str(said.get("scope", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise _unreadable(answer) from None
        self._masker.add(tokens.access_token, tokens.refresh_token)
        return tokens

    def _classify(self, answer: Answer) -> AppConnectError | None:
        """OAuth's own errors (RFC 6749, 5.2); only a dead grant or token means that consent is."""
        if answer.status == 200:
            return None
        said, _ = said_in(answer.body)
        error = classifier(self._masker)(answer)
        if said in ("invalid_grant", "invalid_token"):
            return error_for("AC-101", detail=error and error.detail, failure=Failure.REFUSED)
        if said in ("invalid_client", "unauthorized_client") or answer.status == 401:
            return error_for("AC-102", detail=error and error.detail, failure=Failure.REFUSED)
        return error


def _unreadable(answer: Answer) -> FaultError:
    return FaultError("AC-303", detail=answer.detail, failure=Failure.UNREADABLE)
