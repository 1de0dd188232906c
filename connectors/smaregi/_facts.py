"""The facts about スマレジ (`facts.toml`), and what the HTTP client needs of them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from connectors.kit import RateLimit, ServiceProfile, SettingsError

SERVICE: Final = "スマレジ"

FACTS: Final[dict[str, Any]] = tomllib.loads(
    (files("connectors.smaregi") / "facts.toml").read_text("utf-8")
)
"""Everything that is counted on, with its evidence."""

WINDOW_DAYS: Final[int] = FACTS["window"]["days"]
"""Longest range of dates in one request, in days."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Two hosts that belong together.

    Attributes:
        id_base: Scheme and host that issues tokens.
        api_base: Scheme and host of the API.
        reads_per_second: How many requests it allows; ``None`` = an emulator, as many as one likes.
    """

    id_base: str
    api_base: str
    reads_per_second: float | None = None

    @property
    def profile(self) -> ServiceProfile:
        """The service's facts in this environment."""
        limit = RateLimit(concurrency=4, per_second=self.reads_per_second)
        return ServiceProfile(name=SERVICE, limit=limit, hosts=tuple(FACTS["hosts"]))


def environment(name: str) -> Environment:
    """One of the vendor's own environments: ``production`` or ``sandbox``.

    Raises:
        SettingsError: ``AC-205``, there is no such environment.
    """
    entry = FACTS["environments"].get(name)
    if entry is None:
        raise SettingsError("AC-205", f"環境: {name}", service=SERVICE)
    return Environment(entry["id_base"], entry["api_base"], entry["reads_per_second"])
