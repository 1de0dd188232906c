"""奉行クラウドへの渡し方: rows of people (社員, 勤怠) by API, or as 受入ファイル in a folder.

A connector whose API is not certain to exist embeds `DeliverySettings` in its settings and opens
its sink with `open_people_sink`. A file is a sink like any other: same ledger, same promises.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from blocks import Connection, FormModel
from connectors.bugyo.reception import unwritable
from connectors.bugyo.reception_folder import ReceptionFolder
from flows.engine import points
from flows.engine.clock import business_date, now
from flows.engine.model import RowRefusal, SendOutcome
from flows.engine.pipeline import Sink, Tools
from flows.parts.masters import open_masters


class DeliverySettings(FormModel):
    """設定 of a connector that can deliver by API or by file; a base class of its settings."""

    delivery: Literal["API", "受入ファイル"] = Field(
        default="API",
        title="奉行クラウドへの渡し方",
        description=(
            "APIで登録するか、汎用データ受入のファイルをフォルダーに作成するかを選びます。"
            "ファイルは、奉行クラウドの受入画面で取り込みます。"
        ),
    )
    folder: str | None = Field(
        default=None,
        title="受入ファイルのフォルダー",
        description=(
            "受入ファイルを作成するフォルダーです。処理を行うサーバーから見た場所を「/」から書きます。"
        ),
        examples=["/srv/bugyo/勤怠"],
    )
    encoding: Literal["Shift_JIS", "UTF-8（BOM付き）"] = Field(
        default="Shift_JIS",
        title="受入ファイルの文字コード",
        description="受入ファイルの文字コードです。",
    )

    @property
    def by_file(self) -> bool:
        """Whether files are written."""
        return self.delivery == "受入ファイル"

    @model_validator(mode="after")
    def _folder_for_files(self) -> DeliverySettings:
        if self.by_file and not (self.folder or "").strip().startswith("/"):
            raise ValueError("受入ファイルのフォルダーを「/」から入力してください")
        return self


def delivery_of(connection: object) -> DeliverySettings | None:
    """How a connection delivers; ``None`` = it has no such setting: by API."""
    settings = getattr(connection, "settings", None)
    return settings if isinstance(settings, DeliverySettings) else None


@dataclass(frozen=True)
class ReceptionSink:
    """One master of one connection, as files; what was written counts as registered.

    Attributes:
        folder: Open folder.
        resource: Name of the resource, e.g. ``attendance``.
        utf8: The encoding is UTF-8 instead of CP932.
        batch_size: Rows of one file.
    """

    folder: ReceptionFolder
    resource: str
    utf8: bool = False
    batch_size: int = 10_000

    async def fetch(
        self, keys: Sequence[str], fields: Sequence[str]
    ) -> Mapping[str, Mapping[str, str]]:
        """What was written under these keys."""
        return self.folder.held(keys, fields)

    async def send(self, rows: Sequence[Mapping[str, str]]) -> SendOutcome:
        """Write one file with the rows that can be written."""
        refused: dict[int, RowRefusal] = {}
        for index, row in enumerate(rows):
            if (problem := unwritable(self.resource, row, utf8=self.utf8)) is not None:
                refused[index] = RowRefusal("", f"{problem.message}。", problem.label)
        good = [row for index, row in enumerate(rows) if index not in refused]
        if good:
            await asyncio.to_thread(self.folder.write, good)
        return SendOutcome(refused=refused)

    async def codes(self, kind: str) -> Mapping[str, str] | None:  # noqa: ARG002 (of the protocol)
        """A file cannot tell which codes exist."""
        return None


def open_people_sink(
    connection: Connection, tools: Tools, resource_name: str
) -> AbstractAsyncContextManager[Sink]:
    """The sink that the connection's `DeliverySettings` choose, for ``Pipeline.open_sink``.

    Raises:
        SettingsError: ``AC-404``, the folder cannot be used; or as `open_masters`.
        WaitError: ``AC-406``, another process writes in the folder.
    """
    delivery = delivery_of(connection)
    if delivery is None or not delivery.by_file:
        return open_masters(connection.bugyo, tools, resource_name)
    name = connection._block_document_name or connection.get_block_type_slug()
    return open_reception(delivery, name, resource_name)


@contextlib.asynccontextmanager
async def open_reception(
    delivery: DeliverySettings, connection: str, resource_name: str
) -> AsyncIterator[ReceptionSink]:
    """The folder of a connection, taken for as long as the sink is open."""
    utf8 = delivery.encoding != "Shift_JIS"
    folder = ReceptionFolder(
        Path((delivery.folder or "").strip()),
        connection,
        resource_name,
        utf8=utf8,
        today=lambda: business_date(now()),
        reached=points.reached,
    )
    await asyncio.to_thread(folder.open)
    try:
        yield ReceptionSink(folder, resource_name, utf8)
    finally:
        folder.close()
