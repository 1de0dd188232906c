"""What a failure of the database means to a person, by PostgreSQL's own error codes (SQLSTATE).

Never by the server's words: they are in the server's language. libpq does not hand over the code
of a *refused connection*, so that one is asked for again with asyncpg, which does. Neither the
driver's text nor the URL goes into an error: both may hold a password.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
from sqlalchemy import exc, make_url

from connectors.kit.errors import AppConnectError, error_for

SERVICE = "データベース"
UNREACHABLE = "AC-701"

FULL, CROWDED, STARTING = "53100", "53300", "57P03"

_CODES = {
    FULL: "AC-702",
    CROWDED: "AC-703",
    "55P03": "AC-704",  # lock_timeout
    "57014": "AC-704",  # statement_timeout
    "40P01": "AC-704",  # deadlock
    "28000": "AC-705",  # no such user, or pg_hba.conf
    "28P01": "AC-705",
    "42501": "AC-705",  # privileges
    "3D000": "AC-706",
    "42P01": "AC-708",  # a table that our schema has
    "42703": "AC-708",  # a column
    "25006": "AC-709",
}
_PROBE_SECONDS = 10.0


def code_of(state: str | None) -> str:
    """Our code for an SQLSTATE; ``AC-701`` when it says nothing that a person can act on."""
    return _CODES.get(state or "", UNREACHABLE)


def refusal(url: str) -> str | None:
    """Why the server at ``url`` does not let us in: its SQLSTATE.

    ``None``: nobody answers there, or we are let in now. Takes up to 10 s; makes a thread of its
    own, because the caller may run inside an event loop.
    """
    found: list[str | None] = [None]

    async def probe() -> None:
        # Here: needed only when something is wrong. It has no type information.
        import asyncpg  # type: ignore[import-untyped]

        parsed = make_url(url)
        host = parsed.host or parsed.query.get("host")
        where: dict[str, Any] = {
            "host": host,
            "port": parsed.port or (int(str(parsed.query.get("port", 0))) or None),
            "user": parsed.username,
            "password": parsed.password,
            "database": parsed.database,
        }
        if mode := parsed.query.get("sslmode"):
            where["ssl"] = mode
        try:
            connection = await asyncpg.connect(timeout=_PROBE_SECONDS, **where)
            await connection.close()
        except asyncpg.PostgresError as error:
            found[0] = error.sqlstate

    def run() -> None:
        # Not reachable, no such host, TLS, a parameter that asyncpg lacks: no code to be had.
        with contextlib.suppress(Exception):
            asyncio.run(probe())

    thread = threading.Thread(target=run, name="database-probe", daemon=True)
    thread.start()
    thread.join(2 * _PROBE_SECONDS)
    return found[0]


def explained(error: BaseException, url: str, subject: str = "") -> AppConnectError:
    """The error that a person reads for a failure of the driver or of SQLAlchemy.

    Args:
        error: What was raised.
        url: Of the database; asked again when the code of a refusal is not known.
        subject: What the error is about; user and database, or the class of the driver's error,
            when left out.
    """
    original: Any = getattr(error, "orig", None) or error
    state = getattr(original, "sqlstate", None)
    if state is None and isinstance(original, psycopg.OperationalError):
        state = refusal(url)
    kind = type(original).__name__
    if isinstance(error, exc.TimeoutError):
        return error_for("AC-703", subject or "PoolTimeout", service=SERVICE)
    code = code_of(state)
    if not subject and code in ("AC-705", "AC-706"):
        parsed = make_url(url)
        subject = f"利用者 {parsed.username}、データベース {parsed.database}"
    return error_for(code, subject or kind, service=SERVICE)


@contextlib.contextmanager
def translated(url: str, subject: str = "") -> Iterator[None]:
    """Turn every failure of the database inside the body into an error with words.

    Raises:
        AppConnectError: ``AC-701`` … ``AC-709``, see ``catalogue.toml``.
    """
    try:
        yield
    except (exc.DBAPIError, exc.TimeoutError, psycopg.Error) as error:
        problem = explained(error, url, subject)
    else:
        return
    # Out here: in the handler Python would hang the driver's error into ``__context__``.
    raise problem
