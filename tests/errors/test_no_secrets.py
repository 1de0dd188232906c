"""Secrets are in encrypted block documents and nowhere else, however a run ends.

Canaries sit in every secret field of every block. After a success, a failure and a crash
everything that was written anywhere is searched for them, in every form in which they travel.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.kit.emulator import Fault
from tests.commands import app_connect

CANARY = b"cAnArY"
ECHO = '{"errors":[{"message":"Bearer cAnArY-fixed-token-9f+/=7 is unknown"}]}'
API = (
    *("flow_runs", "task_runs", "logs", "artifacts", "deployments", "block_documents"),
    *("events", "flows", "work_pools", "variables", "block_types", "block_schemas"),
)


def shapes(secret: bytes) -> Iterator[str]:
    """The forms in which a secret may be written: as it is, hex, base64 at any offset.

    Percent-encoding leaves letters alone, so that is the first form again.
    """
    yield secret.decode()
    yield secret.hex()
    for offset in range(3):
        text = base64.b64encode(b"\0" * offset + secret).decode()
        yield text[-(-offset * 8 // 6) : (offset + len(secret)) * 8 // 6]


LEAK = re.compile("|".join(map(re.escape, dict.fromkeys(shapes(CANARY)))))


def leaks(text: str) -> list[str]:
    """Every finding with what stands around it."""
    return [text[max(0, m.start() - 120) : m.end() + 60] for m in LEAK.finditer(text)]


@pytest.mark.parametrize("before", ["", "a", "ab"])
def test_the_search_finds_what_it_looks_for(before: str) -> None:
    text = f"{before}cAnArY-x"
    for form in (text, text.encode().hex(), base64.b64encode(text.encode()).decode()):
        assert leaks(f"...{form}...")
    assert not leaks("a bird")


async def _crash(world: Any) -> Any:
    """A run that is killed while its request is on the way."""
    late = Fault(kind="latency", path="ImportCustomer", seconds=20.0)
    case = world.new_case("canary-crash", bugyo_faults=(late,))
    async with world.client() as client:
        deployment, kintone, bugyo = await world.make(client, case)
        run = await world.start(client, deployment, case)
        while not any("ImportCustomer" in each for each in bugyo.faults.counts()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        pid = (await client.read_flow_run(run)).infrastructure_pid
        os.kill(int(str(pid).rpartition(":")[2]), signal.SIGKILL)
        return await world.outcome(client, run, kintone, bugyo)


@pytest.fixture(scope="module")
def ends(world: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run with rejects, one that fails with its token echoed, one refreshed, one killed."""
    exports = tmp_path_factory.mktemp("exports")
    issued: list[str] = []

    def expired(bugyo: Any, values: dict[str, Any]) -> None:
        world.oauth(bugyo, values)
        bugyo.accounts.expire_access()

    async def play() -> dict[str, Any]:
        cases = [
            world.new_case(
                "canary-success",
                records=30,
                duplicate=True,
                environment={"APP_CONNECT_EXPORT_DIR": str(exports)},
            ),
            world.new_case(
                "canary-echo",
                bugyo_faults=(
                    Fault(kind="status", status=400, path="^/(?!__)", times=None, body=ECHO),
                ),
            ),
            world.new_case("canary-oauth", prepare=expired),
        ]
        crash, found = await asyncio.gather(_crash(world), world.play_all(cases))
        return {**found, "canary-crash": crash}

    found: dict[str, Any] = asyncio.run(play())
    accounts = found["canary-oauth"].bugyo.accounts
    issued += [*accounts.access, *accounts._refresh]
    return {**found, "exports": exports, "issued": [t for t in issued if not LEAK.search(t)]}


def test_the_runs_ended_as_they_should(ends: dict[str, Any]) -> None:
    assert ends["canary-success"].state.is_completed(), ends["canary-success"].message
    assert ends["canary-oauth"].state.name == "SUCCESS", ends["canary-oauth"].message
    assert ends["canary-echo"].message.startswith("AC-205 ")
    assert "******** is unknown" in ends["canary-echo"].message
    assert ends["canary-crash"].state.is_crashed()
    assert len(ends["issued"]) >= 4


def test_databases(ends: dict[str, Any], world: Any, postgres: Any) -> None:
    """Every column of Prefect's database and of the store; block documents are unreadable."""
    dumped = world.dump(postgres)
    for table in ("block_document", "flow_run_state", "log", "artifact", "ledger", "events"):
        assert f".{table}\n" in dumped
    assert "canary-success" in dumped
    assert not leaks(dumped)
    assert not [token for token in ends["issued"] if token in dumped]


def test_api_answers(ends: dict[str, Any], prefect_server: Any) -> None:
    said = ""
    with httpx.Client(base_url=prefect_server.api, timeout=30) as api:
        for name in API:
            step = 50 if name == "events" else 200
            for offset in range(0, 10 * step, step):
                body: dict[str, Any] = {"limit": step}
                body |= {} if name == "events" else {"offset": offset}
                answer = api.post(f"/{name}/filter", json=body).raise_for_status().text
                said += answer
                if name == "events" or len(answer) < 3:
                    break
        shown = api.post("/block_documents/filter", json={"include_secrets": True}).text
    assert "canary-success" in said
    assert leaks(shown)  # asked for on purpose they come: the search works on answers
    assert not leaks(said)
    assert not [token for token in ends["issued"] if token in said]


def test_log_files(ends: dict[str, Any], session_dir: Path) -> None:
    """Of the server, the worker and its runs."""
    files = [*session_dir.rglob("*.log")]
    assert {"worker-0.log", "prefect-server.log"} <= {file.name for file in files}
    for file in files:
        text = file.read_text("utf-8", "replace")
        assert not leaks(text), file
        assert not [token for token in ends["issued"] if token in text]


def test_csv_export_and_command_line(ends: dict[str, Any], world: Any, tmp_path: Path) -> None:
    del world
    written = [file.read_bytes().decode("cp932") for file in ends["exports"].iterdir()]
    assert written
    said = "".join(written)
    for command in (
        ["history", "--limit", "50", "--json"],
        ["rejects", "canary-success", "--csv", str(tmp_path / "rejects.csv")],
        ["connections"],
        ["run", "canary-echo", "--json"],
    ):
        ended = app_connect(*command, own_process=command[0] == "run")
        assert "Traceback" not in ended.stderr, ended.stderr
        said += ended.stdout + ended.stderr
    said += (tmp_path / "rejects.csv").read_bytes().decode("cp932")
    assert "AC-205" in said
    assert not leaks(said)
    assert not [token for token in ends["issued"] if token in said]
