"""PostgreSQL's own programs: found, and run without a password in a command line.

``ps`` shows the arguments of every process to everybody; the password goes into the environment
of the one process (``PGPASSWORD``), which only its owner can read.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from connectors.kit.database import translated
from deployments.stack.external import plain_url
from deployments.stack.postgres import binaries_major, embedded_binaries
from deployments.stack.settings import StackError

_HEADER_LINES = 60
"""Settings of a dump stand at its beginning, before any data."""


def server_version(url: str) -> tuple[int, str]:
    """Major version of the server at ``url``, and its version as it says it.

    Raises:
        AppConnectError: ``AC-70x``, it cannot be asked.
    """
    with translated(plain_url(url)), psycopg.connect(plain_url(url), connect_timeout=10) as db:
        return db.info.server_version // 10000, db.info.parameter_status("server_version") or ""


def programs(at_least: int) -> Path:
    """Folder of pg_dump, pg_restore and psql of major version ``at_least`` or newer.

    A dump needs programs that are as new as the server. The embedded ones come first, then those
    on ``PATH``, then Debian's folders.

    Raises:
        StackError: there are none.
    """
    candidates = [embedded_binaries()]
    if found := shutil.which("pg_dump"):
        candidates.append(Path(found).resolve().parent)
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in candidates:
        if (folder / "pg_dump").exists() and _tool_major(folder) >= at_least:
            return folder
    raise StackError(
        f"PostgreSQL {at_least} 以降の pg_dump がありません。\n"
        f"対処: PostgreSQL {at_least} のクライアント（Debian では postgresql-client-{at_least}）を"
        "入れて、もう一度実行してください。"
    )


def _tool_major(folder: Path) -> int:
    if (folder / "postgres").exists():
        return binaries_major(folder)
    said = subprocess.run(
        [folder / "pg_dump", "--version"], capture_output=True, text=True, check=True
    ).stdout
    # It says: pg_dump (PostgreSQL) 15.18 (Debian …)
    return int(said.partition(") ")[2].partition(".")[0])


def _connection(url: str) -> tuple[str, dict[str, str]]:
    """A connection string without the password, and the environment that has it."""
    parts = conninfo_to_dict(plain_url(url))
    password = parts.pop("password", None)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("APP_CONNECT_")}
    if password is not None:
        environment["PGPASSWORD"] = str(password)
    # Their messages go into ours.
    environment["LC_ALL"] = "C.UTF-8"
    return make_conninfo("", **parts), environment


def _check(name: str, status: int, errors: IO[bytes]) -> None:
    if status == 0:
        return
    errors.seek(0)
    said = errors.read().decode("utf-8", "replace").strip().splitlines()[-5:]
    raise StackError(f"{name} が失敗しました（終了コード {status}）。\n" + "\n".join(said))


def dump(url: str, target: IO[bytes], folder: Path) -> None:
    """Write one database as of this instant, in pg_dump's custom format; it may be in use.

    Raises:
        StackError: pg_dump failed; with the end of what it said.
    """
    where, environment = _connection(url)
    options = ["--format=custom", "--no-owner", "--no-privileges", "--lock-wait-timeout=60s"]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [folder / "pg_dump", *options, f"--dbname={where}"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        with process:
            if process.stdout is not None:
                shutil.copyfileobj(process.stdout, target, 1 << 20)
        _check("pg_dump", process.returncode, errors)


def load(url: str, source: Path, folder: Path) -> None:
    """Load a dump into an empty database, in one transaction: all of it or nothing.

    As SQL through psql rather than by pg_restore itself: a dump of a newer server begins with
    settings that an older one does not know.

    Raises:
        StackError: the database refused something; with the end of what it said.
    """
    major, _ = server_version(url)
    where, environment = _connection(url)
    # Without owners and privileges everything belongs to the user of the URL; a comment on an
    # extension may only be made by its owner, who is somebody else there.
    options = ["--no-owner", "--no-privileges", "--no-comments", "--file=-"]
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as more:
        reader = subprocess.Popen(
            [folder / "pg_restore", *options, source], stdout=subprocess.PIPE, stderr=more
        )
        writer = subprocess.Popen(
            [
                *(folder / "psql", "--no-psqlrc", "--quiet", "--single-transaction"),
                *("--set=ON_ERROR_STOP=1", "--output=/dev/null", f"--dbname={where}"),
            ],
            env=environment,
            stdin=subprocess.PIPE,
            stderr=errors,
        )
        with writer, reader:
            if reader.stdout is not None and writer.stdin is not None:
                try:
                    for line in _for_server(reader.stdout, major):
                        writer.stdin.write(line)
                    if reader.wait() != 0:
                        # Half a dump must not be committed.
                        writer.kill()
                except BrokenPipeError:
                    reader.kill()
        _check("psql", writer.returncode, errors)
        _check("pg_restore", reader.returncode, more)


def _for_server(lines: IO[bytes], major: int) -> Iterator[bytes]:
    for number, line in enumerate(lines):
        newer = major < 17 and line.startswith(b"SET transaction_timeout")
        if not (newer and number < _HEADER_LINES):
            yield line
