"""The part of 連携サービス that changes with every run: 処理履歴 with what to do about errors.

Who is connected changes rarely and is asked of Prefect (`flows.operations.services`); a run only
puts its own line into the page as it is, which costs it two requests.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactCollectionFilter, ArtifactCollectionFilterKey
from prefect.context import AsyncClientContext

from flows.engine import history
from flows.engine.report import HISTORY_COLUMNS, history_line, tolerant
from flows.engine.store import RunRow, Store
from flows.engine.token_lock import alone

KEY = "services"
"""Key of the page of all connections."""

LAST = 5
_HEADING = f"## 処理履歴（最近{LAST}件）"
_PATIENCE = 5.0


def key_of(connection: str) -> str:
    """Key of the page of one connection."""
    return re.sub(r"[^a-z0-9-]+", "-", f"{KEY}-{connection}".lower()).strip("-")


def history_part(runs: Sequence[RunRow]) -> str:
    """処理履歴 in Markdown, to the end of the page."""
    lines = [_HEADING, "", line(HISTORY_COLUMNS), line(["---"] * len(HISTORY_COLUMNS))]
    lines += [line(map(cell, history_line(row))) for row in runs]
    problems = [row for row in runs if row.error]
    if problems:
        lines += ["", "### エラー詳細"]
    for row in problems:
        # One line that an older version wrote otherwise must not hide all others.
        error = {
            "code": "",
            "title": "",
            "happened": "",
            "safe": "",
            "next": (),
            **(row.error or {}),
        }
        steps = [f"    {n}. {cell(step)}" for n, step in enumerate(error["next"], 1)]
        happened = f"{error['code']} {error['title']}: {error['happened']}{error['safe']}"
        words = f"{history_line(row)[1]} {row.service}"
        lines += [f"- **{cell(words)}** {cell(happened)}", *steps]
    return "\n".join(lines) + "\n"


def with_history(page: str, runs: Sequence[RunRow]) -> str:
    """A page as it was, with 処理履歴 as it is now."""
    return page.partition(_HEADING)[0] + history_part(runs)


def line(cells: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def cell(words: str) -> str:
    """Words that came from outside, as text of a Markdown table."""
    plain = " ".join(words.replace("&", "&amp;").replace("<", "&lt;").split())
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", plain)


async def publish(client: PrefectClient, key: str, page: str) -> None:
    """Make a page the newest one of its key. It belongs to no run: it is about all of them."""
    await client.create_artifact(
        ArtifactCreate(key=key, type="markdown", description="連携サービス", data=page)
    )


async def refresh(store: Store, connection: str) -> None:
    """Bring the pages that show ``connection`` up to date; never changes how a run ends.

    A page that was never made is not made here: that needs the list of all connections.
    """
    async with tolerant("連携サービス"):
        pages = {KEY: None, key_of(connection): connection}
        wanted = ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(any_=list(pages)))
        # Two that end together must not lose each other's line, or a new connection.
        # The client that the run has: to make one costs more than all the rest.
        async with (
            alone(store, KEY, patience=_PATIENCE),
            AsyncClientContext.get_or_create() as context,
        ):
            client = context.client
            found = await client.read_latest_artifacts(artifact_filter=wanted)
            known = {str(each.key): str(each.data) for each in found if _HEADING in str(each.data)}
            await asyncio.gather(
                *(
                    publish(client, key, with_history(page, recent(store, pages[key])))
                    for key, page in known.items()
                )
            )


def recent(store: Store, connection: str | None) -> list[RunRow]:
    """The runs that a page shows."""
    with store.session() as session:
        return history.recent(session, connection=connection, limit=LAST)
