"""docs/errors.ja.md is the catalogue, and nothing else."""

from __future__ import annotations

from pathlib import Path

from connectors.kit import catalogue
from connectors.kit.errors_page import render

PAGE = Path(__file__).parents[3] / "docs" / "errors.ja.md"


def test_the_page_is_the_catalogue() -> None:
    assert PAGE.read_text("utf-8") == render(), "make docs"


def test_every_code_has_its_place() -> None:
    page = render()
    for code, entry in catalogue().items():
        assert f"### {code} {entry.title}\n" in page
    assert "{" not in page
