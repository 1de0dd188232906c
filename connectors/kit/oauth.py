"""The OAuth client of a service: consent page, first tokens, next tokens (RFC 6749, 4.1).

A connector brings what its service does its own way, an `OAuthService`, and a constructor with the
words of its screens. When a token is renewed, and by whom, is `connectors.kit.tokens`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Unpack

from connectors.kit._client import Wiring, open_api
from connectors.kit._http import ApiClient, Kind
from connectors.kit._masking import Masker
from connectors.kit._retry import ServiceProfile
from connectors.kit.consent import Consent
from connectors.kit.error_table import PLACE, WORDS, ErrorTable, Rule, Said, text
from connectors.kit.hosts import base_url
from connectors.kit.token_endpoint import TokenEndpoint, code_grant, consent_url, refresh_grant
from connectors.kit.tokens import TOKEN_TIMEOUTS, Tokens, basic, utc_now

_REFUSED = range(400, 500)

TOKEN_ERRORS = ErrorTable(
    read=lambda body: Said(text(body.get("error")), text(body.get("error_description"))),
    rules=(
        # Only invalid_grant ends a grant. A bare 401 speaks of the client: `HTTP_RULES`.
        Rule("AC-101", said=("invalid_grant",), status=_REFUSED),
        Rule("AC-102", said=("invalid_client", "unauthorized_client"), status=_REFUSED),
        Rule("AC-203", said=("invalid_scope",), status=_REFUSED, subject=PLACE),
        Rule("AC-201", status=(404,), subject=PLACE),
        Rule("AC-205", status=(400, 422), subject=WORDS),
    ),
)
"""What a token endpoint says (RFC 6749, 5.2)."""


@dataclass(frozen=True, slots=True)
class OAuthService:
    """What one service does its own way.

    Attributes:
        profile: The service's facts; at its token endpoint the time-outs are `TOKEN_TIMEOUTS`.
        consent_path: Of the page with 許可する.
        token_path: Of the token endpoint.
        scopes: What is asked for.
        pkce: Whether the consent page is sent PKCE's challenge.
        basic: Whether the client's id and secret travel as HTTP Basic; otherwise in the form.
        refresh: ``read`` where a refresh token works again and again, ``once`` where it does not.
    """

    profile: ServiceProfile
    consent_path: str
    token_path: str
    scopes: tuple[str, ...]
    pkce: bool = True
    basic: bool = False
    refresh: Kind = "once"


def token_client(
    profile: ServiceProfile, host: str, place: str, /, **wiring: Unpack[Wiring]
) -> Callable[[], ApiClient]:
    """Opens clients of a token endpoint: `TOKEN_TIMEOUTS`, `TOKEN_ERRORS`; ``place`` is theirs."""
    profile = wiring["profile"] = replace(wiring.get("profile", profile), timeouts=TOKEN_TIMEOUTS)
    return lambda: open_api(profile, host, TOKEN_ERRORS.classifier(place), **wiring)


class OAuthClient:
    """An application that was registered at a service.

    Args:
        service: See `OAuthService`.
        host: Of both pages.
        client_id: Of the application.
        client_secret: Of the application.
        redirect_uri: Exactly as registered.
        wiring: See `Wiring`; the masker learns every token that is issued.
    """

    def __init__(
        self,
        service: OAuthService,
        host: str,
        client_id: str,
        client_secret: str,
        redirect_uri: str,
        **wiring: Unpack[Wiring],
    ) -> None:
        self._service, self._base = service, base_url(host, wiring.get("endpoint"))
        self._client_id, self._redirect_uri = client_id, redirect_uri
        wiring["masker"] = self._masker = masker = wiring.get("masker") or Masker()
        who = basic(client_id, client_secret, masker)  # the masker learns the secret either way
        fields = {"client_id": client_id, "client_secret": client_secret}
        self._endpoint = TokenEndpoint(
            token_client(service.profile, host, host, **wiring),
            service.token_path,
            host,
            masker,
            wiring.get("clock", utc_now),
            headers=who if service.basic else {},
            client={} if service.basic else fields,
        )

    def begin_consent(self) -> Consent:
        """A new passage through the consent page."""
        return Consent(self._service.profile.name, pkce=self._service.pkce)

    def authorization_url(self, consent: Consent, scopes: tuple[str, ...] | None = None) -> str:
        """Where the person presses 許可する.

        Args:
            consent: Of `begin_consent`; kept by the caller until the browser comes back.
            scopes: What is asked for; by default everything that the connector needs.
        """
        page = f"{self._base}{self._service.consent_path}"
        asked = self._service.scopes if scopes is None else scopes
        return consent_url(page, self._client_id, self._redirect_uri, consent, asked)

    async def exchange_code(self, code: str, consent: Consent) -> Tokens:
        """Tokens for the code that the person came back with; a code works once.

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
        """The next tokens. Call it through a `TokenKeeper` only: ``tokens`` may be dead afterwards.

        Raises:
            ReauthorizeError: ``AC-101``, the service says that the grant is dead.
            SettingsError: ``AC-102``, client id or secret are wrong.
            WaitError, FaultError: no definite answer; the grant may well be alive.
        """
        self._masker.add(tokens.access_token, tokens.refresh_token)
        return await self._endpoint.ask(
            refresh_grant(tokens), kind=self._service.refresh, kept=tokens.refresh_token
        )
