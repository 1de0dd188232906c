"""処理履歴 in a terminal: the same words as on the screens."""

from __future__ import annotations

import json

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.engine import history
from flows.engine.clock import jst_text
from flows.engine.report import HISTORY_COLUMNS, history_line
from flows.engine.store import Store

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


def print_history(connection: str | None, limit: int, *, as_json: bool) -> None:
    """Print the newest runs, newest first."""
    with Store().session() as session:
        rows = history.recent(session, connection=connection, limit=limit)
    if as_json:
        typer.echo(json.dumps([row.model_dump(mode="json") for row in rows], ensure_ascii=False))
        return
    lines = [history_line(row) for row in rows]
    Console().print(table(f"処理履歴（最近{limit}件）", HISTORY_COLUMNS, lines))
    for row in rows:
        if row.error:
            steps = " ".join(f"{n}. {step}" for n, step in enumerate(row.error["next"], 1))
            typer.echo(
                f"{jst_text(row.started_at)} {row.error['code']} {row.error['title']}: "
                f"{row.error['happened']}{row.error['safe']}［対処］{steps}"
            )
