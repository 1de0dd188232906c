"""What is wrong with a block is told by the names on its form, and takes no secret along."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from blocks import BugyoCredentials, KintoneCredentials
from connectors.kit import AppConnectError, Masker
from connectors.kit.emulator import Emulator, serve
from deployments.cli.connecting import deploy_connections, print_connections
from flows.customers_from_kintone import PIPELINE
from flows.engine.opening import load_connection, secrets_of
from flows.engine.pipeline import Tools
from flows.parts.bugyo import open_bugyo
from flows.parts.kintone import open_kintone

SECRET = "cAnArY-opening-9f+/=7"
TYPED = "tYpEd-4711"
"""Typed into a field that is none of the secret ones; it may be one all the same."""


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and everything that hangs on it, shown or not."""
    while error is not None:
        yield error
        yield from chain(error.__cause__)
        error = error.__context__


def assert_silent(error: BaseException) -> None:
    for each in chain(error):
        said = f"{each!r} {each} {each.args} {vars(each)}"
        assert "cAnArY" not in said
        assert "tYpEd" not in said


class Vault:
    """No block is saved here, so no token can be kept."""

    def keeper(self, credentials: Any) -> Any:
        raise AssertionError(credentials)


@pytest.fixture(scope="module")
def somewhere() -> Iterator[str]:
    """An address where somebody listens."""
    with serve(Emulator()) as url:
        yield url


@pytest.fixture
def tools() -> Tools:
    return Tools(Masker(), Vault())


@pytest.mark.parametrize(
    ("values", "code", "says"),
    [
        ({"api_token": None}, "AC-102", "認証情報"),
        ({"api_token": " , "}, "AC-205", "入力: 0個"),
        ({"api_token": ",".join(f"{SECRET}{n}" for n in range(10))}, "AC-205", "入力: 10個"),
        ({"api_token": f"{SECRET}\nbreak"}, "AC-102", "認証情報"),
        ({"api_token": f"{SECRET}全角"}, "AC-102", "認証情報"),
        ({"endpoint": "http://["}, "AC-205", "接続先のURL"),
        ({"endpoint": "kintone"}, "AC-205", "接続先のURL"),
        ({"endpoint": "ftp://127.0.0.1:9"}, "AC-205", "接続先のURL"),
    ],
)
async def test_kintone(
    values: dict[str, Any], code: str, says: str, tools: Tools, somewhere: str
) -> None:
    given = {
        "subdomain": "example",
        "endpoint": somewhere,
        "api_token": SECRET,
        "client_secret": SECRET,
        **values,
    }
    credentials = KintoneCredentials(**given)
    tools.masker.add(*secrets_of(credentials))
    with pytest.raises(AppConnectError) as caught:
        async with open_kintone(credentials, tools) as client:
            await client.form_fields("1")
    assert caught.value.code == code
    assert says in str(caught.value)
    assert_silent(caught.value)


@pytest.mark.parametrize(
    ("values", "code", "says"),
    [
        ({"fixed_token": None}, "AC-101", "許可する"),
        (
            {"fixed_token": None, "refresh_token": SECRET, "client_secret": SECRET},
            "AC-205",
            "コールバックURL",
        ),
        ({"fixed_token": f"{SECRET}\nbreak"}, "AC-102", "認証情報"),
        ({"subscription_key": f"{SECRET}鍵"}, "AC-102", "認証情報"),
        ({"api_url": "http://["}, "AC-205", "接続先URL"),
        ({"api_url": "http://example.com"}, "AC-205", "http://example.com"),
        ({"api_url": None}, "AC-205", "URL が空"),
    ],
)
async def test_bugyo(
    values: dict[str, Any], code: str, says: str, tools: Tools, somewhere: str
) -> None:
    given = {
        "environment": "URLを指定",
        "api_url": somewhere,
        "subscription_key": SECRET,
        "fixed_token": SECRET,
        "tenant_id": "b7d0c2f4-1001",
        **values,
    }
    credentials = BugyoCredentials(**given)
    tools.masker.add(*secrets_of(credentials))
    with pytest.raises(AppConnectError) as caught:
        async with open_bugyo(credentials, tools) as client:
            await client.search_tenants()
    assert caught.value.code == code
    assert says in str(caught.value)
    assert_silent(caught.value)


def test_a_token_is_masked_as_it_is_typed_and_as_it_is_sent() -> None:
    typed = KintoneCredentials(subdomain="example", api_token=SecretStr(" first-one , second-one "))
    masker = Masker(secrets_of(typed))
    assert masker.mask("a first-one b second-one c") == "a ******** b ******** c"


async def test_what_no_longer_fits_is_named_as_on_the_form(world: Any) -> None:
    """After an update of the program, or a document that somebody wrote by hand."""
    case = world.new_case("misfit")
    async with world.client() as client:
        await world.make(client, case)
    for settings, says in (
        ({"code": "得意先コード"}, "「設定 → アプリID」が空です"),
        ({"app": "1", "昔の項目": TYPED}, "「設定 → 昔の項目」は使えない項目です"),
        (
            {"app": TYPED},
            "「設定 → アプリID」の値が正しくありません",
        ),
    ):
        await world.rewrite("misfit", settings)
        with pytest.raises(AppConnectError) as caught:
            await load_connection(PIPELINE, "misfit")
        assert caught.value.code == "AC-205"
        assert f"接続「misfit」の{says}）" in str(caught.value)
        assert_silent(caught.value)


async def test_a_connection_that_does_not_exist(world: Any) -> None:
    del world  # the server
    with pytest.raises(AppConnectError, match="AC-206") as caught:
        await load_connection(PIPELINE, "no-such-connection")
    assert "接続「no-such-connection」が見つかりませんでした" in str(caught.value)


async def test_one_bad_connection_hides_no_other(world: Any, capfd: Any) -> None:
    """``app-connect connections`` and ``deploy`` go on, and tell what is wrong with it."""
    for name in ("fits", "fits-not"):
        async with world.client() as client:
            await world.make(client, world.new_case(name))
    await world.rewrite("fits-not", {"app": TYPED})
    await asyncio.to_thread(print_connections, as_json=True)
    status = await asyncio.to_thread(deploy_connections, ["fits", "fits-not"])
    out, err = capfd.readouterr()
    assert '"fits"' in out
    assert '"fits-not"' in out
    assert "登録しました: fits\n" in out
    assert status == 1
    assert err.count("接続「fits-not」の「設定 → アプリID」の値が正しくありません") == 2
    assert "tYpEd" not in out + err
