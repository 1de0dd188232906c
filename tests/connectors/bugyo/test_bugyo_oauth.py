"""Consent by following the forms, tokens, rotation, and what ends a grant and what does not."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from connectors.bugyo.emulator import (
    DEMO_CLIENT_ID,
    DEMO_CLIENT_SECRET,
    DEMO_OBCID,
    DEMO_PASSWORD,
    DEMO_PORTAL_URL,
    DEMO_REDIRECT_URI,
    DEMO_SUBSCRIPTION_KEY,
    DEMO_TENANTS,
)
from connectors.kit import (
    Consent,
    FaultError,
    ReauthorizeError,
    Refresh,
    SettingsError,
    TokenAuthorizer,
    Tokens,
    WaitError,
)
from connectors.kit.emulator import Fault

if TYPE_CHECKING:
    from tests.connectors.bugyo.conftest import Service

CONSENT = Consent("奉行クラウド", state_returns=False)


class Keeper:
    """One process, in memory: what the real keeper does with a lease and a database."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.lock = asyncio.Lock()

    async def current(self) -> Tokens:
        return self.tokens

    async def renew(self, stale: Tokens, refresh: Refresh) -> Tokens:
        async with self.lock:
            if self.tokens == stale:
                self.tokens = await refresh(stale)
            return self.tokens


def submit(browser: httpx.Client, page: httpx.Response, **fields: str) -> httpx.Response:
    """Fill in the form of a page as a browser would, hidden inputs included."""
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.text))
    action = re.search(r'<form method="post" action="([^"]+)"', page.text)
    assert action is not None
    return browser.post(action.group(1), data={**hidden, **fields})


def walk(service: Service, decision: str = "allow", state: str = "st-1") -> dict[str, list[str]]:
    """From the authorization URL to the redirect; the redirect's query."""
    with httpx.Client(base_url=service.url) as browser:
        page = browser.get(service.app().authorization_url(replace(CONSENT, state=state)))
        assert "奉行クラウドURL" in page.text
        assert "次へ" in page.text
        page = submit(browser, page, portal_url=DEMO_PORTAL_URL)
        assert "OBCiD" in page.text
        page = submit(browser, page, obcid=DEMO_OBCID, password=DEMO_PASSWORD)
        assert "許可する" in page.text
        assert DEMO_TENANTS[1].name in page.text
        answer = submit(browser, page, decision=decision)
    assert answer.status_code == 302
    assert answer.headers["location"].startswith(f"{DEMO_REDIRECT_URI}?")
    return parse_qs(urlsplit(answer.headers["location"]).query)


async def consent(service: Service) -> Tokens:
    return await service.app().exchange_code(walk(service)["code"][0], CONSENT)


# --- the pages -------------------------------------------------------------------------------


async def test_from_consent_to_data(service: Service) -> None:
    query = walk(service)
    assert query["state"] == ["st-1"]
    app = service.app()
    tokens = await app.exchange_code(query["code"][0], CONSENT)
    assert tokens.expires_at is not None
    assert 3590 < (tokens.expires_at - tokens.issued_at).total_seconds() <= 3600
    authorizer = TokenAuthorizer(Keeper(tokens), app.refresh)
    async with service.client(authorizer=authorizer) as client:
        assert await client.search_tenants() == list(DEMO_TENANTS)


def test_denied(service: Service) -> None:
    assert walk(service, "deny") == {"error": ["access_denied"], "state": ["st-1"]}


def test_state_may_be_missing_from_the_answer(service: Service) -> None:
    service.set(echo_state=False)
    assert set(walk(service)) == {"code"}


def test_wrong_portal_and_wrong_password_stay_on_their_page(service: Service) -> None:
    with httpx.Client(base_url=service.url) as browser:
        first = browser.get(service.app().authorization_url(CONSENT))
        page = submit(browser, first, portal_url='https://id.obc.jp/"><script>')
        assert "奉行クラウドURLが正しくありません" in page.text
        assert "<script>" not in page.text
        page = submit(browser, page, portal_url=DEMO_PORTAL_URL.rstrip("/"))
        page = submit(browser, page, obcid=DEMO_OBCID, password="wrong")
        assert "OBCiDまたはパスワードが正しくありません" in page.text
        assert "許可する" not in page.text
        skipped = submit(browser, page, decision="allow")
        assert skipped.status_code == 200
        assert "許可する" not in skipped.text


@pytest.mark.parametrize(
    "change",
    [
        {"redirect_uri": DEMO_REDIRECT_URI + "/"},
        {"redirect_uri": "https://evil.example/"},
        {"client_id": "nobody"},
        {"response_type": "token"},
    ],
)
def test_a_wrong_request_is_never_redirected(service: Service, change: dict[str, str]) -> None:
    query = {
        "response_type": "code",
        "client_id": DEMO_CLIENT_ID,
        "redirect_uri": DEMO_REDIRECT_URI,
        **change,
    }
    page = httpx.get(f"{service.url}/oauth2/authorizerequest", params=query)
    assert page.status_code == 400
    assert "連携を始められません" in page.text


# --- codes and tokens ------------------------------------------------------------------------


async def test_a_code_works_once_and_its_reuse_ends_the_grant(service: Service) -> None:
    code = walk(service)["code"][0]
    app = service.app()
    tokens = await app.exchange_code(code, CONSENT)
    with pytest.raises(ReauthorizeError, match="AC-101"):
        await app.exchange_code(code, CONSENT)
    with pytest.raises(ReauthorizeError):
        await app.refresh(tokens)


async def test_wrong_secret_key_and_redirect(service: Service) -> None:
    code = walk(service)["code"][0]
    with pytest.raises(SettingsError, match="AC-102"):
        await service.app(client_secret="0" * 32).exchange_code(code, CONSENT)
    with pytest.raises(SettingsError, match="AC-103"):
        await service.app(subscription_key="0" * 32).exchange_code(code, CONSENT)
    with pytest.raises(ReauthorizeError, match="AC-101"):
        await service.app(redirect_uri="http://127.0.0.1:1/other").exchange_code(code, CONSENT)
    assert (await service.app().exchange_code(code, CONSENT)).access_token


async def test_the_old_refresh_token_is_dead_after_rotation(service: Service) -> None:
    app, tokens = service.app(), await consent(service)
    second = await app.refresh(tokens)
    assert second.refresh_token != tokens.refresh_token
    with pytest.raises(ReauthorizeError, match="invalid_grant"):
        await app.refresh(tokens)
    assert (await app.refresh(second)).access_token != second.access_token


async def test_without_rotation_the_token_stays(service: Service) -> None:
    service.set(rotate=False)
    app, tokens = service.app(), await consent(service)
    for _ in range(2):
        tokens_after = await app.refresh(tokens)
        assert tokens_after.refresh_token == tokens.refresh_token


async def test_an_answer_without_a_refresh_token_keeps_the_old_one(service: Service) -> None:
    app, tokens = service.app(), await consent(service)
    service.emulator.faults.add(Fault(kind="replace_body", body='{"access_token":"only-this-one"}'))
    after = await app.refresh(tokens)
    assert (after.access_token, after.refresh_token) == ("only-this-one", tokens.refresh_token)
    assert after.expires_at is None


async def test_the_token_endpoint_takes_forms_too_and_needs_the_key(service: Service) -> None:
    form = {
        "grant_type": "authorization_code",
        "code": walk(service)["code"][0],
        "redirect_uri": DEMO_REDIRECT_URI,
        "client_id": DEMO_CLIENT_ID,
        "client_secret": DEMO_CLIENT_SECRET,
        **CONSENT.proof(),
    }
    url = f"{service.url}/oauth2/token"
    key = {"X-OBC-SubscriptionKey": DEMO_SUBSCRIPTION_KEY}
    async with httpx.AsyncClient() as http:
        assert (await http.post(url, data=form)).status_code == 401
        answer = await http.post(url, data=form, headers=key)
    assert answer.json()["token_type"] == "Bearer"


async def test_tokens_do_not_show_themselves(service: Service) -> None:
    app, tokens = service.app(), await consent(service)
    shown = repr(tokens) + str(tokens) + repr(app)
    for secret in (
        tokens.access_token,
        tokens.refresh_token,
        DEMO_CLIENT_SECRET,
        DEMO_SUBSCRIPTION_KEY,
    ):
        assert secret not in shown
    await app.refresh(tokens)
    assert tokens.refresh_token not in app.masker.mask(f"x {tokens.refresh_token}")


# --- what does not end a grant ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        (Fault(kind="status", status=500), FaultError, "AC-501"),
        (Fault(kind="status", status=401, body="{}"), SettingsError, "AC-102"),
        (Fault(kind="maintenance"), WaitError, "AC-502"),
        (Fault(kind="maintenance_200"), WaitError, "AC-502"),
        (Fault(kind="drop_before"), FaultError, "AC-501"),
        (Fault(kind="status", status=429, headers={"retry-after": "600"}), WaitError, "AC-503"),
        (Fault(kind="status", status=400, body='{"error":"server_busy"}'), SettingsError, "AC-205"),
    ],
    ids=lambda value: getattr(value, "kind", str(value)),
)
async def test_only_invalid_grant_ends_a_grant(
    service: Service, fault: Fault, error: type[Exception], code: str
) -> None:
    app, tokens = service.app(), await consent(service)
    before = service.requests("/oauth2/token")
    service.emulator.faults.add(fault.model_copy(update={"path": "oauth2/token"}))
    with pytest.raises(error, match=code):
        await app.refresh(tokens)
    assert service.requests("/oauth2/token") == before + 1  # it left once
    assert (await app.refresh(tokens)).access_token


# --- the authorizer --------------------------------------------------------------------------


async def test_a_401_renews_once_and_the_request_goes_on(service: Service) -> None:
    keeper, app = Keeper(await consent(service)), service.app()
    old = keeper.tokens
    service.emulator.accounts.expire_access()
    async with service.client(authorizer=TokenAuthorizer(keeper, app.refresh)) as client:
        outcome = await client.import_customers([{"code": "1", "name": "甲"}])
        assert outcome.refused == {}
        await client.search_tenants()
    assert keeper.tokens != old
    books = service.emulator.books()
    assert books["refreshes"] == 1
    assert books["tenants"][DEMO_TENANTS[0].id]["writes"] == {"1": 1}


async def test_a_revoked_grant_ends_in_reauthorize(service: Service) -> None:
    keeper, app = Keeper(await consent(service)), service.app()
    async with httpx.AsyncClient(base_url=service.url) as http:
        await http.post("/__emulator__/revoke", json={"tenant": DEMO_TENANTS[0].id})
    async with service.client(authorizer=TokenAuthorizer(keeper, app.refresh)) as client:
        with pytest.raises(ReauthorizeError, match="AC-101"):
            await client.search_tenants()
    assert service.emulator.books()["refreshes"] == 0


async def test_a_401_that_persists_after_renewal_is_not_tried_for_ever(service: Service) -> None:
    keeper, app = Keeper(await consent(service)), service.app()
    service.emulator.faults.add(
        Fault(kind="status", path="SearchTenant", status=401, body="{}", times=None)
    )
    async with service.client(authorizer=TokenAuthorizer(keeper, app.refresh)) as client:
        with pytest.raises(ReauthorizeError, match="AC-101"):
            await client.search_tenants()
    assert service.requests("SearchTenant") == 2
    assert service.emulator.books()["refreshes"] == 1


async def test_a_wrong_subscription_key_burns_no_refresh_token(service: Service) -> None:
    keeper, app = Keeper(await consent(service)), service.app()
    authorizer = TokenAuthorizer(keeper, app.refresh)
    async with service.client(authorizer=authorizer, subscription_key="0" * 32) as client:
        with pytest.raises(SettingsError, match="AC-103"):
            await client.search_tenants()
    assert service.emulator.books()["refreshes"] == 0


async def test_somebody_else_renewed_in_between(service: Service) -> None:
    keeper, app = Keeper(await consent(service)), service.app()
    authorizer = TokenAuthorizer(keeper, app.refresh)
    rejected = await authorizer.headers()
    keeper.tokens = newer = await app.refresh(keeper.tokens)
    assert await authorizer.renew(rejected)
    assert keeper.tokens == newer
    assert service.emulator.books()["refreshes"] == 1


async def test_a_token_is_renewed_shortly_before_it_expires(service: Service) -> None:
    now = datetime.now(UTC)
    app = service.app()
    first = await consent(service)
    for minutes_left, renewed in ((16, False), (14, True)):
        start = Tokens(
            first.access_token,
            first.refresh_token,
            issued_at=now - timedelta(hours=1),
            expires_at=now + timedelta(minutes=minutes_left),
        )
        keeper = Keeper(start)
        await TokenAuthorizer(keeper, app.refresh).headers()
        assert (keeper.tokens != start) is renewed


async def test_a_failed_early_renewal_does_not_stop_a_living_token(service: Service) -> None:
    app, tokens = service.app(), await consent(service)
    soon = datetime.now(UTC) + timedelta(seconds=30)
    almost = Tokens(
        tokens.access_token,
        tokens.refresh_token,
        issued_at=soon - timedelta(hours=1),
        expires_at=soon,
    )
    service.emulator.faults.add(Fault(kind="status", path="oauth2/token", status=500, times=None))
    authorizer = TokenAuthorizer(Keeper(almost), app.refresh)
    async with service.client(authorizer=authorizer) as client:
        assert await client.search_tenants()
    late = TokenAuthorizer(Keeper(almost), app.refresh, clock=lambda: soon)
    with pytest.raises(FaultError, match="AC-501"):
        await late.headers()


async def test_short_lives_are_not_renewed_at_every_request(service: Service) -> None:
    service.set(access_lifetime=60)
    tokens = await consent(service)
    assert not tokens.due(tokens.issued_at + timedelta(seconds=29))
    assert tokens.due(tokens.issued_at + timedelta(seconds=31))


async def test_a_failed_early_renewal_is_left_alone_for_a_while(service: Service) -> None:
    app, tokens = service.app(), await consent(service)
    assert tokens.expires_at is not None
    time = [tokens.expires_at - timedelta(minutes=4)]
    keeper = Keeper(tokens)
    authorizer = TokenAuthorizer(keeper, app.refresh, clock=lambda: time[0])
    before = service.requests("/oauth2/token")
    service.emulator.faults.add(Fault(kind="status", path="oauth2/token", status=500))
    for _ in range(3):
        await authorizer.headers()
    assert service.requests("/oauth2/token") == before + 1
    time[0] += timedelta(seconds=31)
    await authorizer.headers()
    assert service.requests("/oauth2/token") == before + 2
    assert keeper.tokens != tokens


async def test_a_code_is_worth_nothing_without_the_verifier(service: Service) -> None:
    stolen = walk(service)["code"][0]
    with pytest.raises(ReauthorizeError, match="AC-101"):
        await service.app().exchange_code(stolen, Consent("奉行クラウド"))
    assert (await service.app().exchange_code(stolen, CONSENT)).access_token
    service.set(pkce="ignore")
    other = walk(service)["code"][0]
    assert (await service.app().exchange_code(other, Consent("奉行クラウド"))).access_token


async def test_the_issuer_is_compared_when_it_comes(service: Service) -> None:
    service.set(send_iss=True)
    consent, state = service.app().begin_consent(), "st-1"
    answer = {name: values[0] for name, values in walk(service, state=state).items()}
    assert replace(consent, state=state).code(answer) == answer["code"]
    elsewhere = replace(consent, state=state, issuer="https://id.obc.jp")
    with pytest.raises(ReauthorizeError, match="AC-106"):
        elsewhere.code(answer)


async def test_within_its_grace_a_rotated_token_works_once_more(service: Service) -> None:
    service.set(reuse_grace=60)
    app, tokens = service.app(), await consent(service)
    assert (await app.refresh(tokens)).refresh_token != (await app.refresh(tokens)).refresh_token
    with pytest.raises(ReauthorizeError, match="AC-101"):
        await app.refresh(tokens)
