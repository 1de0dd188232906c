"""連携サービス: every connection with what a clerk does with it, and 処理履歴, on one page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prefect import State, flow
from prefect.artifacts import acreate_markdown_artifact
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.utilities.urls import url_for

from connectors.kit import AppConnectError
from flows.engine import history
from flows.engine.model import Result
from flows.engine.opening import load_connection
from flows.engine.report import HISTORY_COLUMNS, history_line
from flows.engine.store import RunRow, Store
from flows.engine.timing import timing_of
from flows.operations import Operation
from flows.operations.connections import pipelines
from flows.operations.ending import as_state

COLUMNS = ("サービス名", "接続", "連携タイミング", "登録番号", "操作")

_OPERATION = "operation"
_LAST = 5


@dataclass(frozen=True, slots=True)
class Service:
    """A connection, as a line of the page.

    Attributes:
        service: サービス名.
        connection: Its name.
        timing: 連携タイミング.
        number: 登録番号, or the code of what is wrong with the connection.
        run: Address of 今すぐ実行; empty = it was not deployed yet.
        settings: Address of 設定.
    """

    service: str
    connection: str
    timing: str
    number: str
    run: str
    settings: str


def page_of(services: Sequence[Service], runs: Sequence[RunRow]) -> str:
    """The page, in Markdown."""
    lines = ["## 連携サービス", "", _line(COLUMNS), _line(["---"] * len(COLUMNS))]
    for each in services:
        start = f"[今すぐ実行]({each.run})" if each.run else "今すぐ実行（未登録）"
        cells = [each.service, each.connection, each.timing, each.number]
        ways = f"{start} / [設定]({each.settings})"
        lines.append(_line([*map(_cell, cells), ways]))
    if not services:
        lines += ["", "接続はまだありません。"]
    lines += ["", f"## 処理履歴（最近{_LAST}件）", ""]
    lines += [_line(HISTORY_COLUMNS), _line(["---"] * len(HISTORY_COLUMNS))]
    lines += [_line(map(_cell, history_line(row))) for row in runs]
    problems = [row for row in runs if row.error]
    if problems:
        lines += ["", "### エラー詳細"]
    for row in problems:
        error = row.error or {}
        steps = [f"    {n}. {_cell(step)}" for n, step in enumerate(error["next"], 1)]
        happened = f"{error['code']} {error['title']}: {error['happened']}{error['safe']}"
        words = f"{history_line(row)[1]} {row.service}"
        lines += [f"- **{_cell(words)}** {_cell(happened)}", *steps]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(words: str) -> str:
    """Words that came from outside, as text of a Markdown table."""
    plain = " ".join(words.replace("&", "&amp;").replace("<", "&lt;").split())
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", plain)


async def services() -> list[Service]:
    """Every saved connection, by name; one that cannot be loaded hides no other."""
    found = []
    async with get_client() as client:
        ours = DeploymentFilter(tags=DeploymentFilterTags(all_=["app-connect"]))
        deployed = {
            str(each.parameters.get("connection", "")): each
            for each in await client.read_deployments(deployment_filter=ours)
            if _OPERATION not in each.tags
        }
        for pipeline in pipelines().values():
            slug = pipeline.connection_type.get_block_type_slug()
            for name, block_id in await _documents(client, slug):
                deployment = deployed.get(name)
                try:
                    block = await load_connection(pipeline, name)
                    timing, number = timing_of(block).words(), block.registration_number
                except AppConnectError as error:
                    timing, number = "", f"{error.code} {error.title}"
                found.append(
                    Service(
                        pipeline.service,
                        name,
                        timing if _active(deployment) else "手動のみ",
                        number,
                        _address("deployment", deployment.id) if deployment else "",
                        f"{_address('block', block_id)}/edit",
                    )
                )
    return sorted(found, key=lambda each: (each.service, each.connection))


def _address(kind: str, identity: object) -> str:
    return url_for(kind, obj_id=str(identity), url_type="ui") or ""


def _active(deployment: DeploymentResponse | None) -> bool:
    if deployment is None or deployment.paused:
        return False
    return any(schedule.active for schedule in deployment.schedules)


async def _documents(client: PrefectClient, slug: str) -> list[tuple[str, str]]:
    """Name and id of the saved connections of a type."""
    try:
        await client.read_block_type_by_slug(slug)
    except ObjectNotFound:
        return []
    documents = await client.read_block_documents_by_type(slug, include_secrets=False)
    return [(each.name, str(each.id)) for each in documents if each.name]


@flow(name="services", flow_run_name="連携サービス", persist_result=False)
async def show_services(connection: str = "") -> State[None]:
    """Show the connections and 処理履歴 on one page; nothing is changed.

    Args:
        connection: この接続だけを表示します。空なら、すべてです。
    """
    return await as_state(_work(connection.strip()))


async def _work(connection: str) -> tuple[Result, str]:
    found = [each for each in await services() if connection in ("", each.connection)]
    with Store().session() as session:
        runs = history.recent(session, connection=connection or None, limit=_LAST)
    key = re.sub(r"[^a-z0-9-]+", "-", f"services-{connection}".lower()).strip("-")
    await acreate_markdown_artifact(page_of(found, runs), key=key, description="連携サービス")
    return Result.SUCCESS, f"連携サービス {len(found):,} 件 / 処理履歴 {len(runs):,} 件"


OPERATION = Operation(
    flow=show_services,
    name="連携サービス",
    description="""\
接続の一覧（サービス名・連携タイミング・登録番号）と処理履歴（最近5件）を、1ページにまとめます。

- **いつ**: 毎日 5:45（日本時間）に作り直します。
- **今すぐ実行**: 「実行」→「今すぐ実行」で、\
今の内容にします。ページは「結果・明細」の「連携サービス」です。
- **1つの接続だけを見る**: 「実行」→「条件を指定して実行」で、接続の名前を入れます。
- **5件より前の処理履歴**: `app-connect history --limit 100`、Excel で開くときは\
`app-connect history --csv ファイル` です（期間・接続・結果で絞り込めます）。
""",
    cron="45 5 * * *",
    titles={"connection": "接続"},
)
