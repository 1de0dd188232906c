"""Where OAuth tokens live: in the credentials block, refreshed by one process at a time.

A refresh token may work once (design 8). A renewal therefore goes like this, each step durable
before the next:

1. take the lock of the block (`flows.engine.token_lock`), read the block again: somebody else may
   have renewed it meanwhile;
2. write the mark 更新中 with the hash of the refresh token (`flows.engine.token_marks`);
3. send the refresh, once;
4. make sure that the lock and the old pair are still there, then save the new pair;
5. only then use it.

A process that dies at 2 or 3 leaves the mark. The next one tries the old pair once: it is alive, or
within the service's grace, or refused, and then a person is asked to press 許可する (``AC-101``).
A 5xx, a time-out or a cut connection ends no grant: the pair stays, and everybody waits a little.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import tenacity
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import BlockDocumentUpdate
from prefect.exceptions import PrefectException
from pydantic import SecretStr

from blocks import OAuthBlock
from connectors.kit import (
    TOKEN_TIMEOUTS,
    AppConnectError,
    Clock,
    FaultError,
    ReauthorizeError,
    Refresh,
    SettingsError,
    Tokens,
    WaitError,
    utc_now,
)
from flows.engine.clock import JST
from flows.engine.points import reached
from flows.engine.store import Store, to_its_end
from flows.engine.token_lock import TokenLock, alone
from flows.engine.token_marks import FAILED, REFUSED, SENT, Mark, fingerprint, this_process

_UNREACHABLE = (httpx.HTTPError, OSError, PrefectException)
"""What Prefect's client raises when its server does not answer."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient a renewal is; seconds.

    Attributes:
        cool_down: Nobody asks again for so long after a failure; doubles with each one.
        longest: Longest cool-down, unless the service asks for more.
        patience: How long a run whose token is dead waits and tries again.
        in_flight: How long a refresh of a process that cannot be asked is taken for under way:
            longer than a request and the saving of its answer can take.
        memory: How long a refused grant is not asked for again.
        save: How long saving a new pair is tried: the old one may be dead already.
    """

    cool_down: float = 5.0
    longest: float = 300.0
    patience: float = 60.0
    in_flight: float = TOKEN_TIMEOUTS.total + 140.0
    memory: float = 600.0
    save: float = 60.0


@dataclass(frozen=True)
class Vault:
    """Makes keepers for credentials blocks.

    Attributes:
        store: Holds the locks.
        pace: See `Pace`.
        clock: Aware.
    """

    store: Store
    pace: Pace = Pace()
    clock: Clock = utc_now

    def keeper(self, credentials: Any) -> BlockKeeper:
        """A keeper of the tokens in ``credentials``, a saved block.

        Raises:
            SettingsError: ``AC-206``, the block was never saved, so nothing could be kept.
        """
        return BlockKeeper(self, credentials)


class BlockKeeper:
    """Keeps the newest pair in the block document; a `connectors.kit.TokenKeeper`."""

    def __init__(self, vault: Vault, credentials: OAuthBlock) -> None:
        name = credentials._block_document_name
        if name is None:
            raise SettingsError("AC-206", str(credentials.get_block_type_slug()))
        self._store, self._pace, self._clock = vault.store, vault.pace, vault.clock
        self._type = type(credentials)
        self._name = name
        self._block: OAuthBlock = credentials
        self._service = service_of(self._type)
        self._lock = f"token/{self._type.get_block_type_slug()}/{name}"
        self._turn = asyncio.Lock()

    async def current(self) -> Tokens:
        """The newest pair that this process knows."""
        return tokens_of(self._block)

    async def renew(self, stale: Tokens, refresh: Refresh, *, insist: bool = False) -> Tokens:
        """The pair after ``stale``: saved by somebody else meanwhile, or refreshed here and saved.

        While ``stale`` still lives nothing is waited for. Otherwise a failure that may pass is
        waited out and tried again, as long as `Pace.patience`.

        Args:
            stale: The pair that is to be replaced.
            refresh: Sends one refresh.
            insist: Try even if it was refused, or failed, a moment ago: a person asks.

        Raises:
            ReauthorizeError: ``AC-101``, the service refuses the grant, there is nothing to refresh
                with, or the new pair could not be saved.
            WaitError: ``AC-104``, others are at it, or it failed a moment ago; or whatever the
                service asked for.
            FaultError: no definite answer, or the database (``AC-701``) or Prefect's server
                (``AC-501``) is away; the saved pair is untouched.
            SettingsError: ``AC-206``, the block is gone; or whatever ``refresh`` found wrong.
        """
        now = self._clock()
        living = stale.due(now) and not stale.expired(now)
        until = time.monotonic() + (0.0 if living else self._pace.patience)
        async with self._turn:
            while True:
                outcome = await self._attempt(stale, refresh, living=living, insist=insist)
                if isinstance(outcome, Tokens):
                    return outcome
                error, pause = outcome
                if time.monotonic() + pause >= until:
                    raise error
                insist = False
                await asyncio.sleep(pause)

    async def _attempt(
        self, stale: Tokens, refresh: Refresh, *, living: bool, insist: bool
    ) -> Tokens | tuple[AppConnectError, float]:
        """A pair, or why there is none and after how many seconds it may be tried again."""
        patience = 0.0 if living else self._pace.in_flight
        async with alone(self._store, self._lock, patience=patience, service=self._service) as lock:
            with _told():
                await self._load()
            saved = tokens_of(self._block)
            if saved.access_token != stale.access_token:
                return saved
            if not saved.refresh_token:
                raise self._dead()
            mark, now = Mark.on(self._block, saved.refresh_token), self._clock()
            if mark.in_flight(now, timedelta(seconds=self._pace.in_flight)):
                # The lock was lost with its connection, and its holder may still get an answer.
                return WaitError("AC-104", "ほかの処理が更新しています", service=self._service), 1.0
            if not insist:
                if mark.refused(now, timedelta(seconds=self._pace.memory)):
                    raise self._dead()
                if (pause := mark.pause(now)) > 0:
                    why = f"少し前の更新に失敗しました。{pause:.0f} 秒後にもう一度試せます"
                    return WaitError("AC-104", why, service=self._service), pause
            return await to_its_end(self._replace(lock, saved, mark, refresh))

    async def _replace(
        self, lock: TokenLock, used: Tokens, before: Mark, refresh: Refresh
    ) -> Tokens | tuple[AppConnectError, float]:
        mark = Mark(SENT, fingerprint(used.refresh_token), self._clock(), this_process())
        reached("token-before-mark")
        with _told():
            await self._write(mark.fields())
        reached("token-marked")
        try:
            fresh = await refresh(used)
        except ReauthorizeError as error:
            if (theirs := await self._others(used)) is not None:
                return theirs
            await self._note(replace(mark, state=REFUSED, at=self._clock(), by=None))
            error.subject = self._name
            raise
        except (WaitError, FaultError) as error:
            return error, await self._failed(mark, before.failures, error.retry_after)
        except AppConnectError:
            # Client, key or address are wrong: nothing was decided about the grant.
            await self._note(Mark())
            raise
        except BaseException:
            await self._failed(mark, before.failures, None)
            raise
        reached("mid-refresh")
        return await self._keep(lock, used, fresh)

    async def _failed(self, mark: Mark, failures: int, wish: float | None) -> float:
        """Write the failure down; returns the seconds of the cool-down."""
        pause = min(self._pace.cool_down * 2.0**failures, self._pace.longest)
        pause = max(pause, wish or 0.0)
        now = self._clock()
        await self._note(
            replace(
                mark,
                state=FAILED,
                at=now,
                by=None,
                failures=failures + 1,
                not_before=now + timedelta(seconds=pause),
            )
        )
        return pause

    async def _others(self, used: Tokens) -> Tokens | None:
        """The pair that somebody else saved meanwhile, if there is one."""
        with contextlib.suppress(*_UNREACHABLE):
            await self._load()
        stored = tokens_of(self._block)
        return stored if _pair(stored) != _pair(used) else None

    async def _keep(self, lock: TokenLock, used: Tokens, fresh: Tokens) -> Tokens:
        """Save ``fresh`` in place of ``used``, and of nothing else (compare and swap)."""

        async def swap() -> Tokens:
            await self._load()
            stored = tokens_of(self._block)
            if _pair(stored) != _pair(used):
                return stored  # a person pressed 許可する meanwhile: the newer consent counts
            pair = {
                "access_token": fresh.access_token,
                "refresh_token": fresh.refresh_token,
                "token_expires_at": fresh.expires_at,
                "token_issued_at": fresh.issued_at,
            }
            await self._write({**pair, **Mark().fields()})
            return fresh

        persistent = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_UNREACHABLE),
            wait=tenacity.wait_exponential(0.2, max=5),
            stop=tenacity.stop_after_delay(self._pace.save),
        )
        async with contextlib.AsyncExitStack() as stack:
            if not await lock.held():
                # Others see the mark and keep away, so a moment is enough; and without a database
                # it is better to save unlocked than to lose the only copy.
                again = alone(self._store, self._lock, patience=5.0, service=self._service)
                with contextlib.suppress(AppConnectError):
                    await stack.enter_async_context(again)
            try:
                kept: Tokens = await persistent(swap)
            except tenacity.RetryError:
                # Nobody will ever have this pair again, and the one before may be used up.
                raise self._dead() from None
        reached("token-saved")
        return kept

    async def _load(self) -> None:
        try:
            self._block = await self._type.aload(self._name)
        except ValueError:
            raise SettingsError("AC-206", self._name) from None

    async def _note(self, mark: Mark) -> None:
        """Write a mark; that it cannot be written must not hide what it is about."""
        with contextlib.suppress(*_UNREACHABLE):
            await self._write(mark.fields())

    async def _write(self, fields: Mapping[str, Any]) -> None:
        await write_fields(self._block, fields)

    def _dead(self) -> ReauthorizeError:
        return ReauthorizeError("AC-101", self._name, service=self._service)


_SECRETS = ("access_token", "refresh_token", "consent_verifier")


async def write_fields(
    block: OAuthBlock, fields: Mapping[str, Any], *, schema: UUID | None = None
) -> None:
    """Write these fields of a saved block and no other: a person may be editing the form.

    Args:
        block: The block; it gets the values, too.
        fields: Values by name; secrets as plain text.
        schema: Id of the schema that knows these fields, for a block that an older version of the
            program saved.

    Raises:
        SettingsError: ``AC-206``, the block was never saved.
    """
    document = block._block_document_id
    if document is None:
        raise SettingsError("AC-206", str(block._block_document_name or ""))
    update = BlockDocumentUpdate(data=dict(fields))
    if schema is not None:
        update = BlockDocumentUpdate(data=dict(fields), block_schema_id=schema)
    async with get_client() as client:
        await client.update_block_document(document, update)
    for name, value in fields.items():
        secret = isinstance(value, str) and name in _SECRETS
        setattr(block, name, SecretStr(value) if secret else value)


async def save_pair(block: OAuthBlock, tokens: Tokens) -> None:
    """Put the first pair of a new consent into a saved block, in place of any other."""
    pair = {
        "access_token": tokens.access_token,
        "refresh_token": tokens.refresh_token,
        "token_expires_at": tokens.expires_at,
        "token_issued_at": tokens.issued_at,
    }
    over = {"consent_of": None, "consent_verifier": None}
    await write_fields(block, {**pair, **Mark().fields(), **over})


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Prefect's server does not answer before anything was sent: a living token goes on with it."""
    try:
        yield
    except _UNREACHABLE as error:
        kind = type(error).__name__
        raise FaultError("AC-501", kind, service="Prefect サーバー") from None


def service_of(kind: type[OAuthBlock]) -> str:
    """Name of the service whose credentials a block type holds."""
    return str(kind._block_type_name).removesuffix(" 接続情報")


def tokens_of(block: OAuthBlock) -> Tokens:
    """The pair in a block; empty texts where there is none."""
    access, refresh = block.access_token, block.refresh_token
    return Tokens(
        access_token=access.get_secret_value() if access else "",
        refresh_token=refresh.get_secret_value() if refresh else "",
        issued_at=block.token_issued_at or utc_now(),
        expires_at=block.token_expires_at,
    )


def _pair(tokens: Tokens) -> tuple[str, str]:
    return tokens.access_token, tokens.refresh_token


NOTICE = timedelta(days=4)
"""How long before a grant lapses a person is told; at most a third of its life."""


def grant_notice(block: OAuthBlock, now: datetime) -> str | None:
    """What a person should know about the grant in ``block`` before it is too late.

    Args:
        block: A credentials block.
        now: Aware.

    Returns:
        One sentence in Japanese, or ``None`` when there is nothing to do.
    """
    if not block.uses_oauth:
        return None
    name = block._block_document_name or ""
    subject = f"{service_of(type(block))} の接続情報「{name}」"
    if Mark.on(block, tokens_of(block).refresh_token).state == REFUSED:
        return (
            f"{subject}の連携トークンは失効しています。「連携トークンの更新」を今すぐ実行し、"
            "「許可のお願い」から「許可する」を押してください（システム管理者が app-connect login "
            f"{name} を実行しても構いません）。"
        )
    life = block._grant_life
    ends = life.ends(block.token_issued_at)
    if life.unused is None or ends is None or now < ends - min(NOTICE, life.unused / 3):
        return None
    guess = "ごろ（期限は公開されていないため、見込みです）" if life.evidence == "?" else ""
    when = f"{ends.astimezone(JST):%Y-%m-%d %H:%M}{guess}"
    verb = "に切れます" if now < ends else "に切れた可能性があります"
    return (
        f"{subject}の許可は {when} {verb}。「連携トークンの更新」を実行し、エラーになる場合は"
        f" app-connect login {name} を実行してください。"
    )
