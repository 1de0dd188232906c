"""Connections with something wrong, run by the real worker on the real server, side by side.

Every secret in every block here is a canary: a value that must turn up nowhere afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
import pytest
from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import BlockDocumentUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import State
from psycopg import sql
from pydantic import SecretStr

from blocks import BugyoCredentials, KintoneCredentials
from connectors.bugyo.emulator import (
    DEMO_CLIENT_ID,
    DEMO_REDIRECT_URI,
    DEMO_TENANTS,
    BugyoEmulator,
)
from connectors.kintone.emulator import KintoneEmulator
from connectors.kit.emulator import Emulator, Fault, serve
from deployments.catalog import deploy, ensure_work_pool, register_blocks
from deployments.licensing import issue_sample
from deployments.stack.processes import Child
from flows.customers_from_kintone import CustomerSettings, CustomersFromKintoneConnection
from flows.engine.staging import decompress
from flows.engine.store import RunRow, Store, migrate

CANARY = "cAnArY"
"""The beginning of every secret."""

APP = "1"
CLOSED = "http://127.0.0.1:9"
"""An address where nobody listens (the port is reserved, and below what an emulator gets)."""


def canary(name: str) -> str:
    """A secret that is easy to find again, with characters that every encoding changes."""
    return f"{CANARY}-{name}-9f+/=7"


API_TOKEN = canary("api-token")
NO_VIEW_TOKEN = canary("no-view-token")
FIXED_TOKEN = canary("fixed-token")
SUBSCRIPTION_KEY = canary("subscription-key")
CLIENT_SECRET = canary("client-secret")


def secret(name: str) -> SecretStr:
    """`canary` for a block."""
    return SecretStr(canary(name))


def put_off(state: State[Any]) -> bool:
    """Whether the run goes on by itself when a service is there again."""
    return state.is_scheduled() and str(state.name).endswith(" まで待っています")


@dataclass
class Case:
    """One connection and what its run meets.

    Attributes:
        name: Of the connection and of its blocks.
        kintone, bugyo, settings: What differs from a good connection.
        kintone_faults, bugyo_faults: Waiting in emulators of its own.
        records: How many customers kintone holds.
        prepare: Called with the 奉行クラウド emulator and the values of its block.
        spoil: Called when all blocks are saved.
        deleted: Whether the connection is deleted again; its deployment stays.
        duplicate: Whether one more record has the code of the first.
        environment: Of the run's process.
    """

    name: str
    kintone: dict[str, Any] = field(default_factory=dict)
    bugyo: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    kintone_faults: tuple[Fault, ...] = ()
    bugyo_faults: tuple[Fault, ...] = ()
    records: int = 3
    prepare: Callable[[BugyoEmulator, dict[str, Any]], None] | None = None
    spoil: Callable[[World, Case], Any] | None = None
    deleted: bool = False
    duplicate: bool = False
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """What a person and a checker see of a finished run."""

    flow_run_id: UUID
    state: State[Any]
    artifacts: dict[str, str]
    logs: str
    row: RunRow | None
    bugyo: BugyoEmulator
    kintone: KintoneEmulator

    @property
    def message(self) -> str:
        return self.state.message or ""

    @property
    def result(self) -> str:
        """The artifact 結果."""
        return next(text for key, text in self.artifacts.items() if key.startswith("result-"))

    @property
    def posted(self) -> int:
        """Import calls that stored something."""
        return sum(book.imports for book in self.bugyo.customers.values())


def kintone_emulator(records: int) -> KintoneEmulator:
    """A kintone with a small customer app."""
    emulator = KintoneEmulator()
    fields = {
        code: {"type": "SINGLE_LINE_TEXT", "label": code} for code in ("得意先コード", "得意先名")
    }
    tokens = {API_TOKEN: {"view"}, NO_VIEW_TOKEN: {"add"}}
    emulator.add_app(APP, "顧客管理", fields, tokens=tokens)
    emulator.seed(
        APP,
        [{"得意先コード": f"{n:04d}", "得意先名": f"得意先{n}"} for n in range(1, records + 1)],
    )
    return emulator


def bugyo_emulator() -> BugyoEmulator:
    """A 奉行クラウド that takes our canaries."""
    emulator = BugyoEmulator()
    emulator.accounts.subscription_keys.add(SUBSCRIPTION_KEY)
    emulator.accounts.applications[DEMO_CLIENT_ID].client_secret = CLIENT_SECRET
    emulator.accounts.fixed(FIXED_TOKEN, frozenset(tenant.id for tenant in DEMO_TENANTS))
    return emulator


def oauth(emulator: BugyoEmulator, values: dict[str, Any]) -> None:
    """Log in by 許可する instead of with a fixed token."""
    pair = emulator.issue_tokens()
    values |= {
        "fixed_token": None,
        "client_id": DEMO_CLIENT_ID,
        "client_secret": SecretStr(CLIENT_SECRET),
        "redirect_uri": DEMO_REDIRECT_URI,
        "access_token": SecretStr(pair["access_token"]),
        "refresh_token": SecretStr(pair["refresh_token"]),
    }


class World:
    """Makes connections and runs them."""

    new_case = Case
    canary = staticmethod(canary)
    oauth = staticmethod(oauth)
    client = staticmethod(get_client)
    bugyo_emulator = staticmethod(bugyo_emulator)
    kintone_emulator = staticmethod(kintone_emulator)

    def __init__(self, store: str) -> None:
        self.store = Store(store)
        self._stack = contextlib.ExitStack()
        self._good: tuple[KintoneEmulator, str, BugyoEmulator, str] | None = None
        self._blocks: dict[type[Block], Block] = {}
        self.issued: list[BugyoEmulator] = []

    def close(self) -> None:
        """Stop the emulators."""
        self._stack.close()

    def serve(self, emulator: Emulator) -> str:
        return self._stack.enter_context(serve(emulator))

    def emulators(self, case: Case) -> tuple[KintoneEmulator, str, BugyoEmulator, str]:
        """A pair of its own, with the faults of the case waiting; or the one that is in order."""
        shared = not (case.kintone_faults or case.bugyo_faults or case.prepare or case.duplicate)
        if shared and self._good is not None:
            return self._good
        kintone, bugyo = kintone_emulator(case.records), bugyo_emulator()
        if case.duplicate:
            kintone.seed(APP, [{"得意先コード": "0001", "得意先名": "重複"}])
        for fault in case.kintone_faults:
            kintone.faults.add(fault)
        for fault in case.bugyo_faults:
            bugyo.faults.add(fault)
        self.issued.append(bugyo)
        made = kintone, self.serve(kintone), bugyo, self.serve(bugyo)
        if shared:
            self._good = made
        return made

    async def _saved(self, kind: type[Block], values: dict[str, Any], name: str, own: bool) -> Any:
        """A credentials block; those that are in order are saved once for all."""
        if not own and kind in self._blocks:
            return self._blocks[kind]
        block = kind(**values)
        await block.save(name, overwrite=True)
        if not own:
            self._blocks[kind] = block
        return block

    async def make(
        self, client: PrefectClient, case: Case
    ) -> tuple[UUID, KintoneEmulator, BugyoEmulator]:
        """Save the blocks of a case and deploy its connection."""
        kintone, kintone_url, bugyo, bugyo_url = self.emulators(case)
        values = {
            "environment": "URLを指定",
            "api_url": bugyo_url,
            "id_url": bugyo_url,
            "subscription_key": SecretStr(SUBSCRIPTION_KEY),
            "fixed_token": SecretStr(FIXED_TOKEN),
            # Of no use beside a fixed token; they are in the block all the same.
            "client_secret": SecretStr(CLIENT_SECRET),
            "access_token": secret("unused-access"),
            "refresh_token": secret("unused-refresh"),
            "consent_verifier": secret("unused-verifier"),
            "tenant_id": DEMO_TENANTS[0].id,
            **case.bugyo,
        }
        if case.prepare is not None:
            case.prepare(bugyo, values)
        partner = {
            "subdomain": "example",
            "endpoint": kintone_url,
            "api_token": SecretStr(API_TOKEN),
            "client_secret": secret("kintone-client-secret"),
            "access_token": secret("kintone-access"),
            "refresh_token": secret("kintone-refresh"),
            "consent_verifier": secret("kintone-verifier"),
            **case.kintone,
        }
        own = self._good is None or self._good[0] is not kintone
        settings = {"app": APP, "short_name": "", "billing_code": "", "memo1": "", **case.settings}
        connection = CustomersFromKintoneConnection(
            registration_number="AC-0000-0001",
            phone="03-0000-0000",
            bugyo=await self._saved(BugyoCredentials, values, case.name, own or bool(case.bugyo)),
            kintone=await self._saved(
                KintoneCredentials, partner, case.name, own or bool(case.kintone)
            ),
            settings=CustomerSettings(**settings),
        )
        deployment = await deploy(connection, case.name)  # it saves the connection, too
        if case.deleted:
            await CustomersFromKintoneConnection.adelete(case.name, client=client)
        if case.spoil is not None:
            await case.spoil(self, case)
        return deployment, kintone, bugyo

    async def rewrite(self, name: str, settings: dict[str, Any]) -> None:
        """Put other settings into a saved connection, past the block's own checks."""
        slug = CustomersFromKintoneConnection.get_block_type_slug()
        async with get_client() as client:
            document = await client.read_block_document_by_name(name, slug)
            inside = {
                field: {"$ref": {"block_document_id": str(found["block_document"]["id"])}}
                for field, found in document.block_document_references.items()
            }
            data = {**document.data, "settings": settings, **inside}
            update = BlockDocumentUpdate(data=data, merge_existing_data=False)
            await client.update_block_document(document.id, update)

    async def start(
        self, client: PrefectClient, deployment: UUID, case: Case, **parameters: Any
    ) -> UUID:
        """Ask for a run."""
        run = await client.create_flow_run_from_deployment(
            deployment,
            parameters={"connection": case.name, **parameters},
            job_variables={"env": case.environment} if case.environment else None,
        )
        return run.id

    async def ended(self, client: PrefectClient, run: UUID, poll: float = 0.2) -> State[Any]:
        """The final state of a run, or that in which it waits for a service."""
        deadline = time.monotonic() + 360
        while True:
            state = (await client.read_flow_run(run)).state
            if state is not None and (state.is_final() or put_off(state)):
                return state
            assert time.monotonic() < deadline, f"{run} is still {state!r}"
            await asyncio.sleep(poll)

    async def outcome(
        self, client: PrefectClient, run: UUID, kintone: KintoneEmulator, bugyo: BugyoEmulator
    ) -> Outcome:
        """Everything about a run that has ended."""
        state = await self.ended(client, run)
        chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
        artifacts = await client.read_artifacts(artifact_filter=chosen)
        with self.store.session() as session:
            row = session.get(RunRow, run)
        return Outcome(
            flow_run_id=run,
            state=state,
            artifacts={a.key or "": str(a.data) for a in artifacts},
            # A process that was killed has no last line.
            logs=await logs_of(client, run, seconds=1 if state.is_crashed() else 10),
            row=row,
            bugyo=bugyo,
            kintone=kintone,
        )

    async def play(self, case: Case, **parameters: Any) -> Outcome:
        """Make one connection, run it, and look at the end."""
        async with get_client() as client:
            deployment, kintone, bugyo = await self.make(client, case)
            run = await self.start(client, deployment, case, **parameters)
            await self.ended(client, run)
            return await self.outcome(client, run, kintone, bugyo)

    async def play_all(self, cases: list[Case], at_once: int = 10) -> dict[str, Outcome]:
        """Run many, a few at a time: most of them wait for repeats, not for the processor."""
        gate = asyncio.Semaphore(at_once)

        async def one(client: PrefectClient, case: Case) -> tuple[Case, Any]:
            async with gate:
                deployment, kintone, bugyo = await self.make(client, case)
                run = await self.start(client, deployment, case)
                # Each look costs the server as much as a piece of a run: not too often.
                await self.ended(client, run, poll=1.0)
                return case, (run, kintone, bugyo)

        async with get_client() as client:
            done = await asyncio.gather(*(one(client, case) for case in cases))
            return {case.name: await self.outcome(client, *rest) for case, rest in done}

    @staticmethod
    def dump(postgres: Any) -> str:
        """Every column of every table of every database of the session, compressed ones opened."""
        return "\n".join(_dumped(postgres))


def _dumped(postgres: Any) -> Iterator[str]:
    names = "select datname from pg_database where datname like 'test%' and datallowconn"
    with psycopg.connect(postgres.server.url("postgres")) as connection:
        databases = [name for (name,) in connection.execute(names)]
    tables = "select tablename from pg_tables where schemaname = 'public'"
    for database in databases:
        with psycopg.connect(postgres.server.url(database)) as connection:
            for (table,) in connection.execute(tables).fetchall():
                where = sql.Identifier(table)
                yield f"{database}.{table}"
                lines = sql.SQL("select t::text from {} t").format(where)
                yield from (line for (line,) in connection.execute(lines))
                column = {"staged_page": "body", "reject": "source"}.get(table)
                if column is not None:
                    chosen = sql.SQL("select {} from {}").format(sql.Identifier(column), where)
                    for (body,) in connection.execute(chosen):
                        yield decompress(bytes(body)).decode("utf-8", "replace")


async def logs_of(client: PrefectClient, run: UUID, seconds: float) -> str:
    """The run's log, complete: its last line is Prefect's own about the end."""
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
    deadline = time.monotonic() + seconds
    while True:
        lines = [log.message for log in await client.read_logs(chosen, limit=200)]
        if any("Finished in state" in line for line in lines) or time.monotonic() > deadline:
            return "\n".join(lines)
        await asyncio.sleep(0.2)


@pytest.fixture(scope="session")
def world(prefect_server: Any, warm_worker: Child) -> Iterator[World]:
    """Server, worker, store and block types, ready for runs."""
    del warm_worker  # it works on what we start

    async def prepare() -> None:
        await ensure_work_pool()
        await register_blocks()

    migrate(prefect_server.store)
    issue_sample(Store(prefect_server.store))
    asyncio.run(prepare())
    made = World(prefect_server.store)
    yield made
    made.close()
