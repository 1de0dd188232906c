"""A company whose 得意先 leave as 受入ファイル instead of through the API."""

from __future__ import annotations

import csv
import io
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from company import APP
from customers import CustomerCompany

from connectors.bugyo.reception import header_codes
from flows.customers_from_kintone import PIPELINE, CustomerSettings, CustomersFromKintoneConnection
from flows.engine.pipeline import Pipeline
from flows.parts.reception_file import DeliverySettings, open_people_sink

CODES = header_codes("customer")


class FileSettings(DeliverySettings, CustomerSettings):
    """設定 of a connector that can deliver by file."""


class FileConnection(CustomersFromKintoneConnection):
    """A connection of it."""

    _block_type_slug = "customers-by-file"

    settings: FileSettings


class FileCompany(CustomerCompany):
    """Customers that leave as files."""

    pipeline: ClassVar[Pipeline[Any]] = replace(
        PIPELINE,
        connection_type=FileConnection,
        open_sink=lambda connection, tools: open_people_sink(connection, tools, "customer"),
    )

    @property
    def folder(self) -> Path:
        """Where the files are; the same in the child process."""
        return Path(tempfile.gettempdir()) / f"reception-{self.name}"

    def block(self) -> FileConnection:
        """The connection."""
        values = dict(super().block())
        settings = FileSettings(app=APP, delivery="受入ファイル", folder=str(self.folder))
        return FileConnection(**{**values, "settings": settings})

    def rows(self) -> list[dict[str, str]]:
        """Every row of every file, the oldest file first."""
        names = {code: field for field, code in CODES.items()}
        found = []
        for path in sorted(self.folder.glob("*_*")):  # .csv, and what a person made of it
            text = io.StringIO(path.read_bytes().decode("cp932"), newline="")
            found += [{names[c]: v for c, v in row.items()} for row in csv.DictReader(text)]
        return found
