"""OAuth tokens, whatever the service: the pair, who keeps it, and when it is renewed.

A refresh token may work once. Therefore a connector never refreshes by itself: the `TokenKeeper`
holds the lease that makes a refresh single-flight across processes, and saves the new pair before
anybody uses it (design 8).
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from connectors.kit._masking import Masker
from connectors.kit._retry import Timeouts
from connectors.kit.errors import FaultError, WaitError

EARLY_REFRESH = timedelta(minutes=15)
"""A token is renewed this long before it expires, when the server said when that is.

A token that lives less than twice as long is renewed at half of its life: see `Tokens.due`.
"""

TOKEN_TIMEOUTS = Timeouts(connect=5.0, read=90.0, total=100.0)
"""Seconds, of a request to a token endpoint.

A slow answer is waited for: giving up on it may lose the only copy of the next refresh token. The
end is known all the same, because it decides how long a refresh can be in flight.
"""

_AFTER_A_FAILURE = timedelta(seconds=30)
"""How long a failed early renewal is left alone, while the token still lives."""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time, aware: the clock of everything that is not under test."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Tokens:
    """連携トークン: what a consent gave us.

    Attributes:
        access_token: For the ``Authorization`` header. Not in the repr.
        refresh_token: For the next pair; may work once. Not in the repr.
        issued_at: Aware; our clock when the answer came.
        expires_at: Aware; ``None`` when the server did not say: the 401 is the signal then.
        scope: What was granted, where the service says so.
    """

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    issued_at: datetime
    expires_at: datetime | None = None
    scope: str = ""

    def due(self, now: datetime, margin: timedelta = EARLY_REFRESH) -> bool:
        """Whether it is time to renew: within ``margin`` of the end, at most half of the life."""
        if self.expires_at is None:
            return False
        return now >= self.expires_at - min(margin, (self.expires_at - self.issued_at) / 2)

    def expired(self, now: datetime) -> bool:
        """Whether the access token is certainly of no use any more."""
        return self.expires_at is not None and now >= self.expires_at


@dataclass(frozen=True, slots=True)
class GrantLife:
    """How long a service keeps a grant.

    Attributes:
        unused: A grant lapses when it was not renewed for so long; ``None`` = it does not.
        evidence: How certain that is: the marks of the contract (``V``, ``3rd``, ``I``, ``?``).
    """

    unused: timedelta | None
    evidence: str

    def ends(self, issued_at: datetime | None) -> datetime | None:
        """When a grant that was last renewed at ``issued_at`` lapses; ``None`` = not known."""
        if self.unused is None or issued_at is None:
            return None
        return issued_at + self.unused


Refresh = Callable[[Tokens], Awaitable[Tokens]]
"""Turns a pair into the next one; the ``refresh`` of a service's OAuth client."""


class TokenKeeper(Protocol):
    """Where the one current pair of a connection lives, shared by every process."""

    async def current(self) -> Tokens:
        """The newest saved pair that is known here."""
        ...

    async def renew(self, stale: Tokens, refresh: Refresh) -> Tokens:
        """The pair after ``stale``: somebody else's if there is one, else from one ``refresh``.

        The implementation holds a cross-process lease, re-reads inside it, and saves what
        ``refresh`` returned before returning it.
        """
        ...


class TokenAuthorizer:
    """Sends the keeper's token and has it renewed: before it expires, and after a 401.

    Args:
        keeper: Holds the pair.
        refresh: Gets the next one.
        masker: Learns the tokens, so that they never stay in an error.
        clock: Aware.
    """

    def __init__(
        self,
        keeper: TokenKeeper,
        refresh: Refresh,
        *,
        masker: Masker | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._keeper = keeper
        self._refresh = refresh
        self._masker = masker
        self._clock = clock
        self._known = ""
        self._patience: datetime | None = None

    async def headers(self) -> Mapping[str, str]:
        """The ``Authorization`` header of the current token.

        Raises:
            ReauthorizeError: ``AC-101``, the grant is dead.
            WaitError, FaultError: the token has expired, and no new one could be had.
        """
        tokens = await self._keeper.current()
        now = self._clock()
        waiting = self._patience is not None and now < self._patience
        if tokens.expired(now) or (tokens.due(now) and not waiting):
            try:
                tokens = await self._keeper.renew(tokens, self._refresh)
                self._patience = None
            except (WaitError, FaultError):
                # Renewing early is a courtesy. While the token lives, the run goes on with it.
                if tokens.expired(self._clock()):
                    raise
                self._patience = self._clock() + _AFTER_A_FAILURE
        if self._masker is not None and tokens.access_token != self._known:
            self._masker.add(tokens.access_token, tokens.refresh_token)
            self._known = tokens.access_token
        return bearer(tokens.access_token)

    async def renew(self, rejected: Mapping[str, str]) -> bool:
        """After a 401: renew, unless somebody already did since ``rejected`` was sent.

        Raises:
            ReauthorizeError: ``AC-101``, the grant is dead.
            WaitError, FaultError: no new token could be had.
        """
        tokens = await self._keeper.current()
        if dict(rejected) == bearer(tokens.access_token):
            await self._keeper.renew(tokens, self._refresh)
        return True


def bearer(token: str) -> dict[str, str]:
    """The ``Authorization`` header of a token (RFC 6750, 2.1)."""
    return {"Authorization": f"Bearer {token}"}


def basic(client_id: str, client_secret: str, masker: Masker) -> dict[str, str]:
    """The ``Authorization`` header of a client (RFC 7617); ``masker`` learns what is secret."""
    pair = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
    masker.add(client_secret, pair)
    return {"Authorization": f"Basic {pair}"}
