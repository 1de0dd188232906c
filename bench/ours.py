"""A: the engine, with its store, ledger, lease and staged pages, in one process.

``python -m bench.ours KINTONE BUGYO STORE [--flow] [--profile FILE]``. Without ``--flow`` the
stages are called as `flows.engine.run` does, extract and transform side by side and then load,
without Prefect around them; with it the flow itself is called, against the Prefect server of the
environment.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import gc
import os
import time
from dataclasses import asdict
from uuid import uuid4

from bench.meter import measured
from connectors.kit import Masker
from deployments.samples import MAIN
from deployments.samples.kintone import connections
from deployments.stack.settings import StackUrls
from flows.customers_from_kintone import (
    PIPELINE,
    CustomersFromKintoneConnection,
    customers_from_kintone,
)
from flows.engine import history, staging
from flows.engine.clock import now
from flows.engine.closing import close
from flows.engine.codes import EMPTY_BOOK
from flows.engine.collecting import fewer_collections
from flows.engine.context import RunContext
from flows.engine.core import Order, window_of
from flows.engine.extract import extract
from flows.engine.lease import lease
from flows.engine.ledger import Ledger
from flows.engine.load import load
from flows.engine.model import Counts, Mode, RunHandle, Trigger, Window
from flows.engine.pipeline import Tools
from flows.engine.settling import settle
from flows.engine.store import Store
from flows.engine.store.database import URL_VARIABLE
from flows.engine.tokens import Vault
from flows.engine.transform import transform


def _told(result: str, counts: Counts) -> dict[str, object]:
    return {"result": result, "counts": asdict(counts)}


async def _quiet(stage: str, done: int, total: int | None) -> None:
    del stage, done, total


async def engine(urls: StackUrls) -> dict[str, object]:
    """One full run; returns its result, counts, and the seconds and CPU seconds of each stage."""
    sample = connections(urls)[0]
    block = CustomersFromKintoneConnection(
        registration_number="AC-0000-0001",
        phone="03-0000-0000",
        settings=sample.settings,
        **sample.credentials,
    )
    store, run_id, masker = Store(urls.store), uuid4(), Masker()
    with store.session() as session:
        row = history.open_run(
            session,
            run_id=run_id,
            connection=MAIN,
            connector=PIPELINE.connector,
            service=PIPELINE.service,
            trigger=Trigger.MANUAL,
            mode=Mode.FULL,
            dry_run=False,
            started_at=now(),
        )
    took: dict[str, list[float]] = {}
    async with lease(store, MAIN, run_id) as held, contextlib.AsyncExitStack() as stack:
        tools = Tools(masker, Vault(store))
        run = RunContext(
            handle=RunHandle(run_id=run_id, connection=MAIN),
            store=store,
            pipeline=PIPELINE,
            source=await stack.enter_async_context(PIPELINE.open_source(block, tools)),
            sink=await stack.enter_async_context(PIPELINE.open_sink(block, tools)),
            transformer=PIPELINE.transformer(block, EMPTY_BOOK),
            lease=held,
            ledger=Ledger(MAIN, PIPELINE.entity),
            window=Window(Mode.FULL),
            mode=Mode.FULL,
            dry_run=False,
            masker=masker,
            report=_quiet,
        )
        await settle(run)
        order = Order(run_id, MAIN, Trigger.MANUAL, Mode.FULL)
        run.window = await window_of(run, block, order)
        clock = asyncio.get_running_loop().time
        for name, stages in (("extract and transform", (extract, transform)), ("load", (load,))):
            began, cpu = clock(), time.process_time()
            with fewer_collections():
                await asyncio.gather(*(stage(run) for stage in stages))
            took[name] = [round(clock() - began, 3), round(time.process_time() - cpu, 3)]
        result, counts = await store.do(close, run, row)
        await store.do(staging.purge, MAIN)
    return _told(str(result), counts) | {"stages": took}


async def flow() -> dict[str, object]:
    """The flow, with its connection block and its tasks, on a real Prefect server."""
    state = await customers_from_kintone(MAIN, mode="全件", return_state=True)
    return {"result": state.name, "message": state.message}


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kintone")
    parser.add_argument("bugyo")
    parser.add_argument("store")
    parser.add_argument("--flow", action="store_true")
    parser.add_argument("--profile")
    options = parser.parse_args()
    os.environ[URL_VARIABLE] = options.store
    urls = StackUrls("", options.store, "", {"kintone": options.kintone, "bugyo": options.bugyo})
    profiler = cProfile.Profile() if options.profile else None
    gc.freeze()  # as the worker's warm process does before it forks a run
    with measured() as told:
        if profiler is not None:
            profiler.enable()
        told.update(asyncio.run(flow() if options.flow else engine(urls)))
        if profiler is not None:
            profiler.disable()
    if profiler is not None:
        profiler.dump_stats(options.profile)


if __name__ == "__main__":
    _main()
