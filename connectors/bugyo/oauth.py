"""Both ways to log in: the code flow with the browser's consent page, and a fixed access token.

No password and no implicit grant; PKCE where the data says so; tokens and the client's secret leave
in headers and bodies only, never in an address (RFC 9700).

A refresh token may work once (contract 2.3: unknown, so assumed). Therefore the newest pair is
always kept, a refresh leaves once and is never repeated by the HTTP layer, and who may refresh is
the `connectors.kit.TokenKeeper`'s matter.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from urllib.parse import urlencode, urlsplit

import orjson

from connectors.bugyo._answers import AnswerReader
from connectors.bugyo.client import PROFILE, SUBSCRIPTION_KEY_HEADER
from connectors.bugyo.environment import SERVICE, Environment
from connectors.bugyo.registry import data, operation
from connectors.kit import (
    Answer,
    ApiClient,
    AppConnectError,
    Authorizer,
    Consent,
    Failure,
    FaultError,
    Masker,
    ServiceProfile,
    StaticHeaders,
    UnknownOutcomeError,
    WaitError,
    error_for,
)
from connectors.kit.tokens import TOKEN_TIMEOUTS, Clock, GrantLife, Tokens, bearer, utc_now

_TOKENS = data("environments")["tokens"]

GRANT_LIFE = GrantLife(timedelta(seconds=_TOKENS["refresh_lifetime"]), _TOKENS["evidence"])
"""How long an unused refresh token is good for: not public, so only ever a reason to warn."""

TOKEN_PROFILE = replace(PROFILE, timeouts=TOKEN_TIMEOUTS)
"""The service's facts, at the token endpoint."""


def begin_consent(environment: Environment) -> Consent:
    """A new passage through the consent page.

    Whether 奉行クラウド sends ``state`` back is not known (contract 2.3): absent is tolerated,
    which is safe where PKCE is checked.
    """
    return Consent(
        SERVICE,
        pkce=bool(_TOKENS["pkce"]),
        state_returns=bool(_TOKENS["state_returns"]),
        issuer=environment.id_base.rstrip("/"),
    )


def authorization_url(
    environment: Environment, client_id: str, redirect_uri: str, consent: Consent
) -> str:
    """The address to which the browser is sent, so that a person can press 許可する.

    Args:
        environment: Its id host shows the page.
        client_id: クライアントID.
        redirect_uri: Exactly as registered at OBC.
        consent: Of `begin_consent`; kept by the caller until the browser comes back.
    """
    query = urlencode(
        {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            **consent.query(),
        }
    )
    return f"{environment.id_base.rstrip('/')}{operation('Authorize').path}?{query}"


@dataclass(frozen=True, slots=True)
class OAuthApp:
    """An application registered at OBC, and how it gets tokens.

    Attributes:
        environment: The keys below belong to it.
        subscription_key: Sent to the token endpoint too.
        client_id: クライアントID.
        client_secret: クライアント秘密キー.
        redirect_uri: Exactly as registered.
        masker: Learns every token that is issued.
        verify: TLS verification, as httpx takes it.
        profile: Time-outs.
        clock: Aware.
    """

    environment: Environment
    subscription_key: str = field(repr=False)
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    masker: Masker = field(default_factory=Masker, repr=False)
    verify: ssl.SSLContext | bool = field(default=True, repr=False)
    profile: ServiceProfile = field(default=TOKEN_PROFILE, repr=False)
    clock: Clock = field(default=utc_now, repr=False)

    def begin_consent(self) -> Consent:
        """See `begin_consent`."""
        return begin_consent(self.environment)

    def authorization_url(self, consent: Consent) -> str:
        """See `authorization_url`."""
        return authorization_url(self.environment, self.client_id, self.redirect_uri, consent)

    async def exchange_code(self, code: str, consent: Consent) -> Tokens:
        """The first pair, from the code that came back to the redirect URI.

        Args:
            code: Of `Consent.code`.
            consent: The passage that the code came from: it holds PKCE's verifier.

        Raises:
            ReauthorizeError: ``AC-101``, the code is used, too old, or not ours.
            SettingsError: ``AC-102`` client id or secret, ``AC-103`` subscription key.
            WaitError, FaultError: the token endpoint could not answer.
        """
        self.masker.add(code, consent.verifier)
        grant = {"grant_type": "authorization_code", "code": code, **consent.proof()}
        return await self._token(grant, kept="")

    async def refresh(self, tokens: Tokens) -> Tokens:
        """The next pair. Call it through a `TokenKeeper` only: ``tokens`` may be dead afterwards.

        Raises:
            ReauthorizeError: ``AC-101``, the server says that the grant is dead (invalid_grant).
            SettingsError: ``AC-102`` client id or secret, ``AC-103`` subscription key.
            WaitError, FaultError: no definite answer; the grant may well be alive.
        """
        self.masker.add(tokens.access_token, tokens.refresh_token)
        return await self._token(
            {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token},
            kept=tokens.refresh_token,
        )

    async def _token(self, grant: Mapping[str, str], *, kept: str) -> Tokens:
        self.masker.add(self.subscription_key, self.client_secret)
        host = urlsplit(self.environment.api_base).netloc
        reader = AnswerReader(self.masker, host=host)
        body = {
            **grant,
            "redirect_uri": self.redirect_uri,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
        }
        async with ApiClient(
            self.profile,
            self.environment.api_base,
            classify=lambda answer: _classify(reader, answer),
            headers={SUBSCRIPTION_KEY_HEADER: self.subscription_key},
            secrets=self.masker,
            verify=self.verify,
        ) as api:
            try:
                answer = await api.request("POST", operation("Token").path, kind="once", json=body)
            except UnknownOutcomeError as error:
                # Nothing was posted; to the clerk this is a service that cannot be reached. No
                # failure class is passed on: the request that needed the token must not repeat a
                # refresh whose token may be used up.
                if error.failure is Failure.UNAVAILABLE:
                    raise WaitError(
                        "AC-502", detail=error.detail, retry_after=error.retry_after
                    ) from error.__cause__
                raise FaultError("AC-501", host, detail=error.detail) from error.__cause__
        return self._read(answer, kept)

    def _read(self, answer: Answer, kept: str) -> Tokens:
        content = answer.json()
        if not isinstance(content, dict) or not isinstance(content.get("access_token"), str):
            raise FaultError("AC-303", detail=answer.detail, failure=Failure.UNREADABLE)
        # RFC 6749, 6: a server that does not rotate may leave the refresh token out.
        access, refresh = content["access_token"], str(content.get("refresh_token") or kept)
        self.masker.add(access, refresh)
        issued = self.clock()
        try:
            expires = issued + timedelta(seconds=float(content["expires_in"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            expires = None
        return Tokens(access, refresh, issued_at=issued, expires_at=expires)


def _classify(reader: AnswerReader, answer: Answer) -> AppConnectError | None:
    """RFC 6749, 5.2 where the answer speaks it, else as any other answer of the gateway."""
    try:
        content = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        content = None
    word = content.get("error") if isinstance(content, dict) else None
    code = {
        "invalid_grant": "AC-101",
        "invalid_client": "AC-102",
        "unauthorized_client": "AC-102",
    }.get(word if isinstance(word, str) else "")
    if code is not None and 400 <= answer.status < 500:
        detail = replace(reader.detail(answer), vendor_code=str(word))
        return error_for(code, detail=detail, failure=Failure.REFUSED)
    error = reader.classify(answer)
    if error is not None and error.code == "AC-101":
        # A bare 401 of the token endpoint speaks of the client: only invalid_grant ends a grant.
        return error_for("AC-102", detail=error.detail, failure=error.failure)
    return error


def fixed_token(token: str) -> Authorizer:
    """The second way in: an access token issued in 管理ポータル, which never changes."""
    return StaticHeaders(bearer(token))
