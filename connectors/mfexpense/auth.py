"""OAuth of マネーフォワード クラウド経費: the consent page, and the tokens that follow.

The token endpoint takes forms, with the client's id and secret in them. A refresh answers with a
new access token *and* a new refresh token; that the old one is dead then is inferred (facts.toml),
so a refresh leaves once and the `connectors.kit.TokenKeeper` decides who sends it.
"""

from __future__ import annotations

from typing import Unpack

from connectors.kit import GrantLife, Wiring, oauth
from connectors.mfexpense._host import HOST, PROFILE
from connectors.mfexpense.facts import fact

SCOPES: tuple[str, ...] = tuple(fact("scopes"))
"""What is asked for. The service has no scopes for reading alone, except public_resource."""

GRANT_LIFE = GrantLife(None, "?")
"""Nobody says how long an unused grant is good for."""

_OAUTH = oauth.OAuthService(
    PROFILE,
    consent_path="/oauth/authorize",
    token_path="/oauth/token",  # noqa: S106 (no password)
    scopes=SCOPES,
    pkce=fact("pkce"),
    refresh="once" if fact("refresh_works_once") else "read",
)


class OAuthClient(oauth.OAuthClient):
    """An application that was registered in クラウド経費 (API連携（開発者向け）).

    Args:
        client_id: Client ID.
        client_secret: Client Secret.
        redirect_uri: Redirect URI, exactly as registered; the service takes https only.
        wiring: See `connectors.kit.Wiring`; the masker learns every token that is issued.
    """

    def __init__(
        self, client_id: str, client_secret: str, redirect_uri: str, **wiring: Unpack[Wiring]
    ) -> None:
        super().__init__(_OAUTH, HOST, client_id, client_secret, redirect_uri, **wiring)
