"""What time it is elsewhere: the ``Date`` of every answer, for whoever listens.

Tokens, webhooks and "changed since" all compare our clock with a service's. Nobody has to ask a
service for its time: it says so with every answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer's time.

    Attributes:
        service: Name of the service.
        there: Its clock, in whole seconds.
        here: Ours when the answer was complete.
    """

    service: str
    there: datetime
    here: datetime

    @property
    def ahead(self) -> timedelta:
        """How far ours is ahead of the service's; negative = behind."""
        return self.here - self.there


_heard: ContextVar[list[Heard] | None] = ContextVar("heard", default=None)


@contextlib.contextmanager
def listening() -> Iterator[list[Heard]]:
    """Collects the times of the answers that come within, also to tasks that are started there."""
    found: list[Heard] = []
    token = _heard.set(found)
    try:
        yield found
    finally:
        _heard.reset(token)


def hear(service: str, there: datetime | None, here: datetime) -> None:
    """An answer has come; costs nothing when nobody listens."""
    listeners = _heard.get()
    if listeners is not None and there is not None:
        listeners.append(Heard(service, there, here))
