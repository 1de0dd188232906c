"""The main job as a stranger meets it: ``app-connect up --once``, on its own ports and state."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deployments.catalog import entrances, operations
from deployments.samples import MAIN, sample_connections
from deployments.stack.ports import free_port_variables
from deployments.stack.settings import EMULATORS, StackUrls, child_environment
from tests.commands import COMMAND

URLS = StackUrls("", "", "", dict.fromkeys(EMULATORS, "http://127.0.0.1:1"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    state = tmp_path_factory.mktemp("up") / "state"
    return child_environment(
        {
            "APP_CONNECT_STATE_DIR": str(state),
            "APP_CONNECT_DATABASE_URL": "",
            "APP_CONNECT_PREFECT_DATABASE_URL": "",
            **free_port_variables(),
        }
    )


def once(environment: dict[str, str]) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """Exit status, how the other samples ended, and how the main one did."""
    done = subprocess.run(
        [*COMMAND, "up", "--once", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout.strip(), done.stderr
    *others, main = map(json.loads, done.stdout.strip().splitlines())
    return done.returncode, others, main


def books(environment: dict[str, str]) -> dict[str, Any]:
    state = Path(environment["APP_CONNECT_STATE_DIR"])
    held: dict[str, Any] = json.loads((state / "bugyo-emulator.json").read_text("utf-8"))
    return held


def test_counts_add_up_the_second_run_posts_nothing_and_ctrl_c_stops_everything(
    environment: dict[str, str],
) -> None:
    """One story, because every start of everything costs a minute."""
    status, others, first = once(environment)
    assert list(first) == [
        *("result", "extracted", "created", "updated", "unchanged"),
        *("rejected", "pending", "seconds", "flow_run_id"),
    ]
    assert (status, first["result"]) == (3, "一部エラー")
    assert first["extracted"] == 1200
    assert first["pending"] == 0
    assert first["extracted"] == sum(
        first[name] for name in ("created", "updated", "unchanged", "rejected")
    )
    held = books(environment)
    written = [books["customer"]["writes"] for books in held["masters"].values()]
    assert sum(map(len, written)) == first["created"]
    assert all(times == 1 for book in written for times in book.values())

    names = {sample.name for sample in sample_connections(URLS)} - {MAIN}
    assert {each["connection"] for each in others} == names
    for each in others:
        assert each["result"] in ("SUCCESS", "一部エラー"), each
        assert each["created"] > 0, each
        assert each["pending"] == 0, each

    rejected = {each["connection"]: each["rejected"] for each in others}
    _again_in_the_foreground(environment, rejected)
    # The services were started anew, and hold what they held before.
    assert books(environment) == held


def _again_in_the_foreground(environment: dict[str, str], rejected: dict[str, int]) -> None:
    """The second run posts nothing; what stands then, until Ctrl-C, is complete."""
    before = {p.pid for p in psutil.process_iter()}
    process = subprocess.Popen(
        [*COMMAND, "up", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        *others, second = (json.loads(line) for line in lines if line.startswith("{"))
        assert all((each["created"], each["updated"]) == (0, 0) for each in others), others
        assert {each["connection"]: each["rejected"] for each in others} == rejected
        assert second["result"] == "一部エラー"
        assert (second["created"], second["updated"], second["pending"]) == (0, 0, 0)
        url = f"http://127.0.0.1:{environment['APP_CONNECT_PREFECT_PORT']}"
        assert any(url in line for line in lines)
        assert httpx.get(f"{url}/api/health").json() is True
        gateway = f"http://127.0.0.1:{environment['APP_CONNECT_GATEWAY_PORT']}"
        assert httpx.get(f"{gateway}/health").json() == {
            "status": "ok",
            "database": True,
            "prefect": True,
            "worker": True,
        }
        filters = {"deployments": {"tags": {"all_": ["app-connect"]}}}
        deployed = httpx.post(f"{url}/api/deployments/filter", json=filters).json()
        names = [sample.name for sample in sample_connections(URLS)]
        assert len(deployed) == len(names) + len(operations()) + len(entrances())
        assert not any(d["paused"] for d in deployed)
        for name in names:
            (sample,) = [d for d in deployed if d["name"].endswith(f" {name}")]
            schedule = sample["schedules"][0]
            assert schedule["active"] is True
            assert schedule["schedule"]["cron"] == "0 5 * * *"
            assert schedule["schedule"]["timezone"] == "Asia/Tokyo"
        ours = {p.pid for p in psutil.Process(process.pid).children(recursive=True)}
        assert ours
    finally:
        os.kill(process.pid, signal.SIGINT)
        status = process.wait(timeout=160)
    assert status == 0
    deadline = time.monotonic() + 40
    while left := [pid for pid in ours if psutil.pid_exists(pid)]:
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.1)
    assert process.pid not in before
