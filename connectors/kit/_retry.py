"""Retry policies as values: printed, compared, tested and passed around like any other data.

A policy names the *classes* of failure it retries, never an endpoint. The distinction that matters
is whether the other side may have acted on the request: a read may be repeated whatever happened,
a post only when it certainly was not processed (design 7).
"""

from __future__ import annotations

import email.utils
import enum
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tenacity import RetryCallState

from connectors.kit.closed import ClosedHours


class Failure(enum.StrEnum):
    """What is known about a request that did not succeed."""

    CONNECT = "connect"
    """No connection was made: nothing left this machine."""
    THROTTLED = "throttled"
    """429: refused before it was processed."""
    UNAVAILABLE = "unavailable"
    """503, or a maintenance page: probably not processed, but nobody promises it."""
    SERVER = "server"
    """Any other 5xx: it may have been processed."""
    DROPPED = "dropped"
    """Time-out, reset or cut body after the request left: it may have been processed."""
    UNREADABLE = "unreadable"
    """A complete answer that is not what the contract describes."""
    REFUSED = "refused"
    """A definite no (4xx): repeating it changes nothing."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, how long and after which failures a request is repeated.

    Attributes:
        on: The failure classes that are retried; everything else is raised at once.
        attempts: Requests in all, the first included.
        base: First back-off in seconds; doubles with each attempt (full jitter).
        cap: Longest back-off in seconds when the server names none.
        patience: Longest ``Retry-After`` in seconds that is waited for. A longer one ends the
            request, so that the run is postponed instead of hanging.
        budget: Seconds after the first attempt's start in which the last one begins. Bounds a
            server that asks for a bearable wait again and again.
    """

    on: frozenset[Failure]
    attempts: int = 5
    base: float = 0.5
    cap: float = 20.0
    patience: float = 120.0
    budget: float = 600.0

    def backoff(self, state: RetryCallState) -> float:
        """Seconds until the next attempt: the server's wish, else exponential with full jitter."""
        outcome = state.outcome
        error = outcome.exception() if outcome is not None else None
        wish = getattr(error, "retry_after", None)
        if wish is not None:
            return min(float(wish), self.patience)
        longest = min(self.cap, self.base * 2 ** (state.attempt_number - 1))
        return random.uniform(0, longest)  # noqa: S311 (jitter, not cryptography)


READ = RetryPolicy(
    on=frozenset(
        {
            Failure.CONNECT,
            Failure.THROTTLED,
            Failure.UNAVAILABLE,
            Failure.SERVER,
            Failure.DROPPED,
            Failure.UNREADABLE,
        }
    )
)
"""Reads change nothing at the other side, so every failure that may pass is retried."""

POST = RetryPolicy(on=frozenset({Failure.CONNECT, Failure.THROTTLED}))
"""Posts are repeated only when they were certainly not processed; the ledger settles the rest."""

NEVER = RetryPolicy(on=frozenset(), attempts=1)
"""For requests that must leave once, such as the use of a single-use refresh token."""


def parse_retry_after(value: str | None, *, now: Callable[[], datetime]) -> float | None:
    """Seconds to wait, from any form of ``Retry-After`` (RFC 9110, 10.2.3).

    Args:
        value: The header: delay in seconds (fractions tolerated), an HTTP date, or nonsense.
        now: An aware clock, so that an HTTP date can be turned into a delay.

    Returns:
        A finite delay >= 0, or ``None`` when the header is absent or makes no sense.
    """
    if value is None or not value.strip():
        return None
    text = value.strip()
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now()).total_seconds())


@dataclass(frozen=True, slots=True)
class Quota:
    """So many requests, started in any span of so many seconds."""

    requests: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What a service allows, as data; all of it holds at once. ``None`` = no such limit is known.

    Attributes:
        concurrency: Requests in flight at once from this process.
        per_second: Requests started in any one second, evenly spread.
        quotas: Windows that slide, e.g. ten a second *and* 5,000 an hour; a burst is let through.
        headers: Prefixes of answer headers that tell how full a limit is, whoever filled it:
            ``x-rate-limit-`` for ``x-rate-limit-remaining`` (requests) and ``x-rate-limit-reset``
            (seconds). When nothing remains, the next request waits for the reset.
    """

    concurrency: int | None = None
    per_second: float | None = None
    quotas: tuple[Quota, ...] = ()
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, each bounding something else.

    Attributes:
        connect: Until the TCP (and TLS) connection stands.
        read: Between two pieces of the answer; a server that drips one byte a second passes it.
        total: The whole request, retries apart; this is what stops the dripping server.
    """

    connect: float = 5.0
    read: float = 30.0
    total: float = 120.0


@dataclass(frozen=True, slots=True)
class ServiceProfile:
    """The facts about a service that the HTTP client needs.

    Attributes:
        name: The name a person reads, e.g. ``kintone`` or ``奉行クラウド``.
        timeouts: See `Timeouts`.
        limit: See `RateLimit`.
        read: Policy for requests that change nothing.
        post: Policy for requests that change something.
        request_id_headers: Answer headers that name the request in the vendor's own logs.
        hosts: The only hosts that requests may go to, loopback apart (`connectors.kit.hosts`):
            ``api.obc.jp``, or ``*.cybozu.com`` for all below it. Empty = emulators only.
        closed: Hours in which it does not answer: nothing is asked of it then.
        headers: Sent with every request.
    """

    name: str
    timeouts: Timeouts = field(default_factory=Timeouts)
    limit: RateLimit = field(default_factory=RateLimit)
    read: RetryPolicy = READ
    post: RetryPolicy = POST
    request_id_headers: tuple[str, ...] = ("x-request-id",)
    hosts: tuple[str, ...] = ()
    closed: tuple[ClosedHours, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
