"""エラー明細 and 要確認 in a terminal: the same words and the same work as on the screens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from connectors.kit import DataError
from deployments.cli.books import table
from deployments.cli.running import run_and_wait
from flows.engine import reject_csv, rejects, unclear
from flows.engine.model import Mode
from flows.engine.reject_csv import WORDS
from flows.engine.store import Store
from flows.operations.connections import pipeline_of
from flows.operations.rejects import import_csv, to_resend
from flows.operations.review import decide as decide_about
from flows.operations.review import records_of


def print_rejects(connection: str, csv: Path | None, *, as_json: bool) -> None:
    """Print the open rejects of a connection, or write them as a CSV that opens in Excel."""
    with Store().begin() as db:
        if csv is not None:
            full = rejects.lines(db, connection)
        else:
            found = rejects.listed(db, connection)
    if csv is not None:
        data = reject_csv.write(connection, full)  # many rows take a while: not in a transaction
        csv.touch(mode=0o600)  # it holds what the records hold
        csv.write_bytes(data)
        typer.echo(f"{len(full):,} 件を {csv} に書き出しました。")
        return
    lines = [list(each.words) for each in found]
    if as_json:
        entries = [dict(zip(WORDS, line, strict=True)) for line in lines]
        typer.echo(json.dumps(entries, ensure_ascii=False))
        return
    Console().print(table(f"エラー明細（{len(lines):,} 件）", WORDS, lines))


def import_and_resend(connection: str, file: Path, *, as_json: bool) -> int:
    """Take in a corrected CSV and send its records again; returns the exit status.

    Raises:
        DataError: ``AC-814``, ``AC-815``: nothing was taken in.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        problem = DataError("AC-814", f"{file}: {error.strerror}")
    else:
        with Store().begin() as db:
            found = import_csv(db, connection, data)
        typer.echo(found.sentence(), err=as_json)
        records = [*found.keys, *found.unchanged]
        return resend_rejects(connection, records, as_json=as_json) if records else 0
    raise problem


def resend_rejects(connection: str, records: Sequence[str], *, as_json: bool) -> int:
    """Send rejects again (none named = all) and wait; returns the exit status.

    Raises:
        DataError: ``AC-816``, a record is not among them.
    """
    with Store().begin() as db:
        keys = to_resend(db, connection, records)
    if not keys:
        typer.echo("送り直すエラー明細はありません。", err=as_json)
        return 0
    return _run(connection, keys if records else [], as_json=as_json)


def _run(connection: str, keys: Sequence[str], *, as_json: bool) -> int:
    parameters: dict[str, Any] = {"mode": Mode.REJECTS.value, "record_keys": list(keys)}
    return run_and_wait(connection, parameters, tags=(), idempotency_key=None, as_json=as_json)


def acknowledge(connection: str, records: Sequence[str]) -> None:
    """Mark rejects of posted documents as dealt with.

    Raises:
        DataError: ``AC-816``, ``AC-817``: nothing was changed.
    """
    with Store().begin() as db:
        pipeline_of(db, connection)
        done = rejects.acknowledge(db, connection, records)
    typer.echo(f"対応済みにしました: {len(done):,} 件。")


def print_unclear(connection: str, *, as_json: bool) -> None:
    """Print the documents of which nobody can tell whether they are posted."""
    with Store().begin() as db:
        pipeline_of(db, connection)
        found = unclear.listed(db, connection)
    lines = [list(each.cells) for each in found]
    if as_json:
        entries = [dict(zip(unclear.COLUMNS, line, strict=True)) for line in lines]
        typer.echo(json.dumps(entries, ensure_ascii=False))
        return
    Console().print(table(f"要確認の伝票（{len(lines):,} 件）", unclear.COLUMNS, lines))


def decide(connection: str, posted: Sequence[str], again: Sequence[str], *, as_json: bool) -> int:
    """Record a person's decisions, and send again what has to be; returns the exit status.

    Raises:
        DataError: ``AC-818``, a document is not unclear.
        AppConnectError: 奉行クラウド could not be asked.
    """
    status, unsent = 0, list[str]()
    for records, resend in ((posted, False), (again, True)):
        if not records:
            continue
        decided = asyncio.run(decide_about(Store(), connection, records, again=resend))
        typer.echo(decided.sentence(), err=as_json)
        unsent += decided.unsent
        status = 3 if decided.refused else status
    if unsent:
        return max(status, _run(connection, records_of(unsent), as_json=as_json))
    return status
