"""Masters of 奉行クラウド as sinks of the engine: 得意先, 社員, 勤怠 … upserted by key.

A pipeline of a master has ``entity`` = the resource name, ``operations=master_operations(name)``
and rows whose ``Row.key`` is ``resource(name).key_of(values)``: the code, or the parts of the key
joined with ``/`` (``000123/2026/10`` for 勤怠 of 000123 in 2026/10).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from blocks import BugyoCredentials
from connectors.bugyo import BugyoClient, RowError, import_batch, keys_filter, resource
from flows.engine.model import RowRefusal, SendOutcome
from flows.engine.pipeline import Tools
from flows.parts.bugyo import open_bugyo
from flows.parts.bugyo_codes import known_codes


def refusal(error: RowError) -> RowRefusal:
    """奉行クラウド's no to a row, as the engine keeps it."""
    return RowRefusal(error.code, error.message, error.label)


@dataclass(frozen=True)
class MasterSink:
    """One master of one tenant.

    Attributes:
        client: Open client.
        resource: Name of the resource, e.g. ``employee``.
    """

    client: BugyoClient
    resource: str

    @property
    def batch_size(self) -> int:
        """Rows per request."""
        return import_batch(self.resource)

    async def fetch(
        self, keys: Sequence[str], fields: Sequence[str]
    ) -> Mapping[str, Mapping[str, str]]:
        """What is registered under these keys."""
        if not keys:
            return {}
        registry = resource(self.resource)
        wanted = [*dict.fromkeys([*(item.field for item in registry.keys), *fields])]
        rows = await self.client.export_rows(
            self.resource, where=keys_filter(registry, keys), fields=wanted
        )
        return {registry.key_of(row): row for row in rows}

    async def send(self, rows: Sequence[Mapping[str, str]]) -> SendOutcome:
        """Register or update one batch."""
        outcome = await self.client.import_rows(self.resource, rows)
        return SendOutcome(
            refused={index: refusal(error) for index, error in outcome.refused.items()},
            others_stored=outcome.others_stored,
            whole=None if outcome.whole is None else refusal(outcome.whole),
        )

    async def codes(self, kind: str) -> Mapping[str, str] | None:
        """Code -> name of everything of this kind; ``None`` = 奉行クラウド cannot tell."""
        return await known_codes(self.client, kind)


@contextlib.asynccontextmanager
async def open_masters(
    credentials: BugyoCredentials, tools: Tools, resource_name: str
) -> AsyncIterator[MasterSink]:
    """A master of the block's tenant.

    Raises:
        ReauthorizeError: ``AC-101``, nobody has pressed 許可する yet.
        SettingsError: ``AC-205``, an address is missing or not acceptable.
    """
    async with open_bugyo(credentials, tools) as client:
        yield MasterSink(client, resource_name)
