"""Ways to prove who we are to kintone: API tokens or OAuth.

OAuth facts: authorization and token endpoints are the contract's. The token endpoint takes the
client by HTTP Basic; access tokens live one hour; a refresh answers *without* a refresh token, the
old one stays valid until the user withdraws the consent [3rd: several public clients agree].
"""

from __future__ import annotations

from typing import Unpack

from connectors.kintone._host import PROFILE, host_of
from connectors.kit import Authorizer, GrantLife, StaticHeaders, Wiring, oauth

MAX_TOKENS = 9
"""How many API tokens one request may carry (contract, [known])."""

SCOPES = ("k:app_record:read", "k:app_settings:read")
"""What reading records and the form needs; nothing that writes."""

GRANT_LIFE = GrantLife(None, "3rd")
"""A refresh token stays valid until the user withdraws the consent."""

_OAUTH = oauth.OAuthService(
    PROFILE,
    consent_path="/oauth2/authorization",
    token_path="/oauth2/token",  # noqa: S106 (no password)
    scopes=SCOPES,
    # PKCE is not in kintone's documentation [?]; a server that does not know it ignores it
    # (RFC 6749, 3.1). `state` always comes back.
    pkce=True,
    basic=True,
    refresh="read",
)


def api_token(*tokens: str) -> Authorizer:
    """API tokens of apps. A look-up field needs the token of the app it looks into as well.

    Raises:
        ValueError: none, more than nine, or one that is empty.
    """
    cleaned = [token.strip() for token in tokens]
    if not 1 <= len(cleaned) <= MAX_TOKENS or not all(cleaned):
        raise ValueError(f"APIトークンは1個以上{MAX_TOKENS}個以下です")
    return StaticHeaders({"X-Cybozu-API-Token": ",".join(cleaned)})


class OAuthClient(oauth.OAuthClient):
    """The OAuth client that an administrator registered in cybozu.com 共通管理.

    Args:
        subdomain: As for `KintoneClient`.
        client_id: クライアントID.
        client_secret: クライアントシークレット.
        redirect_uri: リダイレクトエンドポイント, exactly as registered.
        wiring: See `connectors.kit.Wiring`; the masker learns every token that is issued.
    """

    def __init__(
        self,
        subdomain: str,
        client_id: str,
        client_secret: str,
        redirect_uri: str,
        **wiring: Unpack[Wiring],
    ) -> None:
        host = host_of(subdomain)
        super().__init__(_OAUTH, host, client_id, client_secret, redirect_uri, **wiring)
