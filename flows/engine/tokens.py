"""Where OAuth tokens live: in the credentials block, refreshed by one process at a time.

The lease is an advisory lock of the store: it needs no row, works across machines, and is gone
when its process dies. Inside it the block is read again, refreshed only if nobody else did, and
saved *before* the new pair is used: a refresh token may work once (design 8).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol, TypeVar, cast

from prefect.blocks.core import Block
from pydantic import SecretStr
from sqlalchemy import text

from connectors.kit import SettingsError
from flows.engine.store import Store


class TokenPair(Protocol):
    """What a service's ``Tokens`` have in common."""

    @property
    def access_token(self) -> str: ...  # noqa: D102
    @property
    def refresh_token(self) -> str: ...  # noqa: D102


T = TypeVar("T", bound=TokenPair)


@dataclass(frozen=True)
class Vault:
    """Makes keepers for credentials blocks.

    Attributes:
        store: Holds the locks.
    """

    store: Store

    def keeper(self, credentials: Any) -> BlockKeeper:
        """A keeper of the tokens in ``credentials``, a saved block.

        Raises:
            SettingsError: ``AC-206``, the block was never saved, so nothing could be kept.
        """
        return BlockKeeper(self.store, credentials)


class BlockKeeper:
    """Keeps the newest pair in the block document; implements the connectors' ``TokenKeeper``."""

    def __init__(self, store: Store, credentials: Block) -> None:
        name = credentials._block_document_name
        if name is None:
            raise SettingsError("AC-206", str(credentials.get_block_type_slug()))
        self._store = store
        self._type = type(credentials)
        self._name = name
        self._block: Any = credentials

    async def current(self) -> Any:
        """The newest pair that this process knows."""
        return _tokens(self._block)

    async def renew(self, stale: T, refresh: Callable[[T], Awaitable[T]]) -> T:
        """The pair after ``stale``: saved by somebody else meanwhile, or refreshed here and saved.

        Raises:
            AppConnectError: whatever ``refresh`` raises; the saved pair is untouched then.
        """
        slug = self._type.get_block_type_slug()
        async with _alone(self._store, f"token/{slug}/{self._name}"):
            self._block = await self._type.aload(self._name)
            saved = cast("T", _tokens(self._block))
            if saved.access_token != stale.access_token:
                return saved
            fresh = await refresh(saved)
            self._write(fresh)
            await self._block.save(self._name, overwrite=True)
            return fresh

    def _write(self, fresh: Any) -> None:
        self._block.access_token = SecretStr(fresh.access_token)
        self._block.refresh_token = SecretStr(fresh.refresh_token)
        self._block.token_expires_at = fresh.expires_at
        self._block.token_issued_at = fresh.issued_at


def _tokens(block: Any) -> Any:
    """The pair in a block, as the ``Tokens`` of its service."""
    from blocks import BugyoCredentials
    from connectors import bugyo, kintone
    from flows.engine.clock import now

    kind: Any = bugyo.Tokens if isinstance(block, BugyoCredentials) else kintone.Tokens
    access, refresh = block.access_token, block.refresh_token
    return kind(
        access_token=access.get_secret_value() if access else "",
        refresh_token=refresh.get_secret_value() if refresh else "",
        issued_at=block.token_issued_at or now(),
        expires_at=block.token_expires_at,
    )


@contextlib.asynccontextmanager
async def _alone(store: Store, name: str) -> AsyncIterator[None]:
    """Hold an advisory lock of the database; it is gone when this process dies."""
    key = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
    manager = store.begin()
    connection = await asyncio.to_thread(manager.__enter__)
    try:
        await asyncio.to_thread(
            connection.execute, text("SELECT pg_advisory_xact_lock(:key)"), {"key": key}
        )
        yield
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)
