"""Rows 14-18 of the fault matrix: 連携トークン under fire.

I6: a grant is usable, or a person is asked to press 許可する; never two refreshes in flight; the
newest pair is stored. The judge is the emulator's own count of requests and refreshes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from blocks import BugyoCredentials, KintoneCredentials
from connectors.bugyo.emulator import DEMO_TENANTS, BugyoEmulator
from connectors.kintone import SCOPES
from connectors.kit import FaultError, Masker, ReauthorizeError, WaitError, utc_now
from connectors.kit.emulator import Fault
from flows.engine import Tools
from flows.engine.store import Store
from flows.engine.tokens import Vault
from flows.parts.bugyo import oauth_app, open_bugyo
from tests.flows.conftest import World, known_blocks, new_world, store
from tests.flows.token_blocks import (
    QUICK,
    SCRIPT,
    asked,
    block,
    bugyo,
    credentials_at,
    keeper_of,
    pair_of,
    processes,
)

__all__ = ["block", "bugyo", "known_blocks", "new_world", "store"]

Emulated = tuple[BugyoEmulator, str]
OK = f"ok {len(DEMO_TENANTS)}"


async def refresh_of(name: str, store: Store) -> Any:
    """The real refresh of the block's OAuth application."""
    credentials: Any = await BugyoCredentials.aload(name)
    return oauth_app(credentials, Tools(Masker(), Vault(store))).refresh


async def works(name: str, store: Store) -> bool:
    """Whether the saved credentials open 奉行クラウド."""
    credentials: Any = await BugyoCredentials.aload(name)
    async with open_bugyo(credentials, Tools(Masker(), Vault(store, QUICK))) as client:
        return bool(await client.search_tenants())


# --- 14: the access token lapses between two pages ------------------------------------------------


async def test_row_14_access_token_lapses_between_pages(new_world: Callable[..., World]) -> None:
    world = new_world()
    kintone = world.kintone
    kintone.add_oauth_client("client-0001", "secret-0001", "https://gateway.example/callback")
    many = 1200
    records = [
        {"得意先コード": f"{n:06d}", "得意先名": f"株式会社ためし{n}"} for n in range(1, many + 1)
    ]
    kintone.seed(world.app, records, updated_at=utc_now() - timedelta(days=1))

    def pages() -> int:
        seen = [r for r in kintone.faults.requests if r.path == "/k/v1/records.json"]
        return len(seen)

    def tokens() -> int:
        return sum(r.path == "/oauth2/token" for r in kintone.faults.requests)

    base = KintoneCredentials(
        subdomain="example",
        client_id="client-0001",
        client_secret=SecretStr("secret-0001"),
        redirect_uri="https://gateway.example/callback",
        endpoint=world._urls[0],
    )
    connection = await world.save()
    pair = kintone.access.pair("client-0001", "https://gateway.example/callback", " ".join(SCOPES))
    connection.kintone = base.model_copy(
        update={
            "access_token": SecretStr(pair["access_token"]),
            "refresh_token": SecretStr(pair["refresh_token"]),
            "token_issued_at": utc_now(),
            "token_expires_at": utc_now() + timedelta(hours=1),
        }
    )
    await connection.kintone.save(world.name, overwrite=True)
    lapsed: list[int] = []

    def clock() -> datetime:
        # After the second page the service's clock is past the end of the token, ours is not.
        if pages() >= 3 and not lapsed:
            lapsed.append(pages())
            kintone.access.expire()
        return datetime.now(UTC)

    kintone.clock = kintone.access.clock = clock
    ran = await world.run()
    assert lapsed, "the token never lapsed"
    assert ran.row.result == "SUCCESS", ran.row.message
    assert tokens() == 1
    assert ran.counts[:2] == (many, many)
    assert len(world.customers) == many


# --- 15: ten processes at once ------------------------------------------------------------------


async def test_row_15_ten_processes_refresh_once(
    block: str, bugyo: Emulated, prefect_server: Any, store: Store
) -> None:
    emulator, _ = bugyo
    emulator.accounts.expire_access()
    # Slow enough that all ten stand in line while the first one refreshes.
    emulator.faults.add(Fault(kind="latency", path="/oauth2/token", seconds=0.7))
    assert await processes(prefect_server, block, 10) == [OK] * 10
    assert asked(emulator) == 1
    assert emulator.books()["refreshes"] == 1
    # What was saved is the pair that works, and it can be refreshed again.
    emulator.accounts.expire_access()
    assert await works(block, store)
    assert emulator.books()["refreshes"] == 2


# --- 16: kill -9 at each step -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "requests"), [("token-before-mark", 0), ("token-marked", 0), ("token-saved", 1)]
)
async def test_row_16_killed_where_nothing_is_lost(
    block: str, bugyo: Emulated, prefect_server: Any, store: Store, point: str, requests: int
) -> None:
    emulator, _ = bugyo
    emulator.accounts.expire_access()
    assert await processes(prefect_server, block, 1, point) == ["died 9"]
    assert asked(emulator) == requests
    assert await works(block, store)
    assert asked(emulator) == 1


async def test_row_16_killed_between_rotation_and_store_asks_for_a_consent(
    block: str, bugyo: Emulated, prefect_server: Any, store: Store
) -> None:
    emulator, _ = bugyo
    emulator.accounts.expire_access()
    assert await processes(prefect_server, block, 1, "mid-refresh") == ["died 9"]
    assert emulator.books()["refreshes"] == 1
    # The mark is recognised: the old pair is tried once, by whoever comes first, and refused.
    assert await processes(prefect_server, block, 5) == ["AC-101"] * 5
    assert asked(emulator) == 2, "one try of the old pair, and no loop"
    with pytest.raises(ReauthorizeError) as caught:
        await works(block, store)
    assert f"（{block}）" in str(caught.value)
    assert "app-connect login" in str(caught.value)
    assert "許可する" in str(caught.value)
    assert asked(emulator) == 2
    # 許可する, and all is well: no mark of the old pair is in the way.
    credentials: Any = await BugyoCredentials.aload(block)
    assert credentials.refresh_token is not None, "nothing is deleted"
    for name, value in pair_of(emulator).items():
        setattr(credentials, name, value)
    await credentials.save(block, overwrite=True)
    assert await works(block, store)
    emulator.accounts.expire_access()
    assert await works(block, store)


async def test_row_16_killed_between_rotation_and_store_within_a_reuse_grace(
    block: str, bugyo: Emulated, prefect_server: Any, store: Store
) -> None:
    emulator, _ = bugyo
    emulator.settings.reuse_grace = 60
    emulator.accounts.expire_access()
    assert await processes(prefect_server, block, 1, "mid-refresh") == ["died 9"]
    assert await works(block, store)
    assert asked(emulator) == 2


@pytest.mark.parametrize("grace", [0.0, 600.0])
async def test_row_16_killed_mid_refresh_twenty_times(
    bugyo: Emulated, prefect_server: Any, store: Store, grace: float
) -> None:
    """The sixth kill point, ten times each way: the grant goes on, or a person is asked for one."""
    emulator, url = bugyo
    emulator.settings.reuse_grace = grace
    names = [f"killed-{int(grace)}-{n}" for n in range(10)]
    for name in names:
        await credentials_at(url, **pair_of(emulator)).save(name)
    emulator.accounts.expire_access()
    assert await processes(prefect_server, ",".join(names), 10, "mid-refresh") == ["died 9"] * 10
    assert asked(emulator) == 10
    said = await processes(prefect_server, ",".join(names), 10)
    assert said == ["ok 2" if grace else "AC-101"] * 10
    assert asked(emulator) == 20, "the old pair is tried exactly once"


async def test_row_16_killed_while_the_request_is_under_way(
    block: str, bugyo: Emulated, prefect_server: Any, store: Store
) -> None:
    emulator, _ = bugyo
    emulator.settings.reuse_grace = 60
    emulator.accounts.expire_access()
    emulator.faults.add(Fault(kind="latency", path="/oauth2/token", seconds=5))
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPT), block, "1", ""),
        env={**prefect_server.env, "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not asked(emulator):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    os.killpg(child.pid, signal.SIGKILL)  # the script and the process it forked
    await child.wait()
    assert await works(block, store)


# --- 17: 500, then invalid_grant, then slow -------------------------------------------------------


async def test_row_17_a_500_is_waited_out_and_ends_no_grant(
    block: str, bugyo: Emulated, store: Store
) -> None:
    emulator, _ = bugyo
    emulator.faults.add(Fault(kind="status", path="/oauth2/token", status=500, times=2))
    keeper = await keeper_of(block, store, replace(QUICK, patience=10))
    started = time.monotonic()
    await keeper.renew(await keeper.current(), await refresh_of(block, store))
    assert asked(emulator) == 3
    assert time.monotonic() - started > QUICK.cool_down * 3, "0.3 s, then twice as long"
    assert await works(block, store)


@pytest.mark.parametrize("kind", ["status", "drop_before", "maintenance"])
async def test_row_17_a_crowd_does_not_hammer_the_endpoint(
    block: str, bugyo: Emulated, store: Store, kind: Any
) -> None:
    emulator, _ = bugyo
    emulator.faults.add(Fault(kind=kind, path="/oauth2/token", times=None))
    pace = replace(QUICK, cool_down=30)
    refresh = await refresh_of(block, store)
    keepers = await asyncio.gather(*(keeper_of(block, store, pace) for _ in range(6)))
    stale = await keepers[0].current()
    got = await asyncio.gather(*(k.renew(stale, refresh) for k in keepers), return_exceptions=True)
    assert all(isinstance(error, WaitError | FaultError) for error in got), got
    assert asked(emulator) == 1
    assert sum(getattr(error, "code", "") == "AC-104" for error in got) == 5
    assert await keepers[0].current() == stale


async def test_row_17_500_then_invalid_grant_then_slow(
    block: str, bugyo: Emulated, store: Store
) -> None:
    emulator, _ = bugyo
    path, refused = "/oauth2/token", '{"error":"invalid_grant"}'
    emulator.faults.add(Fault(kind="status", path=path, status=500))
    emulator.faults.add(Fault(kind="status", path=path, status=400, body=refused))
    emulator.faults.add(Fault(kind="latency", path=path, seconds=2))
    keeper, refresh = await keeper_of(block, store), await refresh_of(block, store)
    stale = await keeper.current()
    with pytest.raises(FaultError):
        await keeper.renew(stale, refresh)
    await asyncio.sleep(QUICK.cool_down)
    for _ in range(3):
        with pytest.raises(ReauthorizeError, match="AC-101"):
            await keeper.renew(stale, refresh)
    assert asked(emulator) == 2, "a refused grant is not asked for again and again"
    assert await (await keeper_of(block, store)).current() == stale, "nothing is deleted"
    # A person presses 連携トークンの更新: asked once more, and the slow answer is waited for.
    fresh = await keeper.renew(stale, refresh, insist=True)
    assert fresh.access_token != stale.access_token
    assert await works(block, store)


async def test_row_17_an_answer_lost_after_the_rotation(
    block: str, bugyo: Emulated, store: Store
) -> None:
    emulator, _ = bugyo
    emulator.faults.add(Fault(kind="drop_after", path="/oauth2/token"))
    keeper = await keeper_of(block, store, replace(QUICK, patience=10))
    with pytest.raises(ReauthorizeError, match="AC-101"):
        await keeper.renew(await keeper.current(), await refresh_of(block, store))
    assert asked(emulator) == 2, "the old pair once more, and then a person"


# --- 18: the consent is revoked -----------------------------------------------------------------


async def test_row_18_consent_revoked_stops_this_connection_only(
    new_world: Callable[..., World],
) -> None:
    revoked, other = new_world(), new_world(tenant=1)
    for world in (revoked, other):
        connection = await world.save()
        world.add(1)
        if world is revoked:
            connection.bugyo.fixed_token = None
            connection.bugyo.client_id = "appconnect01"
            app = world.bugyo.accounts.applications["appconnect01"]
            connection.bugyo.client_secret = SecretStr(app.client_secret)
            connection.bugyo.redirect_uri = next(iter(app.redirect_uris))
            for name, value in pair_of(world.bugyo).items():
                setattr(connection.bugyo, name, value)
            await connection.bugyo.save(world.name, overwrite=True)
    secret: Any = await BugyoCredentials.aload(revoked.name)
    revoked.bugyo.accounts.revoke(token=secret.access_token.get_secret_value())
    ended, fine = await revoked.run(), await other.run()
    assert ended.row.result == "ERROR"
    assert "AC-101" in ended.row.message
    assert f"（{revoked.name}）" in ended.row.message
    assert secret.access_token.get_secret_value() not in str(ended.row)
    assert not revoked.customers
    assert fine.row.result == "SUCCESS"
    assert len(other.customers) == 1
