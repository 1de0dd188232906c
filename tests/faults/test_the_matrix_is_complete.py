"""The table of the fault matrix names tests that exist, and leaves no row out."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROWS = range(1, 39)
_ROW = re.compile(r"^\| (\d+) \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
_FILE = re.compile(r"([\w/]+\.py): ((?:`\w+`(?:, )?)+)")
_TEST = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)


@cache
def table() -> dict[int, dict[str, list[str]]]:
    """Row -> file -> tests, as the README tells them."""
    text = (Path(__file__).parent / "README.md").read_text("utf-8")
    return {
        int(number): {file: re.findall(r"\w+", names) for file, names in _FILE.findall(cell)}
        for number, cell in _ROW.findall(text)
    }


@cache
def names_in(file: str) -> frozenset[str]:
    """Names of the tests in a file."""
    return frozenset(_TEST.findall((TESTS / file).read_text("utf-8")))


def test_every_row_is_there() -> None:
    assert list(table()) == list(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_the_tests_of_a_row_exist(row: int) -> None:
    named = table()[row]
    missing = [
        f"{file}: {name}"
        for file, names in named.items()
        for name in names
        if not (TESTS / file).exists() or name not in names_in(file)
    ]
    assert missing == []
    found = [name for names in named.values() for name in names]
    assert len(found) == len(set(found))
    of_this_row = [name for name in found if name.startswith(f"test_row_{row:02}_")]
    assert of_this_row
