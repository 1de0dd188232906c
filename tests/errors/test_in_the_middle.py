"""Things that go wrong when something has been posted already, and bugs of our own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import psycopg
import pytest
from prefect import flow
from sqlalchemy import make_url, text

from blocks import BugyoCredentials
from connectors.bugyo.emulator import DEMO_TENANTS
from connectors.kit.emulator import Fault
from deployments.licensing import issue_sample
from flows.customers_from_kintone import PIPELINE
from flows.engine import run_connector, run_name
from flows.engine.history import watermark
from flows.engine.model import SendOutcome
from flows.engine.store import Store, migrate
from tests.errors.conftest import put_off

TENANT = DEMO_TENANTS[0].id
SECRET = "cAnArY-fixed-token-9f+/=7"
"""The fixed token of every connection here."""


def written(outcome: Any) -> Mapping[str, int]:
    """How often each code was written at 奉行クラウド."""
    found: Mapping[str, int] = outcome.bugyo.customers[TENANT].writes
    return found


async def again(world: Any, outcome: Any, name: str, **more: Any) -> Any:
    """Press Run once more, with the service in order."""
    outcome.bugyo.faults.clear()
    async with world.client() as client:
        first = await client.read_flow_run(outcome.flow_run_id)
        case = world.new_case(name, **more)
        run = await world.start(client, first.deployment_id, case)
        return await world.outcome(client, run, outcome.kintone, outcome.bugyo)


async def test_maintenance_begins_during_the_load(world: Any) -> None:
    """The message says how many were posted, and how many nobody knows about."""
    case = world.new_case(
        "mid-maintenance",
        records=520,
        bugyo_faults=(
            Fault(kind="maintenance", path="ImportCustomer", after=1, times=None),
            Fault(kind="maintenance", path="ExportCustomer", after=2, times=None),
        ),
    )
    found = await world.play(case)
    assert put_off(found.state)
    assert found.message.startswith("AC-502 メンテナンス中: 奉行クラウド がメンテナンス中です。")
    safe = "この処理で 500 件を登録済みです。結果の分からないデータが 20 件あります。"
    assert safe in found.message
    assert safe in found.result
    assert found.row.error["safe"].startswith(safe)
    assert (found.row.created, found.row.pending) == (500, 20)
    assert "Traceback" not in found.logs

    after = await again(world, found, "mid-maintenance")
    assert after.state.name == "SUCCESS", after.message
    assert len(written(after)) == 520
    assert set(written(after).values()) == {1}


async def test_the_store_is_lost_during_the_load(
    world: Any, postgres: Any, fresh_database: Callable[..., str]
) -> None:
    """Nothing is ever posted without its intent row, and nothing twice afterwards."""
    store = fresh_database()
    migrate(store)
    issue_sample(Store(store))
    name = make_url(store).database or ""
    case = world.new_case(
        "store-lost",
        records=2100,
        environment={"APP_CONNECT_DATABASE_URL": store},
        bugyo_faults=(Fault(kind="latency", path="ImportCustomer", seconds=60),),
    )

    def lose(lost: bool) -> None:
        with psycopg.connect(postgres.server.url("postgres"), autocommit=True) as connection:
            connection.execute(f'alter database "{name}" allow_connections {not lost}'.encode())
            if lost:
                end = "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s"
                connection.execute(end, [name])

    async with world.client() as client:
        deployment, kintone, bugyo = await world.make(client, case)
        run = await world.start(client, deployment, case)
        while not any("ImportCustomer" in each for each in bugyo.faults.counts()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await asyncio.to_thread(lose, True)
        bugyo.faults.release()
        try:
            found = await world.outcome(client, run, kintone, bugyo)
        finally:
            await asyncio.to_thread(lose, False)
    assert found.state.name == "ERROR"
    assert found.message.startswith("AC-701 データベースに接続できない: ")
    assert "次回の処理が登録されたかどうかを確かめてから続けます" in found.message
    assert "### [AC-701" in found.result
    # The books cannot be read, so no count is claimed.
    assert "件を登録済み" not in found.message
    assert "| 取得 |" not in found.result
    assert "Traceback" not in found.logs
    posted = set(written(found))
    assert posted
    assert len(posted) < 2100

    with Store(store).begin() as db:
        # The run could not give its lease back; it lapses by itself after 90 s.
        db.execute(text("UPDATE connection SET lease_expires = now()"))
        known = {row[0] for row in db.execute(text("SELECT external_key FROM ledger"))}
    assert posted <= known

    after = await again(world, found, "store-lost", environment=case.environment)
    assert after.state.name == "SUCCESS", after.message
    assert len(written(after)) == 2100
    assert set(written(after).values()) == {1}


async def test_an_expired_token_is_renewed_once_and_kept(world: Any, postgres: Any) -> None:
    """The run succeeds; the new pair is in the block, and readable nowhere in the database."""
    before: dict[str, str] = {}

    def expire(bugyo: Any, values: dict[str, Any]) -> None:
        world.oauth(bugyo, values)
        before["access"] = values["access_token"].get_secret_value()
        before["refresh"] = values["refresh_token"].get_secret_value()
        bugyo.accounts.expire_access()

    found = await world.play(world.new_case("expired", prepare=expire))
    assert found.state.name == "SUCCESS", found.message
    assert found.bugyo.accounts.refreshes == 1
    kept: Any = await BugyoCredentials.aload("expired")
    assert kept.access_token is not None
    assert kept.refresh_token is not None
    access, refresh = kept.access_token.get_secret_value(), kept.refresh_token.get_secret_value()
    assert access != before["access"]
    assert refresh != before["refresh"]
    assert found.bugyo.accounts.grant_of(f"Bearer {access}") is not None

    dumped = world.dump(postgres)
    assert "block_document" in dumped
    for token in (*before.values(), access, refresh):
        assert token not in dumped


class Broken:
    """A transform with a bug, whose exception holds a secret."""

    fields = ("code", "name")

    def __call__(self, source_key: str, record: Any) -> Any:
        raise LookupError(f"{source_key} {record} {SECRET}")


class BrokenSink:
    batch_size = 500

    async def fetch(self, keys: Sequence[str], fields: Sequence[str]) -> Mapping[str, Any]:
        del keys, fields
        return {}

    async def send(self, rows: Sequence[Any]) -> SendOutcome:
        raise LookupError(f"{len(rows)} {SECRET}")


@contextlib.asynccontextmanager
async def broken_source(connection: Any, tools: Any) -> AsyncIterator[Any]:
    if connection:
        raise LookupError(SECRET)
    yield tools


@contextlib.asynccontextmanager
async def broken_sink(connection: Any, tools: Any) -> AsyncIterator[Any]:
    del connection, tools
    yield BrokenSink()


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("bug-transform", {"transformer": lambda *_: Broken()}),
        ("bug-source", {"open_source": broken_source}),
        ("bug-sink", {"open_sink": broken_sink}),
    ],
)
async def test_a_bug_of_ours(name: str, planted: dict[str, Any], world: Any) -> None:
    """The clerk reads the kind of bug; the traceback is in the log alone, without secrets."""
    pipeline = dataclasses.replace(PIPELINE, **planted)
    case = world.new_case(name)

    @flow(name=f"planted-{name}", flow_run_name=run_name(pipeline), persist_result=False)
    async def planted_flow(connection: str) -> Any:
        return await run_connector(
            pipeline, connection=connection, mode="差分", record_key=None, dry_run=False
        )

    async with world.client() as client:
        _, kintone, bugyo = await world.make(client, case)
        state = await planted_flow(name, return_state=True)
        run = state.state_details.flow_run_id
        found = await world.outcome(client, run, kintone, bugyo)
    assert found.state.name == "ERROR"
    assert found.message.startswith("AC-901 想定外のエラー: ")
    assert "（LookupError）" in found.message
    assert "この処理では何も登録していません。" in found.message
    assert "### [AC-901" in found.result
    assert found.row.error["code"] == "AC-901"
    everywhere = f"{found.message}{found.result}{found.row}{state}"
    assert "Traceback" not in everywhere
    assert "cAnArY" not in everywhere + found.logs
    assert "Traceback" in found.logs
    assert "********" in found.logs
    # What was read and not posted has to be read again.
    with world.store.session() as session:
        assert watermark(session, name) is None
