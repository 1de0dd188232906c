"""``python -m deployments.gateway``: serve until SIGTERM, on the address of the settings."""

from __future__ import annotations

import uvicorn

from deployments.gateway.app import create_app
from deployments.stack.settings import StackSettings


def serve(settings: StackSettings) -> None:
    """Serve the gateway; returns when it was asked to stop."""
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.gateway_port,
        # A request line holds codes and, of kintone's webhooks, a secret.
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    serve(StackSettings())
