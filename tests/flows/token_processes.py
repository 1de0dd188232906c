"""Several processes that need a new access token at the same instant; run by the token tests.

    python token_processes.py BLOCK[,BLOCK…] HOW_MANY [POINT]     with several blocks, in turn

Everything is imported once and forked, so that the processes really meet. Prints a line a process:
``ok`` and the number of tenants that it saw, its error, or ``died`` and the exit status. With a
point (`flows.engine.points`) each process ends there, as by ``kill -9``.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from typing import Any

from blocks import BugyoCredentials
from connectors.kit import AppConnectError, Masker
from flows.engine import Tools, points
from flows.engine.store import Store
from flows.engine.tokens import Vault
from flows.parts.bugyo import open_bugyo

DIED = 9


async def ask(name: str, all_loaded: Any) -> str:
    credentials: Any = await BugyoCredentials.aload(name)
    await asyncio.to_thread(all_loaded.wait)
    try:
        async with open_bugyo(credentials, Tools(Masker(), Vault(Store()))) as client:
            return f"ok {len(await client.search_tenants())}"
    except AppConnectError as error:
        return error.code


def work(name: str, all_loaded: Any, results: Any, die_at: str) -> None:
    def die(point: str) -> None:
        if point == die_at:
            os._exit(DIED)

    points.arm(die)
    results.put(asyncio.run(ask(name, all_loaded)))


def main() -> None:
    names, many, die_at = sys.argv[1].split(","), int(sys.argv[2]), sys.argv[3]
    fork = multiprocessing.get_context("fork")
    all_loaded, results = fork.Barrier(many), fork.SimpleQueue()
    started = [
        fork.Process(target=work, args=(names[n % len(names)], all_loaded, results, die_at))
        for n in range(many)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    for process in started:
        print(results.get() if process.exitcode == 0 else f"died {process.exitcode}")


if __name__ == "__main__":
    main()
