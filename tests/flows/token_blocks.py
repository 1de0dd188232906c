"""Credentials with a real consent at a real emulator, for the tests of tokens."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from blocks import BugyoCredentials
from connectors.bugyo.emulator import (
    DEMO_CLIENT_ID,
    DEMO_CLIENT_SECRET,
    DEMO_REDIRECT_URI,
    DEMO_SUBSCRIPTION_KEY,
    DEMO_TENANTS,
    BugyoEmulator,
)
from connectors.kit import Tokens, utc_now
from connectors.kit.emulator import serve
from flows.engine.store import Store
from flows.engine.tokens import BlockKeeper, Pace, Vault

SCRIPT = Path(__file__).with_name("token_processes.py")
QUICK = Pace(cool_down=0.3, patience=0.0, in_flight=20.0, memory=60.0, save=0.5)
"""Everything that a test would otherwise wait for."""
_numbers = count(1)


@pytest.fixture
def bugyo() -> Iterator[tuple[BugyoEmulator, str]]:
    emulator = BugyoEmulator()
    with serve(emulator) as url:
        yield emulator, url


def pair_of(emulator: BugyoEmulator) -> dict[str, Any]:
    """The four fields of a block after 許可する."""
    pair = emulator.issue_tokens()
    return {
        "access_token": SecretStr(pair["access_token"]),
        "refresh_token": SecretStr(pair["refresh_token"]),
        "token_issued_at": utc_now(),
        "token_expires_at": utc_now() + timedelta(seconds=pair["expires_in"]),
    }


def credentials_at(url: str, **more: Any) -> BugyoCredentials:
    """Credentials of the demo application."""
    return BugyoCredentials(
        environment="URLを指定",
        api_url=url,
        id_url=url,
        subscription_key=SecretStr(DEMO_SUBSCRIPTION_KEY),
        tenant_id=DEMO_TENANTS[0].id,
        client_id=DEMO_CLIENT_ID,
        client_secret=SecretStr(DEMO_CLIENT_SECRET),
        redirect_uri=DEMO_REDIRECT_URI,
        **more,
    )


@pytest.fixture
async def block(prefect_server: Any, store: Store, bugyo: tuple[BugyoEmulator, str]) -> str:
    """Saved credentials with a pair from a consent; the name of the block."""
    emulator, url = bugyo
    name = f"tokens-{next(_numbers)}"
    await credentials_at(url, **pair_of(emulator)).save(name)
    return name


def asked(emulator: BugyoEmulator) -> int:
    """Requests that the token endpoint saw."""
    return sum(n for call, n in emulator.faults.counts().items() if "/oauth2/token" in call)


async def keeper_of(name: str, store: Store, pace: Pace = QUICK) -> BlockKeeper:
    return Vault(store, pace).keeper(await BugyoCredentials.aload(name))


def successor(old: Tokens) -> Tokens:
    return Tokens(f"{old.access_token}+", f"{old.refresh_token}+", issued_at=utc_now())


async def processes(server: Any, block: str, many: int, die_at: str = "") -> list[str]:
    """What that many processes say that use the credentials at the same instant."""
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(SCRIPT), block, str(many), die_at],
        env={**server.env, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=360,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout.split("\n")[:-1]
