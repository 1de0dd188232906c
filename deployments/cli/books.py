"""処理履歴 in a terminal: the same words as on the screens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from connectors.kit.tables import cp932_csv
from flows.engine import history
from flows.engine.clock import jst_text
from flows.engine.report import HISTORY_COLUMNS, history_line
from flows.engine.store import RunRow, Store

STYLES = {"SUCCESS": "green", "一部エラー": "yellow", "ERROR": "red"}
"""Colours of the results in a terminal."""


def table(title: str, columns: tuple[str, ...], lines: list[list[str]]) -> Table:
    """A table for the terminal; cells are text, never markup."""
    made = Table(title=title, title_justify="left")
    for name in columns:
        made.add_column(name, overflow="fold")
    for line in lines:
        made.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in line))
    return made


CSV_COLUMNS = ("接続", *HISTORY_COLUMNS, "何が起きたか", "対処", "処理番号")


def history_csv(rows: Sequence[RunRow]) -> bytes:
    """処理履歴 as a file for Excel: CP932, no cell is a formula."""

    def line(row: RunRow) -> list[str]:
        error = row.error or {}
        steps = " ".join(f"{n}. {step}" for n, step in enumerate(error.get("next", ()), 1))
        return [row.connection, *history_line(row), error.get("happened", ""), steps, str(row.id)]

    return cp932_csv(CSV_COLUMNS, [line(row) for row in rows])


def _title(chosen: Mapping[str, Any], rows: Sequence[RunRow]) -> str:
    if chosen["limit"] is None or chosen["first"] or chosen["last"]:
        return f"処理履歴（{len(rows):,} 件）"
    return f"処理履歴（最近{chosen['limit']}件）"


def print_history(chosen: Mapping[str, Any], csv: Path | None, *, as_json: bool) -> None:
    """Print runs, newest first, or write them to a file.

    Args:
        chosen: Which ones: the arguments of `flows.engine.history.recent`.
        csv: The file; ``None`` = they are printed.
        as_json: Print JSON.
    """
    with Store().session() as session:
        rows = history.recent(session, **chosen)
    if csv is not None:
        csv.touch(mode=0o600)
        csv.write_bytes(history_csv(rows))
        if not as_json:
            typer.echo(f"処理履歴 {len(rows):,} 件を書き出しました: {csv}")
            return
    if as_json:
        typer.echo(json.dumps([row.model_dump(mode="json") for row in rows], ensure_ascii=False))
        return
    lines = [history_line(row) for row in rows]
    Console().print(table(_title(chosen, rows), HISTORY_COLUMNS, lines))
    for row in rows:
        if row.error:
            steps = " ".join(f"{n}. {step}" for n, step in enumerate(row.error["next"], 1))
            typer.echo(
                f"{jst_text(row.started_at)} {row.error['code']} {row.error['title']}: "
                f"{row.error['happened']}{row.error['safe']}［対処］{steps}"
            )
