"""What the emulator's demo company has registered from the beginning; the rows are a data file."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any


@cache
def _data() -> dict[str, Any]:
    text = resources.files("connectors.bugyo").joinpath("emulator_masters.toml").read_text("utf-8")
    return tomllib.loads(text)


def built_in(name: str) -> list[dict[str, str]]:
    """Rows of a master that the product itself brings along, by English field names."""
    return _rows("built_in", name)


def demo_rows(name: str) -> list[dict[str, str]]:
    """Rows of a master that the demo company registered, by English field names."""
    return _rows("demo", name)


def _rows(part: str, name: str) -> list[dict[str, str]]:
    entry = _data()[part].get(name)
    if entry is None:
        return []
    return [dict(zip(entry["fields"], row, strict=True)) for row in entry["rows"]]
