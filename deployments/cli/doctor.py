"""``app-connect doctor``: 診断 in a terminal, and the bundle for the support desk.

Exit status: 0 = nothing is wrong (there may be 注意), 3 = something is (異常), 1 = not done.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from sqlalchemy import Connection, text

from connectors.kit import AppConnectError, Masker
from deployments.cli.books import table
from flows.engine.store import Store
from flows.operations.checks import COLUMNS, Finding
from flows.operations.doctor import examine as look

_RUNS = text(
    "SELECT id, connection, connector, trigger, mode, dry_run, started_at, ended_at, result, "
    "stage, extracted, created, updated, unchanged, rejected, pending, vanished, "
    "error ->> 'code' AS error_code FROM run ORDER BY started_at DESC LIMIT 200"
)
_PACKAGES = ("prefect", "httpx", "sqlalchemy", "psycopg", "pydantic")


def examine(bundle: Path | None, *, as_json: bool) -> int:
    """Print the table, and write the bundle; returns the exit status."""
    store, masker = Store(), Masker()
    found = asyncio.run(look(store, masker))
    lines = [[masker.mask(cell) for cell in each.cells().values()] for each in found]
    if bundle is not None:
        write_bundle(bundle, store, masker, found)
    if as_json:
        entries = [dict(zip(COLUMNS, line, strict=True)) for line in lines]
        marked = [{**entry, "状態": each.mark} for entry, each in zip(entries, found, strict=True)]
        typer.echo(json.dumps(marked, ensure_ascii=False))
    else:
        Console().print(table("診断", COLUMNS, lines))
        if bundle is not None:
            typer.echo(f"サポート窓口に送るファイルを作りました: {bundle}")
    return 3 if any(each.mark == "異常" for each in found) else 0


def write_bundle(file: Path, store: Store, masker: Masker, found: Sequence[Finding]) -> None:
    """A zip for the support desk: what 診断 says, versions, settings' names, the newest runs.

    No record of a customer is in it, and no value of a setting; what is in it is masked as well.
    """
    try:
        with store.begin() as db:
            runs = _runs(db)
    except AppConnectError as error:
        runs = [{"error_code": error.code}]
    parts: dict[str, Any] = {
        "doctor.json": [each.cells() for each in found],
        "runs.json": runs,
        "system.json": {
            "python": sys.version,
            "platform": platform.platform(),
            "packages": {name: metadata.version(name) for name in _PACKAGES},
            # Names only: an address may hold a password.
            "settings": sorted(n for n in os.environ if n.startswith(("APP_CONNECT_", "PREFECT_"))),
        },
    }
    file.touch(mode=0o600)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in parts.items():
            words = json.dumps(content, ensure_ascii=False, indent=1, default=str)
            made.writestr(name, masker.mask(words))


def _runs(db: Connection) -> list[dict[str, Any]]:
    return [dict(row) for row in db.execute(_RUNS).mappings()]
