"""連携トークンの更新: every consent is renewed, and what a person has to do is said once, here."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from pydantic import SecretStr

from blocks import BugyoCredentials
from connectors.bugyo.emulator import DEMO_FIXED_TOKEN, BugyoEmulator
from connectors.kit import utc_now
from flows.engine.store import Store
from flows.operations.tokens import COLUMNS, needs_renewal, renew_tokens
from tests.flows.conftest import client, store
from tests.flows.token_blocks import asked, block, bugyo, credentials_at, pair_of

__all__ = ["block", "bugyo", "client", "store"]

Emulated = tuple[BugyoEmulator, str]


async def table(client: PrefectClient, state: Any) -> dict[str, dict[str, str]]:
    """The report's lines by 接続情報."""
    run = ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id])
    (artifact,) = await client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=run))
    assert artifact.key == "tokens"
    lines = json.loads(str(artifact.data))
    assert all(tuple(line) == COLUMNS for line in lines)
    return {line["接続情報"]: line for line in lines}


async def test_renews_and_reports(
    block: str, bugyo: Emulated, store: Store, client: PrefectClient
) -> None:
    emulator, url = bugyo
    before: Any = await BugyoCredentials.aload(block)
    revoked, fixed = f"{block}-revoked", f"{block}-fixed"
    lost = credentials_at(url, **pair_of(emulator))
    assert lost.access_token is not None
    await lost.save(revoked)
    emulator.accounts.revoke(token=lost.access_token.get_secret_value())
    await credentials_at(url, fixed_token=SecretStr(DEMO_FIXED_TOKEN)).save(fixed)

    wanted = [block, revoked, fixed, "missing"]
    state: Any = await renew_tokens(wanted, return_state=True)
    assert state.name == "一部エラー"
    assert "更新 1" in state.message
    assert "エラー 2" in state.message
    assert "app-connect login" in state.message
    lines = await table(client, state)
    assert lines[block]["結果"] == "更新しました"
    assert "見込み" in lines[block]["有効期限"]
    assert lines[revoked]["結果"].startswith("エラー: AC-101")
    assert "許可する" in lines[revoked]["次にすること"]
    assert lines[fixed]["結果"] == "対象外"
    assert "AC-206" in lines["missing"]["結果"]

    after: Any = await BugyoCredentials.aload(block)
    assert after.access_token != before.access_token
    told = f"{state.message}{lines}"
    for secret in (before.access_token, after.refresh_token, lost.refresh_token):
        assert secret.get_secret_value() not in told
    # A person presses again: what was refused is asked for once more, because a person asks.
    requests = asked(emulator)
    state = await renew_tokens([revoked], return_state=True)
    assert (state.name, state.is_failed()) == ("ERROR", True)
    assert asked(emulator) == requests + 1


async def test_only_what_is_near_its_end_and_what_lies_idle(
    block: str, bugyo: Emulated, store: Store
) -> None:
    emulator, _ = bugyo
    credentials: Any = await BugyoCredentials.aload(block)
    now = utc_now()
    credentials.token_expires_at = now + timedelta(hours=9)
    await credentials.save(block, overwrite=True)
    state: Any = await renew_tokens([block], "期限が近いものだけ", 3, return_state=True)
    assert (state.name, asked(emulator)) == ("SUCCESS", 0)
    assert not needs_renewal(credentials, now, 3)
    assert needs_renewal(credentials, now + timedelta(hours=8, minutes=10), 3)
    credentials.token_issued_at = now - timedelta(days=3)
    await credentials.save(block, overwrite=True)
    state = await renew_tokens([block], "期限が近いものだけ", 3, return_state=True)
    assert (state.name, asked(emulator)) == ("SUCCESS", 1)


async def test_a_token_that_never_changes_is_no_error(store: Store, bugyo: Emulated) -> None:
    await credentials_at(bugyo[1], fixed_token=SecretStr(DEMO_FIXED_TOKEN)).save("only-fixed")
    state: Any = await renew_tokens(["only-fixed"], return_state=True)
    assert state.name == "SUCCESS"
    assert asked(bugyo[0]) == 0


async def test_without_a_database_a_person_reads_words(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("APP_CONNECT_DATABASE_URL")
    state: Any = await renew_tokens([], return_state=True)
    assert (state.name, state.message[:6]) == ("ERROR", "AC-701")
