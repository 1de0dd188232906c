"""What a person sees of a run: its name, its state, its artifacts (design 10)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import astuple
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from prefect.artifacts import (
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.runtime import flow_run as runtime
from sqlalchemy import Connection, text

from connectors.kit import AppConnectError
from connectors.kit.error_links import error_link
from flows.engine import history, rejects, staging
from flows.engine.clock import JST, now, span_text
from flows.engine.code_table import Blocked, Unmapped
from flows.engine.codes import EMPTY
from flows.engine.context import Planned
from flows.engine.model import Counts, Result, Trigger
from flows.engine.pipeline import Pipeline
from flows.engine.reject_csv import WORDS as REJECT_COLUMNS
from flows.engine.reject_csv import write as rejects_csv
from flows.engine.store import RunRow, Store

EXPORT_VARIABLE = "APP_CONNECT_EXPORT_DIR"
"""Folder for エラー明細 as CSV; unset = none is written, the CLI still exports on demand."""

RESULT_ROWS = 20
"""Rows of エラー明細 in the 結果 itself, where long reasons wrap; those of the table do not."""

PROGRESS_AFTER_SECONDS = 2.0
"""A run that is over by then needs no progress page."""

_PAGE_SECONDS = 20.0  # Prefect's client knocks for a minute and more when nobody answers
_PROGRESS_SECONDS = 5.0
_QUIET_SECONDS = 60.0

TABLE_ROWS = 200
"""Rows of a table artifact; the CSV has all of them."""

UNMAPPED_COLUMNS = (
    "種類",
    "相手側の項目",
    "コード",
    "名称",
    "止まっている件数",
    "対処",
)

HISTORY_COLUMNS = (
    "サービス名",
    "処理時間（開始 - 終了）",
    "実行種別",
    "結果",
    "件数",
    "エラー詳細",
)

_log = logging.getLogger(__name__)


def trigger_of(auto_scheduled: bool, tags: Iterable[str]) -> Trigger:
    """Who started a run: the scheduler, another system (tag ``api``), or a person."""
    if auto_scheduled:
        return Trigger.SCHEDULE
    return Trigger.API if "api" in tags else Trigger.MANUAL


def run_name(pipeline: Pipeline[Any]) -> Callable[[], str]:
    """A name like ``得意先 kintone→商奉行 2026-11-22 05:00 スケジュール``, for Prefect to call."""

    def name() -> str:
        from prefect.context import FlowRunContext

        context = FlowRunContext.get()
        run = context.flow_run if context else None
        moment = runtime.scheduled_start_time or now()
        trigger = trigger_of(bool(run and run.auto_scheduled), run.tags if run else ())
        return f"{pipeline.service} {moment.astimezone(JST):%Y-%m-%d %H:%M} {trigger}"

    return name


@contextlib.asynccontextmanager
async def tolerant(what: str) -> Any:
    """A page that cannot be written never changes how a run ends: the store has it all."""
    try:
        async with asyncio.timeout(_PAGE_SECONDS):
            yield
    except Exception as error:  # noqa: BLE001 (Prefect's client raises many kinds)
        _log.warning("%s was not written: %s", what, type(error).__name__)


def progress_report(connection: str) -> Callable[[str, int, int | None], Awaitable[None]]:
    """Shows how far a run is, as one progress artifact; created when there is something to show."""
    artifact: UUID | None = None
    started = time.monotonic()
    quiet_until = 0.0

    async def report(stage: str, done: int, total: int | None) -> None:
        nonlocal artifact, quiet_until
        percent = min(100.0, done / total * 100) if total else 0.0
        words = f"{stage} {done:,}" + (f" / {total:,} 件" if total else " 件")
        _log.info(words)
        if artifact is None and time.monotonic() - started < PROGRESS_AFTER_SECONDS:
            return
        if time.monotonic() < quiet_until:
            return
        # The run waits for this: while Prefect does not answer, it is asked once a minute.
        quiet_until = time.monotonic() + _QUIET_SECONDS
        async with tolerant("progress"):
            async with asyncio.timeout(_PROGRESS_SECONDS):
                if artifact is None:
                    artifact = await acreate_progress_artifact(
                        progress=percent, key=f"progress-{connection}", description=words
                    )
                else:
                    await aupdate_progress_artifact(artifact, percent, description=words)
            quiet_until = 0.0

    return report


async def show_result(
    connection: str,
    service: str,
    counts: Counts | None,
    result: Result,
    message: str,
    error: AppConnectError | None,
    rejected: Sequence[rejects.Listed] = (),
    unmapped: Sequence[Blocked] = (),
) -> None:
    """Artifact 結果: counts as a table, and what to do when something went wrong.

    Args:
        connection: Name of the connection, as asked for: there may be none.
        service: サービス名.
        counts: ``None`` = not known: the run did not begin, or the books cannot be read.
        result: 結果.
        message: Said below the counts.
        error: What ended the run.
        rejected: The first of the records that were rejected, at most `RESULT_ROWS`.
        unmapped: The codes that コード変換表 lacks.
    """
    lines = [f"## {result}"]
    if counts is not None:
        numbers = " | ".join(f"{n:,}" for n in astuple(counts)[:6])
        lines += [
            "",
            "| 取得 | 登録 | 更新 | 変更なし | エラー | 確認待ち |",
            "| ---: | ---: | ---: | ---: | ---: | ---: |",
            f"| {numbers} |",
        ]
        if counts.vanished:
            lines += ["", f"ほかに、元データのなくなった伝票が {counts.vanished:,} 件あります。"]
    if message:
        lines += ["", message]
    if error is not None:
        link = error_link(error.code)
        heading = f"{error.code} {error.title}"
        lines += [
            "",
            f"### [{heading}]({link})" if link else f"### {heading}",
            f"- **何が起きたか**: {_literal(error.happened)}",
            f"- **データの状態**: {error.safe}",
            "- **対処**:",
            *(f"    {n}. {_literal(step)}" for n, step in enumerate(error.next_steps, 1)),
        ]
        if error.detail.as_dict():
            lines.append(f"- **詳細**: {_literal(str(error.detail))}")
    if unmapped:
        titles = " | ".join(UNMAPPED_COLUMNS)
        lines += ["", "### 未対応のコード", "", f"| {titles} |"]
        lines.append("| --- | --- | --- | --- | ---: | --- |")
        shown = [unmapped_line(each) for each in unmapped[:RESULT_ROWS]]
        lines += [f"| {' | '.join(map(_cell, line))} |" for line in shown]
        if len(unmapped) > RESULT_ROWS:
            more = len(unmapped) - RESULT_ROWS
            lines += [
                "",
                f"ほか {more:,} 種類は、「結果・明細」の未対応のコード（unmapped）にあります。",
            ]
    if rejected:
        lines += ["", "### エラー明細", "", "| 対象 | 理由 | 対処 |", "| --- | --- | --- |"]
        lines += [f"| {_cell(r.label)} | {_cell(r.reason)} | {_cell(r.remedy)} |" for r in rejected]
        if counts is not None and counts.rejected > len(rejected):
            more = counts.rejected - len(rejected)
            lines += ["", f"ほか {more:,} 件は、「結果・明細」のエラー明細（rejects）にあります。"]
    async with tolerant("結果"):
        # A name that was typed wrongly may hold what a key must not.
        key = re.sub(r"[^a-z0-9-]+", "-", f"result-{connection}".lower())
        await acreate_markdown_artifact("\n".join(lines), key=key, description=f"結果: {service}")


def _literal(words: str) -> str:
    """Words that came from outside, as text: neither markup nor line breaks of a vendor's."""
    return " ".join(words.replace("&", "&amp;").replace("<", "&lt;").split())


def _cell(words: str) -> str:
    """The same inside a Markdown table."""
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", _literal(words))


def unmapped_line(blocked: Blocked) -> list[str]:
    """A code that コード変換表 lacks, in the order of `UNMAPPED_COLUMNS`."""
    code = blocked.missing
    todo = (
        f"コード変換表の奉行コード「{code.bugyo_code}」を直す（奉行クラウドにありません）"
        if code.bugyo_code
        else "コード変換表に奉行コードを入れる"
    )
    return [code.kind, code.source, code.code or EMPTY, code.name, f"{blocked.records:,}", todo]


async def show_unmapped(connection: str, service: str, unmapped: Unmapped) -> None:
    """Artifact 未対応のコード: each code that コード変換表 lacks, once, before anything is sent."""
    table = [
        dict(zip(UNMAPPED_COLUMNS, unmapped_line(each), strict=True))
        for each in unmapped.codes[:TABLE_ROWS]
    ]
    more = f"（先頭 {TABLE_ROWS} 種類）" if len(unmapped.codes) > TABLE_ROWS else ""
    async with tolerant("未対応のコード"):
        await acreate_table_artifact(
            table,
            key=f"unmapped-{connection}",
            description=f"未対応のコード: {service} {unmapped.sentence()}{more}",
        )


async def show_rejects(store: Store, row: RunRow, entity: str) -> Path | None:
    """Artifact エラー明細, and the same as a CSV that opens in Excel; returns the CSV's path."""
    found = await store.do(rejects.listed, row.connection, run=row.id)
    if not found:
        return None
    lines = [r.words for r in found]
    path = None
    if os.environ.get(EXPORT_VARIABLE):
        full = await store.do(rejects.lines, row.connection, run=row.id)
        data = rejects_csv(row.connection, full)
        path = _export(f"{row.connection}-{entity}-{row.id}.csv", data)
    more = f"（先頭 {TABLE_ROWS} 件）" if len(lines) > TABLE_ROWS else ""
    where = f"（CSV: {path}）" if path else ""
    async with tolerant("エラー明細"):
        await acreate_table_artifact(
            [dict(zip(REJECT_COLUMNS, line, strict=True)) for line in lines[:TABLE_ROWS]],
            key=f"rejects-{row.connection}",
            description=f"エラー明細: {row.service} {len(lines):,} 件{more}{where}",
        )
    return path


def _export(name: str, data: bytes) -> Path | None:
    folder = os.environ.get(EXPORT_VARIABLE)
    if not folder:
        return None
    path = Path(folder) / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_bytes(data)
    except OSError as error:
        _log.warning("The CSV was not written: %s", error.strerror)
        return None
    return path


async def show_preview(
    store: Store, row: RunRow, planned: Sequence[Planned], counts: Counts
) -> None:
    """Artifact プレビュー of a dry run: what would be sent, and what would be rejected."""
    words = {"created": "登録", "updated": "更新"}
    table = [{"処理": words[p.action], **p.values} for p in planned]
    async with tolerant("プレビュー"):
        await acreate_table_artifact(
            table or [{"処理": "送るデータはありません"}],
            key=f"preview-{row.connection}",
            description=(
                f"プレビュー（何も送っていません）: 登録 {counts.created:,} / "
                f"更新 {counts.updated:,}（先頭 {len(table):,} 件）"
            ),
        )
    bad = await store.do(_previewed_rejects, row.id)
    if bad:
        async with tolerant("エラー明細"):
            await acreate_table_artifact(
                [dict(zip(REJECT_COLUMNS, line, strict=False)) for line in bad[:TABLE_ROWS]],
                key=f"rejects-{row.connection}",
                description=f"エラー明細（確認のみ）: {row.service} {len(bad):,} 件",
            )


def _previewed_rejects(db: Connection, run_id: UUID) -> list[list[str]]:
    rows = db.execute(
        text("SELECT body FROM staged_page WHERE run_id = :run AND stage = 'preview' ORDER BY seq"),
        {"run": run_id},
    )
    from connectors.kit import catalogue

    found: list[list[str]] = []
    for (body,) in rows:
        for source_key, code, item, label, reason, *_ in orjson.loads(
            staging.decompress(bytes(body))
        ):
            found.append([source_key, label, code, catalogue()[code].title, item, reason])
    return found


def history_line(row: RunRow) -> list[str]:
    """One run as a line of 処理履歴, in the order of `HISTORY_COLUMNS`."""
    counts = Counts(
        row.extracted,
        row.created,
        row.updated,
        row.unchanged,
        row.rejected,
        row.pending,
        row.vanished,
    )
    error = row.error or {}
    detail = f"{error.get('code', '')} {error.get('title', '')}".strip()
    result = row.result or "実行中"
    return [
        row.service,
        span_text(row.started_at, row.ended_at),
        row.trigger,
        f"{result}（確認のみ）" if row.dry_run else result,
        counts.sentence(),
        detail,
    ]


async def show_history(store: Store, connection: str) -> None:
    """Artifact 処理履歴（最近5件）: of all connections, and of this one."""
    for key, only in (("history", None), (f"history-{connection}", connection)):
        with store.session() as session:
            rows = history.recent(session, connection=only, limit=5)
        async with tolerant("処理履歴"):
            await acreate_table_artifact(
                [dict(zip(HISTORY_COLUMNS, history_line(row), strict=True)) for row in rows],
                key=key,
                description="処理履歴（最近5件）" + (f": {only}" if only else ""),
            )


def duration(start: datetime, end: datetime) -> str:
    """How long a run took, for messages."""
    return f"{(end - start).total_seconds():.1f} 秒"
