"""Row 29 of the fault matrix: the store is locked, full, killed, crowded. No POST without its row.

The server of these tests is their own: what is done to it must not reach the other tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.kit.emulator import Fault
from deployments.licensing import issue_sample
from deployments.stack.postgres import EmbeddedPostgres
from deployments.stack.processes import Guard
from flows.customers_from_kintone import customers_from_kintone
from flows.engine.store import Store, database, migrate

MANY = 12


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with tempfile.TemporaryDirectory(prefix="ac-", ignore_cleanup_errors=True) as name:
        own = EmbeddedPostgres(Path(name) / "pg")
        own.start()
        with psycopg.connect(own.url("postgres"), autocommit=True) as db:
            db.execute("ALTER SYSTEM SET max_connections = 16")
            db.execute("ALTER SYSTEM SET superuser_reserved_connections = 0")
        own.stop()
        own.start()
        guard = Guard(Path(name) / "guard.log")
        guard.watch_postgres(own.data_dir, own.system_user)
        yield own
        own.stop()
        guard.dismiss()


@pytest.fixture
def books(
    server: EmbeddedPostgres, world: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], str]]:
    """Gives the world a store on our server; waits are short."""
    monkeypatch.setattr(database, "LOCK_SECONDS", 1)
    monkeypatch.setattr(database, "OUTAGE_SECONDS", 15.0)
    opened: list[Store] = []

    def make() -> str:
        name = world.name.replace("-", "_")
        with psycopg.connect(server.url("postgres"), autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name}".encode())
        url = server.url(name)
        migrate(url)
        monkeypatch.setenv(database.URL_VARIABLE, url)
        world.store = Store(url)
        issue_sample(world.store)
        opened.append(world.store)
        world.fill(MANY)
        return url

    yield make
    for store in opened:
        store.close()


async def run(world: Any) -> Any:
    """Run the flow; its row may not exist."""
    return await customers_from_kintone(world.name, "差分", return_state=True)


async def once_each(world: Any) -> None:
    """The next run brings everything, and nothing was ever written twice."""
    again = await run(world)
    assert again.name == "SUCCESS", again.message
    assert len(world.customers) == MANY
    assert set(world.book.writes.values()) == {1}
    assert world.ledger() == {"posted": MANY}


async def test_row_29_a_locked_ledger_is_waited_for(
    world: Any, books: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_SECONDS", 30)
    url = books()
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE")
        task = asyncio.create_task(run(world))
        await asyncio.sleep(2)
        assert not task.done()
        assert world.imports == 0
        other.rollback()
    assert (await task).name == "SUCCESS"
    assert set(world.book.writes.values()) == {1}


async def test_row_29_a_ledger_that_stays_locked_is_told_and_nothing_is_posted(
    world: Any, books: Callable[[], str]
) -> None:
    url = books()
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE")
        state = await run(world)
        assert world.imports == 0
        other.rollback()
    assert state.name == "ERROR"
    assert state.message.startswith("AC-704 データベースの待ち時間の超過")
    await once_each(world)


async def test_row_29_a_full_disk_is_told_and_nothing_is_posted(
    world: Any, books: Callable[[], str], server: EmbeddedPostgres
) -> None:
    """The ledger's file is on a device that is always full: ENOSPC from the kernel itself."""
    url = books()
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("TRUNCATE ledger")  # a new, empty file
        row = db.execute("SELECT pg_relation_filepath('ledger')").fetchone()
        assert row is not None
        file = server.data_dir / str(row[0])
        db.execute("CHECKPOINT")
    world.store.close()
    kept = file.with_name(f"{file.name}.kept")
    file.rename(kept)
    file.symlink_to("/dev/full")
    state = await run(world)
    assert world.imports == 0
    file.unlink()
    kept.rename(file)
    world.store.close()
    assert state.name == "ERROR"
    assert state.message.startswith("AC-702 データベースの空き容量不足")
    assert "送っていません" in state.message
    await once_each(world)


async def test_row_29_postgresql_is_killed_between_intent_and_answer(
    world: Any, books: Callable[[], str], server: EmbeddedPostgres
) -> None:
    books()
    world.bugyo.faults.add(Fault(kind="latency", path="ImportCustomer", seconds=60))
    task = asyncio.create_task(run(world))
    deadline = time.monotonic() + 80
    while not world.imports:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    os.kill(server.pid, signal.SIGKILL)
    await asyncio.sleep(0.2)
    assert not server.alive
    await asyncio.to_thread(server.restart)
    world.bugyo.faults.release()
    state = await task
    # Either the answer could be noted by a new connection, or the row stayed open.
    assert state.name in ("SUCCESS", "ERROR")
    if state.name == "ERROR":
        assert state.message.startswith("AC-701")
        world.sql("UPDATE connection SET lease_expires = now() WHERE name = :c")
    await once_each(world)


async def test_row_29_a_crowded_server_is_told_and_nothing_is_posted(
    world: Any,
    books: Callable[[], str],
    server: EmbeddedPostgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "OUTAGE_SECONDS", 0.5)
    books()
    world.store.close()
    with ExitStack() as crowd:
        with contextlib.suppress(psycopg.OperationalError):
            for _ in range(100):
                crowd.enter_context(psycopg.connect(server.url("postgres")))
        state = await run(world)
        assert world.imports == 0
    assert state.name == "ERROR"
    assert state.message.startswith("AC-703 データベースの接続数の上限")
    await once_each(world)
