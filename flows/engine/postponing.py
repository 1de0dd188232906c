"""Runs that are put off: a service that is closed at this hour makes no run fail (design 7).

The run gives back everything that it holds (lease, process, slot) and is run again under its own
id when the service is open: it goes on from what is staged. A service that does not say until when
it is away is asked again now and then, and not for ever.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from connectors.kit import AppConnectError
from flows.engine.clock import JST, now

ATTEMPTS = 8
"""How often a run is put off, at most."""

LONGEST = timedelta(hours=12)
"""A longer wait is an error: somebody should know."""

MAINTENANCE = timedelta(minutes=30)
"""After how long a service under maintenance is asked again, if it does not say."""

_JITTER_SECONDS = (2.0, 30.0)  # not every connection at the first second
_CODES = frozenset({"AC-502", "AC-503", "AC-507"})


@dataclass(frozen=True, slots=True)
class Postponement:
    """When a run is run again.

    Attributes:
        at: By our clock, a few seconds late.
        words: ``10:00``, the time that people read, in Japan.
    """

    at: datetime
    words: str

    @property
    def name(self) -> str:
        """Name of the state that the run waits in."""
        return f"{self.words} まで待っています"

    def message(self, error: AppConnectError) -> str:
        """What the clerk reads meanwhile."""
        return (
            f"{error.code} {error.title}: {error.happened}{self.words} まで待ち、"
            f"この処理を自動で続けます。{error.safe}何もする必要はありません"
            "（やめるときは、この処理を取り消します）。"
        )


def postponement(error: AppConnectError, attempt: int) -> Postponement | None:
    """When to try again after ``error``; ``None`` = it is not a matter of waiting.

    Args:
        error: What ended the run.
        attempt: Which time the run was at work, from 1.
    """
    if error.code not in _CODES or attempt > ATTEMPTS:
        return None
    wait = MAINTENANCE if error.code == "AC-502" else None
    if error.retry_after is not None:
        wait = timedelta(seconds=error.retry_after)
    if wait is None or wait > LONGEST:
        return None
    moment = now() + wait
    words = f"{(error.until or moment).astimezone(JST):%H:%M}"
    jitter = timedelta(seconds=random.uniform(*_JITTER_SECONDS))  # noqa: S311 (no cryptography)
    return Postponement(moment + jitter, words)
