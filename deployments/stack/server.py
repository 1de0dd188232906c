"""The Prefect server of the stack: its command and its health."""

from __future__ import annotations

import sys
from collections.abc import Callable

from deployments.stack.processes import http_healthy
from deployments.stack.settings import StackSettings, StackUrls

START_SECONDS = 240.0
"""How long the first start may take: 8 s measured on 2 cores, most of it imports and tables."""


def server_command(settings: StackSettings) -> list[str]:
    """API, UI *and* background services in one process: without the services nothing is scheduled.

    A module rather than the ``prefect`` script: it is the one of this environment.
    """
    return [
        sys.executable,
        "-m",
        "deployments.stack.server_main",
        "server",
        "start",
        "--host",
        settings.host,
        "--port",
        str(settings.prefect_port),
    ]


def server_healthy(urls: StackUrls) -> Callable[[], bool]:
    """Whether the API answers; by then the tables exist and the services are running."""
    return http_healthy(f"{urls.prefect_api}/health")
