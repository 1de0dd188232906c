"""The callback: the right answer saves the tokens, every other one is refused in words."""

from __future__ import annotations

import asyncio
import html
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from blocks import BugyoCredentials
from connectors.bugyo.emulator import (
    DEMO_CLIENT_ID,
    DEMO_CLIENT_SECRET,
    DEMO_OBCID,
    DEMO_PASSWORD,
    DEMO_PORTAL_URL,
    DEMO_SUBSCRIPTION_KEY,
    DEMO_TENANTS,
    BugyoEmulator,
)
from connectors.kit import AppConnectError, Masker
from connectors.kit.consent import CALLBACK
from connectors.kit.emulator import serve
from flows.engine.pipeline import Tools
from flows.engine.store import Store
from flows.engine.tokens import Vault
from flows.parts import consents
from flows.parts.bugyo import open_bugyo
from tests.deployments.test_cli import _press

REDIRECT = "https://connect.example.co.jp/oauth/callback"


@pytest.fixture(scope="module")
def bugyo() -> Iterator[tuple[BugyoEmulator, str]]:
    emulator = BugyoEmulator(redirect_uris=[REDIRECT])
    with serve(emulator) as url:
        yield emulator, url


@pytest.fixture
async def name(known_blocks: None, bugyo: tuple[BugyoEmulator, str]) -> str:
    """Credentials that nobody has permitted yet."""
    made = f"consent-{uuid4().hex[:8]}"
    await BugyoCredentials(
        environment="URLを指定",
        api_url=bugyo[1],
        id_url=bugyo[1],
        subscription_key=SecretStr(DEMO_SUBSCRIPTION_KEY),
        client_id=DEMO_CLIENT_ID,
        client_secret=SecretStr(DEMO_CLIENT_SECRET),
        redirect_uri=REDIRECT,
        tenant_id=DEMO_TENANTS[0].id,
    ).save(made)
    return made


async def begin(store: Store, name: str) -> consents.Begun:
    return await consents.begin(store, await BugyoCredentials.aload(name))


def browse(begun: consents.Begun, bugyo_url: str, decision: str = "allow") -> dict[str, str]:
    """Log in and decide, as a person does; the query with which the browser comes back."""
    with httpx.Client(base_url=bugyo_url, trust_env=False) as browser:
        page = _press(browser.get(begun.url), browser, portal_url=DEMO_PORTAL_URL)
        page = _press(page, browser, obcid=DEMO_OBCID, password=DEMO_PASSWORD)
        back = _press(page, browser, decision=decision).headers["location"]
    assert back.startswith(f"{REDIRECT}?")
    return dict(parse_qsl(urlsplit(back).query))


def come_back(http: httpx.Client, query: Any) -> httpx.Response:
    return http.get(f"{CALLBACK}?{urlencode(query)}")


async def saved(name: str) -> BugyoCredentials:
    return await BugyoCredentials.aload(name)


async def told(store: Store, begun: consents.Begun) -> str:
    """What whoever waits is told: a code, or nothing."""
    try:
        await consents.wait(store, begun, 0)
    except AppConnectError as error:
        return error.code
    return ""


async def test_permitted_once_and_the_second_answer_is_refused(
    http: httpx.Client,
    store: Store,
    bugyo: tuple[BugyoEmulator, str],
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    begun = await begin(store, name)
    assert await told(store, begun) == "AC-114"
    block = await saved(name)
    assert block.consent_verifier is not None
    verifier = block.consent_verifier.get_secret_value()
    query = await asyncio.to_thread(browse, begun, bugyo[1])
    state = query["state"]

    # Ten browsers at the same moment: one is answered.
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: come_back(http, query), range(10)))
    assert sorted(a.status_code for a in answers) == [200] + [400] * 9
    good = next(a for a in answers if a.status_code == 200)
    assert "許可を受け取りました" in good.text
    assert name in good.text
    again = come_back(http, query)
    assert again.status_code == 400
    assert "AC-106" in again.text
    assert "2回目の応答" in again.text
    assert "をもう一度実行" in again.text or "もう一度実行し" in again.text
    for header, value in {
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
        "x-frame-options": "DENY",
    }.items():
        assert good.headers[header] == again.headers[header] == value
    assert good.headers["content-security-policy"].startswith("default-src 'none'")

    await consents.wait(store, begun)
    block = await saved(name)
    assert block.refresh_token is not None
    assert (block.consent_of, block.consent_verifier) == (None, None)
    async with open_bugyo(block, Tools(Masker(), Vault(store))) as opened:
        assert await opened.search_tenants()

    # Neither in our database nor in a log: the code, the state, the verifier, the tokens.
    assert block.access_token is not None
    secrets = [query["code"], state, verifier]
    secrets += [block.access_token.get_secret_value(), block.refresh_token.get_secret_value()]
    with store.begin() as db:
        rows = db.execute(text("SELECT row_to_json(c)::text FROM consent c")).scalars().all()
    lines = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    written = "\n".join([*rows, *lines])
    assert [each for each in secrets if each in written] == []
    assert [each for each in secrets if each in good.text + again.text] == []


async def test_denied(
    http: httpx.Client, store: Store, bugyo: tuple[BugyoEmulator, str], name: str
) -> None:
    begun = await begin(store, name)
    query = await asyncio.to_thread(browse, begun, bugyo[1], "deny")
    page = come_back(http, query)
    assert page.status_code == 400
    assert "AC-105" in page.text
    assert "「許可する」を押す" in html.unescape(page.text)
    assert await told(store, begun) == "AC-105"
    assert (await saved(name)).refresh_token is None
    assert come_back(http, query | {"code": "stolen"}).status_code == 400


@pytest.mark.parametrize(
    "how", ["forged", "no state", "twice", "expired", "wrong iss", "another one began", "code"]
)
async def test_refused(
    http: httpx.Client, store: Store, bugyo: tuple[BugyoEmulator, str], name: str, how: str
) -> None:
    begun = await begin(store, name)
    query = await asyncio.to_thread(browse, begun, bugyo[1])
    expected, words = "AC-106", ""
    match how:
        case "forged":
            query["state"] = "A" * 43
            words = "state が一致しません"
        case "no state":
            # With one passage alone it would be taken: 奉行クラウド may not send it back.
            await begin(store, name)
            del query["state"]
            words = "state がありません"
        case "twice":
            page = come_back(http, [*query.items(), ("state", "x")])
            assert page.status_code == 400
            assert "同じ項目が2回" in page.text
            return
        case "expired":
            with store.begin() as db:
                late = text("UPDATE consent SET expires_at = now() WHERE id = :id")
                db.execute(late, {"id": begun.id})
            expected, words = "AC-114", "10分"
        case "wrong iss":
            query["iss"] = "https://evil.example"
            words = "iss が一致しません"
        case "another one began":
            await begin(store, name)
            words = "あとから別の許可の操作が始まりました"
        case "code":
            query["code"] = "forged"
            expected = "AC-101"
    page = come_back(http, query)
    assert page.status_code == 400
    assert expected in page.text
    assert words in html.unescape(page.text)
    assert "<li>" in page.text, "it says what to do"
    if how in ("expired", "wrong iss", "another one began", "code"):
        assert await told(store, begun) == expected
    assert (await saved(name)).refresh_token is None


async def test_an_answer_without_state_is_taken_while_there_is_one_passage(
    http: httpx.Client, store: Store, bugyo: tuple[BugyoEmulator, str], name: str
) -> None:
    """Nobody knows whether 奉行クラウド sends it back; PKCE binds the code all the same."""
    with store.begin() as db:
        db.execute(text("DELETE FROM consent"))
    begun = await begin(store, name)
    query = await asyncio.to_thread(browse, begun, bugyo[1])
    del query["state"]
    assert come_back(http, query).status_code == 200
    assert await told(store, begun) == ""


def test_what_comes_from_outside_is_text(http: httpx.Client) -> None:
    page = http.get("/oauth/callback?error=<script>alert(1)</script>&state=<b>x</b>")
    assert page.status_code == 400
    assert "<script" not in page.text
    assert "<b>" not in page.text


async def test_a_callback_url_of_somebody_else_is_not_begun(store: Store, name: str) -> None:
    block: Any = await saved(name)
    block.redirect_uri = "https://connect.example.co.jp/elsewhere"
    with pytest.raises(AppConnectError, match="AC-205"):
        await consents.begin(store, block)
