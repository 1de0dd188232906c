"""A connector between two emulators, with books of its own and a canary in every secret."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from company import Company
from psycopg import sql
from pydantic import SecretStr

from blocks import Connection
from connectors.bugyo.emulator import BugyoEmulator
from connectors.kit import Masker
from connectors.kit.emulator import serve
from deployments.catalog import Connector
from deployments.licensing import issue_sample
from deployments.samples import PHONE, samples
from flows.engine import reject_csv, rejects
from flows.engine.model import Mode, Window
from flows.engine.pipeline import Tools
from flows.engine.store import Store
from flows.engine.tokens import Vault
from tests.acceptance.protocol import CANARY, Case, sample_of, secret_fields, spoil

_CARRIERS = ("auth", "token", "key", "cookie")


class Spy:
    """ASGI middleware: remembers every header that carries a credential."""

    def __init__(self, app: Any, seen: set[str]) -> None:
        self._app, self._seen = app, seen

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        for name, value in scope.get("headers", ()):
            if any(word in name.decode().lower() for word in _CARRIERS):
                self._seen.add(value.decode().split(" ")[-1])
        await self._app(scope, receive, send)


class World(Company):
    """One connection of a connector."""

    case: Case
    connector: Connector
    credentials: dict[str, Any]
    settings: Any
    number: str
    travelled: set[str]

    def block(self) -> Connection:
        """The connection."""
        kind = self.connector.pipeline.connection_type
        return kind(
            registration_number=self.number,
            phone=PHONE,
            settings=self.case.settings(self.settings),
            **self.credentials,
        )

    # --- secrets ------------------------------------------------------------------------------

    def plant(self) -> None:
        """A canary in every secret field that the sample leaves empty."""
        for block in self.credentials.values():
            for name in secret_fields(block):
                if getattr(block, name) is None:
                    setattr(block, name, SecretStr(f"{CANARY}-{type(block).__name__}-{name}"))

    def spoil(self, side: str) -> None:
        """Credentials of one side (``bugyo``, ``partner``) that nobody accepts."""
        for name, block in self.credentials.items():
            if side == "bugyo" == name:
                spoil(block)
            elif side == "partner" and name != "bugyo":
                self.case.spoil(block)

    def secrets(self) -> set[str]:
        """Every secret: in the blocks, and whatever travelled in a header of authorization."""
        blocks = self.credentials.values()
        held = [getattr(block, name) for block in blocks for name in secret_fields(block)]
        said = {each.get_secret_value() for each in held if each is not None}
        return {each for each in said | self.travelled if len(each) > 6}

    # --- what is where ------------------------------------------------------------------------

    def at_bugyo(self) -> dict[str, list[str]]:
        """What 奉行クラウド holds, by key, each document or row as text."""
        found: dict[str, list[str]] = {}
        if self.pipeline.changed is not None:
            for slip in self.slips:
                said = json.dumps(dataclasses.asdict(slip), default=str, ensure_ascii=False)
                found.setdefault(slip.voucher_number, []).append(said)
            return found
        book = self.bugyo.masters[self.tenant][self.pipeline.entity]
        registry = book.registry
        for row in book.named():
            found[registry.key_of(row)] = [json.dumps(row, ensure_ascii=False)]
        return found

    def keys(self) -> dict[str, str]:
        """Of everything posted: source key -> key at 奉行クラウド."""
        ledger = self.ledger(self.pipeline.entity)
        return {key: row["key"] for key, row in ledger.items() if row["state"] == "posted"}

    def posted_once(self, before: Counter[str]) -> None:
        """What our books call posted is at 奉行クラウド once, and there is nothing else."""
        held = Counter({key: len(rows) for key, rows in self.at_bugyo().items()})
        assert held - before == Counter(self.keys().values())

    def count(self) -> Counter[str]:
        """How often each key is held by 奉行クラウド."""
        return Counter({key: len(rows) for key, rows in self.at_bugyo().items()})

    def listed(self) -> dict[str, rejects.Listed]:
        """Open rejects by source key."""
        with self.store.begin() as db:
            return {each.source_key: each for each in rejects.listed(db, self.name)}

    def read(self, window: Window | None = None) -> list[tuple[str, str]]:
        """The records of a window (everything) as the source reads them, with their keys."""

        async def collect() -> list[tuple[str, str]]:
            tools = Tools(Masker(), Vault(self.store))
            found: list[tuple[str, str]] = []
            async with self.pipeline.open_source(self.block(), tools) as source:
                async for page in source.pages(window or Window(Mode.FULL), None):
                    for key, record in source.records(page.body):
                        found.append((key, json.dumps(record, sort_keys=True, default=str)))
            return found

        return asyncio.run(collect())

    def written(self) -> str:
        """Our whole store and the CSV of エラー明細, as text."""
        with self.store.begin() as db:
            csv = reject_csv.write(self.name, rejects.lines(db, self.name)).decode("cp932")
        parts = [csv]
        with psycopg.connect(self.database) as db:
            tables = db.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            ).fetchall()
            for (table,) in tables:
                query = sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(table))
                parts += [row[0] for row in db.execute(query)]
        return "\n".join(parts)


def _empty(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as db:
        found = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        tables = [sql.Identifier(name) for (name,) in found if not name.startswith("alembic")]
        db.execute(sql.SQL("TRUNCATE {} CASCADE").format(sql.SQL(", ").join(tables)))


@contextmanager
def world(connector: Connector, case: Case, database: str) -> Iterator[World]:
    """A connector in a world of its own.

    Args:
        connector: Of the catalogue.
        case: What it brings.
        database: A migrated store that nobody else uses; it is emptied.
    """
    _empty(database)
    bugyo, travelled = samples()["bugyo"].emulator(), set[str]()
    assert isinstance(bugyo, BugyoEmulator)
    for emulator in (case.partner, bugyo):
        emulator.faults._app = Spy(emulator.faults._app, travelled)
    with serve(case.partner) as partner_url, serve(bugyo) as bugyo_url:
        sample = sample_of(connector, partner_url, bugyo_url)
        made = World(case.partner, bugyo, (partner_url, bugyo_url), database, sample.name)
        made.pipeline, made.entity = connector.pipeline, connector.pipeline.entity  # type: ignore[misc]
        made.case, made.connector, made.travelled = case, connector, travelled
        made.number = sample.registration_number
        made.credentials = {f: b.model_copy() for f, b in sample.credentials.items()}
        for block in made.credentials.values():
            block._block_document_name = "sample"  # as if it were saved: tokens are kept in it
        made.settings = sample.settings
        store = Store(database)
        issue_sample(store, sample.registration_number)
        if sample.prepare is not None:
            asyncio.run(sample.prepare(store))
        made.plant()
        yield made
