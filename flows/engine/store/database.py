"""Opening the store: engine, sessions, migrations, and how its failures are told to a person."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
import tenacity
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Dialect, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session

from connectors.kit import FaultError, SettingsError
from connectors.kit.database import CROWDED, SERVICE, STARTING, refusal, translated

P = ParamSpec("P")
T = TypeVar("T")

URL_VARIABLE = "APP_CONNECT_DATABASE_URL"
LOCK_SECONDS = 90
"""How long a statement waits for a lock: somebody else's maintenance of half a minute passes."""

MIGRATION_LOCK_SECONDS = 600
"""The same for a migration, which needs the tables for itself and may wait for a run's end."""

IDLE_TRANSACTION_SECONDS = 30
"""How long a transaction may do nothing, shorter than `LOCK_SECONDS`: that of a process that was
frozen (or whose machine is gone) is ended by the server, and nobody waits for its locks for ever.
Ours take milliseconds; the one that has to wait, `flows.engine.token_lock`, says so itself."""

OUTAGE_SECONDS = 20.0
"""How long a database that is being restarted, or is crowded, is waited for, once an outage."""

_IDLE_SECONDS = 1.0  # a connection that rested longer is tried before it is used
_checked: set[str] = set()  # stores whose schema this process has seen
_MIGRATION_LOCK = 0x4143_0001  # any constant: serialises migrations of one database


def normalise_url(url: str) -> str:
    """``postgresql://`` or ``postgres://`` URLs, as a person types them, for psycopg 3."""
    parsed = make_url(url.replace("postgres://", "postgresql://", 1))
    return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


@cache
def _engine(url: str) -> Engine:
    # Few connections: a run uses two at a time, and an operator's server has a limit.
    # A host that does not answer at all is told to the clerk after 10 s, not after minutes.
    waits = {"connect_timeout": 10}
    engine = create_engine(
        url,
        pool_size=4,
        max_overflow=4,
        pool_timeout=30,
        connect_args=waits,
    )
    event.listen(engine, "do_connect", _Door(url))
    event.listen(engine, "connect", _limit_waits)
    event.listen(engine, "checkin", _note_checkin)
    event.listen(engine, "checkout", _ping_if_idle)
    return engine


class _Door:
    """Opens connections; waits out a restart of the server and a crowd.

    Opening is the one thing that may be repeated blindly. What was under way when the server
    went is not: it fails, and the ledger says what is known.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._was_open = False
        self._closed_since: float | None = None

    def __call__(self, dialect: Dialect, _record: Any, args: Any, options: Any) -> Any:
        knock = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self._may_pass),
            wait=tenacity.wait_exponential_jitter(0.1, max=2.0),
            reraise=True,
        )
        connection = knock(dialect.connect, *args, **options)
        self._was_open, self._closed_since = True, None
        return connection

    def _may_pass(self, error: BaseException) -> bool:
        if not isinstance(error, psycopg.OperationalError):
            return False
        now = time.monotonic()
        if self._closed_since is None:
            self._closed_since = now
        if now - self._closed_since > OUTAGE_SECONDS:
            return False
        state = error.sqlstate or refusal(self._url)
        # A server that was never there is told at once; one that was is being restarted.
        return state in (CROWDED, STARTING) or (state is None and self._was_open)


def _limit_waits(connection: Any, _record: ConnectionPoolEntry) -> None:
    # Not as a start-up option: connection poolers refuse those.
    connection.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
    idle = f"SET idle_in_transaction_session_timeout = '{IDLE_TRANSACTION_SECONDS}s'"
    connection.execute(idle)
    connection.commit()


def _note_checkin(_connection: Any, record: ConnectionPoolEntry) -> None:
    record.info["idle_since"] = time.monotonic()


def _ping_if_idle(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
    """``pool_pre_ping`` for connections that lay idle: a run at work does not pay for it.

    Raises:
        DisconnectionError: the server is gone or was restarted; the pool opens a new connection.
    """
    if time.monotonic() - record.info.get("idle_since", 0.0) < _IDLE_SECONDS:
        return
    try:
        connection.execute("SELECT 1")
        connection.rollback()
    except psycopg.Error:
        raise DisconnectionError from None


def migrate(url: str) -> None:
    """Bring the store at ``url`` to the newest schema; several callers at once are safe.

    Raises:
        AppConnectError: ``AC-708``, a newer version of the program has changed this store;
            others of ``AC-70x``, the database does not answer or refuses.
    """
    chosen = normalise_url(url)
    with translated(chosen), _engine(chosen).begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{MIGRATION_LOCK_SECONDS}s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        refuse_newer(schema_revision(connection))
        config = _alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


@cache
def _known_revisions() -> frozenset[str]:
    return frozenset(s.revision for s in ScriptDirectory.from_config(_alembic()).walk_revisions())


def schema_revision(connection: Connection) -> str | None:
    """The schema that the store has; ``None`` before its first migration."""
    if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return None
    return MigrationContext.configure(connection).get_current_revision()


def refuse_newer(revision: str | None) -> None:
    """Refuse a schema that this program does not know: it would write what it cannot read.

    Raises:
        SettingsError: ``AC-708``.
    """
    if revision is not None and revision not in _known_revisions():
        raise SettingsError("AC-708", f"データベースの版 {revision}", service=SERVICE)


class Store:
    """Access to one store. Cheap to make: engines are shared by URL within a process.

    Args:
        url: Any PostgreSQL URL; defaults to the environment variable `URL_VARIABLE`.

    Raises:
        FaultError: ``AC-701``, no URL is known.
    """

    def __init__(self, url: str | None = None) -> None:
        chosen = url or os.environ.get(URL_VARIABLE)
        if not chosen:
            raise FaultError("AC-701", f"{URL_VARIABLE} が未設定", service=SERVICE)
        self._url = normalise_url(chosen)
        self._engine = _engine(self._url)

    def _check_schema(self, connection: Connection) -> None:
        """Once a process and database: an older program on a newer store is refused."""
        if self._url in _checked:
            return
        revision = schema_revision(connection)
        refuse_newer(revision)
        if revision is not None:
            _checked.add(self._url)

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction on a Core connection: the record path."""
        with translated(self._url), self._engine.begin() as connection:
            self._check_schema(connection)
            yield connection

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction with objects: for rows that come one at a time."""
        with translated(self._url), Session(self._engine, expire_on_commit=False) as session:
            self._check_schema(session.connection())
            yield session
            session.commit()

    async def do(
        self,
        work: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run ``work(connection, …)`` in one transaction, in a thread.

        The event loop goes on with the requests meanwhile: that overlap is what the ledger's
        price is paid with.
        """

        def in_thread() -> T:
            with self.begin() as connection:
                return work(connection, *args, **kwargs)

        return await asyncio.to_thread(in_thread)

    def close(self) -> None:
        """Let go of the connections; the next use opens new ones."""
        self._engine.dispose()

    def healthy(self) -> bool:
        """Whether the database answers and carries our tables."""
        try:
            with self._engine.connect() as connection:
                connection.execute(text("SELECT 1 FROM alembic_version"))
        except (OperationalError, DBAPIError):
            return False
        return True


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work``; a cancellation waits until it is done.

    For a transaction in a thread, which goes on however its coroutine ends: whoever cleans up
    afterwards has to know what it wrote.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):  # it is raised below, once
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen: it is the cancellation that counts
        raise
