"""Both ways to log in: the code flow with the browser's consent page, and a fixed access token.

No password and no implicit grant; PKCE where the data says so; tokens and the client's secret leave
in headers and bodies only, never in an address (RFC 9700).

A refresh token may work once (contract 2.3: unknown, so assumed). Therefore the newest pair is
always kept, a refresh leaves once and is never repeated by the HTTP layer, and who may refresh is
the `connectors.kit.TokenKeeper`'s matter.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from datetime import timedelta
from urllib.parse import urlsplit

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
    Masker,
    ServiceProfile,
    StaticHeaders,
    error_for,
)
from connectors.kit.token_endpoint import (
    TokenEndpoint,
    code_grant,
    consent_url,
    refresh_grant,
)
from connectors.kit.tokens import TOKEN_TIMEOUTS, Clock, GrantLife, Tokens, bearer, utc_now

# RFC 6749, 5.2. In a table of the kit they are `connectors.kit.oauth.TOKEN_ERRORS`; here they come
# before what else 奉行クラウド says in words of its own.
_WORDS = {
    "invalid_grant": "AC-101",
    "invalid_client": "AC-102",
    "unauthorized_client": "AC-102",
}

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
    page = f"{environment.id_base.rstrip('/')}{operation('Authorize').path}"
    return consent_url(page, client_id, redirect_uri, consent)


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
        return await self._endpoint().ask(code_grant(code, self.redirect_uri, consent))

    async def refresh(self, tokens: Tokens) -> Tokens:
        """The next pair. Call it through a `TokenKeeper` only: ``tokens`` may be dead afterwards.

        Raises:
            ReauthorizeError: ``AC-101``, the server says that the grant is dead (invalid_grant).
            SettingsError: ``AC-102`` client id or secret, ``AC-103`` subscription key.
            WaitError, FaultError: no definite answer; the grant may well be alive.
        """
        self.masker.add(tokens.access_token, tokens.refresh_token)
        grant = {**refresh_grant(tokens), "redirect_uri": self.redirect_uri}
        return await self._endpoint().ask(grant, kept=tokens.refresh_token)

    def _endpoint(self) -> TokenEndpoint:
        self.masker.add(self.subscription_key, self.client_secret)
        host = urlsplit(self.environment.api_base).netloc
        reader = AnswerReader(self.masker, host=host)

        def classify(answer: Answer) -> AppConnectError | None:
            other, word = reader.classify(answer), _oauth_word(answer)
            code = _WORDS.get(word) if 400 <= answer.status < 500 else None
            if code is None and other is not None and other.code == "AC-101":
                code = "AC-102"  # only a word ends a grant: a bare 401 speaks of the client
            if code is None:
                return other
            detail = reader.detail(answer)
            detail = replace(detail, vendor_code=word) if word else detail
            return error_for(code, detail=detail, failure=Failure.REFUSED)

        return TokenEndpoint(
            lambda: ApiClient(
                self.profile,
                self.environment.api_base,
                classify=classify,
                headers={SUBSCRIPTION_KEY_HEADER: self.subscription_key},
                secrets=self.masker,
                verify=self.verify,
            ),
            operation("Token").path,
            host,
            self.masker,
            self.clock,
            client={"client_id": self.client_id, "client_secret": self.client_secret},
            as_json=True,
        )


def fixed_token(token: str) -> Authorizer:
    """The second way in: an access token issued in 管理ポータル, which never changes."""
    return StaticHeaders(bearer(token))


def _oauth_word(answer: Answer) -> str:
    """The ``error`` of an answer (RFC 6749, 5.2), e.g. ``invalid_grant``; empty = it says none."""
    try:
        content = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return ""
    word = content.get("error") if isinstance(content, dict) else None
    return word if isinstance(word, str) else ""
