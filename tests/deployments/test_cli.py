"""The commands, as a person or a script types them, against a real server and a real store."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from blocks import BugyoCredentials, KintoneCredentials
from connectors.bugyo.emulator import (
    DEMO_CLIENT_ID,
    DEMO_CLIENT_SECRET,
    DEMO_FIXED_TOKEN,
    DEMO_OBCID,
    DEMO_PASSWORD,
    DEMO_PORTAL_URL,
    DEMO_SUBSCRIPTION_KEY,
    DEMO_TENANTS,
    BugyoEmulator,
)
from connectors.kintone.emulator import KintoneEmulator
from connectors.kit.emulator import free_port, serve
from connectors.kit.tables import read_cp932_csv
from deployments.samples import customers
from deployments.stack.settings import child_environment
from tests.commands import COMMAND, app_connect

NAME = "cli-sample"
NUMBER = "AC-0000-0002"
TOKEN = "cli-test-api-token-Zx81"


@dataclass
class World:
    env: dict[str, str]
    bugyo: BugyoEmulator
    bugyo_url: str
    redirect_uri: str

    def call(self, *arguments: str, status: int = 0, own_process: bool = False) -> str:
        done = app_connect(*arguments, env=self.env, own_process=own_process)
        assert done.returncode == status, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done.stdout if status in (0, 3) else done.stderr


@pytest.fixture(scope="module")
def world(prefect_server: Any, warm_worker: Any) -> Iterator[World]:
    import asyncio

    from deployments.licensing import issue_sample
    from flows.customers_from_kintone import CustomerSettings, CustomersFromKintoneConnection
    from flows.engine.store import Store, migrate

    kintone = KintoneEmulator()
    kintone.add_app("1", "顧客管理", customers.FIELDS, tokens={TOKEN: {"view"}})
    kintone.seed("1", customers.customers(40, awkward=True))
    redirect_uri = f"http://127.0.0.1:{free_port()}/oauth2/callback"
    bugyo = BugyoEmulator(redirect_uris=[redirect_uri])
    migrate(prefect_server.store)
    issue_sample(Store(prefect_server.store), NUMBER)
    with serve(kintone) as kintone_url, serve(bugyo) as bugyo_url:

        async def save() -> None:
            await BugyoCredentials(
                environment="URLを指定",
                api_url=bugyo_url,
                id_url=bugyo_url,
                subscription_key=SecretStr(DEMO_SUBSCRIPTION_KEY),
                fixed_token=SecretStr(DEMO_FIXED_TOKEN),
                client_id=DEMO_CLIENT_ID,
                client_secret=SecretStr(DEMO_CLIENT_SECRET),
                redirect_uri=redirect_uri,
                tenant_id=DEMO_TENANTS[0].id,
            ).save(NAME, overwrite=True)
            await KintoneCredentials(
                subdomain="example", api_token=SecretStr(TOKEN), endpoint=kintone_url
            ).save(NAME, overwrite=True)
            await CustomersFromKintoneConnection(
                registration_number=NUMBER,
                phone="03-0000-0000",
                bugyo=await BugyoCredentials.aload(NAME),
                kintone=await KintoneCredentials.aload(NAME),
                settings=CustomerSettings(app="1"),
            ).save(NAME, overwrite=True)

        asyncio.run(save())
        env = child_environment({**prefect_server.env, "COLUMNS": "200"})
        yield World(env, bugyo, bugyo_url, redirect_uri)


def test_connections_are_listed_and_deployed(world: World) -> None:
    listed = json.loads(world.call("connections", "--json"))
    told = {"サービス名": "得意先 kintone→商奉行", "連携タイミング": "毎日 5:00"}
    assert told.items() <= next(each for each in listed if each["接続"] == NAME).items()
    assert NAME in world.call("deploy", NAME)
    assert "AC-206" in world.call("deploy", "no-such-connection", status=1, own_process=True)


def test_a_connection_is_deleted_when_its_name_is_given_twice(world: World) -> None:
    import asyncio

    from flows.customers_from_kintone import CustomersFromKintoneConnection as Kind

    async def copy() -> None:
        # Saved, never deployed, never run.
        await (await Kind.aload(NAME)).save("cli-gone", overwrite=True)

    asyncio.run(copy())
    wrong = ("connections", "--delete", "cli-gone", "--confirm", NAME)
    assert "AC-231 確認の名前が違う" in world.call(*wrong, status=1)
    asyncio.run(Kind.aload("cli-gone"))
    printed = world.call(*wrong[:-1], "cli-gone")
    assert "接続「cli-gone」を削除しました" in printed
    assert re.search(rf"kintone 接続情報\s+│\s+「{NAME}」", printed), printed
    with pytest.raises(ValueError, match="cli-gone"):
        asyncio.run(Kind.aload("cli-gone"))


def test_a_run_its_history_and_its_rejects(world: World, tmp_path: Path) -> None:
    world.call("deploy", NAME)
    printed = world.call("run", NAME, "--json", status=3, own_process=True)
    ended = json.loads(printed.splitlines()[-1])
    assert (ended["extracted"], ended["pending"]) == (40, 0)
    assert ended["extracted"] == ended["created"] + ended["rejected"]

    printed = world.call("history", "-c", NAME)
    for word in ("処理履歴（最近5件）", "得意先 kintone→商奉行", "手動", "一部エラー", "取得 40"):
        assert word in printed
    newest = json.loads(world.call("history", "-c", NAME, "--json"))[0]
    assert newest["id"] == ended["flow_run_id"]

    path = tmp_path / "rejects.csv"
    world.call("rejects", NAME, "--csv", str(path))
    rows = read_cp932_csv(path.read_bytes())
    assert len(rows) == ended["rejected"]
    assert all(row["対処"] and row["理由"] for row in rows)
    assert len(json.loads(world.call("rejects", NAME, "--json"))) == ended["rejected"]

    past = ("--mode", "期間", "--from", "2001-10-01", "--to", "2001-10-31")
    assert json.loads(world.call("run", NAME, *past, "--json").splitlines()[-1])["extracted"] == 0
    newest = json.loads(world.call("history", "-c", NAME, "--json"))[0]
    assert newest["mode"] == "期間"
    assert newest["message"].startswith("期間 2001/10/01〜2001/10/31: 取得 0 / ")


def test_the_same_idempotency_key_is_the_same_run(world: World) -> None:
    world.call("deploy", NAME)
    arguments = ("run", NAME, "--idempotency-key", "cli-1", "--json")
    runs = [json.loads(world.call(*arguments, status=3).splitlines()[-1]) for _ in range(2)]
    assert runs[0]["flow_run_id"] == runs[1]["flow_run_id"]


def test_unproven_assumptions_are_named(world: World) -> None:
    printed = world.call("bugyo", "check", NAME)
    assert "まだ確認されていない前提" in printed
    assert "ImportCustomer" in printed


def test_without_a_server_it_says_what_to_do(tmp_path: Path) -> None:
    env = child_environment({"APP_CONNECT_STATE_DIR": str(tmp_path)})
    done = app_connect("history", env=env, own_process=True)
    assert done.returncode == 1
    assert "make run" in done.stderr


def _press(page: httpx.Response, browser: httpx.Client, **fields: str) -> httpx.Response:
    """Fill in the form of a page and press its button, as a browser would."""
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.text))
    action = re.findall(r'action="([^"]+)"', page.text)[0]
    return browser.post(action, data={**hidden, **fields})


@pytest.mark.parametrize("decision", ["deny", "allow"])
def test_login_with_obcid_saves_the_tokens(
    world: World, decision: str, prefect_server: Any
) -> None:
    process = subprocess.Popen(
        [*COMMAND, "login", NAME],
        env=world.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    address = next(line.strip() for line in process.stdout if line.startswith("http"))
    with httpx.Client(base_url=world.bugyo_url, trust_env=False) as browser:
        page = _press(browser.get(address), browser, portal_url=DEMO_PORTAL_URL)
        page = _press(page, browser, obcid=DEMO_OBCID, password=DEMO_PASSWORD)
        back = _press(page, browser, decision=decision).headers["location"]
        assert parse_qs(urlsplit(address).query)["state"] == parse_qs(urlsplit(back).query)["state"]
        shown = _retry(lambda: browser.get(back))
    assert ("許可を受け取りました" in shown.text) is (decision == "allow")
    _, complaint = process.communicate(timeout=120)
    assert process.returncode == (0 if decision == "allow" else 1), complaint

    import asyncio

    block = asyncio.run(BugyoCredentials.aload(NAME))
    saved = getattr(block, "refresh_token", None)
    assert (saved is not None) is (decision == "allow")


def _retry(call: Callable[[], httpx.Response]) -> httpx.Response:
    """The listener opens a moment after the address was printed."""
    import time

    deadline = time.monotonic() + 40
    while True:
        try:
            return call()
        except httpx.ConnectError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
