"""アップデート情報: what changed in which version, and what a person has to do about it."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import metadata, resources


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    Attributes:
        version: The version that brought it.
        date: Day of that version.
        connector: Which connector it is about; empty = the whole product.
        title: What it is about.
        text: What is different.
        action: What a person has to do after the update; empty = nothing.
    """

    version: str
    date: date
    connector: str
    title: str
    text: str
    action: str


@cache
def changes() -> tuple[Change, ...]:
    """Every change, newest version first."""
    data = resources.files("flows.engine").joinpath("updates.toml").read_text("utf-8")
    return tuple(Change(**entry) for entry in tomllib.loads(data)["change"])


def current() -> str:
    """The version that is installed."""
    return metadata.version("app-connect")


def order(version: str) -> tuple[int, ...]:
    """Versions in their order: ``0.10.0`` comes after ``0.9.0``."""
    return tuple(int(part) for part in version.split("."))


def since(seen: str, known: Sequence[Change] | None = None) -> list[Change]:
    """What changed after the version that was at work before."""
    return [
        each
        for each in (changes() if known is None else known)
        if order(each.version) > order(seen)
    ]


def lines(found: Sequence[Change]) -> list[str]:
    """What is said at an update: each change, and what has to be done."""
    said = []
    for each in found:
        said.append(f"{each.version} {each.title}: {each.text}")
        if each.action:
            said.append(f"  対応: {each.action}")
    return said
