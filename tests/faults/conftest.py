"""A store for the session, and a company for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from company import Company, company, warm_up


@pytest.fixture(scope="session")
def books(postgres: Any) -> str:
    """URL of the store that the companies of the session share, each under its own name."""
    warm_up()
    url: str = postgres.fresh_database()
    return url


@pytest.fixture
def new_company(books: str) -> Iterator[Callable[..., Company]]:
    """Makes companies that end with the test."""
    with ExitStack() as stack:

        def make(**more: Any) -> Company:
            return stack.enter_context(company(books, **more))

        yield make


@pytest.fixture
def firm(new_company: Callable[..., Company]) -> Company:
    """A company with nothing in it."""
    return new_company()
