"""Starting a run and waiting for its end, as another system would."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import typer
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from connectors.kit import SettingsError
from deployments.cli.app import EXIT
from deployments.cli.books import STYLES, table
from flows.engine.model import Result
from flows.engine.report import HISTORY_COLUMNS, history_line
from flows.engine.store import RunRow, Store

_POLL_SECONDS = 0.2
COUNT_WORDS = ("取得", "登録", "更新", "変更なし", "エラー", "確認待ち")
_COUNTS = ("extracted", "created", "updated", "unchanged", "rejected", "pending")
_OVERVIEW = {"取得": "extracted", "登録": "created", "変更なし": "unchanged", "エラー": "rejected"}
"""Counts of several runs side by side: as many as a terminal of 80 columns has room for."""


@dataclass(frozen=True)
class Finished:
    """How a run ended; ``row`` is ``None`` when it never reached our own books."""

    flow_run_id: UUID
    state: State[Any]
    row: RunRow | None
    seconds: float

    @property
    def result(self) -> str:
        """結果."""
        if self.row is not None and self.row.result:
            return self.row.result
        return "SUCCESS" if self.state.is_completed() else "ERROR"

    def as_dict(self) -> dict[str, Any]:
        """The result as one JSON object."""
        counts = {name: getattr(self.row, name) if self.row else 0 for name in _COUNTS}
        return {
            "result": self.result,
            **counts,
            "seconds": round(self.seconds, 3),
            "flow_run_id": str(self.flow_run_id),
        }


async def deployment_id(client: PrefectClient, connection: str) -> UUID:
    """The deployment of a connection.

    Raises:
        SettingsError: ``AC-206``, there is none.
    """
    found = await client.read_deployments(
        deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=["app-connect"]))
    )
    for deployment in found:
        if deployment.parameters.get("connection") == connection:
            return deployment.id
    raise SettingsError("AC-206", connection)


async def start(
    client: PrefectClient,
    connection: str,
    parameters: dict[str, Any],
    *,
    tags: Sequence[str] = (),
    idempotency_key: str | None = None,
) -> FlowRun:
    """Ask for a run. With the same idempotency key, the first run is returned again."""
    return await client.create_flow_run_from_deployment(
        await deployment_id(client, connection),
        parameters=parameters,
        tags=list(tags),
        idempotency_key=idempotency_key,
    )


async def wait(
    client: PrefectClient, flow_run_id: UUID, *, show: Progress | None = None
) -> Finished:
    """Wait until the run has ended, or is put off to a later hour, showing how far it is."""
    began = time.monotonic()
    store = Store()
    bar = show.add_task("準備中", total=None) if show else None
    while True:
        run = await client.read_flow_run(flow_run_id)
        row = await asyncio.to_thread(_row, store, flow_run_id)
        if show is not None and bar is not None and row is not None:
            done = row.created + row.updated + row.unchanged + row.rejected
            show.update(
                bar,
                description="登録" if done else "取得",
                completed=done or None,
                total=row.extracted or None,
            )
        put_off = row is not None and row.result == Result.POSTPONED
        if run.state is not None and (
            run.state.is_final() or (run.state.is_scheduled() and put_off)
        ):
            return Finished(flow_run_id, run.state, row, time.monotonic() - began)
        await asyncio.sleep(_POLL_SECONDS)


def _row(store: Store, flow_run_id: UUID) -> RunRow | None:
    with store.session() as session:
        return session.get(RunRow, flow_run_id)


def result_table(row: RunRow) -> Table:
    """結果 of one run: a line an item, so that it fits a narrow terminal."""
    made = Table(title="結果", title_justify="left", show_header=False)
    line = dict(zip(HISTORY_COLUMNS, history_line(row), strict=True))
    for name in (*HISTORY_COLUMNS[:4], HISTORY_COLUMNS[5]):
        if line[name]:
            made.add_row(name, Text(line[name], style=STYLES.get(line[name], "")))
    for name, count in zip(COUNT_WORDS, _COUNTS, strict=True):
        made.add_row(name, f"{getattr(row, count):,} 件")
    return made


def print_finished(finished: Finished, *, as_json: bool) -> int:
    """Print how a run ended; returns the exit status."""
    if finished.row is not None:
        console = Console(stderr=as_json)
        console.print(result_table(finished.row))
        if finished.row.rejected:
            console.print(
                f"エラー明細 {finished.row.rejected:,} 件の理由と対処: "
                f"app-connect rejects {finished.row.connection}",
                soft_wrap=True,
            )
    told = (Result.ERROR, Result.POSTPONED)
    if finished.state.message and (finished.row is None or finished.result in told):
        typer.echo(finished.state.message, err=True)
    if as_json:
        typer.echo(json.dumps(finished.as_dict(), ensure_ascii=False))
    return EXIT.get(finished.result, 1)


def print_overview(finished: Sequence[Finished], *, as_json: bool) -> None:
    """Print how several runs ended: a line each, or one JSON object a line."""
    lines = []
    for each in finished:
        row = each.row
        names = [row.connection, row.service] if row else ["", ""]
        counts = [f"{getattr(row, name):,}" if row else "" for name in _OVERVIEW.values()]
        lines.append([names[1], each.result, *counts])
        if each.result == "ERROR" and each.state.message:
            typer.echo(each.state.message, err=True)
        if as_json:
            where = dict(zip(("connection", "service"), names, strict=True))
            typer.echo(json.dumps({**where, **each.as_dict()}, ensure_ascii=False))
    if lines:
        columns = ("サービス名", "結果", *_OVERVIEW)
        Console(stderr=as_json).print(table("ほかのコネクタの結果", columns, lines))


async def run_one_by_one(connections: Sequence[str]) -> list[Finished]:
    """Run connections one after the other, and tell how each ended."""
    return [await run_connection(name, {}, tags=()) for name in connections]


async def run_connection(
    connection: str,
    parameters: dict[str, Any],
    *,
    tags: Sequence[str],
    idempotency_key: str | None = None,
    quiet: bool = False,
) -> Finished:
    """Start a run and wait for its end."""
    async with get_client() as client:
        run = await start(
            client, connection, parameters, tags=tags, idempotency_key=idempotency_key
        )
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(
            *columns,
            TextColumn("{task.completed:,.0f} 件"),
            console=Console(stderr=True),
            disable=quiet,
            transient=True,
        ) as show:
            try:
                return await wait(client, run.id, show=show)
            except ObjectNotFound:
                raise SettingsError("AC-206", f"処理 {run.id}") from None


def run_and_wait(
    connection: str,
    parameters: dict[str, Any],
    *,
    tags: Sequence[str],
    idempotency_key: str | None,
    as_json: bool,
) -> int:
    """`run_connection` for a command; returns the exit status."""
    finished = asyncio.run(
        run_connection(connection, parameters, tags=tags, idempotency_key=idempotency_key)
    )
    return print_finished(finished, as_json=as_json)
