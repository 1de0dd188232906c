"""マネーフォワード クラウド経費 as a source of the engine: a window, read again every run."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from blocks import MfExpenseCredentials
from connectors.kit import ReauthorizeError, SettingsError, TokenAuthorizer
from connectors.mfexpense import SERVICE, ExpenseClient, OAuthClient
from flows.engine.pipeline import Tools

OAUTH_BLOCK = MfExpenseCredentials


def oauth_app(credentials: MfExpenseCredentials, tools: Tools) -> OAuthClient:
    """The OAuth client of a block."""
    return OAuthClient(
        credentials.client_id,
        credentials.client_secret.get_secret_value(),
        credentials.redirect_uri,
        endpoint=credentials.endpoint or None,
        masker=tools.masker,
    )


@contextlib.asynccontextmanager
async def open_expenses(
    credentials: MfExpenseCredentials, tools: Tools
) -> AsyncIterator[ExpenseClient]:
    """A client for the credentials of a block.

    Raises:
        ReauthorizeError: ``AC-101``, nobody has pressed 許可する yet.
    """
    if not credentials.uses_oauth:
        raise ReauthorizeError("AC-101", credentials._block_document_name or "", service=SERVICE)
    app = oauth_app(credentials, tools)
    authorizer = TokenAuthorizer(tools.vault.keeper(credentials), app.refresh, masker=tools.masker)
    async with ExpenseClient(
        authorizer=authorizer, endpoint=credentials.endpoint or None, masker=tools.masker
    ) as client:
        yield client


async def office_of(client: ExpenseClient, wanted: str | None) -> str:
    """The office (事業所) that is read: the one that is named, or the only one.

    Raises:
        SettingsError: ``AC-205``, there are several and none is named, or it is not among them.
    """
    offices = await client.offices()
    named = (wanted or "").strip()
    if named and any(office.id == named for office in offices):
        return named
    if not named and len(offices) == 1:
        return offices[0].id
    listed = "、".join(f"{office.name}: {office.id}" for office in offices) or "なし"
    what = "に使えない値が入っています" if named else "が空欄です"
    raise SettingsError(
        "AC-205", f"接続情報の「事業所ID」{what}。使える事業所 = {listed}", service=SERVICE
    )
