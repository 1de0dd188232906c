"""One process at a time: an advisory lock of the store, held while a token is renewed.

It needs no row, works across machines, and is gone when its process dies. It is also gone when its
connection is cut, and then its holder does not know: `TokenLock.held` asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from hashlib import blake2b

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from connectors.kit import AppConnectError, WaitError
from flows.engine.store import Store, to_its_end

_POLL_SECONDS = 0.1
"""How often a waiting process asks for the lock; a refresh takes longer than that."""

_TRY = text("SELECT pg_try_advisory_xact_lock(:key)")

_NO_TIME_LIMIT = text(
    "SELECT set_config(name, '0', true) FROM pg_settings "
    "WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
)
"""The transaction that holds the lock idles during the refresh. A limit that the operator's server
sets for everybody would end it in the middle; ``transaction_timeout`` exists from version 17."""


class TokenLock:
    """A lock that was taken."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    async def held(self) -> bool:
        """Whether it still is: the connection may have been cut, the server restarted."""

        def ask() -> bool:
            try:
                self._db.execute(text("SELECT 1"))
            except SQLAlchemyError:
                return False
            return True

        return await to_its_end(asyncio.to_thread(ask))


@contextlib.asynccontextmanager
async def alone(
    store: Store, name: str, *, patience: float, service: str = ""
) -> AsyncIterator[TokenLock]:
    """Hold the lock ``name`` while the body runs.

    Waiting occupies neither a thread nor a connection: a crowd of waiters could otherwise take
    those that the holder needs to let go.

    Args:
        store: Whose database holds the lock.
        name: Of the lock.
        patience: Seconds to wait for another holder; 0 = try once.
        service: For the message.

    Raises:
        WaitError: ``AC-104``, another process holds it longer than that.
        FaultError: ``AC-701``, the database does not answer.
    """
    key = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
    held: list[tuple[contextlib.ExitStack, TokenLock]] = []
    until = time.monotonic() + patience

    def attempt() -> None:
        with contextlib.ExitStack() as stack:
            db = stack.enter_context(store.begin())
            if db.scalar(_TRY, {"key": key}):
                db.execute(_NO_TIME_LIMIT)
                held.append((stack.pop_all(), TokenLock(db)))

    try:
        while not held:
            await to_its_end(asyncio.to_thread(attempt))
            if not held:
                if time.monotonic() >= until:
                    raise WaitError("AC-104", "ほかの処理が更新しています", service=service)
                await asyncio.sleep(_POLL_SECONDS)
        yield held[0][1]
    finally:
        for stack, _ in held:
            # A lock that was lost with its connection is gone, too; what it protected is done.
            with contextlib.suppress(AppConnectError, SQLAlchemyError):
                await to_its_end(asyncio.to_thread(stack.close))
