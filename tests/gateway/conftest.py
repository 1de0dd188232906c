"""The gateway, served over HTTP by this process, beside the session's Prefect server and store."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn

from connectors.kit.emulator import free_port
from deployments.gateway.app import create_app
from deployments.stack.settings import StackSettings
from flows.engine.store import Store
from tests.flows.conftest import client, known_blocks, new_world, store

__all__ = ["client", "known_blocks", "new_world", "store"]


@contextlib.contextmanager
def serving(store: Store, *, sweeps: bool = False) -> Iterator[httpx.Client]:
    """A client of a gateway of its own.

    Args:
        store: The books.
        sweeps: Whether it looks for events without a run, too.
    """
    port = free_port()
    settings = StackSettings(gateway_port=port, public_url="https://connect.example.co.jp")
    config = uvicorn.Config(
        create_app(settings, store),
        port=port,
        access_log=False,
        log_level="info",
        log_config=None,
        lifespan="on" if sweeps else "off",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 80
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as http:
        yield http
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def http(store: Store) -> Iterator[httpx.Client]:
    """A client of a gateway that starts no runs of events."""
    with serving(store) as opened:
        yield opened


def code(answer: httpx.Response) -> str:
    """The error code of an answer."""
    found: Any = answer.json()["error"]["code"]
    return str(found)


Make = Callable[..., Any]
