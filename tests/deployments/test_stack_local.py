"""The stack starts, refuses what it must refuse, and leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from deployments.stack.ports import free_ports, is_free, require_free_ports
from deployments.stack.postgres import EmbeddedPostgres, with_driver
from deployments.stack.processes import Child, StateLock, python_path
from deployments.stack.settings import (
    PORTS,
    StackError,
    StackSettings,
    StackUrls,
    child_environment,
    prefect_environment,
    prepare_state,
    server_environment,
)

URLS = StackUrls(
    prefect="http://127.0.0.1:14200",
    store="postgresql+psycopg://u:himitsu-store@h/s",
    prefect_database="postgresql+asyncpg://u:himitsu-prefect@h/p",
    emulators={"kintone": "http://127.0.0.1:1", "bugyo": "http://127.0.0.1:2"},
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for a socket, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="ac-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def settings(folder: Path) -> StackSettings:
    return StackSettings(
        state_dir=folder / "state",
        database_url=None,  # not the one of the session's server
        prefect_database_url=None,
        **free_ports(),
    )


def test_a_busy_port_is_named_with_its_setting(settings: StackSettings) -> None:
    with socket.create_server(("127.0.0.1", settings.kintone_port)):
        assert not is_free("127.0.0.1", settings.kintone_port)
        with pytest.raises(StackError) as caught:
            require_free_ports(settings)
    message = str(caught.value)
    assert str(settings.kintone_port) in message
    assert "kintone エミュレーター" in message
    assert "APP_CONNECT_KINTONE_PORT" in message
    assert "対処" in message


def test_a_port_that_was_just_closed_is_free(settings: StackSettings) -> None:
    """After Ctrl-C connections linger in TIME_WAIT; starting again must work at once."""
    with socket.create_server(("127.0.0.1", settings.prefect_port)) as server:
        client = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        peer.close()
        client.close()
    require_free_ports(settings)


def test_one_port_for_two_things_is_refused(settings: StackSettings) -> None:
    settings.bugyo_port = settings.prefect_port
    with pytest.raises(StackError, match="APP_CONNECT_BUGYO_PORT と APP_CONNECT_PREFECT_PORT"):
        require_free_ports(settings)


def test_the_key_is_made_once_and_for_the_owner_only(settings: StackSettings) -> None:
    prepare_state(settings)
    first = settings.key_file.read_bytes()
    assert stat.S_IMODE(settings.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.logs_dir.stat().st_mode) == 0o700
    prepare_state(settings)
    assert settings.key_file.read_bytes() == first


def test_only_the_server_knows_key_and_database(settings: StackSettings) -> None:
    prepare_state(settings)
    key = settings.key_file.read_text()
    worker = prefect_environment(settings, URLS)
    assert key not in worker.values()
    assert not any("himitsu-prefect" in value for value in worker.values())
    server = server_environment(settings, URLS)
    assert server["PREFECT_SERVER_ENCRYPTION_KEY"] == key
    assert server["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == URLS.prefect_database


def test_the_users_own_prefect_does_not_leak_in(settings: StackSettings) -> None:
    theirs = {"PREFECT_API_KEY": "theirs", "PREFECT_PROFILE": "work", "LANG": "ja_JP.UTF-8"}
    ours = child_environment(prefect_environment(settings, URLS), theirs)
    assert "PREFECT_API_KEY" not in ours
    assert "PREFECT_PROFILE" not in ours
    assert ours["LANG"] == "ja_JP.UTF-8"
    assert ours["PREFECT_PROFILES_PATH"].startswith(str(settings.state_dir))


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_CONNECT_PREFECT_PORT", "14321")
    monkeypatch.setenv("APP_CONNECT_DATABASE_URL", "postgresql://u:himitsu@h/d")
    found = StackSettings()
    assert found.prefect_url == "http://127.0.0.1:14321"
    assert "himitsu" not in repr(found)


def test_any_postgresql_url_is_taken_and_no_other() -> None:
    assert with_driver("postgresql://u:p@h/d", "asyncpg") == "postgresql+asyncpg://u:p@h/d"
    assert with_driver("postgres://h/d", "psycopg") == "postgresql+psycopg://h/d"
    with pytest.raises(StackError, match="APP_CONNECT_DATABASE_URL"):
        with_driver("sqlite:///x.db", "psycopg")


def test_a_child_that_does_not_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    child = Child(
        "見本",
        [sys.executable, "-c", "import sys; print('port is gone'); sys.exit(3)"],
        dict(os.environ),
        tmp_path / "sample.log",
    )
    with pytest.raises(StackError) as caught:
        child.wait_until(lambda: False, seconds=10)
    assert "見本" in str(caught.value)
    assert "終了コード 3" in str(caught.value)
    assert "port is gone" in str(caught.value)
    child.finish()


def test_a_child_that_will_not_stop_is_killed_with_its_group(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    log = tmp_path / "stubborn.log"
    child = Child("x", [sys.executable, "-c", code], dict(os.environ), log, grace_seconds=0.5)
    child.wait_until(lambda: log.read_text() != "", seconds=40)
    child.terminate()
    child.finish()
    assert child.exit_code == -signal.SIGKILL
    wait_gone([int(log.read_text())])


def test_postgres_is_taken_over_from_a_dead_supervisor(folder: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path;"
        "from deployments.stack.postgres import EmbeddedPostgres;"
        "p = EmbeddedPostgres(Path(sys.argv[1])); p.start(['store']);"
        "print(p.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    data = folder / "pg"
    first = subprocess.run(
        [sys.executable, "-c", code, str(data)],
        env={**os.environ, **python_path()},
        capture_output=True,
        text=True,
        check=False,
    )
    pid = int(first.stdout)
    assert psutil.pid_exists(pid)
    server = EmbeddedPostgres(data)
    server.start(["store", "prefect"])
    assert server.pid == pid
    with psycopg.connect(server.url("prefect")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    # No other user of this machine may connect, although the wheel's default is to trust all.
    assert "trust" not in (data / "pg_hba.conf").read_text()
    server.stop()
    wait_gone([pid])
    server.start()  # and the same folder serves again in the same process
    server.stop()


def test_the_lock_names_the_running_stack(tmp_path: Path) -> None:
    first, second = StateLock(tmp_path / "lock"), StateLock(tmp_path / "lock")
    first.acquire("http://127.0.0.1:4200")
    with pytest.raises(StackError) as caught:
        second.acquire("http://127.0.0.1:9")
    assert "すでに起動しています" in str(caught.value)
    assert "http://127.0.0.1:4200" in str(caught.value)
    first.release()
    second.acquire("http://127.0.0.1:9")
    second.release()


UP = """
import sys, json, time
from deployments.stack.processes import stopping_signals
from deployments.stack.settings import StackError
from deployments.stack.stack import Stack
try:
    with stopping_signals(), Stack(emulators=False) as stack:
        print(json.dumps(stack.pids()), flush=True)
        while True:
            stack.check()
            time.sleep(0.2)
except KeyboardInterrupt:
    print("bye")
except StackError as error:
    sys.exit(f"{error}")
"""


def wait_gone(pids: list[int], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    for pid in pids:
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, psutil.Process(pid)
            time.sleep(0.05)


class Up:
    """A supervisor in a process of its own, as the CLI is."""

    def __init__(self, settings: StackSettings) -> None:
        names = ("state_dir", *PORTS)
        others = {k: v for k, v in os.environ.items() if not k.startswith(("APP_", "PREFECT_"))}
        own = {f"APP_CONNECT_{name.upper()}": str(getattr(settings, name)) for name in names}
        self.process = subprocess.Popen(
            [sys.executable, "-c", UP],
            env={**others, **python_path(), **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def pids(self) -> list[int]:
        """Everything it started, once it is up, with all descendants."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                named = json.loads(line)
                tree = psutil.Process(self.process.pid).children(recursive=True)
                return [*named.values(), *(process.pid for process in tree)]
        raise AssertionError(self.process.communicate()[1])


@pytest.fixture
def up(settings: StackSettings) -> Iterator[Callable[[], Up]]:
    started: list[Up] = []

    def start() -> Up:
        started.append(Up(settings))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.terminate()
            one.process.communicate(timeout=240)


def test_start_refuse_a_second_one_kill_start_again_and_ctrl_c(
    up: Callable[[], Up], settings: StackSettings
) -> None:
    """One story instead of three tests, because every start costs seconds."""
    first = up()
    pids = first.pids()
    assert len(set(pids)) >= 5  # server, worker, its forkserver, guard, PostgreSQL
    assert httpx.get(f"{settings.prefect_url}/api/health").json() is True

    second = up()
    _, refusal = second.process.communicate(timeout=80)
    assert second.process.returncode == 1
    assert "すでに起動しています" in refusal
    assert settings.prefect_url in refusal

    first.process.kill()
    third = up()  # at once: it waits until the guard has cleaned up
    third_pids = third.pids()
    wait_gone(pids, seconds=1)
    assert set(pids).isdisjoint(third_pids)

    os.killpg(third.process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    output, errors = third.process.communicate(timeout=240)
    assert "bye" in output
    assert not errors
    wait_gone(third_pids, seconds=1)
    assert is_free("127.0.0.1", settings.prefect_port)
