"""A small company for each test: a kintone app, a 奉行クラウド, a connection between them.

All connections share one store and one Prefect server, as they do in real life; names keep them
apart. The flow runs in this process (`World.run`) unless Prefect's own behaviour is the point
(`World.start`: through the deployment, on the warm worker).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from pydantic import SecretStr
from sqlalchemy import text

from blocks import BugyoCredentials, KintoneCredentials
from connectors.bugyo.emulator import (
    DEMO_FIXED_TOKEN,
    DEMO_SUBSCRIPTION_KEY,
    DEMO_TENANTS,
    BugyoEmulator,
)
from connectors.kintone.emulator import KintoneEmulator
from connectors.kit.emulator import serve
from deployments import catalog
from deployments.licensing import issue_sample
from deployments.samples import customers as sample
from deployments.samples.kintone import DEMO_API_TOKEN
from flows.customers_from_kintone import (
    CustomerSettings,
    CustomersFromKintoneConnection,
    customers_from_kintone,
)
from flows.engine import rejects
from flows.engine.store import ConnectionRow, RunRow, Store, migrate

BASE = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(days=2)
"""更新日時 of the first record; the others follow, a minute each."""

_numbers = count(1)


@dataclass(frozen=True)
class Ran:
    """A run that has ended, and what is left of it in our books and in Prefect."""

    state: State[Any]
    row: RunRow

    @property
    def counts(self) -> tuple[int, int, int, int, int, int]:
        """取得, 登録, 更新, 変更なし, エラー, 確認待ち."""
        r = self.row
        return r.extracted, r.created, r.updated, r.unchanged, r.rejected, r.pending

    async def artifact(self, key: str) -> Any:
        """The artifact of this run whose key starts with ``key``; tables are decoded."""
        flow_run = ArtifactFilterFlowRunId(any_=[self.row.id])
        async with get_client() as client:
            found = await client.read_artifacts(
                artifact_filter=ArtifactFilter(flow_run_id=flow_run)
            )
        matching = [a for a in found if a.key is not None and a.key.startswith(key)]
        assert len(matching) == 1, [a.key for a in found]
        data: Any = matching[0].data
        return json.loads(data) if matching[0].type == "table" else data


class World:
    """One connection with both its ends.

    Attributes:
        name: Of the connection and of its blocks.
        app: Id of the kintone app.
        tenant: Id of the 法人.
    """

    def __init__(
        self,
        kintone: KintoneEmulator,
        bugyo: BugyoEmulator,
        urls: tuple[str, str],
        store: Store,
        app: str,
        tenant: str,
    ) -> None:
        self.kintone, self.bugyo, self.store = kintone, bugyo, store
        self._urls = urls
        self.name = f"world-{next(_numbers)}"
        self.app, self.tenant = app, tenant
        self.deployment: UUID | None = None

    # --- the two ends ----------------------------------------------------------------------------

    @property
    def book(self) -> Any:
        """奉行クラウド's own book of our 法人."""
        return self.bugyo.customers[self.tenant]

    @property
    def customers(self) -> dict[str, dict[str, str]]:
        """What 奉行クラウド holds, by code, without その他."""
        return {r["code"]: r for r in self.bugyo.rows(self.tenant) if r["code"] != "0"}

    @property
    def imports(self) -> int:
        """Requests to ImportCustomer, of whatever outcome."""
        asked = self.bugyo.faults.counts().items()
        return sum(n for call, n in asked if "importcustomer" in call.lower())

    def add(self, number: int, *, minute: int | None = None, **more: str) -> int:
        """Add a customer to kintone; returns the record's id."""
        record = {
            "得意先コード": f"{number:06d}",
            "得意先名": f"株式会社ためし{number}",
            "略称": f"ためし{number}",
            **more,
        }
        at = BASE + timedelta(minutes=number if minute is None else minute)
        return self.kintone.seed(self.app, [record], updated_at=at)[0]

    def fill(self, many: int) -> None:
        """Add customers 1 … ``many``."""
        for number in range(1, many + 1):
            self.add(number)

    # --- Prefect ---------------------------------------------------------------------------------

    async def save(self, settings: CustomerSettings | None = None, **more: Any) -> Any:
        """Save the connection's blocks; returns the connection."""
        kintone_url, bugyo_url = self._urls
        bugyo = BugyoCredentials(
            environment="URLを指定",
            api_url=bugyo_url,
            id_url=bugyo_url,
            subscription_key=SecretStr(DEMO_SUBSCRIPTION_KEY),
            fixed_token=SecretStr(DEMO_FIXED_TOKEN),
            tenant_id=self.tenant,
        )
        await bugyo.save(self.name, overwrite=True)
        kintone = KintoneCredentials(
            subdomain="example", api_token=SecretStr(DEMO_API_TOKEN), endpoint=kintone_url
        )
        await kintone.save(self.name, overwrite=True)
        connection = CustomersFromKintoneConnection(
            registration_number="AC-0000-0001",
            phone="03-0000-0000",
            bugyo=bugyo,
            kintone=kintone,
            settings=settings or CustomerSettings(app=self.app, **more),
        )
        await connection.save(self.name, overwrite=True)
        return connection

    async def run(self, mode: Any = "差分", **parameters: Any) -> Ran:
        """Run the flow here and now."""
        state: Any = await customers_from_kintone(self.name, mode, **parameters, return_state=True)
        return self.ran(state.state_details.flow_run_id, state)

    def ran(self, flow_run_id: UUID, state: State[Any]) -> Ran:
        """A run that has ended, with its row in our books."""
        with self.store.session() as session:
            row = session.get(RunRow, flow_run_id)
        assert row is not None
        return Ran(state, row)

    async def deploy(self, pool: str | None = None, *, asleep: bool = True) -> UUID:
        """Deploy the connection as the product does.

        Args:
            pool: Another work pool than the product's.
            asleep: Switch the schedule off: a test that runs at 05:00 in Tokyo has no visitor.
        """
        await catalog.ensure_work_pool()
        self.deployment = await catalog.deploy(
            await CustomersFromKintoneConnection.aload(self.name), self.name
        )
        async with get_client() as client:
            if pool is not None:
                update = DeploymentUpdate(work_pool_name=pool)
                await client.update_deployment(self.deployment, update)
            if asleep:
                for schedule in await client.read_deployment_schedules(self.deployment):
                    await client.update_deployment_schedule(
                        self.deployment, schedule.id, active=False
                    )
        return self.deployment

    async def start(self, client: PrefectClient, **more: Any) -> FlowRun:
        """Ask Prefect for a run of the deployment."""
        assert self.deployment is not None
        return await client.create_flow_run_from_deployment(self.deployment, **more)

    async def ended(self, client: PrefectClient, run: UUID, seconds: float = 120) -> Ran:
        """Wait for the end of a run on the worker."""
        deadline = time.monotonic() + seconds
        while True:
            found = await client.read_flow_run(run)
            if found.state is not None and found.state.is_final():
                return self.ran(run, found.state)
            assert time.monotonic() < deadline, f"still {found.state!r} after {seconds} s"
            await asyncio.sleep(0.1)

    # --- our books -------------------------------------------------------------------------------

    def sql(self, statement: str, **more: Any) -> list[Any]:
        """Rows of a statement on the store; ``:c`` is the connection's name."""
        with self.store.begin() as db:
            result = db.execute(text(statement), {"c": self.name, **more})
            return list(result) if result.returns_rows else []

    def ledger(self) -> dict[str, int]:
        """Rows of the ledger by state."""
        rows = self.sql("SELECT state, count(*) FROM ledger WHERE connection = :c GROUP BY state")
        return {row[0]: row[1] for row in rows}

    def rejects(self) -> dict[str, rejects.Listed]:
        """Open rejects by source key."""
        with self.store.begin() as db:
            return {r.source_key: r for r in rejects.listed(db, self.name)}

    def watermark(self) -> datetime | None:
        """The connection's watermark."""
        with self.store.session() as session:
            row = session.get(ConnectionRow, self.name)
            return row.watermark if row else None

    def history(self) -> list[RunRow]:
        """Every run of the connection, oldest first."""
        ids = self.sql("SELECT id FROM run WHERE connection = :c ORDER BY started_at")
        with self.store.session() as session:
            found = [session.get(RunRow, row[0]) for row in ids]
        return [row for row in found if row is not None]


@pytest.fixture(scope="session")
def store(prefect_server: Any) -> Iterator[Store]:
    """The store that this process and the worker use."""
    migrate(prefect_server.store)
    opened = Store(prefect_server.store)
    issue_sample(opened)
    yield opened
    opened._engine.dispose()
    # Flows that ran in this process left threads that send logs and events: while the server is
    # still there they end at once, later they try for minutes.
    APILogWorker.drain_all(timeout=5)
    EventsWorker.drain_all(timeout=5)


@pytest.fixture(scope="session")
def known_blocks(prefect_server: Any) -> Iterator[None]:
    """Block types are registered once a session; Prefect would ask a dozen times at each save."""
    register = Block.aregister_type_and_schema.__func__  # type: ignore[attr-defined]
    done: set[type[Block]] = set()

    async def once(cls: type[Block], client: PrefectClient | None = None) -> None:
        if cls not in done:
            await register(cls, client=client)
            done.add(cls)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Block, "aregister_type_and_schema", classmethod(once))
        yield


@pytest.fixture
async def client(prefect_server: Any) -> AsyncIterator[PrefectClient]:
    """A client of the Prefect server."""
    async with get_client() as opened:
        yield opened


@pytest.fixture
def new_world(known_blocks: None, store: Store) -> Iterator[Callable[..., World]]:
    """Makes worlds of one test; they share one kintone domain and one 奉行クラウド."""
    kintone, bugyo = KintoneEmulator(), BugyoEmulator()
    with ExitStack() as stack:
        urls = stack.enter_context(serve(kintone)), stack.enter_context(serve(bugyo))

        def make(*, tenant: int = 0) -> World:
            app = str(len(kintone.apps) + 1)
            kintone.add_app(app, "顧客管理", sample.FIELDS, tokens={DEMO_API_TOKEN: {"view"}})
            return World(kintone, bugyo, urls, store, app, DEMO_TENANTS[tenant].id)

        yield make


@pytest.fixture
async def world(new_world: Callable[..., World]) -> World:
    """A world with an empty app and a saved connection."""
    made = new_world()
    await made.save()
    return made
