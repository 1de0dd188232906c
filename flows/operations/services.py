"""連携サービス: every connection with what a clerk does with it, and 処理履歴, on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefect import State, flow
from prefect.artifacts import acreate_markdown_artifact
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.utilities.urls import url_for

from connectors.kit import AppConnectError
from flows.engine.model import Result
from flows.engine.opening import load_connection
from flows.engine.report import tolerant
from flows.engine.services_page import (
    KEY,
    cell,
    history_part,
    key_of,
    line,
    publish,
    recent,
)
from flows.engine.store import RunRow, Store
from flows.engine.timing import timing_of
from flows.engine.token_lock import alone
from flows.operations import Operation
from flows.operations.connections import pipelines
from flows.operations.ending import as_state

COLUMNS = ("サービス名", "接続", "連携タイミング", "登録番号", "操作")

_OPERATION = "operation"
_PATIENCE = 15.0


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
    lines = ["## 連携サービス", "", line(COLUMNS), line(["---"] * len(COLUMNS))]
    for each in services:
        start = f"[今すぐ実行]({each.run})" if each.run else "今すぐ実行（未登録）"
        cells = [each.service, each.connection, each.timing, each.number]
        ways = f"{start} / [設定]({each.settings})"
        lines.append(line([*map(cell, cells), ways]))
    if not services:
        lines += ["", "接続はまだありません。「連携一覧」の「新しい接続」で作成します。"]
    return "\n".join([*lines, "", history_part(runs)])


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
    store = Store()
    found = [each for each in await rebuild(store) if connection in ("", each.connection)]
    runs = recent(store, connection or None)
    key = key_of(connection) if connection else KEY
    # Once more as a result of this run, where the person looks who pressed the button.
    await acreate_markdown_artifact(page_of(found, runs), key=key, description="連携サービス")
    return Result.SUCCESS, f"連携サービス {len(found):,} 件 / 処理履歴 {len(runs):,} 件"


async def rebuild(store: Store) -> list[Service]:
    """Make the page of all connections anew, and that of each.

    Raises:
        WaitError: ``AC-104``, somebody else is at it, for long.
    """
    async with alone(store, KEY, patience=_PATIENCE), get_client() as client:
        found = await services()
        await publish(client, KEY, page_of(found, recent(store, None)))
        for each in found:
            page = page_of([each], recent(store, each.connection))
            await publish(client, key_of(each.connection), page)
    return found


async def rebuild_quietly(store: Store) -> None:
    """`rebuild`, for those who have done something else: it never changes how that ended."""
    async with tolerant("連携サービス"):
        await rebuild(store)


OPERATION = Operation(
    flow=show_services,
    name="連携サービス",
    description="""\
接続の一覧（サービス名・連携タイミング・登録番号）と処理履歴（最近5件）を、1ページにまとめます。

- **見かた**: 左のメニューの「連携サービス」を開き、いちばん上の「内容を開く」を押します。
- **いつ**: 接続の処理が終わったときと、「新しい接続」「接続の設定変更」「接続の削除」のあとに、\
自動で新しくなります。毎日 5:45（日本時間）にも作り直します。
- **今すぐ実行**: 「実行」→「今すぐ実行」で、今の内容に作り直します。
- **1つの接続だけを見る**: 「実行」→「条件を指定して実行」で、接続の名前を入れます。
- **5件より前の処理履歴**: `app-connect history --limit 100`、Excel で開くときは\
`app-connect history --csv ファイル` です（期間・接続・結果で絞り込めます）。
""",
    cron="45 5 * * *",
    titles={"connection": "接続"},
)
