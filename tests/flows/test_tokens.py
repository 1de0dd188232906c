"""連携トークン: one refresh for everybody, saved before it is used, never lost without a word."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from blocks import BugyoCredentials
from connectors.bugyo.emulator import (
    DEMO_CLIENT_ID,
    DEMO_CLIENT_SECRET,
    DEMO_REDIRECT_URI,
    DEMO_SUBSCRIPTION_KEY,
    DEMO_TENANTS,
    BugyoEmulator,
)
from connectors.kit import Masker, ReauthorizeError, SettingsError, Tokens, utc_now
from connectors.kit.emulator import Fault, serve
from flows.engine import Tools
from flows.engine import tokens as engine_tokens
from flows.engine.store import Store
from flows.engine.tokens import BlockKeeper, Vault
from flows.parts.bugyo import open_bugyo

SCRIPT = Path(__file__).with_name("token_processes.py")
_numbers = count(1)


@pytest.fixture
def bugyo() -> Iterator[tuple[BugyoEmulator, str]]:
    emulator = BugyoEmulator()
    with serve(emulator) as url:
        yield emulator, url


@pytest.fixture
async def block(prefect_server: Any, store: Store, bugyo: tuple[BugyoEmulator, str]) -> str:
    """Saved credentials with a pair from a consent; the name of the block."""
    emulator, url = bugyo
    pair = emulator.issue_tokens()
    name = f"tokens-{next(_numbers)}"
    credentials = BugyoCredentials(
        environment="URLを指定",
        api_url=url,
        id_url=url,
        subscription_key=SecretStr(DEMO_SUBSCRIPTION_KEY),
        tenant_id=DEMO_TENANTS[0].id,
        client_id=DEMO_CLIENT_ID,
        client_secret=SecretStr(DEMO_CLIENT_SECRET),
        redirect_uri=DEMO_REDIRECT_URI,
        access_token=SecretStr(pair["access_token"]),
        refresh_token=SecretStr(pair["refresh_token"]),
        token_issued_at=utc_now(),
        token_expires_at=utc_now() + timedelta(seconds=pair["expires_in"]),
    )
    await credentials.save(name)
    return name


def asked(emulator: BugyoEmulator) -> int:
    """Requests that the token endpoint saw."""
    return sum(n for call, n in emulator.faults.counts().items() if "/oauth2/token" in call)


async def keeper_of(name: str, store: Store) -> BlockKeeper:
    return Vault(store).keeper(await BugyoCredentials.aload(name))


def successor(old: Tokens) -> Tokens:
    return Tokens(f"{old.access_token}+", f"{old.refresh_token}+", issued_at=utc_now())


async def test_ten_processes_refresh_once(
    block: str, bugyo: tuple[BugyoEmulator, str], prefect_server: Any
) -> None:
    emulator, _ = bugyo
    emulator.accounts.expire_access()
    # Slow enough that all ten stand in line while the first one refreshes.
    emulator.faults.add(Fault(kind="latency", path="/oauth2/token", seconds=0.7))
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(SCRIPT), block, "10"],
        env={**prefect_server.env, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stdout.split("\n")[:-1] == [f"ok {len(DEMO_TENANTS)}"] * 10, ran.stderr[-2000:]
    assert asked(emulator) == 1
    assert emulator.books()["refreshes"] == 1
    # What was saved is the pair that works, and it can be refreshed again.
    emulator.accounts.expire_access()
    credentials: Any = await BugyoCredentials.aload(block)
    tools = Tools(Masker(), Vault(Store(prefect_server.store)))
    async with open_bugyo(credentials, tools) as client:
        assert await client.search_tenants()
    assert emulator.books()["refreshes"] == 2


async def test_many_tasks_of_one_process_do_not_block_each_other(block: str, store: Store) -> None:
    """More than there are threads and connections: the holder must still be able to let go."""
    refreshed = 0

    async def refresh(old: Tokens) -> Tokens:
        nonlocal refreshed
        refreshed += 1
        await asyncio.sleep(0.3)
        return successor(old)

    keepers = await asyncio.gather(*(keeper_of(block, store) for _ in range(20)))
    stale = await keepers[0].current()
    async with asyncio.timeout(20):
        got = await asyncio.gather(*(keeper.renew(stale, refresh) for keeper in keepers))
    assert refreshed == 1
    assert {pair.access_token for pair in got} == {f"{stale.access_token}+"}


async def test_the_new_pair_is_saved_before_it_is_returned(block: str, store: Store) -> None:
    keeper = await keeper_of(block, store)
    stale = await keeper.current()

    async def refresh(old: Tokens) -> Tokens:
        return successor(old)

    fresh = await keeper.renew(stale, refresh)
    saved = await (await keeper_of(block, store)).current()
    assert (saved.access_token, saved.refresh_token) == (fresh.access_token, fresh.refresh_token)
    assert saved.expires_at is None


async def test_a_refresh_that_fails_leaves_the_saved_pair(block: str, store: Store) -> None:
    keeper = await keeper_of(block, store)
    stale = await keeper.current()

    async def refused(old: Tokens) -> Tokens:
        raise ReauthorizeError("AC-101")

    with pytest.raises(ReauthorizeError):
        await keeper.renew(stale, refused)
    assert await (await keeper_of(block, store)).current() == stale


async def test_a_cancelled_run_still_saves_what_it_refreshed(block: str, store: Store) -> None:
    keeper = await keeper_of(block, store)
    stale = await keeper.current()
    left = asyncio.Event()

    async def refresh(old: Tokens) -> Tokens:
        left.set()
        await asyncio.sleep(0.3)
        return successor(old)

    task = asyncio.create_task(keeper.renew(stale, refresh))
    await left.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    saved = await (await keeper_of(block, store)).current()
    assert saved.access_token == f"{stale.access_token}+"
    with store.begin() as db:
        held = db.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"))
    assert held == 0


async def test_a_pair_that_cannot_be_saved_asks_for_a_new_consent(
    block: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = await keeper_of(block, store)
    stale = await keeper.current()

    async def refresh(old: Tokens) -> Tokens:
        # From here on the Prefect server cannot be reached.
        patch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
        refresh_global_settings_context()
        return successor(old)

    from prefect.context import refresh_global_settings_context

    monkeypatch.setattr(engine_tokens, "_SAVE_SECONDS", 0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")
        with pytest.raises(ReauthorizeError, match="奉行クラウド") as caught:
            await keeper.renew(stale, refresh)
    refresh_global_settings_context()
    assert caught.value.code == "AC-101"
    assert stale.access_token not in str(caught.value)


async def test_no_refresh_token_and_no_block(block: str, store: Store) -> None:
    credentials: Any = await BugyoCredentials.aload(block)
    credentials.refresh_token = None
    await credentials.save(block, overwrite=True)
    keeper = await keeper_of(block, store)

    async def never(old: Tokens) -> Tokens:
        raise AssertionError("nothing to refresh with")

    with pytest.raises(ReauthorizeError, match="AC-101"):
        await keeper.renew(await keeper.current(), never)
    await BugyoCredentials.adelete(block)
    with pytest.raises(SettingsError, match="AC-206"):
        await keeper.renew(await keeper.current(), never)
    with pytest.raises(SettingsError, match="AC-206"):
        Vault(store).keeper(BugyoCredentials(subscription_key=SecretStr("never saved")))
