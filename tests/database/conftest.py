"""What an operator has: a PostgreSQL server of his own, of another version than the embedded one.

Debian's package ``postgresql``; `.ci/run` installs it where it is missing.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from connectors.kit.emulator import free_port
from deployments.stack.ports import free_port_variables
from deployments.stack.processes import Guard, python_path
from deployments.stack.settings import child_environment

PASSWORD = "cAnArY p@ss/w:rd%41'"
"""Every character that a URL, a shell or a connection string treats in its own way."""

COMMAND = [sys.executable, "-c", "from deployments.cli import main; main()"]


def debian_binaries() -> Path:
    """The oldest of Debian's servers that are installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    assert found, "Debian's package postgresql is missing: see .ci/run"
    return found[0].parent


@dataclass
class Server:
    """Debian's PostgreSQL on a folder of its own, with passwords, on 127.0.0.1."""

    folder: Path
    binaries: Path
    port: int = 0
    owner: str | None = None

    def __post_init__(self) -> None:
        if os.geteuid() == 0:  # PostgreSQL refuses to be root
            self.owner = pwd.getpwnam("postgres").pw_name
            shutil.chown(self.folder, self.owner)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def control(self, program: str, *arguments: str) -> None:
        """Run one of its programs on its data folder."""
        subprocess.run(
            [self.binaries / program, "-D", self.data, *arguments],
            user=self.owner,
            cwd="/",
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def start(self) -> None:
        secret = self.folder / "password"
        secret.write_text("boss\n")
        secret.chmod(0o644)
        self.control("initdb", "-U", "boss", "--pwfile", str(secret), "--auth=scram-sha-256")
        self.port = free_port()
        listen = f"-p {self.port} -h 127.0.0.1 -k {self.folder}"
        self.control("pg_ctl", "-w", "-l", str(self.folder / "data" / "log"), "-o", listen, "start")

    def stop(self) -> None:
        self.control("pg_ctl", "-w", "-m", "fast", "stop")

    def sql(self, *statements: str, database: str = "postgres") -> None:
        """What the operator types as the server's administrator."""
        url = f"postgresql://boss:boss@127.0.0.1:{self.port}/{database}"
        with psycopg.connect(url, autocommit=True) as db:
            for statement in statements:
                db.execute(statement.encode())

    def url(self, database: str, *, user: str = "app_connect", password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def create(self, suffix: str = "") -> dict[str, str]:
        """Two databases as docs/production.md says; the variables that name them."""
        for name in (f"app_connect{suffix}", f"prefect{suffix}"):
            self.sql(
                f"CREATE DATABASE {name} OWNER app_connect TEMPLATE template0 ENCODING 'UTF8'",
                f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
            )
        self.sql("CREATE EXTENSION pg_trgm", database=f"prefect{suffix}")
        return {
            "APP_CONNECT_DATABASE_URL": self.url(f"app_connect{suffix}"),
            "APP_CONNECT_PREFECT_DATABASE_URL": self.url(f"prefect{suffix}"),
        }


@pytest.fixture(scope="session")
def debian() -> Iterator[Server]:
    """The operator's server with the role ``app_connect``."""
    with tempfile.TemporaryDirectory(prefix="ac-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        server = Server(Path(name), debian_binaries())
        server.start()
        guard = Guard(Path(name) / "guard.log")
        guard.watch_postgres(server.data, server.owner)
        with psycopg.connect(
            f"postgresql://boss:boss@127.0.0.1:{server.port}/postgres", autocommit=True
        ) as db:
            db.execute(
                sql.SQL("CREATE ROLE app_connect LOGIN PASSWORD {}").format(sql.Literal(PASSWORD))
            )
        yield server
        server.stop()
        guard.dismiss()


@dataclass
class Machine:
    """A state folder with its ports: what ``app-connect`` is told by its environment."""

    state: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.variables = free_port_variables() | {
            "APP_CONNECT_DATABASE_URL": "",
            "APP_CONNECT_PREFECT_DATABASE_URL": "",
            **self.variables,
        }

    @property
    def environment(self) -> dict[str, str]:
        own = {"APP_CONNECT_STATE_DIR": str(self.state), **self.variables, **python_path()}
        return child_environment(own)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``app-connect …`` to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def once(self) -> dict[str, Any]:
        """``app-connect up --once``."""
        done = self.run("up", "--once", "--json")
        assert done.returncode in (0, 3), done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found

    def writes(self) -> list[int]:
        """How often 奉行クラウド wrote each record, from its own books."""
        held = json.loads((self.state / "bugyo-emulator.json").read_text("utf-8"))
        books = [masters["customer"] for masters in held["masters"].values()]
        return [times for book in books for times in book["writes"].values()]

    def follow(self, other: Machine) -> None:
        """Take over what is not in a backup: the key, and 奉行クラウド, which is where it was."""
        self.state.mkdir(parents=True, exist_ok=True)
        for name in ("encryption.key", "bugyo-emulator.json"):
            shutil.copy(other.state / name, self.state / name)


@pytest.fixture(scope="session")
def new_machine() -> Iterator[Callable[..., Machine]]:
    """Makes machines on folders that are short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="ac-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)  # Debian's programs work in it as another user
        count = iter(range(100))

        def make(variables: dict[str, str] | None = None) -> Machine:
            return Machine(Path(name) / str(next(count)), dict(variables or {}))

        yield make
