"""The same through the real stack: the flow on a Prefect server, and Run pressed by a person."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import psycopg

from bench.services import Emulators
from deployments.stack.ports import free_ports
from deployments.stack.settings import StackSettings, child_environment
from deployments.stack.stack import Stack

PRESSES = 5

# Deploys the sample connection on emulators elsewhere, then does what its arguments say.
_CLIENT = """
import asyncio, sys, time
from deployments.catalog import deploy, ensure_work_pool, register_blocks
from deployments.samples import MAIN
from deployments.samples.kintone import connections
from deployments.stack.settings import StackUrls
from flows.engine.store import migrate

kintone, bugyo, store, what = sys.argv[1:5]

async def main():
    migrate(store)
    await register_blocks()
    await ensure_work_pool()
    connection = await connections(
        StackUrls("", store, "", {"kintone": kintone, "bugyo": bugyo})
    )[0].save()
    deployment = await deploy(connection, MAIN)
    if what == "press":
        await press(deployment)

async def press(deployment):
    from prefect.client.orchestration import get_client
    async with get_client() as client:
        began = time.perf_counter()
        run = await client.create_flow_run_from_deployment(deployment, parameters={"mode": "全件"})
        while not (run.state and run.state.is_final()):
            await asyncio.sleep(0.02)
            run = await client.read_flow_run(run.id)
        print(time.perf_counter() - began, run.state.name, run.state.message)

asyncio.run(main())
"""


@contextlib.contextmanager
def _stack(*, worker: bool) -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="app-connect-bench-") as folder:
        Path(folder).chmod(0o755)
        settings = StackSettings(
            state_dir=Path(folder) / "state",
            **free_ports(),
        )
        with Stack(settings, emulators=False, worker=worker) as stack:
            yield stack


def _forget(store: str) -> None:
    """Empty the ledger, so that the next run posts every record again."""
    with psycopg.connect(store.replace("+psycopg", "")) as connection:
        if connection.execute("select to_regclass('ledger')").fetchone() != (None,):
            connection.execute("truncate ledger")


def _client(stack: Stack, emulators: Emulators, what: str) -> str:
    command = [sys.executable, "-c", _CLIENT, emulators.kintone, emulators.bugyo, stack.urls.store]
    return subprocess.run(
        [*command, what],
        env=child_environment(stack.environment),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def with_prefect(size: int) -> str:
    """A with Prefect's flow, tasks, artifacts and history around it."""
    with _stack(worker=False) as stack, Emulators(size) as emulators:
        _client(stack, emulators, "deploy")
        command = [sys.executable, "-m", "bench.ours", emulators.kintone, emulators.bugyo]
        said = subprocess.run(
            [*command, stack.urls.store, "--flow"],
            env=child_environment(stack.environment),
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ).stdout
        stored = emulators.requests()["stored"]
    told = json.loads(said.splitlines()[-1])
    return (
        f"A inside its Prefect flow: {size / told['seconds']:,.0f} records/s, "
        f"{told['cpu'] / size * 1e6:.1f} µs CPU a record, peak {told['peak_mib']:.0f} MiB, "
        f"{told['result']}, {stored:,} stored"
    )


def pressed(size: int = 100) -> str:
    """Seconds from the request that Run makes to a final state, for ``size`` records."""
    seconds: list[float] = []
    name = ""
    with _stack(worker=True) as stack, Emulators(size) as emulators:
        for _ in range(PRESSES):
            emulators.fresh_books()
            _forget(stack.urls.store)
            took, name, *_ = _client(stack, emulators, "press").split()
            seconds.append(float(took))
    return (
        f"Run pressed to Completed, {size} records: {median(seconds):.2f} s "
        f"({min(seconds):.2f} to {max(seconds):.2f}, {PRESSES} times, last {name})"
    )
