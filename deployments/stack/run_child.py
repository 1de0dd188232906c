"""What a forked child does: become a flow run. Imported by the warm process, so keep it light."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time


def execute_flow_run(flow_run_id: str, environment: dict[str, str], kill_seconds: float) -> None:
    """Be ``python -m prefect.engine <flow_run_id>`` in a process that has imported it already.

    Args:
        flow_run_id: The run.
        environment: The whole environment of the run.
        kill_seconds: How long it may clean up when its worker dies.
    """
    # Ctrl-C in the worker's terminal is for the worker: it decides how its runs end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(
        target=_end_with_worker, args=(kill_seconds,), name="worker-watch", daemon=True
    ).start()
    _become(environment)
    sys.argv = ["prefect.engine", flow_run_id]
    runpy.run_module("prefect.engine", run_name="__main__")


def _become(environment: dict[str, str]) -> None:
    """Take over ``environment``; Prefect reads its settings again only when they differ."""

    def settings() -> dict[str, str]:
        return {
            name: value
            for name, value in os.environ.items()
            if name.startswith("PREFECT_") and not name.startswith("PREFECT__")
        }

    before = settings()
    os.environ.clear()
    os.environ.update(environment)
    if settings() != before:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def _end_with_worker(kill_seconds: float) -> None:
    """Stop this run when its worker dies: orderly first (it can still report itself), then not."""
    worker = multiprocessing.parent_process()
    if worker is None:
        return
    worker.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(kill_seconds)
    os.kill(os.getpid(), signal.SIGKILL)
