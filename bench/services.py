"""What both sides of the comparison talk to: emulators in a process of their own, PostgreSQL.

``python -m bench.services SIZE`` is the emulators' process; it obeys lines on its standard input.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

import psutil
import psycopg
from psycopg import sql

from connectors.bugyo.emulator import DEMO_TENANTS, BugyoEmulator
from connectors.kintone.emulator import KintoneEmulator
from connectors.kit.emulator import serve
from deployments.samples import customers
from deployments.samples.kintone import DEMO_API_TOKEN, SAMPLE_EPOCH
from deployments.stack.postgres import EmbeddedPostgres
from deployments.stack.processes import Guard

_SEED_CHUNK = 1000


def cpu_seconds(pid: int) -> float:
    """User and system seconds of a process and all its children, those that have ended too.

    An ended child is counted by its parent once that has reaped it, so differences are right as
    long as the parent does (PostgreSQL's postmaster does).
    """
    time.sleep(0.5)  # what has just lost its client is on its way out
    parent = psutil.Process(pid)
    total = sum(parent.cpu_times()[:4])
    for child in parent.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(child.cpu_times()[:4])
    return float(total)


class Emulators:
    """The emulators' process, with ``size`` clean customers in kintone."""

    def __init__(self, size: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.services", str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        hello = self._answer()
        self.kintone: str = hello["kintone"]
        self.bugyo: str = hello["bugyo"]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=30)

    def fresh_books(self) -> None:
        """Forget every customer of 奉行クラウド and count requests from zero."""
        self._ask("fresh")

    def requests(self) -> dict[str, Any]:
        """What arrived since `fresh_books`: requests by operation, and customers stored."""
        return self._ask("count")

    def _ask(self, order: str) -> dict[str, Any]:
        stdin = self._process.stdin
        if stdin is None:
            raise RuntimeError("the emulators have no standard input")
        stdin.write(order + "\n")
        stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        stdout: IO[str] | None = self._process.stdout
        line = stdout.readline() if stdout is not None else ""
        if not line:
            raise RuntimeError("the emulators' process has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Database:
    """A durable embedded PostgreSQL; every measurement gets an empty store of its own."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._stores = 0

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return self._server.pid

    def fresh_store(self) -> str:
        """URL of a new store with our tables and nothing in them."""
        self._stores += 1
        name = f"store_{self._stores}"
        with psycopg.connect(self._server.url("postgres"), autocommit=True) as connection:
            for other in range(1, self._stores):
                old = sql.Identifier(f"store_{other}")
                connection.execute(sql.SQL("drop database if exists {} (force)").format(old))
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            # What the last measurement left to be written is not this one's business.
            connection.execute("checkpoint")
        url = self._server.url(name)
        # In a child: the pool of this process must not hold the store open.
        code = "import sys; from flows.engine.store import migrate; migrate(sys.argv[1])"
        subprocess.run([sys.executable, "-c", code, url], check=True)
        return url


@contextlib.contextmanager
def database(folder: Path) -> Iterator[Database]:
    """Run a PostgreSQL in ``folder`` while the body runs."""
    server = EmbeddedPostgres(folder / "pg")
    guard = Guard(folder / "guard.log")
    server.start()
    guard.watch_postgres(server.data_dir, server.system_user)
    try:
        yield Database(server)
    finally:
        server.stop()
        guard.dismiss()


def _kintone(size: int) -> KintoneEmulator:
    emulator = KintoneEmulator()
    emulator.add_app(
        customers.APP_ID, customers.APP_NAME, customers.FIELDS, tokens={DEMO_API_TOKEN: {"view"}}
    )
    chunk: list[dict[str, str]] = []
    for record in customers.customers(size, awkward=False):
        chunk.append(record)
        if len(chunk) == _SEED_CHUNK:
            emulator.seed(customers.APP_ID, chunk, updated_at=SAMPLE_EPOCH)
            chunk = []
    if chunk:
        emulator.seed(customers.APP_ID, chunk, updated_at=SAMPLE_EPOCH)
    return emulator


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _main(size: int) -> None:
    kintone, bugyo = _kintone(size), BugyoEmulator()
    tenant = DEMO_TENANTS[0].id
    with serve(kintone) as kintone_url, serve(bugyo) as bugyo_url:
        _say({"kintone": kintone_url, "bugyo": bugyo_url})
        for line in sys.stdin:
            if line.strip() == "fresh":
                bugyo.customers[tenant].clear()
                kintone.faults.requests.clear()
                bugyo.faults.requests.clear()
                _say({})
            else:
                counts = {**kintone.faults.counts(), **bugyo.faults.counts()}
                by_operation = {path.rpartition("/")[2]: n for path, n in counts.items()}
                stored = len(bugyo.customers[tenant].rows) - 1  # without その他
                _say({"requests": by_operation, "stored": stored})


if __name__ == "__main__":
    _main(int(sys.argv[1]))
