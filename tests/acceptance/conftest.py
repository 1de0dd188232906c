"""Every connector of the catalogue in front of every check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from deployments.catalog import Connector, connectors
from flows.engine.store import migrate
from tests.acceptance.protocol import Case, case_of
from tests.acceptance.world import World, world


@pytest.fixture(params=sorted(connectors()))
def connector(request: pytest.FixtureRequest) -> Connector:
    """Each connector in turn, found by looking."""
    return connectors()[request.param]


@pytest.fixture
def case(connector: Connector) -> Case:
    """What it brings to the kit."""
    return case_of(connector.pipeline.connector)()


@pytest.fixture(scope="session")
def books(postgres: Any) -> str:
    """URL of the store that the worlds use, one after the other."""
    url: str = postgres.fresh_database()
    migrate(url)
    return url


@pytest.fixture
def new_world(connector: Connector, books: str) -> Iterator[Callable[[], World]]:
    """Makes worlds of the connector, each with emulators of its own and empty books."""
    with ExitStack() as stack:

        def make() -> World:
            made = case_of(connector.pipeline.connector)()
            return stack.enter_context(world(connector, made, books))

        yield make
