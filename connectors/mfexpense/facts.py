"""Facts about マネーフォワード クラウド経費 that are data, with how certain each one is."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any, Final

FACTS: Final[dict[str, dict[str, Any]]] = tomllib.loads(
    (files("connectors.mfexpense") / "facts.toml").read_text("utf-8")
)
"""Name -> ``value``; ``evidence``: ``V`` verified, ``3rd``, ``K`` generally known, ``I`` inferred,
``?`` unknown; ``statement``: the same for a person, in Japanese."""


def fact(name: str) -> Any:
    """The value of one fact.

    Raises:
        KeyError: there is no such fact.
    """
    return FACTS[name]["value"]
