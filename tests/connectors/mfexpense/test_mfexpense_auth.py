"""OAuth over real HTTP: consent, codes, rotation, revocation, and no secret anywhere."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from connectors.kit import (
    AppConnectError,
    Consent,
    Masker,
    ReauthorizeError,
    TokenAuthorizer,
    Tokens,
)
from connectors.kit.emulator import Fault
from connectors.mfexpense import OAuthClient

CLIENT, SECRET = "client-0001", "secret-of-the-application"
BACK = "https://app.example/callback"


class Keeper:
    """Tokens in memory."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens, self.renewed = tokens, 0

    async def current(self) -> Tokens:
        return self.tokens

    async def renew(self, stale: Tokens, refresh: Any) -> Tokens:
        self.renewed += 1
        self.tokens = await refresh(stale)
        return self.tokens


@pytest.fixture
def oauth(emulator, url, clock) -> OAuthClient:
    return OAuthClient(CLIENT, SECRET, BACK, endpoint=url, clock=clock)


def press(oauth: OAuthClient, consent: Consent, decision: str = "allow", **more: Any):
    """What the browser brings back after the person pressed a button."""
    where = oauth.authorization_url(consent, **more)
    page = httpx.get(where)
    assert "アクセスの許可" in page.text
    assert CLIENT in page.text
    sent = httpx.post(where, data={"decision": decision})
    assert sent.status_code == 302
    target = urlsplit(sent.headers["location"])
    assert f"{target.scheme}://{target.netloc}{target.path}" == BACK
    return {name: values[0] for name, values in parse_qs(target.query).items()}


async def consented(oauth: OAuthClient) -> Tokens:
    consent = oauth.begin_consent()
    return await oauth.exchange_code(consent.code(press(oauth, consent)), consent)


async def code_of(awaitable: Any) -> str:
    with pytest.raises(AppConnectError) as caught:
        await awaitable
    return caught.value.code


async def test_consent_to_offices(emulator, firm, client, oauth, clock) -> None:
    keeper = Keeper(await consented(oauth))
    assert keeper.tokens.expires_at is not None
    assert keeper.tokens.expires_at - clock.now == timedelta(days=32)
    async with client(authorizer=TokenAuthorizer(keeper, oauth.refresh, clock=clock)) as expenses:
        assert [office.id for office in await expenses.offices()] == [firm.book.id]


async def test_denied(oauth) -> None:
    consent = oauth.begin_consent()
    back = press(oauth, consent, "deny")
    with pytest.raises(ReauthorizeError) as caught:
        consent.code(back)
    assert caught.value.code == "AC-105"


async def test_a_code_works_once_not_for_long_and_only_for_its_passage(oauth, clock) -> None:
    consent = oauth.begin_consent()
    code = consent.code(press(oauth, consent))
    await oauth.exchange_code(code, consent)
    assert await code_of(oauth.exchange_code(code, consent)) == "AC-101"
    late = oauth.begin_consent()
    code = late.code(press(oauth, late))
    clock.now += timedelta(minutes=11)
    assert await code_of(oauth.exchange_code(code, late)) == "AC-101"
    stolen = oauth.begin_consent()
    code = stolen.code(press(oauth, stolen))
    assert await code_of(oauth.exchange_code(code, oauth.begin_consent())) == "AC-101"


async def test_a_refresh_rotates_both_tokens(emulator, firm, client, oauth, clock) -> None:
    first = await consented(oauth)
    keeper = Keeper(first)
    emulator.access.expire()
    async with client(authorizer=TokenAuthorizer(keeper, oauth.refresh, clock=clock)) as expenses:
        assert len(await expenses.offices()) == 1
        assert len(await expenses.offices()) == 1
    assert keeper.renewed == 1
    assert keeper.tokens.access_token != first.access_token
    assert keeper.tokens.refresh_token != first.refresh_token
    assert await code_of(oauth.refresh(first)) == "AC-101"
    again = await oauth.refresh(keeper.tokens)
    assert again.refresh_token not in (first.refresh_token, keeper.tokens.refresh_token)


async def test_a_refresh_leaves_once_whatever_happens(emulator, oauth) -> None:
    tokens = await consented(oauth)
    for fault, code in (
        (Fault(kind="status", status=500, path="/oauth/token"), "AC-501"),
        (Fault(kind="maintenance", path="/oauth/token"), "AC-502"),
        (Fault(kind="maintenance_200", path="/oauth/token"), "AC-502"),
        (Fault(kind="drop_before", path="/oauth/token"), "AC-501"),
    ):
        before = emulator.faults.counts()["POST /oauth/token"]
        emulator.faults.add(fault)
        assert await code_of(oauth.refresh(tokens)) == code
        assert emulator.faults.counts()["POST /oauth/token"] == before + 1
    tokens = await oauth.refresh(tokens)
    emulator.faults.add(Fault(kind="replace_body", path="/oauth/token", body="<html>?</html>"))
    assert await code_of(oauth.refresh(tokens)) == "AC-303"


async def test_a_wrong_application(url) -> None:
    wrong = OAuthClient(CLIENT, "another-secret", BACK, endpoint=url)
    assert await code_of(wrong.exchange_code("any", wrong.begin_consent())) == "AC-102"


def test_the_address_is_exact_and_https(emulator, url, oauth) -> None:
    elsewhere = OAuthClient(CLIENT, SECRET, "https://evil.example/", endpoint=url)
    page = httpx.get(elsewhere.authorization_url(elsewhere.begin_consent()))
    assert page.status_code == 400
    assert "location" not in page.headers
    unknown = oauth.authorization_url(oauth.begin_consent(), ("everything:write",))
    assert httpx.get(unknown).status_code == 400
    with pytest.raises(ValueError, match="https"):
        emulator.access.add_client("other", "secret", "http://app.example/callback")


def test_the_token_endpoint_takes_forms(url) -> None:
    sent = httpx.post(f"{url}/oauth/token", json={"grant_type": "refresh_token"})
    assert (sent.status_code, sent.json()["error"]) == (400, "invalid_request")


async def test_nothing_shows_a_secret(url, clock) -> None:
    masker = Masker()
    oauth = OAuthClient(CLIENT, SECRET, BACK, endpoint=url, masker=masker, clock=clock)
    tokens = await consented(oauth)
    for secret in (SECRET, tokens.access_token, tokens.refresh_token):
        assert secret not in repr(tokens)
        assert secret not in masker.mask(f"text with {secret} in it")
