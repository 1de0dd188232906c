"""Logging in: tokens, password, and the whole OAuth way over real HTTP."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from connectors.kintone import (
    SCOPES,
    OAuthClient,
    api_token,
)
from connectors.kit import (
    AppConnectError,
    Consent,
    Masker,
    ReauthorizeError,
    SettingsError,
    StaticHeaders,
    TokenAuthorizer,
    Tokens,
)
from connectors.kit.emulator import Fault

CLIENT, SECRET = "client-0001", "secret-of-the-client"
BACK = "https://gateway.example/callback"
CONSENT = Consent("kintone", state="state-123")


class Keeper:
    """Tokens in memory."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.renewed = 0

    async def current(self) -> Tokens:
        return self.tokens

    async def renew(self, stale: Tokens, refresh: Any) -> Tokens:
        self.renewed += 1
        self.tokens = await refresh(stale)
        return self.tokens


@pytest.fixture
def oauth(emulator, url, clock) -> OAuthClient:
    emulator.add_oauth_client(CLIENT, SECRET, BACK)
    return OAuthClient("example", CLIENT, SECRET, BACK, endpoint=url, clock=clock)


def press(oauth: OAuthClient, decision: str, scopes: tuple[str, ...] = SCOPES) -> dict[str, str]:
    """What the browser brings back after the user pressed a button."""
    where = oauth.authorization_url(CONSENT, scopes)
    page = httpx.get(where)
    assert "アクセスの許可" in page.text
    assert CLIENT in page.text
    sent = httpx.post(where, data={"decision": decision})
    assert sent.status_code == 302
    target = urlsplit(sent.headers["location"])
    assert f"{target.scheme}://{target.netloc}{target.path}" == BACK
    return {name: values[0] for name, values in parse_qs(target.query).items()}


async def code_of(awaitable) -> str:
    with pytest.raises(AppConnectError) as caught:
        await awaitable
    return caught.value.code


async def test_consent_to_records(emulator, client, oauth):
    emulator.seed("1", [{"得意先コード": "1"}])
    back = press(oauth, "allow")
    assert back["state"] == "state-123"
    keeper = Keeper(await oauth.exchange_code(back["code"], CONSENT))
    async with client(authorizer=TokenAuthorizer(keeper, oauth.refresh)) as kintone:
        assert await kintone.count("1") == 1
        assert "得意先名" in await kintone.form_fields("1")


async def test_denied(oauth):
    assert press(oauth, "deny") == {"state": "state-123", "error": "access_denied"}


async def test_a_code_works_once_and_not_for_long(oauth, clock):
    code = press(oauth, "allow")["code"]
    await oauth.exchange_code(code, CONSENT)
    assert await code_of(oauth.exchange_code(code, CONSENT)) == "AC-101"
    late = press(oauth, "allow")["code"]
    clock.now += timedelta(minutes=11)
    assert await code_of(oauth.exchange_code(late, CONSENT)) == "AC-101"


async def test_a_rejected_token_is_renewed_once(emulator, client, oauth, clock):
    keeper = Keeper(await oauth.exchange_code(press(oauth, "allow")["code"], CONSENT))
    first = keeper.tokens
    emulator.access.expire()
    async with client(authorizer=TokenAuthorizer(keeper, oauth.refresh, clock=clock)) as kintone:
        assert await kintone.count("1") == 0
        assert await kintone.count("1") == 0
    assert keeper.renewed == 1
    assert keeper.tokens.access_token != first.access_token
    # kintone's refresh answer names no refresh token: the old one stays
    assert keeper.tokens.refresh_token == first.refresh_token


async def test_a_token_is_renewed_before_it_expires(emulator, client, oauth, clock):
    keeper = Keeper(await oauth.exchange_code(press(oauth, "allow")["code"], CONSENT))
    async with client(authorizer=TokenAuthorizer(keeper, oauth.refresh, clock=clock)) as kintone:
        await kintone.count("1")
        assert keeper.renewed == 0
        clock.now += timedelta(minutes=56)
        await kintone.count("1")
    assert keeper.renewed == 1
    assert emulator.faults.counts()["GET /k/v1/records.json"] == 2


async def test_somebody_else_renewed_already(emulator, oauth, clock):
    keeper = Keeper(await oauth.exchange_code(press(oauth, "allow")["code"], CONSENT))
    authorizer = TokenAuthorizer(keeper, oauth.refresh, clock=clock)
    rejected = await authorizer.headers()
    await keeper.renew(keeper.tokens, oauth.refresh)
    assert await authorizer.renew(rejected)
    assert keeper.renewed == 1


async def test_withdrawn_consent(emulator, client, oauth, clock):
    keeper = Keeper(await oauth.exchange_code(press(oauth, "allow")["code"], CONSENT))
    emulator.access.revoke()
    async with client(authorizer=TokenAuthorizer(keeper, oauth.refresh, clock=clock)) as kintone:
        with pytest.raises(ReauthorizeError) as caught:
            await kintone.count("1")
    assert caught.value.code == "AC-101"
    assert SECRET not in str(caught.value)


async def test_a_broken_token_endpoint_does_not_end_the_consent(emulator, oauth):
    tokens = await oauth.exchange_code(press(oauth, "allow")["code"], CONSENT)
    emulator.faults.add(Fault(kind="status", status=500, path="/oauth2/token"))
    emulator.faults.add(Fault(kind="drop_after", path="/oauth2/token"))
    assert (await oauth.refresh(tokens)).refresh_token == tokens.refresh_token
    emulator.faults.add(Fault(kind="drop_before", path="/oauth2/token"))
    # a code works once, so its exchange is not repeated; but nothing was posted either
    assert await code_of(oauth.exchange_code("any", CONSENT)) == "AC-501"


async def test_missing_scope_is_a_right_not_a_login(client, oauth, clock):
    code = press(oauth, "allow", ("k:app_record:read",))["code"]
    keeper = Keeper(await oauth.exchange_code(code, CONSENT))
    async with client(authorizer=TokenAuthorizer(keeper, oauth.refresh, clock=clock)) as kintone:
        assert await code_of(kintone.form_fields("1")) == "AC-203"
    assert keeper.renewed == 0


async def test_wrong_client(url, oauth):
    wrong = OAuthClient("example", CLIENT, "another-secret", BACK, endpoint=url)
    assert await code_of(wrong.exchange_code("any", CONSENT)) == "AC-102"
    nowhere = OAuthClient("nobody", CLIENT, SECRET, BACK, endpoint=url)
    assert await code_of(nowhere.exchange_code("any", CONSENT)) == "AC-201"


def test_the_redirect_endpoint_is_exact(url, oauth):
    elsewhere = OAuthClient("example", CLIENT, SECRET, "https://evil.example/", endpoint=url)
    page = httpx.get(elsewhere.authorization_url(CONSENT))
    assert page.status_code == 400
    assert "location" not in page.headers


def password(login: str, secret: str) -> StaticHeaders:
    pair = base64.b64encode(f"{login}:{secret}".encode()).decode()
    return StaticHeaders({"X-Cybozu-Authorization": pair})


async def test_password(client):
    """The emulator's third way in; no connector uses it: it ends at a two-factor login."""
    async with client(authorizer=password("sato", "sato-password")) as kintone:
        assert await kintone.count("1") == 0
    async with client(authorizer=password("sato", "wrong-password")) as kintone:
        with pytest.raises(SettingsError) as caught:
            await kintone.count("1")
    assert (caught.value.code, caught.value.detail.vendor_code) == ("AC-102", "CB_WA01")


async def test_api_tokens_are_joined():
    assert await api_token("a1 ", "b2").headers() == {"X-Cybozu-API-Token": "a1,b2"}
    for tokens in ([], [""], [f"t{n}" for n in range(10)]):
        with pytest.raises(ValueError, match="9個以下"):
            api_token(*tokens)


async def test_nothing_shows_a_secret(url, emulator, clock):
    emulator.add_oauth_client(CLIENT, SECRET, BACK)
    masker = Masker()
    oauth = OAuthClient("example", CLIENT, SECRET, BACK, endpoint=url, masker=masker, clock=clock)
    tokens = await oauth.exchange_code(press(oauth, "allow")["code"], CONSENT)
    pair = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
    for secret in (SECRET, pair, tokens.access_token, tokens.refresh_token):
        assert secret not in repr(tokens)
        assert secret not in masker.mask(f"text with {secret} in it")
    assert "authorization_code" in masker.mask("authorization_code")


async def test_a_code_is_worth_nothing_without_the_verifier(oauth):
    code = press(oauth, "allow")["code"]
    assert await code_of(oauth.exchange_code(code, Consent("kintone"))) == "AC-101"
