"""Opening the store: engine, sessions, migrations, and how its failures are told to a person."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session

from connectors.kit import FaultError

P = ParamSpec("P")
T = TypeVar("T")

URL_VARIABLE = "APP_CONNECT_DATABASE_URL"
_IDLE_SECONDS = 1.0  # a connection that rested longer is tried before it is used
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
    event.listen(engine, "checkin", _note_checkin)
    event.listen(engine, "checkout", _ping_if_idle)
    return engine


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
    """Bring the store at ``url`` to the newest schema; several callers at once are safe."""
    engine = _engine(normalise_url(url))
    with translated(), engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn a database failure into ``AC-701``; the driver's text may hold a password, so it goes.

    Raises:
        FaultError: ``AC-701``, the database does not answer, is full, or refuses.
    """
    try:
        yield
    except DBAPIError as error:
        kind = type(error.orig).__name__ if error.orig is not None else type(error).__name__
        raise FaultError("AC-701", kind, service="データベース") from None
    except TimeoutError:
        raise FaultError("AC-701", "PoolTimeout", service="データベース") from None


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
            raise FaultError("AC-701", f"{URL_VARIABLE} が未設定", service="データベース")
        self._engine = _engine(normalise_url(chosen))

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction on a Core connection: the record path."""
        with translated(), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction with objects: for rows that come one at a time."""
        with translated(), Session(self._engine, expire_on_commit=False) as session:
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

    def healthy(self) -> bool:
        """Whether the database answers and carries our tables."""
        try:
            with self._engine.connect() as connection:
                connection.execute(text("SELECT 1 FROM alembic_version"))
        except (OperationalError, DBAPIError):
            return False
        return True
