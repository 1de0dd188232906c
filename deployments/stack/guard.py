"""Cleans up after a supervisor that was killed: ``python -m deployments.stack.guard``.

Orders arrive on standard input, one JSON object a line (see `deployments.stack.processes.Guard`).
When the input ends without ``dismiss``, the supervisor is dead: every watched process group is
asked to stop, killed when it does not, and PostgreSQL is stopped last.

Why a process and not ``PR_SET_PDEATHSIG``: that works on Linux only, follows the *thread* that
started a child, knows no order, and cannot stop PostgreSQL, which is no child of anybody.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from deployments.stack.postgres import stop_data_dir
from deployments.stack.processes import signal_group


def stop_group(pid: int, seconds: float) -> None:
    """Ask the leader to stop, give it ``seconds``, then kill whoever is left of its group."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        leader = psutil.Process(pid)
        leader.terminate()
        # It is no child of ours; where nobody reaps orphans it stays a zombie, which is dead, too.
        while leader.is_running() and leader.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
    signal_group(pid, signal.SIGKILL)


def main(orders: Iterable[str]) -> None:
    """Follow ``orders`` to their end, then clean up unless dismissed."""
    watched: list[tuple[int, float]] = []
    postgres: dict[str, Any] | None = None
    for line in orders:
        order = json.loads(line)
        if order.get("dismiss"):
            return
        if "watch" in order:
            watched.append((int(order["watch"]), float(order["seconds"])))
        if "postgres" in order:
            postgres = order
    print(f"the supervisor is gone: stopping {len(watched)} processes", flush=True)
    for pid, seconds in reversed(watched):
        stop_group(pid, seconds)
    if postgres is not None:
        stop_data_dir(Path(postgres["postgres"]), postgres["user"])
    print("everything is stopped", flush=True)


if __name__ == "__main__":
    # The terminal's signals are for the supervisor; we follow its pipe only.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    main(sys.stdin)
