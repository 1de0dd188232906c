"""Both databases on Debian's PostgreSQL, as docs/production.md tells the operator to make them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
import pytest

from deployments.backup import tools
from deployments.backup.archive import read_manifest
from deployments.backup.upgrade import fetch_programs
from deployments.stack.postgres import (
    EmbeddedPostgres,
    binaries_major,
    embedded_binaries,
    folder_major,
    running_url,
)

CANARY = "cAnArY"
COMMAND = [sys.executable, "-c", "from deployments.cli import main; main()"]


@contextlib.contextmanager
def embedded(folder: Path) -> Iterator[str]:
    """The store of a stopped machine."""
    server = EmbeddedPostgres(folder)
    server.start()
    yield server.url("app_connect")
    server.stop()


def command_lines(stop: threading.Event, seen: set[str]) -> None:
    """Everything that ``ps`` would have shown."""
    while not stop.is_set():
        for process in psutil.process_iter():
            try:
                seen.update(process.cmdline())
            except psutil.Error:
                continue
        time.sleep(0.02)


def row_counts(url: str) -> dict[str, int]:
    with psycopg.connect(url) as db:
        tables = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {
            name: db.execute(f'SELECT count(*) FROM "{name}"'.encode()).fetchone()[0]  # type: ignore[index]
            for (name,) in tables.fetchall()
        }


@pytest.fixture(scope="module")
def used(debian: Any, new_machine: Callable[..., Any]) -> Any:
    """A machine whose databases are on the operator's server, after its first run."""
    machine = new_machine(debian.create())
    stop, seen = threading.Event(), set[str]()
    watch = threading.Thread(target=command_lines, args=(stop, seen))
    watch.start()
    machine.said = machine.run("up", "--once", "--json")
    machine.first = json.loads(machine.said.stdout.strip().splitlines()[-1])
    file = machine.state.parent / "own.zip"
    machine.backup = machine.run("backup", str(file))
    machine.file = file
    stop.set()
    watch.join()
    machine.seen = seen
    return machine


def test_the_first_run_works_and_the_second_posts_nothing(used: Any) -> None:
    assert (used.first["result"], used.first["created"]) == ("一部エラー", 1191)
    assert not (used.state / "postgres").exists()
    again = used.once()
    assert (again["created"], again["updated"]) == (0, 0)
    assert set(used.writes()) == {1}


def test_the_password_shows_nowhere(used: Any) -> None:
    spellings = {CANARY, quote(CANARY)}
    assert any("pg_dump" in line for line in used.seen)  # we did look
    places = {
        "ps": "\n".join(used.seen),
        "output": used.said.stdout + used.said.stderr + used.backup.stdout + used.backup.stderr,
        "logs": "".join(f.read_text("utf-8", "replace") for f in (used.state / "logs").iterdir()),
    }
    for place, text in places.items():
        assert not [s for s in spellings if s in text], place
    for variable in ("APP_CONNECT_DATABASE_URL", "APP_CONNECT_PREFECT_DATABASE_URL"):
        plain = subprocess.run(
            [embedded_binaries() / "pg_dump", "--inserts", used.variables[variable]],
            capture_output=True,
            check=True,
        ).stdout
        assert CANARY.encode() not in plain
        assert len(plain) > 10_000
    # The one file that has it is its owner's alone.
    holders = [
        f
        for f in used.state.rglob("*")
        if f.is_file() and CANARY in f.read_text("utf-8", "replace")
    ]
    assert [f.name for f in holders] == ["client-environment.json"]
    assert holders[0].stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda d: {"APP_CONNECT_DATABASE_URL": d.url("app_connect", password=CANARY)}, "AC-705"),
        (lambda d: {"APP_CONNECT_PREFECT_DATABASE_URL": d.url("nothing")}, "AC-706"),
        (
            lambda d: {
                "APP_CONNECT_DATABASE_URL": f"postgresql://u:{CANARY}@127.0.0.1:9/app_connect"
            },
            "AC-701",
        ),
        (
            lambda d: {"APP_CONNECT_PREFECT_DATABASE_URL": d.url("app_connect")},
            "同じデータベースを指しています",
        ),
    ],
    ids=["password", "no-database", "nobody-there", "twice-the-same"],
)
def test_what_is_wrong_is_said_before_anything_starts(
    used: Any, debian: Any, new_machine: Callable[..., Any], change: Any, code: str
) -> None:
    machine = new_machine({**used.variables, **change(debian)})
    began = time.monotonic()
    done = machine.run("up", "--once")
    assert done.returncode == 1
    assert code in done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 20


def test_the_role_may_run_out_of_connections(
    used: Any, debian: Any, new_machine: Callable[..., Any]
) -> None:
    debian.sql("ALTER ROLE app_connect CONNECTION LIMIT 0")
    try:
        done = new_machine(used.variables).run("up", "--once")
    finally:
        debian.sql("ALTER ROLE app_connect CONNECTION LIMIT -1")
    assert done.returncode == 1
    assert "AC-703 データベースの接続数の上限" in done.stderr


def test_a_backup_goes_to_the_embedded_server_and_back_to_the_older_one(
    used: Any, debian: Any, new_machine: Callable[..., Any]
) -> None:
    assert used.backup.returncode == 0, used.backup.stderr
    manifest = read_manifest(used.file)
    assert manifest.postgres["store"].startswith(str(binaries_major(debian.binaries)))
    embedded = new_machine()
    embedded.follow(used)
    done = embedded.run("restore", str(used.file))
    assert done.returncode == 0, done.stderr
    after = embedded.once()
    assert (after["created"], after["updated"]) == (0, 0)
    assert set(embedded.writes()) == {1}

    newer = embedded.state.parent / "newer.zip"
    assert embedded.run("backup", str(newer)).returncode == 0
    back = new_machine(debian.create("_back"))
    back.follow(embedded)
    done = back.run("restore", str(newer))
    assert done.returncode == 0, done.stderr
    refused = back.run("restore", str(newer))
    assert refused.returncode == 1
    assert "空ではありません" in refused.stderr
    after = back.once()
    assert (after["created"], after["updated"]) == (0, 0)


def test_a_folder_of_an_older_postgresql_is_moved_and_kept(
    used: Any, debian: Any, new_machine: Callable[..., Any]
) -> None:
    """As after an update of the wheel: the programs that read the folder are gone."""
    machine = new_machine()
    machine.follow(used)
    data = machine.state / "postgres"
    old = type(debian)(machine.state, debian.binaries)
    old.control("initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8")
    (machine.state / "data").rename(data)
    control = [debian.binaries / "pg_ctl", "-D", data, "-w", "-l", data / "log"]
    options = f"-h '' -k {data}"
    how: dict[str, Any] = {"user": old.owner, "cwd": "/", "stdout": subprocess.DEVNULL}
    subprocess.run([*control, "-o", options, "start"], check=True, **how)
    try:
        at = f"host={data} user=postgres dbname="
        with psycopg.connect(f"{at}postgres", autocommit=True) as db:
            db.execute("CREATE DATABASE app_connect")
            db.execute("CREATE DATABASE prefect")
        before = {}
        for variable, name in (
            ("APP_CONNECT_DATABASE_URL", "app_connect"),
            ("APP_CONNECT_PREFECT_DATABASE_URL", "prefect"),
        ):
            url = f"postgresql://postgres@/{name}?host={data}"
            dump = machine.state / f"{name}.dump"
            with dump.open("wb") as target:
                tools.dump(used.variables[variable], target, embedded_binaries())
            tools.load(url, dump, embedded_binaries())
            before[name] = row_counts(url)
            assert before[name] == row_counts(used.variables[variable])
            if name == "app_connect":
                with psycopg.connect(url) as db:
                    asked = "SELECT count(*) FROM ledger WHERE entity = 'customer'"
                    customers = db.execute(asked).fetchone()
    finally:
        subprocess.run([*control, "-m", "fast", "stop"], check=True, **how)
    major = binaries_major(debian.binaries)

    refused = machine.run("up", "--once")
    assert refused.returncode == 1
    assert "AC-707" in refused.stderr
    assert "app-connect upgrade-database" in refused.stderr
    wrong = machine.run("upgrade-database", "--old-binaries", str(embedded_binaries()))
    assert wrong.returncode == 1
    assert folder_major(data) == major  # untouched

    done = machine.run("upgrade-database", "--old-binaries", str(debian.binaries))
    assert done.returncode == 0, done.stderr
    (kept,) = machine.state.glob(f"postgres-{major}-*")
    assert folder_major(kept) == major
    assert folder_major(data) == binaries_major(embedded_binaries())
    assert str(kept) in done.stdout
    assert not list(machine.state.glob("upgrade-*"))
    after = machine.once()
    assert (after["created"], after["updated"]) == (0, 0)
    assert set(machine.writes()) == {1}
    assert customers == (1191,)
    again = machine.run("upgrade-database")
    assert again.returncode == 0
    assert "必要はありません" in again.stdout


def test_the_programs_of_another_version_come_from_the_registry(tmp_path: Any) -> None:
    major = binaries_major(embedded_binaries())
    assert binaries_major(fetch_programs(major, tmp_path)) == major


def test_row_29_the_stack_restarts_a_killed_postgresql(new_machine: Callable[..., Any]) -> None:
    machine = new_machine()
    process = subprocess.Popen(
        [*COMMAND, "up", "--no-run"],
        env=machine.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    lines: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                pid = int((machine.state / "postgres" / "postmaster.pid").read_text().split()[0])
                os.kill(pid, signal.SIGKILL)
            if "起動し直しました" in line:
                break
        assert "起動し直しました" in lines[-1]
        ran = machine.run("run", "sample", "--json")
        assert ran.returncode == 3, ran.stdout + ran.stderr
        assert json.loads(ran.stdout.strip().splitlines()[-1])["created"] == 1191
    finally:
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=240)
    assert set(machine.writes()) == {1}


def test_what_was_posted_after_the_backup_is_not_posted_again(
    new_machine: Callable[..., Any],
) -> None:
    """The backup is taken at work, knows of nothing that was posted, and of a run that died."""
    machine = new_machine()
    file = machine.state.parent / "before.zip"
    process = subprocess.Popen(
        [*COMMAND, "up", "--no-run"],
        env=machine.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert any("Ctrl-C" in line for line in process.stdout)
        url = running_url(machine.state / "postgres", "app_connect")
        assert url is not None
        with psycopg.connect(url) as db:
            db.execute(
                "INSERT INTO connection (name, connector, lease_owner, lease_expires, fence) "
                "VALUES ('other', 'toy', gen_random_uuid(), now() + interval '1 day', 3)"
            )
            db.execute(
                "INSERT INTO run (id, connection, connector, service, trigger, mode, dry_run, "
                "business_date, started_at, stage, extracted, created, updated, unchanged, "
                "rejected, pending, message) VALUES (gen_random_uuid(), 'other', 'toy', '玩具', "
                "'手動', '差分', false, now(), now(), 'load', 1, 0, 0, 0, 0, 1, '')"
            )
            db.execute(
                "INSERT INTO ledger (connection, entity, source_key, external_key, content_hash, "
                "state, action, batch_id, run_id, updated_at) VALUES ('other', 'toy', '1', '1', "
                "'\\x00', 'pending', 'created', gen_random_uuid(), gen_random_uuid(), now())"
            )
        saved = machine.run("backup", str(file))
        assert saved.returncode == 0, saved.stderr
        assert machine.run("run", "sample").returncode == 3
        assert machine.run("restore", str(file), "--replace").returncode == 1  # it is running
    finally:
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=240)
    assert (len(machine.writes()), set(machine.writes())) == (1191, {1})
    key = (machine.state / "encryption.key").read_bytes().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert key not in file.read_bytes()
    manifest = read_manifest(file)
    assert (manifest.running, manifest.key) == (True, str(machine.state / "encryption.key"))

    restored = new_machine()
    refused = restored.run("restore", str(file))
    assert refused.returncode == 1
    assert f"cp （保管した encryption.key） {restored.state / 'encryption.key'}" in refused.stderr
    restored.follow(machine)
    done = restored.run("restore", str(file))
    assert done.returncode == 0, done.stderr
    refused = restored.run("restore", str(file))
    assert refused.returncode == 1
    assert "すでにデータベースがあります" in refused.stderr
    after = restored.once()
    # Masters are upserts: sent once more as an update of the same code, never as a second one.
    assert (after["created"], after["pending"], len(restored.writes())) == (0, 0, 1191)
    with embedded(restored.state / "postgres") as url, psycopg.connect(url) as db:
        other = "WHERE connection = 'other'"
        assert db.execute(f"SELECT state FROM ledger {other}".encode()).fetchall() == [("pending",)]
        rows = db.execute(f"SELECT result, message FROM run {other}".encode()).fetchall()
        assert [(result, message[:2]) for result, message in rows] == [("ERROR", "中断")]
        lease = db.execute("SELECT lease_owner, fence FROM connection WHERE name = 'other'")
        assert lease.fetchone() == (None, 3)
