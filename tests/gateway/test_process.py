"""The gateway as the stack and ``app-connect gateway`` start it: a process of its own."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import httpx

from connectors.kit.emulator import free_port
from deployments.stack.processes import Child, http_healthy
from deployments.stack.settings import child_environment


def test_it_starts_says_nothing_of_what_comes_in_and_stops(
    prefect_server: Any, store: Any, tmp_path: Path
) -> None:
    port = free_port()
    environment = {**prefect_server.env, "APP_CONNECT_GATEWAY_PORT": str(port)}
    command = [sys.executable, "-m", "deployments.gateway"]
    child = Child("gateway", command, child_environment(environment), tmp_path / "gateway.log")
    try:
        base = f"http://127.0.0.1:{port}"
        child.wait_until(http_healthy(f"{base}/live"), seconds=90)
        with httpx.Client(base_url=base, trust_env=False) as http:
            came = http.get("/oauth/callback?code=c0de-canary&state=st4te-canary")
            assert came.status_code == 400
            assert http.post("/webhooks/any/s3cret-canary", content=b"{}").status_code == 401
            key = {"Authorization": "Bearer ack_canary_canary"}
            answer = http.get("/api/v1/history", headers=key)
            assert answer.status_code == 401
            assert "server" not in answer.headers
    finally:
        child.terminate()
        child.finish()
    # It ends what is under way, and then by the signal itself.
    assert child.exit_code == -signal.SIGTERM, child.log.read_text("utf-8")
    assert "canary" not in child.log.read_text("utf-8")
