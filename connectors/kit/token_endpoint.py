"""A token endpoint of OAuth 2 (RFC 6749): the address of its consent page, its answers, its errors.

What one service does otherwise than another (where its client id goes, what else it says) is told
by the connector; what a dead grant is, and what becomes of a lost answer, is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from connectors.kit._http import Answer, ApiClient, Kind
from connectors.kit._masking import Masker
from connectors.kit._retry import Failure
from connectors.kit.consent import Consent
from connectors.kit.errors import (
    FaultError,
    UnknownOutcomeError,
    WaitError,
)
from connectors.kit.tokens import Clock, Tokens, utc_now

_FORM: Mapping[str, str] = {"content-type": "application/x-www-form-urlencoded"}


def consent_url(
    page: str, client_id: str, redirect_uri: str, consent: Consent, scopes: Sequence[str] = ()
) -> str:
    """The address to which a browser is sent, so that a person can press 許可する.

    Args:
        page: The authorization endpoint.
        client_id: Of our application.
        redirect_uri: Exactly as registered.
        consent: The passage; kept by the caller until the browser comes back.
        scopes: What is asked for; none = the service knows no scopes.
    """
    asked = {"response_type": "code", "client_id": client_id, "redirect_uri": redirect_uri}
    if scopes:
        asked["scope"] = " ".join(scopes)
    return f"{page}?{urlencode({**asked, **consent.query()})}"


def code_grant(code: str, redirect_uri: str, consent: Consent) -> dict[str, str]:
    """What buys the first tokens: the code that came back, and PKCE's proof."""
    asked = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
    return {**asked, **consent.proof()}


def refresh_grant(tokens: Tokens) -> dict[str, str]:
    """What buys the next tokens."""
    return {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token}


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """Asks a service for tokens.

    Attributes:
        open: Opens a client of the service; its classifier tells errors.
        path: Of the endpoint.
        host: For messages.
        masker: Learns every token that is issued.
        clock: Aware time, for the expiry of what is issued.
        headers: Sent along, e.g. the client's id and secret as Basic.
        client: The same as fields of the body.
        as_json: The body is JSON; otherwise a form, as RFC 6749 has it.
    """

    open: Callable[[], ApiClient]
    path: str
    host: str
    masker: Masker = field(repr=False)
    clock: Clock = utc_now
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    client: Mapping[str, str] = field(default_factory=dict, repr=False)
    as_json: bool = False

    async def ask(self, grant: Mapping[str, str], *, kind: Kind = "once", kept: str = "") -> Tokens:
        """The tokens for a grant.

        Args:
            grant: See `code_grant`, `refresh_grant`.
            kind: ``once``, unless asking twice does no harm.
            kept: The refresh token that stays good when the answer names none (RFC 6749, 6).

        Raises:
            ReauthorizeError: ``AC-101``, the grant is dead.
            SettingsError: ``AC-102``, client id or secret; others of the service.
            WaitError, FaultError: no definite answer; the grant may well be alive.
        """
        answer = await self._post({**self.client, **grant}, kind)
        said, issued = answer.json(), self.clock()
        try:
            tokens = Tokens(
                access_token=_text(said["access_token"]),
                refresh_token=str(said.get("refresh_token") or kept),
                issued_at=issued,
                expires_at=_expiry(said, issued),
                scope=str(said.get("scope", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise answer.unreadable() from None
        self.masker.add(tokens.access_token, tokens.refresh_token)
        return tokens

    async def _post(self, body: Mapping[str, str], kind: Kind) -> Answer:
        sent: dict[str, Any] = {"json": dict(body), "headers": self.headers}
        if not self.as_json:
            form = {**_FORM, **self.headers}
            sent = {"content": urlencode(body).encode(), "headers": form}
        async with self.open() as http:
            try:
                return await http.request("POST", self.path, kind=kind, **sent)
            except UnknownOutcomeError as error:
                # Nothing was posted; to the clerk this is a service that cannot be reached. No
                # failure class is passed on: the request that needed the token must not repeat a
                # refresh whose token may be used up.
                if error.failure is Failure.UNAVAILABLE:
                    raise WaitError(
                        "AC-502", detail=error.detail, retry_after=error.retry_after
                    ) from error.__cause__
                code = "AC-303" if error.failure is Failure.UNREADABLE else "AC-501"
                raise FaultError(code, self.host, detail=error.detail) from error.__cause__


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(type(value).__name__)
    return value


def _expiry(said: Mapping[str, Any], issued: datetime) -> datetime | None:
    """RFC 6749 only recommends ``expires_in``: without a usable one the token's end is unknown."""
    try:
        return issued + timedelta(seconds=float(said["expires_in"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
