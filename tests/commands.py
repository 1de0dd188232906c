"""``app-connect`` as a person or a script types it, without waiting for Python each time.

A process of its own imports Prefect and every connector again, for seconds, and says the same:
`own_process` is for the tests of what *being* a process means (exit status, streams, environment).
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from unittest.mock import patch

COMMAND = [sys.executable, "-c", "from deployments.cli import main; main()"]


def app_connect(
    *arguments: str, env: dict[str, str] | None = None, own_process: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command and return its exit status and what it wrote.

    Args:
        arguments: After ``app-connect``.
        env: Its environment; ours by default.
        own_process: In a process of its own. Otherwise here, where the Prefect client is that of
            the ``prefect_server`` fixture whatever ``env`` says.
    """
    if own_process:
        command = [*COMMAND, *arguments]
        return subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=360, check=False
        )
    from deployments.cli import main

    out, err = io.StringIO(), io.StringIO()
    status = 0
    with (
        patch.dict(os.environ, env or {}),
        patch.object(sys, "argv", ["app-connect", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return subprocess.CompletedProcess(list(arguments), status, out.getvalue(), err.getvalue())
