"""奉行クラウド for connectors: its client, made from the block of credentials."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from blocks import BugyoCredentials
from blocks.oauth import is_filled
from connectors.bugyo import (
    BugyoClient,
    Environment,
    OAuthApp,
    environment,
    fixed_token,
)
from connectors.kit import Authorizer, ReauthorizeError, SettingsError, TokenAuthorizer
from flows.engine.pipeline import Tools

SERVICE = "奉行クラウド"
OAUTH_BLOCK = BugyoCredentials
_ENVIRONMENTS = {"製品版": "production", "検証環境": "sandbox"}


def environment_of(credentials: BugyoCredentials) -> Environment:
    """The hosts that a block names.

    Raises:
        SettingsError: ``AC-205``, an address is missing or not acceptable.
    """
    if credentials.environment in _ENVIRONMENTS:
        return environment(_ENVIRONMENTS[credentials.environment])
    if not credentials.api_url:
        raise SettingsError("AC-205", "API の URL が空です", service=SERVICE)
    return Environment("custom", credentials.api_url, credentials.id_url or credentials.api_url)


def oauth_app(credentials: BugyoCredentials, tools: Tools) -> OAuthApp:
    """The OAuth application of a block.

    Raises:
        SettingsError: ``AC-205``, client id, secret or callback URL is missing.
    """
    if not (credentials.client_id and credentials.client_secret and credentials.redirect_uri):
        raise SettingsError(
            "AC-205", "クライアントID・秘密キー・コールバックURLが要ります", service=SERVICE
        )
    return OAuthApp(
        environment=environment_of(credentials),
        subscription_key=credentials.subscription_key.get_secret_value(),
        client_id=credentials.client_id,
        client_secret=credentials.client_secret.get_secret_value(),
        redirect_uri=credentials.redirect_uri,
        masker=tools.masker,
    )


def _authorizer(credentials: BugyoCredentials, tools: Tools) -> Authorizer:
    if credentials.fixed_token is not None and is_filled(credentials.fixed_token):
        return fixed_token(credentials.fixed_token.get_secret_value())
    if not credentials.uses_oauth:
        raise ReauthorizeError("AC-101", credentials._block_document_name or "", service=SERVICE)
    app = oauth_app(credentials, tools)
    return TokenAuthorizer(tools.vault.keeper(credentials), app.refresh, masker=tools.masker)


@contextlib.asynccontextmanager
async def open_bugyo(credentials: BugyoCredentials, tools: Tools) -> AsyncIterator[BugyoClient]:
    """A client for the credentials of a block.

    Raises:
        ReauthorizeError: ``AC-101``, nobody has pressed 許可する yet.
        SettingsError: ``AC-205``, an address is missing or not acceptable.
    """
    async with BugyoClient(
        environment_of(credentials),
        subscription_key=credentials.subscription_key.get_secret_value(),
        authorizer=_authorizer(credentials, tools),
        tenant_id=credentials.tenant_id or None,
        masker=tools.masker,
    ) as client:
        yield client
