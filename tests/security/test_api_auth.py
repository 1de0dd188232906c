"""``APP_CONNECT_API_AUTH``: UI and API ask for a log-in, and everything of ours knows it.

The whole stack as a person starts it. While it stands, the log-in is looked for where it must not
be: in the arguments of processes, in logs, in any file but the one of the command line's own.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest
from cryptography.fernet import Fernet

from deployments.stack.ports import free_port_variables
from deployments.stack.settings import (
    StackError,
    StackSettings,
    StackUrls,
    child_environment,
    prefect_environment,
)
from tests.commands import COMMAND, app_connect

SECRET = "cAnArY-api-auth-9f=7"
LOGIN = f"clerk:{SECRET}"
FORMS = tuple(
    form.encode()
    for form in (
        SECRET,
        base64.b64encode(LOGIN.encode()).decode().rstrip("="),
        SECRET.encode().hex(),
    )
)


@dataclass
class Running:
    state: Path
    api: str
    environment: dict[str, str]
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command in another terminal: it is not told the log-in."""
        known = {k: v for k, v in self.environment.items() if k != "APP_CONNECT_API_AUTH"}
        return app_connect(*arguments, env=known, own_process=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("auth") / "state"
    ports = free_port_variables()
    environment = child_environment(
        {
            "APP_CONNECT_STATE_DIR": str(state),
            "APP_CONNECT_DATABASE_URL": "",
            "APP_CONNECT_PREFECT_DATABASE_URL": "",
            "APP_CONNECT_API_AUTH": LOGIN,
            **ports,
        }
    )
    process = subprocess.Popen(
        [*COMMAND, "up", "--no-run"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    api = f"http://127.0.0.1:{ports['APP_CONNECT_PREFECT_PORT']}/api"
    made = Running(state, api, environment, process)
    try:
        for line in process.stdout:
            made.lines.append(line)
            if "Ctrl-C" in line:
                break
        assert process.poll() is None, "".join(made.lines)
        yield made
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGINT)
        process.wait(timeout=240)


def test_nobody_gets_in_without_it(running: Running) -> None:
    body = {"limit": 1}
    with httpx.Client(base_url=running.api, trust_env=False) as client:
        for path in ("/flow_runs/filter", "/block_documents/filter", "/logs/filter"):
            assert client.post(path, json=body).status_code == 401
            wrong = client.post(path, json=body, auth=("clerk", "guess"))
            assert wrong.status_code == 401
            right = client.post(path, json=body, auth=("clerk", SECRET))
            assert right.status_code == 200
        assert client.get("/admin/version").status_code == 401
        assert client.get("/health").status_code == 200  # says nothing but that it lives


def test_a_command_in_another_terminal_gets_in(running: Running) -> None:
    """Server, command line and worker know the log-in, or no run could end."""
    done = running.call("run", "sample", "--json")
    assert done.returncode == 3, done.stderr
    assert SECRET not in done.stdout + done.stderr
    done = running.call("history", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["result"] == "一部エラー"


def test_it_is_in_no_argument_of_any_process(running: Running) -> None:
    processes = psutil.Process(running.process.pid).children(recursive=True)
    assert len(processes) >= 4
    for process in processes:
        assert SECRET not in " ".join(process.cmdline())


def test_it_is_in_no_output_and_no_file_but_one(running: Running) -> None:
    assert SECRET not in "".join(running.lines)
    own = running.state / "client-environment.json"
    assert SECRET in own.read_text("utf-8")
    searched = 0
    for path in running.state.rglob("*"):
        if path == own or path.is_socket() or not path.is_file():
            continue
        content = path.read_bytes()
        searched += 1
        assert not any(form in content for form in FORMS), path
    assert searched > 500  # PostgreSQL's files among them


def test_only_the_owner_reads_what_is_secret(running: Running) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(running.state / "encryption.key") == 0o600
    assert mode(running.state / "client-environment.json") == 0o600
    assert mode(running.state / "logs") == 0o700
    assert mode(running.state / "exports") == 0o700
    for path in (running.state / "exports").iterdir():
        assert mode(path) == 0o600
    # Root runs PostgreSQL as another user, who has to pass; nobody writes there but the owner.
    assert mode(running.state) & 0o022 == 0
    assert mode(running.state) == 0o700 or os.geteuid() == 0
    Fernet((running.state / "encryption.key").read_bytes())


@pytest.mark.parametrize("value", ["password", ":password", "user:", "利用者:パスワード", "a:b\nc"])
def test_a_login_that_is_none_is_told_without_showing_it(tmp_path: Path, value: str) -> None:
    settings = StackSettings(state_dir=tmp_path, api_auth=value)
    with pytest.raises(StackError, match="APP_CONNECT_API_AUTH") as caught:
        prefect_environment(settings, StackUrls("http://p", "s", "d", {}))
    assert value not in str(caught.value)
    assert value not in repr(settings)
