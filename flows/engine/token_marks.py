"""What is written down about a renewal, so that whoever comes after a crash knows where it stood.

    sent     a refresh has left, or is about to: 更新中, since when, and by which process
    failed   it ended without a definite answer: the old pair may be alive or used up
    refused  the service said ``invalid_grant``: a person has to press 許可する

A mark speaks of one refresh token, known by a hash. It means nothing for any other pair: a new
consent or a refresh that went well makes it void by itself.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from hashlib import blake2b
from typing import Any, Literal

import psutil

SENT: Literal["sent"] = "sent"
FAILED: Literal["failed"] = "failed"
REFUSED: Literal["refused"] = "refused"


def fingerprint(refresh_token: str) -> str:
    """A hash by which a refresh token is recognised; nobody gets from it to the token."""
    return blake2b(refresh_token.encode(), digest_size=16, person=b"renewal").hexdigest()


@cache
def _born(pid: int) -> str:
    return f"{psutil.Process(pid).create_time():.2f}"


def this_process() -> str:
    """The name of this process on this machine, the moment of its birth included."""
    pid = os.getpid()
    return f"{socket.gethostname()}/{pid}/{_born(pid)}"


def is_gone(process: str) -> bool:
    """Whether a process certainly is no more; of one on another machine nothing is known."""
    host, pid, born = ([*process.split("/"), "", ""])[:3]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        found = psutil.Process(int(pid))
        return f"{found.create_time():.2f}" != born or found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@dataclass(frozen=True, slots=True)
class Mark:
    """See the module. ``state`` is ``None`` when nothing is known about the pair.

    Attributes:
        at: Since when.
        by: The process that sent the refresh.
        failures: How often in a row it failed.
        not_before: When it may be tried again.
    """

    state: str | None = None
    of: str | None = None
    at: datetime | None = None
    by: str | None = None
    failures: int = 0
    not_before: datetime | None = None

    @classmethod
    def on(cls, block: Any, refresh_token: str) -> Mark:
        """The mark in a credentials block, if it is about this refresh token."""
        if block.renewal_state is None or block.renewal_of != fingerprint(refresh_token):
            return cls()
        return cls(
            block.renewal_state,
            block.renewal_of,
            block.renewal_at,
            block.renewal_by,
            block.renewal_failures,
            block.renewal_not_before,
        )

    def fields(self) -> dict[str, Any]:
        """The same as fields of the block."""
        return {
            "renewal_state": self.state,
            "renewal_of": self.of,
            "renewal_at": self.at,
            "renewal_by": self.by,
            "renewal_failures": self.failures,
            "renewal_not_before": self.not_before,
        }

    def in_flight(self, now: datetime, longest: timedelta) -> bool:
        """Whether a refresh of this pair may be under way although nobody holds the lock."""
        if self.state != SENT or self.at is None:
            return False
        # A clock that was set back must not make an old mark young for ever: hence `abs`.
        return abs(now - self.at) < longest and not (self.by and is_gone(self.by))

    def refused(self, now: datetime, memory: timedelta) -> bool:
        """Whether the service has said no a short while ago: asking again changes nothing."""
        return self.state == REFUSED and self.at is not None and abs(now - self.at) < memory

    def pause(self, now: datetime) -> float:
        """Seconds until it may be tried again."""
        if self.state != FAILED or self.not_before is None:
            return 0.0
        return max(0.0, (self.not_before - now).total_seconds())
