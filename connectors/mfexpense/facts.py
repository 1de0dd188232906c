"""Facts about マネーフォワード クラウド経費 that are data, with how certain each one is."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class Fact:
    """One statement of ``facts.toml``.

    Attributes:
        value: What the program goes by.
        evidence: ``V`` verified, ``3rd``, ``K`` generally known, ``I`` inferred, ``?`` unknown.
        statement: The same for a person, in Japanese.
    """

    value: Any
    evidence: str
    statement: str


@cache
def facts() -> dict[str, Fact]:
    """Every fact by its name."""
    file = resources.files("connectors.mfexpense").joinpath("facts.toml")
    return {name: Fact(**entry) for name, entry in tomllib.loads(file.read_text("utf-8")).items()}


def fact(name: str) -> Any:
    """The value of one fact.

    Raises:
        KeyError: there is no such fact.
    """
    return facts()[name].value
