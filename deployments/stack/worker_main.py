"""The worker's process in the stack: ``python -m deployments.stack.worker_main``.

Imports and warms up while the Prefect server is still starting, then works until SIGTERM.
`prefect worker start --pool app-connect --type app-connect` does the same for people who bring
their own server, one after the other.

This module is run again in every child (`multiprocessing` does that with a main module), so it
imports nothing heavy at its top.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path


class Stopper:
    """What a signal does: the first lets the runs drain, the second kills them."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.kill: Callable[[], None] = lambda: None
        self._stopping = False

    def __call__(self) -> None:
        """Called for each signal."""
        if self._stopping:
            self.kill()
            return
        self._stopping = True
        if self.task is not None:
            self.task.cancel()


async def work(
    pool: str, limit: int | None, ready_file: Path | None, stopper: Stopper | None = None
) -> None:
    """Wait for the server, then run flows from ``pool`` until cancelled.

    Args:
        pool: Name of the work pool; made when it does not exist.
        limit: How many runs at a time; ``None`` = no limit.
        ready_file: Written when the worker has started polling.
        stopper: Told how to kill the runs.
    """
    import httpx
    from prefect.settings import get_current_settings

    from deployments.worker import AppConnectWorker, warm_up

    warm_up()
    health = f"{get_current_settings().api.url}/health"
    async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
        while True:
            try:
                if (await client.get(health)).is_success:
                    break
            except httpx.HTTPError:
                pass  # not there yet
            await asyncio.sleep(0.1)

    def started(*words: object) -> None:
        print(*words, flush=True)
        if ready_file is not None:
            ready_file.write_text(str(os.getpid()), "ascii")

    worker = AppConnectWorker(work_pool_name=pool, name=f"{pool}-{os.getpid()}", limit=limit)
    if stopper is not None:
        stopper.kill = worker.kill_all
    await worker.start(printer=started)


def main() -> None:
    """Read the arguments, work, and end quietly on SIGTERM."""
    from deployments.stack.settings import WORK_POOL

    parser = argparse.ArgumentParser(prog="python -m deployments.stack.worker_main")
    parser.add_argument("--pool", default=WORK_POOL)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--ready-file", type=Path)
    arguments = parser.parse_args()

    async def until_stopped() -> None:
        stopper = Stopper()
        task = asyncio.create_task(
            work(arguments.pool, arguments.limit, arguments.ready_file, stopper)
        )
        stopper.task = task
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopper)
        try:
            await task
        except asyncio.CancelledError:
            print("the worker has stopped", flush=True)

    asyncio.run(until_stopped())


if __name__ == "__main__":
    main()
