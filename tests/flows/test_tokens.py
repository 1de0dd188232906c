"""連携トークン: saved before it is used, never lost without a word, never overwritten."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from blocks import BugyoCredentials, KintoneCredentials, OAuthBlock
from connectors.bugyo.emulator import (
    DEMO_CLIENT_ID,
    DEMO_CLIENT_SECRET,
    DEMO_FIXED_TOKEN,
    DEMO_REDIRECT_URI,
    BugyoEmulator,
)
from connectors.kit import (
    TOKEN_TIMEOUTS,
    FaultError,
    ReauthorizeError,
    SettingsError,
    TokenAuthorizer,
    Tokens,
    WaitError,
    bearer,
    utc_now,
)
from flows.engine.store import Store
from flows.engine.token_lock import alone
from flows.engine.token_marks import REFUSED, SENT, Mark, fingerprint, is_gone, this_process
from flows.engine.tokens import Pace, Vault, grant_notice
from flows.parts.oauth import oauth_blocks
from tests.flows.token_blocks import (
    QUICK,
    block,
    bugyo,
    credentials_at,
    keeper_of,
    pair_of,
    successor,
)

__all__ = ["block", "bugyo"]


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


async def test_a_pair_that_cannot_be_saved_asks_for_a_new_consent(block: str, store: Store) -> None:
    keeper = await keeper_of(block, store)
    stale = await keeper.current()

    async def refresh(old: Tokens) -> Tokens:
        # From here on the Prefect server cannot be reached.
        patch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
        refresh_global_settings_context()
        return successor(old)

    from prefect.context import refresh_global_settings_context

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


# --- the lock -----------------------------------------------------------------------------------


async def test_a_limit_of_the_server_on_idle_transactions_does_not_end_the_lock(
    block: str, prefect_server: Any
) -> None:
    options = "options=-c%20idle_in_transaction_session_timeout%3D200"
    url = prefect_server.store
    strict = Store(f"{url}{'&' if '?' in url else '?'}{options}")
    async with alone(strict, "idle", patience=0) as lock:
        await asyncio.sleep(0.6)
        assert await lock.held()
        with pytest.raises(WaitError, match="AC-104"):
            async with alone(strict, "idle", patience=0):
                raise AssertionError("two at once")


def _cut(store: Store) -> None:
    """End the connections that hold advisory locks, as a restart of PostgreSQL would."""
    with store.begin() as db:
        db.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_locks "
                "WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )


async def test_a_lock_cut_in_the_middle_lets_nobody_refresh_twice(block: str, store: Store) -> None:
    first, second = await keeper_of(block, store), await keeper_of(block, store)
    stale, sent, cut = await first.current(), 0, asyncio.Event()

    async def refresh(old: Tokens) -> Tokens:
        nonlocal sent
        sent += 1
        await asyncio.to_thread(_cut, store)
        cut.set()
        await asyncio.sleep(1.5)
        return successor(old)

    async def other() -> Tokens:
        await cut.wait()
        with pytest.raises(WaitError, match="AC-104"):
            await second.renew(stale, refresh)  # the lock is free, the mark is not
        patient = await keeper_of(block, store, replace(QUICK, patience=10))
        return await patient.renew(stale, refresh)

    got, theirs = await asyncio.gather(first.renew(stale, refresh), other())
    assert sent == 1
    assert got.access_token == theirs.access_token == f"{stale.access_token}+"


async def test_a_living_token_waits_for_nobody(block: str, store: Store) -> None:
    keeper = await keeper_of(block, store)
    stale = await keeper.current()
    now = utc_now()
    soon = replace(stale, issued_at=now - timedelta(hours=1), expires_at=now + timedelta(minutes=2))
    async with alone(store, f"token/bugyo-credentials/{block}", patience=0):
        with pytest.raises(WaitError, match="AC-104"):
            async with asyncio.timeout(1):
                await keeper.renew(soon, _never)


async def _never(old: Tokens) -> Tokens:
    raise AssertionError(f"no refresh was expected, of {old!r}")


async def test_a_living_token_goes_on_without_prefect(block: str, store: Store) -> None:
    """Row 30: a renewal that is only early must not stop a run while Prefect's API is down."""
    from prefect.context import refresh_global_settings_context

    keeper = await keeper_of(block, store)
    tokens = await keeper.current()
    assert tokens.expires_at is not None
    clock = [tokens.expires_at - timedelta(minutes=2)]
    authorizer = TokenAuthorizer(keeper, _never, clock=lambda: clock[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
        patch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")
        refresh_global_settings_context()
        assert await authorizer.headers() == bearer(tokens.access_token)
        clock[0] = tokens.expires_at
        with pytest.raises(FaultError, match="Prefect サーバー"):
            await authorizer.headers()
    refresh_global_settings_context()


# --- compare and swap ---------------------------------------------------------------------------


async def test_a_consent_given_meanwhile_is_not_overwritten(
    block: str, store: Store, bugyo: tuple[BugyoEmulator, str]
) -> None:
    keeper = await keeper_of(block, store)
    stale, newer = await keeper.current(), pair_of(bugyo[0])

    async def refresh(old: Tokens) -> Tokens:
        await credentials_at(bugyo[1], **newer).save(block, overwrite=True)
        return successor(old)

    got = await keeper.renew(stale, refresh)
    assert got.access_token == newer["access_token"].get_secret_value()
    saved = await (await keeper_of(block, store)).current()
    assert saved.refresh_token == newer["refresh_token"].get_secret_value()


async def test_a_refusal_after_somebody_else_renewed_is_no_refusal(
    block: str, store: Store, bugyo: tuple[BugyoEmulator, str]
) -> None:
    keeper = await keeper_of(block, store)
    newer = pair_of(bugyo[0])

    async def refused(old: Tokens) -> Tokens:
        await credentials_at(bugyo[1], **newer).save(block, overwrite=True)
        raise ReauthorizeError("AC-101")

    got = await keeper.renew(await keeper.current(), refused)
    assert got.access_token == newer["access_token"].get_secret_value()


async def test_a_form_edited_meanwhile_keeps_its_edits(block: str, store: Store) -> None:
    keeper = await keeper_of(block, store)

    async def refresh(old: Tokens) -> Tokens:
        edited: Any = await BugyoCredentials.aload(block)
        edited.tenant_id = "edited"
        await edited.save(block, overwrite=True)
        return successor(old)

    fresh = await keeper.renew(await keeper.current(), refresh)
    loaded: Any = await BugyoCredentials.aload(block)
    assert loaded.tenant_id == "edited"
    assert loaded.access_token.get_secret_value() == fresh.access_token
    assert loaded.renewal_state is None


# --- marks --------------------------------------------------------------------------------------


def test_processes_are_known_by_their_birth() -> None:
    ours = this_process()
    assert not is_gone(ours)
    assert is_gone(f"{ours[:-1]}x")
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    host, _, _ = ours.split("/")
    child.wait()
    assert is_gone(f"{host}/{child.pid}/1.00")
    assert not is_gone("another-host/1/1.00")
    assert not is_gone("nonsense")


def test_marks_lapse_and_belong_to_one_pair() -> None:
    now, minute = utc_now(), timedelta(minutes=1)
    far = Mark(SENT, "h", now, "another-host/1/1.00")
    assert far.in_flight(now, minute)
    assert not far.in_flight(now + minute, minute)
    assert not far.in_flight(now - minute, minute), "a clock that was set back"
    assert not replace(far, by=f"{this_process()[:-1]}x").in_flight(now, minute)
    block = BugyoCredentials(
        subscription_key=SecretStr("k"), renewal_state=REFUSED, renewal_of=fingerprint("one")
    )
    assert Mark.on(block, "one").state == REFUSED
    assert Mark.on(block, "two") == Mark()


def test_a_refresh_cannot_outlast_what_others_wait_for_it() -> None:
    pace = Pace()
    assert TOKEN_TIMEOUTS.read > 60, "faults, row 17: an answer after 60 s is still good"
    assert TOKEN_TIMEOUTS.connect + TOKEN_TIMEOUTS.total + pace.save < pace.in_flight


# --- what a person is told ----------------------------------------------------------------------


def test_every_oauth_block_has_a_client() -> None:
    assert set(oauth_blocks()) == set(OAuthBlock.__subclasses__())


def test_a_grant_that_will_lapse_is_announced_days_before() -> None:
    now = utc_now()
    block = credentials_at(
        "http://127.0.0.1:9",
        access_token=SecretStr("a"),
        refresh_token=SecretStr("r"),
        token_issued_at=now,
    )
    assert grant_notice(block, now + timedelta(days=9)) is None
    notice = grant_notice(block, now + timedelta(days=11))
    assert notice is not None
    assert "見込み" in notice
    assert "app-connect login" in notice
    assert "可能性" in (grant_notice(block, now + timedelta(days=15)) or "")
    block.renewal_state, block.renewal_of = REFUSED, fingerprint("r")
    assert "失効" in (grant_notice(block, now) or "")
    block.fixed_token = SecretStr(DEMO_FIXED_TOKEN)
    assert grant_notice(block, now + timedelta(days=15)) is None
    kintone = KintoneCredentials(
        subdomain="example", refresh_token=SecretStr("r"), token_issued_at=now
    )
    assert grant_notice(kintone, now + timedelta(days=400)) is None


async def test_a_run_announces_a_grant_that_will_lapse(world: Any) -> None:
    world.add(1)
    connection = await world.save()
    pair = world.bugyo.issue_tokens()
    connection.bugyo.fixed_token = None
    connection.bugyo.client_id = DEMO_CLIENT_ID
    connection.bugyo.client_secret = SecretStr(DEMO_CLIENT_SECRET)
    connection.bugyo.redirect_uri = DEMO_REDIRECT_URI
    connection.bugyo.access_token = SecretStr(pair["access_token"])
    connection.bugyo.refresh_token = SecretStr(pair["refresh_token"])
    connection.bugyo.token_issued_at = utc_now() - timedelta(days=11)
    connection.bugyo.token_expires_at = utc_now() + timedelta(hours=1)
    await connection.bugyo.save(world.name, overwrite=True)
    ended = await world.run()
    assert ended.state.name == "SUCCESS"
    assert "［お知らせ］" in ended.state.message
    assert "app-connect login" in ended.state.message
