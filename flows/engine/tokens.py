"""Where OAuth tokens live: in the credentials block, refreshed by one process at a time.

The lease is an advisory lock of the store: it needs no row, works across machines, and is gone
when its process dies. Inside it the block is read again, refreshed only if nobody else did, and
saved *before* the new pair is used: a refresh token may work once (design 8).

A process that dies between the refresh and the save leaves a dead refresh token behind. The next
run is told so by the service (``invalid_grant``) and asks a person to press 許可する again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeVar

import httpx
import tenacity
from prefect.blocks.core import Block
from pydantic import SecretStr
from sqlalchemy import text

from connectors.kit import (
    AppConnectError,
    ReauthorizeError,
    Refresh,
    SettingsError,
    Tokens,
    utc_now,
)
from flows.engine.store import Store

T = TypeVar("T")

_POLL_SECONDS = 0.1
"""How often a waiting process asks for the lock; a refresh takes longer than that."""

_SAVE_SECONDS = 60.0
"""How long saving a new pair is tried: the old one may be dead already."""


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
    """Keeps the newest pair in the block document; a `connectors.kit.TokenKeeper`."""

    def __init__(self, store: Store, credentials: Block) -> None:
        name = credentials._block_document_name
        if name is None:
            raise SettingsError("AC-206", str(credentials.get_block_type_slug()))
        self._store = store
        self._type = type(credentials)
        self._name = name
        self._block: Any = credentials
        self._service = str(self._type._block_type_name).removesuffix(" 接続情報")
        self._turn = asyncio.Lock()

    async def current(self) -> Tokens:
        """The newest pair that this process knows."""
        return _tokens(self._block)

    async def renew(self, stale: Tokens, refresh: Refresh) -> Tokens:
        """The pair after ``stale``: saved by somebody else meanwhile, or refreshed here and saved.

        Raises:
            AppConnectError: whatever ``refresh`` raises; the saved pair is untouched then.
            ReauthorizeError: ``AC-101``, there is nothing to refresh with, or the new pair could
                not be saved.
            SettingsError: ``AC-206``, the block is gone.
        """
        lock = f"token/{self._type.get_block_type_slug()}/{self._name}"
        async with self._turn, _alone(self._store, lock):
            try:
                self._block = await self._type.aload(self._name)
            except ValueError:
                raise SettingsError("AC-206", self._name) from None
            saved = _tokens(self._block)
            if saved.access_token != stale.access_token:
                return saved
            return await _to_its_end(self._replace(saved, refresh))

    async def _replace(self, saved: Tokens, refresh: Refresh) -> Tokens:
        if not saved.refresh_token:
            raise ReauthorizeError("AC-101", service=self._service)
        fresh = await refresh(saved)
        self._block.access_token = SecretStr(fresh.access_token)
        self._block.refresh_token = SecretStr(fresh.refresh_token)
        self._block.token_expires_at = fresh.expires_at
        self._block.token_issued_at = fresh.issued_at
        await self._save()
        return fresh

    async def _save(self) -> None:
        persistent = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type((httpx.HTTPError, OSError)),
            wait=tenacity.wait_exponential(0.2, max=5),
            stop=tenacity.stop_after_delay(_SAVE_SECONDS),
        )
        try:
            await persistent(self._block.asave, self._name, overwrite=True)
        except tenacity.RetryError:
            # Nobody will ever have this pair again, and the one before it may be used up.
            raise ReauthorizeError("AC-101", service=self._service) from None


def _tokens(block: Any) -> Tokens:
    """The pair in a block; every credentials block with OAuth has these four fields."""
    access, refresh = block.access_token, block.refresh_token
    return Tokens(
        access_token=access.get_secret_value() if access else "",
        refresh_token=refresh.get_secret_value() if refresh else "",
        issued_at=block.token_issued_at or utc_now(),
        expires_at=block.token_expires_at,
    )


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work``; a cancellation waits until it is done."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen: it is the cancellation that counts
        raise


@contextlib.asynccontextmanager
async def _alone(store: Store, name: str) -> AsyncIterator[None]:
    """Hold an advisory lock of the database; it is gone when this process dies.

    Waiting occupies neither a thread nor a connection: a crowd of waiters could otherwise take
    those that the holder needs to let go.
    """
    key = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
    held: list[contextlib.ExitStack] = []

    def attempt() -> None:
        with contextlib.ExitStack() as stack:
            db = stack.enter_context(store.begin())
            if db.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": key}):
                held.append(stack.pop_all())

    try:
        while not held:
            await _to_its_end(asyncio.to_thread(attempt))
            if not held:
                await asyncio.sleep(_POLL_SECONDS)
        yield
    finally:
        for stack in held:
            # A lock that was lost with its connection is gone, too; the pair is saved.
            with contextlib.suppress(AppConnectError):
                await _to_its_end(asyncio.to_thread(stack.close))
