"""Several processes that need a new access token at the same instant; run by ``test_tokens``.

    python token_processes.py BLOCK HOW_MANY

Everything is imported once and forked, so that the processes really meet. Prints a line a process:
``ok`` and the number of tenants that it saw, or its error.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from typing import Any

from blocks import BugyoCredentials
from connectors.kit import AppConnectError, Masker
from flows.engine import Tools
from flows.engine.store import Store
from flows.engine.tokens import Vault
from flows.parts.bugyo import open_bugyo


async def ask(name: str, all_loaded: Any) -> str:
    credentials: Any = await BugyoCredentials.aload(name)
    await asyncio.to_thread(all_loaded.wait)
    try:
        async with open_bugyo(credentials, Tools(Masker(), Vault(Store()))) as client:
            return f"ok {len(await client.search_tenants())}"
    except AppConnectError as error:
        return error.code


def work(name: str, all_loaded: Any, results: Any) -> None:
    results.put(asyncio.run(ask(name, all_loaded)))


def main() -> None:
    name, many = sys.argv[1], int(sys.argv[2])
    fork = multiprocessing.get_context("fork")
    all_loaded, results = fork.Barrier(many), fork.SimpleQueue()
    processes = [fork.Process(target=work, args=(name, all_loaded, results)) for _ in range(many)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    for _ in range(many):
        print(results.get())


if __name__ == "__main__":
    main()
