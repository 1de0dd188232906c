"""診断: everything that a run needs is looked at once, and what to do is said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta

from prefect import State, flow
from prefect.artifacts import acreate_table_artifact
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterTags,
)
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from connectors.kit import AppConnectError, Masker, SettingsError
from connectors.kit.clocks import Heard
from flows.engine.clock import now
from flows.engine.model import Result
from flows.engine.opening import load_connection, secrets_of
from flows.engine.store import Store
from flows.operations import Operation, checks
from flows.operations.checks import Finding
from flows.operations.connections import pipelines
from flows.operations.ending import as_state
from flows.operations.tokens import saved_credentials

_SILENT = timedelta(seconds=120)  # a worker says every 30 s that it is there
_AT_ONCE = 8
_TAG = "app-connect"
_OPERATION = "operation"
_START = "ワーカー（app-connect up、または prefect worker start）を起動する"


async def examine(store: Store, masker: Masker) -> list[Finding]:
    """Every line of the table, this machine first.

    Args:
        store: The books.
        masker: Knows every secret that was met, afterwards.
    """
    found = [await checks.database(store), checks.disk(), checks.time_zone()]
    heard: list[Heard] = []
    try:
        async with get_client() as client:
            names = await _connections(client)
            found += await _prefect(client, {name for _, name in names})
        found += await _tokens(masker)
    except Exception as error:  # noqa: BLE001 (Prefect's client raises many kinds)
        said = f"応答がありません（{type(error).__name__}）"
        found.append(Finding("Prefect サーバー", "異常", said, "Prefect サーバーを起動する"))
        names = []
    # Side by side: what does not answer is asked several times, and the others need not wait.
    few = asyncio.Semaphore(_AT_ONCE)
    for lines, times in await asyncio.gather(*(_connection(store, masker, few, *n) for n in names)):
        found += lines
        heard += times
    return [*found, *checks.clocks(heard), checks.screens()]


async def _connection(
    store: Store, masker: Masker, few: asyncio.Semaphore, connector: str, name: str
) -> tuple[list[Finding], list[Heard]]:
    pipeline = pipelines()[connector]
    async with few:
        try:
            block = await load_connection(pipeline, name)
        except AppConnectError as error:
            return [checks.failed(f"接続（{name}）", error)], []
        licence = await checks.licence(store, name, block)
        lines, heard = await checks.apis(store, pipeline, name, block, masker)
    return [licence, *lines], heard


async def _connections(client: PrefectClient) -> list[tuple[str, str]]:
    """Connector and name of every saved connection."""
    found = []
    for connector, pipeline in pipelines().items():
        slug = pipeline.connection_type.get_block_type_slug()
        try:
            await client.read_block_type_by_slug(slug)
        except ObjectNotFound:
            continue
        documents = await client.read_block_documents_by_type(slug, include_secrets=False)
        found += [(connector, document.name) for document in documents if document.name]
    return sorted(found, key=lambda each: each[1])


async def _tokens(masker: Masker) -> list[Finding]:
    found = []
    for kind, name in await saved_credentials():
        try:
            block = await kind.aload(name)
        except (ValueError, RuntimeError):
            error = SettingsError("AC-205", f"接続情報「{name}」")
            found.append(checks.failed(f"連携トークン（{name}）", error))
            continue
        masker.add(*secrets_of(block))
        line = checks.token(block)
        if line is not None:
            found.append(line)
    return found


async def _prefect(client: PrefectClient, connections: set[str]) -> list[Finding]:
    problem = await client.api_healthcheck()
    if problem is not None:
        raise problem
    version = await client.api_version()
    found = [Finding("Prefect サーバー", "正常", f"応答しました（{version}）")]
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[_TAG]))
    deployments = await client.read_deployments(deployment_filter=ours)
    pools = {each.work_pool_name for each in deployments if each.work_pool_name}
    for pool in sorted(pools):
        found += await _pool(client, pool)
    return [*found, *_schedules(deployments, connections), await _late(client)]


async def _pool(client: PrefectClient, name: str) -> list[Finding]:
    """A work pool: whether it and its queues are open, and whether somebody works on it."""
    item = f"ワーカー（{name}）"
    pool = await client.read_work_pool(name)
    closed = [pool.name] if pool.is_paused else []
    closed += [each.name for each in await client.read_work_queues(name) if each.is_paused]
    beats = [
        each.last_heartbeat_time
        for each in await client.read_workers_for_work_pool(name)
        if each.last_heartbeat_time is not None
    ]
    if not beats or now() - max(beats) > _SILENT:
        return [Finding(item, "異常", "動いていません。処理は始まりません", _START)]
    if closed:
        words = f"一時停止しています（{'、'.join(closed)}）"
        return [Finding(item, "異常", words, "左のメニューの「実行環境」で、一時停止を解除する")]
    return [Finding(item, "正常", "動いています")]


def _schedules(
    deployments: Iterable[DeploymentResponse], connections: set[str] | None = None
) -> list[Finding]:
    """A line for each deployment of a connection; ``connections`` = those that are saved."""
    found = []
    for each in deployments:
        if _OPERATION in each.tags:
            continue
        item = f"スケジュール（{each.name}）"
        if connections is not None and each.parameters.get("connection") not in connections:
            words = "接続の設定がありません（削除の途中で止まったか、設定だけが削除されました）"
            remedy = (
                "「接続の削除」を、同じ名前でもう一度実行する（続けて使うときは「新しい接続」）"
            )
            found.append(Finding(item, "注意", words, remedy))
        elif each.paused or not any(schedule.active for schedule in each.schedules):
            remedy = "自動で処理するときは、連携一覧で接続を開き、スケジュールをオンにする"
            found.append(Finding(item, "注意", "止まっています（手動実行だけです）", remedy))
        else:
            found.append(Finding(item, "正常", "有効です"))
    if not found:
        remedy = "接続を保存し、app-connect deploy を実行する"
        found.append(Finding("スケジュール", "注意", "登録された接続がありません", remedy))
    return found


async def _late(client: PrefectClient) -> Finding:
    """Runs that should have begun."""
    late = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Late"])),
            tags=FlowRunFilterTags(all_=[_TAG]),
        )
    )
    if not late:
        return Finding("開始の遅れ", "正常", "遅れている処理はありません")
    words = f"{len(late):,} 件の処理が、予定の時刻に始まっていません"
    return Finding("開始の遅れ", "異常", words, f"{_START}（待っている処理は自動で始まります）")


def summary(found: Sequence[Finding]) -> tuple[Result, str]:
    """結果 of 診断, and what has to be done."""
    wrong = [each for each in found if each.mark == "異常"]
    doubtful = [each for each in found if each.mark == "注意"]
    fine = len(found) - len(wrong) - len(doubtful)
    words = f"診断: 正常 {fine} / 注意 {len(doubtful)} / 異常 {len(wrong)}"
    steps = [f"{each.item}: {each.words} → {each.remedy}" for each in wrong]
    return (Result.PARTIAL if wrong else Result.SUCCESS), "。".join([words, *steps])


@flow(name="doctor", flow_run_name="診断", persist_result=False)
async def diagnose() -> State[None]:
    """Look at everything that a run needs; nothing is changed."""
    return await as_state(_work())


async def _work() -> tuple[Result, str]:
    masker = Masker()
    found = await examine(Store(), masker)
    await acreate_table_artifact(
        [{name: masker.mask(value) for name, value in each.cells().items()} for each in found],
        key="doctor",
        description="診断",
    )
    result, words = summary(found)
    return result, masker.mask(words)


OPERATION = Operation(
    flow=diagnose,
    name="診断",
    description="""\
処理に必要なものをまとめて確かめ、問題があれば直し方を表示します。データは動かしません。

- **今すぐ実行**: 「実行」→「今すぐ実行」で確かめます。結果は「結果・明細」の表にあります。
- **確かめるもの**: 時計のずれ、データベース、ディスク、タイムゾーン、Prefect サーバー、ワーカー、\
スケジュール、契約、連携トークンの期限、奉行クラウドと相手サービスの API。
- **お問い合わせに添えるファイル**: `app-connect doctor --bundle ファイル.zip` で作ります\
（パスワードやトークンは入りません）。
""",
)
