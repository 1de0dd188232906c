"""The samples of the local stack: what a stranger sees working after one command.

A module of this package that is named like a folder of ``connectors`` is found by looking; its
attribute ``SAMPLE`` brings the emulator of one service with data in it, and the connections that
move this data. Modules are imported by the emulators' process, which must start quickly: blocks and
flows (and so Prefect) are imported inside ``connections``.

Example (``deployments/samples/smaregi.py``)::

    def emulator() -> SmaregiEmulator:
        made = SmaregiEmulator()
        made.seed(...)
        return made

    def connections(urls: StackUrls) -> list[SampleConnection]:
        from blocks import SmaregiCredentials
        from deployments.samples.bugyo import bugyo_credentials
        from flows.slips_from_smaregi import SlipsFromSmaregiConnection, SmaregiSettings

        smaregi = SmaregiCredentials(..., endpoint=urls.emulators["smaregi"])
        return [
            SampleConnection(
                name="sample-smaregi",
                kind=SlipsFromSmaregiConnection,
                registration_number="AC-0000-0003",
                credentials={"bugyo": bugyo_credentials(urls), "smaregi": smaregi},
                settings=SmaregiSettings(...),
                prepare=_map_codes,  # optional: rows of the コード変換表
            )
        ]

    SAMPLE = Sample(emulator, connections)
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from deployments.stack.settings import EMULATORS, StackUrls

if TYPE_CHECKING:
    from prefect.blocks.core import Block
    from pydantic import BaseModel

    from blocks import Connection
    from connectors.kit.emulator import Emulator
    from flows.engine.store import Store

MAIN = "sample"
"""Name of the main sample's connection, and of every sample's credentials blocks."""

PHONE = "03-0000-0000"
"""Telephone number of the company of the samples; no local exchange number begins with 0."""


@dataclass(frozen=True)
class SampleConnection:
    """One connection of the local stack.

    Attributes:
        name: Name of its block.
        kind: The connector's block type.
        registration_number: 登録番号; each sample connector has its own.
        credentials: Field of the connection -> credentials block, with the addresses of this stack.
        settings: The connector's settings.
        prepare: What else it needs before its first run, in our store; must change nothing that a
            person has changed.
    """

    name: str
    kind: type[Connection]
    registration_number: str
    credentials: Mapping[str, Block]
    settings: BaseModel
    prepare: Callable[[Store], Awaitable[None]] | None = None

    async def save(self) -> Connection:
        """Save its blocks, unless a person changed them: theirs are kept.

        Only the addresses follow the stack, because its ports may differ from last time. Its
        registration number is issued, unless it was.
        """
        from deployments.licensing import issue_for_sample

        try:
            kept = await self.kind.aload(self.name)
        except ValueError:
            kept = await self._create()
        issue_for_sample(kept)
        for field, wanted in self.credentials.items():
            await _follow(getattr(kept, field), wanted)
        return kept

    async def _create(self) -> Connection:
        blocks: dict[str, Any] = {}
        for field, credentials in self.credentials.items():
            kind = type(credentials)
            try:
                blocks[field] = await kind.aload(MAIN)  # another sample's, or a person's
                await _follow(blocks[field], credentials)
            except ValueError:
                await credentials.save(MAIN, overwrite=True)
                blocks[field] = await kind.aload(MAIN)
        connection = self.kind(
            registration_number=self.registration_number,
            phone=PHONE,
            settings=self.settings,
            **blocks,
        )
        await connection.save(self.name, overwrite=True)
        return connection


async def _follow(kept: Any, wanted: Any) -> None:
    """Give a saved credentials block the addresses of this stack."""
    fields = [name for name in type(kept).model_fields if _is_address(name)]
    moved = {n: getattr(wanted, n) for n in fields if getattr(wanted, n) != getattr(kept, n)}
    if moved:
        for name, value in moved.items():
            setattr(kept, name, value)
        await kept.save(kept._block_document_name, overwrite=True)


def _is_address(field: str) -> bool:
    return field == "endpoint" or field.endswith("_url")


@dataclass(frozen=True)
class Sample:
    """What one service brings to the local stack.

    Attributes:
        emulator: Makes the emulator with its data; quick, and always the same.
        connections: The sample connections that read it; for 奉行クラウド itself none.
    """

    emulator: Callable[[], Emulator]
    connections: Callable[[StackUrls], Sequence[SampleConnection]] | None = None


@cache
def emulated() -> tuple[str, ...]:
    """Services that have a sample, and so an emulator, in the local stack; nothing is imported."""
    modules = {info.name for info in pkgutil.iter_modules(__path__)}
    return tuple(service for service in EMULATORS if service in modules)


@cache
def samples() -> dict[str, Sample]:
    """The sample of every service that has one."""
    return {
        service: importlib.import_module(f"{__name__}.{service}").SAMPLE for service in emulated()
    }


def sample_connections(urls: StackUrls) -> list[SampleConnection]:
    """Every sample connection, the main one first."""
    made = [sample.connections(urls) for sample in samples().values() if sample.connections]
    found = [each for connections in made for each in connections]
    return sorted(found, key=lambda each: each.name != MAIN)
