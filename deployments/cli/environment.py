"""Which Prefect server and which store a command talks to."""

from __future__ import annotations

import json
import os
from pathlib import Path

from deployments.stack.settings import StackError, StackSettings

_FILE = "client-environment.json"


def remember(settings: StackSettings, environment: dict[str, str]) -> Path:
    """Let other commands find the running stack; only its owner may read the file."""
    path = settings.state_dir / _FILE
    path.touch(mode=0o600)
    path.write_text(json.dumps(environment), "utf-8")
    return path


def apply(environment: dict[str, str]) -> None:
    """Make this process a client. Call before Prefect is imported: it reads its settings then."""
    os.environ.update(environment)


def use_running_stack() -> None:
    """Become a client of the server that the environment names, else of the local stack.

    Raises:
        StackError: neither is known.
    """
    if os.environ.get("PREFECT_API_URL"):
        return
    settings = StackSettings()
    path = settings.state_dir / _FILE
    if not path.exists():
        raise StackError(
            "Prefect サーバーが分かりません。\n"
            "対処: 別の画面で make run を実行しておくか、"
            "PREFECT_API_URL と APP_CONNECT_DATABASE_URL を設定してください。"
        )
    apply(json.loads(path.read_text("utf-8")))
