"""Secrets are masked by value: whatever text leaves this program, they are not in it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from urllib.parse import quote

MASK = "********"


class Masker:
    """Replaces known secret values in any text.

    Also knows the shapes in which a secret travels (base64, percent-encoded). Values shorter than
    4 characters are not masked: they would turn ordinary text into asterisks, and no vendor issues
    such secrets.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.add(*secrets)

    def add(self, *secrets: str) -> None:
        """Know more secrets, e.g. a token that was just issued."""
        for secret in secrets:
            if len(secret) < 4:
                continue
            self._values |= {
                secret,
                quote(secret, safe=""),
                base64.b64encode(secret.encode()).decode(),
            }
        longest_first = sorted(self._values, key=len, reverse=True)
        self._pattern = (
            re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        )

    def mask(self, text: str) -> str:
        """``text`` with every known secret replaced by asterisks."""
        return self._pattern.sub(MASK, text) if self._pattern else text

    def __repr__(self) -> str:
        return f"Masker({len(self._values)} values)"
