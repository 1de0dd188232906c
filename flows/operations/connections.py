"""What the operations share: which connections there are, and their 奉行クラウド."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import re
from collections.abc import AsyncIterator, Iterable
from functools import cache
from typing import Any

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from sqlalchemy import Connection, text

import flows
from connectors.kit import AppConnectError, Masker, SettingsError
from flows.engine.opening import load_connection, secrets_of
from flows.engine.pipeline import Pipeline, Tools
from flows.engine.store import Store
from flows.engine.tokens import Vault

_CONNECTOR = text("SELECT connector FROM connection WHERE name = :name")
_ALL = text("SELECT name, connector FROM connection ORDER BY name")


def split(typed: Iterable[str]) -> list[str]:
    """Numbers or names that a person typed: one a line, or several with commas or spaces."""
    return [part for each in typed for part in re.split(r"[\s,、，]+", each) if part]


@cache
def pipelines() -> dict[str, Pipeline[Any]]:
    """Every connector by its name, found by looking."""
    modules = [m.name for m in pkgutil.iter_modules(flows.__path__, "flows.") if not m.ispkg]
    found = [getattr(importlib.import_module(name), "PIPELINE", None) for name in modules]
    return {each.connector: each for each in found if isinstance(each, Pipeline)}


def pipeline_of(db: Connection, connection: str) -> Pipeline[Any]:
    """The connector of a connection that has run at least once.

    Raises:
        SettingsError: ``AC-206``, there is none of this name.
    """
    row = db.execute(_CONNECTOR, {"name": connection}).first()
    if row is None or row[0] not in pipelines():
        raise SettingsError("AC-206", connection)
    return pipelines()[row[0]]


async def find_pipeline(store: Store, connection: str) -> Pipeline[Any]:
    """The connector of a connection, also of one that has never run.

    Raises:
        SettingsError: ``AC-206``, there is none of this name.
    """
    try:
        return await store.do(pipeline_of, connection)
    except SettingsError as error:
        problem = error
    async with get_client() as client:
        for each in pipelines().values():
            kind = each.connection_type.get_block_type_slug()
            with contextlib.suppress(ObjectNotFound):
                await client.read_block_document_by_name(connection, kind, include_secrets=False)
                return each
    raise problem


def with_documents(db: Connection) -> dict[str, Pipeline[Any]]:
    """Connections that post documents, by name."""
    rows = [(row[0], pipelines().get(row[1])) for row in db.execute(_ALL)]
    return {name: each for name, each in rows if each is not None and each.changed is not None}


@contextlib.asynccontextmanager
async def open_sink(store: Store, pipeline: Pipeline[Any], connection: str) -> AsyncIterator[Any]:
    """奉行クラウド of a connection; errors that leave the body hold none of its secrets.

    Raises:
        AppConnectError: the connection, or 奉行クラウド, cannot be opened.
    """
    masker = Masker()
    try:
        block = await load_connection(pipeline, connection)
        masker.add(*secrets_of(block))
        async with pipeline.open_sink(block, Tools(masker, Vault(store))) as sink:
            yield sink
    except AppConnectError as error:
        error.mask(masker.mask)
        raise
