"""クラウド経費 in 連携トークンの更新 and app-connect login: found by looking, kept in the block."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from blocks import MfExpenseCredentials
from connectors.kit.emulator import serve
from connectors.mfexpense.emulator import MfExpenseEmulator
from deployments.cli import connecting
from flows.engine.clock import JST
from flows.engine.store import Store
from flows.operations.tokens import renew_tokens
from tests.flows.conftest import client, store

__all__ = ["client", "store"]

NAME = "mf-tokens"
BACK = "https://localhost:8765/callback"


@pytest.fixture
def expense() -> Iterator[tuple[MfExpenseEmulator, str]]:
    emulator = MfExpenseEmulator()
    emulator.access.add_client("client", "secret", BACK)
    with serve(emulator) as url:
        yield emulator, url


async def test_a_consent_is_pasted_kept_and_renewed(
    prefect_server: Any,
    store: Store,
    expense: tuple[MfExpenseEmulator, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, url = expense
    await MfExpenseCredentials(
        client_id="client", client_secret=SecretStr("secret"), redirect_uri=BACK, endpoint=url
    ).save(NAME)

    def person(question: str, *, hide_input: bool) -> str:
        """Opens the address that was shown, presses 許可する, copies where the browser went."""
        assert hide_input
        (address,) = [line for line in capsys.readouterr().out.splitlines() if url in line]
        assert "アクセスの許可" in httpx.get(address).text
        return httpx.post(address, data={"decision": "allow"}).headers["location"]

    monkeypatch.setattr(connecting.typer, "prompt", person)
    assert await asyncio.to_thread(connecting.log_in, NAME) == 0
    told = capsys.readouterr().out
    first: Any = await MfExpenseCredentials.aload(NAME)
    assert first.uses_oauth
    assert first.token_expires_at - first.token_issued_at == timedelta(days=32)

    state: Any = await renew_tokens([NAME], return_state=True)
    assert state.name == "SUCCESS"
    second: Any = await MfExpenseCredentials.aload(NAME)
    assert state.message == (
        "連携トークン: 更新 1 / 更新不要・対象外 0 / エラー 0。有効期限: "
        f"「{NAME}」（マネーフォワード クラウド経費）は "
        f"アクセストークン {second.token_expires_at.astimezone(JST):%Y-%m-%d %H:%M}"
    )
    assert second.access_token != first.access_token
    assert second.refresh_token != first.refresh_token
    for secret in (first.access_token, first.refresh_token, second.refresh_token):
        assert secret.get_secret_value() not in told

    # The pair before is dead: only what was saved can be renewed again.
    await first.save(NAME, overwrite=True)
    state = await renew_tokens([NAME], return_state=True)
    assert state.name == "ERROR"
    assert "AC-101" in state.message
