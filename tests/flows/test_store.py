"""The store: its schema, the ledger's states, and what it forgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.states import Scheduled
from sqlalchemy import text
from sqlmodel import SQLModel

from connectors.kit import FaultError, WaitError
from connectors.kit.emulator import Fault
from flows.customers_from_kintone import customers_from_kintone
from flows.engine import history
from flows.engine.lease import lease
from flows.engine.ledger import Intent, Ledger
from flows.engine.model import Mode, Trigger
from flows.engine.store import Store, database, migrate

LEDGER = Ledger("shop", "customer")


@pytest.fixture
def fresh(fresh_database: Callable[..., str]) -> Iterator[Store]:
    opened = Store(fresh_database("app-connect-store", migrate_and_close))
    yield opened
    opened._engine.dispose()


def migrate_and_close(url: str) -> None:
    migrate(url)
    Store(url)._engine.dispose()


def test_migrations_make_what_the_tables_say(fresh_database: Callable[..., str]) -> None:
    url = fresh_database()
    store = Store(url)
    assert not store.healthy()
    migrate(url)
    migrate(url)
    assert store.healthy()
    with store.begin() as db:
        assert compare_metadata(MigrationContext.configure(db), SQLModel.metadata) == []
    store._engine.dispose()


def test_a_store_that_does_not_answer_is_told_in_words() -> None:
    store = Store("postgresql://postgres:planted-secret@127.0.0.1:1/none")
    with pytest.raises(FaultError) as raised, store.begin():
        pass
    assert raised.value.code == "AC-701"
    assert "planted-secret" not in str(raised.value)


def opened(store: Store, run: UUID) -> None:
    with store.session() as session:
        history.open_run(
            session,
            run_id=run,
            connection="shop",
            connector="toy",
            service="おもちゃ",
            trigger=Trigger.MANUAL,
            mode=Mode.FULL,
            dry_run=False,
            started_at=datetime.now(UTC),
        )


def states(store: Store) -> dict[str, str]:
    with store.begin() as db:
        rows = db.execute(text("SELECT source_key, state FROM ledger ORDER BY source_key"))
        return {row[0]: row[1] for row in rows}


def intents(*keys: str) -> list[Intent]:
    return [Intent(key, f"code-{key}", "0f" * 16, "created") for key in keys]


async def test_the_ledgers_states(fresh: Store) -> None:
    run, batch = uuid4(), uuid4()
    opened(fresh, run)
    async with lease(fresh, "shop", run) as held:
        who: dict[str, Any] = {"batch_id": batch, "run_id": run, "fence": held.fence}
        with fresh.begin() as db:
            LEDGER.intend(db, intents("1", "2", "3", "4"), **who)
        assert set(states(fresh).values()) == {"pending"}
        with fresh.begin() as db:
            LEDGER.posted(db, ["1"], batch)
            LEDGER.rejected(db, {"2": "E1 だめです"}, batch)
            # An answer that arrives for another batch changes nothing.
            LEDGER.posted(db, ["3", "4"], uuid4())
        assert states(fresh) == {"1": "posted", "2": "rejected", "3": "pending", "4": "pending"}
        with fresh.begin() as db:
            # A definite answer is not taken back by a late one.
            LEDGER.rejected(db, {"1": "late"}, batch)
            LEDGER.settle(db, posted=["3", "2"], unsent=["4", "1"], run=run, fence=held.fence)
        assert states(fresh) == {"1": "posted", "2": "rejected", "3": "posted", "4": "unsent"}
        with fresh.begin() as db:
            assert LEDGER.unsent(db) == ["4"]
            assert LEDGER.in_state(db, "pending", 10) == []
            assert LEDGER.totals(db, run)["posted", "created"] == 2
            # A record that was refused as a new one holds no code.
            assert set(LEDGER.holders(db, ["code-1", "code-2"])) == {"code-1"}
            LEDGER.release(db, ["4"])
        assert "4" not in states(fresh)


async def test_a_writer_without_the_lease_writes_nothing(fresh: Store) -> None:
    old, new = uuid4(), uuid4()
    opened(fresh, old)
    async with lease(fresh, "shop", old) as held:
        with pytest.raises(WaitError) as refused:
            async with lease(fresh, "shop", new):
                pass
        assert refused.value.code == "AC-601"
        with fresh.begin() as db:
            db.execute(text("UPDATE connection SET lease_expires = clock_timestamp()"))
        async with lease(fresh, "shop", new) as taken:
            assert taken.fence == held.fence + 1
            with pytest.raises(WaitError), fresh.begin() as db:
                LEDGER.intend(db, intents("1"), batch_id=uuid4(), run_id=old, fence=held.fence)
            with pytest.raises(WaitError), fresh.begin() as db:
                LEDGER.settle(db, posted=["1"], unsent=[], run=old, fence=held.fence)
    assert states(fresh) == {}


async def test_who_waits_for_a_dead_run_goes_on_when_a_worker_buries_it(fresh: Store) -> None:
    """The burial changes the row as a run that ends does, and yet nobody was at work."""
    dead, next_one = uuid4(), uuid4()
    opened(fresh, dead)
    buried: list[UUID] = []

    async def bury() -> None:
        await asyncio.sleep(0.2)  # the next run has looked, and waits
        with fresh.begin() as db:
            db.execute(text("UPDATE connection SET lease_expires = clock_timestamp()"))
            buried.extend(history.mark_lapsed(db))

    async with lease(fresh, "shop", dead):
        burial = asyncio.create_task(bury())
        async with lease(fresh, "shop", next_one) as held:
            assert buried == [dead]
            assert held.fence == 3  # 1 the dead one, 2 the burial
        await burial


async def test_who_is_frozen_in_a_transaction_holds_nobody_up(
    fresh: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its locks would last until somebody wakes or kills it; its lease lapses meanwhile."""
    monkeypatch.setattr(database, "IDLE_TRANSACTION_SECONDS", 1)
    frozen, next_one = uuid4(), uuid4()
    opened(fresh, frozen)
    fresh.close()  # the limit holds for connections from now on
    transaction = fresh.begin()
    db = transaction.__enter__()
    db.execute(text("UPDATE connection SET fence = fence + 1 WHERE name = 'shop'"))
    async with lease(fresh, "shop", next_one) as held:
        assert held.fence == 1  # and what the frozen one had not committed never was
    with pytest.raises(FaultError) as woken:
        transaction.__exit__(None, None, None)
    assert woken.value.code == "AC-701"


async def test_a_name_belongs_to_one_connector(fresh: Store) -> None:
    opened(fresh, uuid4())
    with pytest.raises(Exception, match="ほかのコネクタ"), fresh.session() as session:
        history.open_run(
            session,
            run_id=uuid4(),
            connection="shop",
            connector="another",
            service="別",
            trigger=Trigger.MANUAL,
            mode=Mode.FULL,
            dry_run=False,
            started_at=datetime.now(UTC),
        )


def staged(world: Any) -> int:
    """Staged pages of the world's runs."""
    (row,) = world.sql(
        "SELECT count(*) FROM staged_page p JOIN run r ON r.id = p.run_id WHERE r.connection = :c"
    )
    return int(row[0])


async def test_staged_pages_go_after_success_and_stay_after_a_failure(world: Any) -> None:
    world.fill(3)
    world.add(4, 得意先名="")
    await world.run()
    assert staged(world) == 0
    await world.run("全件", dry_run=True)
    assert staged(world) == 0
    world.add(5)
    world.bugyo.faults.add(
        Fault(kind="status", status=403, path="(?i)ImportCustomer", times=None, body="{}")
    )
    assert (await world.run()).state.name == "ERROR"
    assert staged(world) > 0
    world.bugyo.faults.clear()
    await world.run()
    assert staged(world) == 0


async def test_the_same_flow_run_goes_on_where_it_stopped(world: Any) -> None:
    """Prefect may run a flow run again; nothing is read twice, and the counts add up."""
    world.fill(1100)
    world.add(2000, 得意先名="")
    world.bugyo.faults.add(
        Fault(kind="status", status=403, path="(?i)ImportCustomer", after=1, body="{}")
    )
    first = await world.run()
    assert first.state.name == "ERROR"
    assert first.row.extracted == 1101
    assert world.ledger()["posted"] == 500
    reads = world.kintone.faults.counts()["GET /k/v1/records.json"]
    async with get_client() as client:
        await client.set_flow_run_state(first.row.id, Scheduled(), force=True)
        again = await client.read_flow_run(first.row.id)
    connector: Any = customers_from_kintone
    ended: Any = run_flow(
        connector, flow_run=again, parameters={"connection": world.name}, return_type="state"
    )
    state = await ended
    second = world.ran(first.row.id, state)
    assert second.counts == (1101, 1100, 0, 0, 1, 0)
    assert second.state.name == "一部エラー"
    assert world.kintone.faults.counts()["GET /k/v1/records.json"] == reads
    assert set(world.book.writes.values()) == {1}
    assert len(world.history()) == 1
    assert staged(world) == 0


async def test_a_stage_outside_its_run_is_refused() -> None:
    from flows.engine.context import current
    from flows.engine.model import RunHandle

    with pytest.raises(RuntimeError, match="no run"):
        current(RunHandle(run_id=uuid4(), connection="shop"))
