"""A connection as a deployment of Prefect: its name, its page, its run form, its schedule.

Here and not in ``deployments``: a flow makes connections, too (`flows.operations.new_connection`).
"""

from __future__ import annotations

import copy
import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import time
from functools import cache
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

import flows
from blocks import DAILY_AT, TIMEZONE, Connection
from blocks.form import tidy
from flows.engine.pipeline import Pipeline
from flows.engine.timing import Timing, timing_of

WORK_POOL = "app-connect"
"""Where the runs of a connection are started that was made outside of any work pool."""


@dataclass(frozen=True)
class Connector:
    """A connector: its pipeline and its flow."""

    pipeline: Pipeline[Any]
    flow: Flow[..., Any]
    module: str


@cache
def connectors() -> dict[str, Connector]:
    """Every connector by its name, found by looking."""
    return {c.pipeline.connector: c for c in _found()}


def _found() -> Iterator[Connector]:
    for info in pkgutil.iter_modules(flows.__path__, "flows."):
        if info.ispkg:
            continue
        module = importlib.import_module(info.name)
        pipeline = getattr(module, "PIPELINE", None)
        if not isinstance(pipeline, Pipeline):
            continue
        for value in vars(module).values():
            if isinstance(value, Flow) and value.name == pipeline.connector:
                yield Connector(pipeline, value, info.name)


async def saved_connections() -> list[tuple[str, Connector]]:
    """Every saved connection: its name and its connector. None is loaded: one may be invalid."""
    found: list[tuple[str, Connector]] = []
    async with get_client() as client:
        for connector in connectors().values():
            block = connector.pipeline.connection_type
            try:
                kind = await client.read_block_type_by_slug(block.get_block_type_slug())
            except ObjectNotFound:
                continue
            documents = await client.read_block_documents_by_type(kind.slug, include_secrets=False)
            names = [document.name for document in documents if document.name]
            found += [(name, connector) for name in names]
    return found


def deployment_name(pipeline: Pipeline[Any], connection: str) -> str:
    """Name of a connection's deployment, as a person reads it in the list."""
    return f"{pipeline.service} {connection}"


DAILY = Timing(time.fromisoformat(DAILY_AT.zfill(5)))

_RESTING = """\
- **処理しない日**: 予定の処理は「スキップ」で終わり、連携の処理履歴には載りません。\
処理する日にサーバーが止まっていたときは、その分を次の予定で処理します。
"""


def description(pipeline: Pipeline[Any], connection: str, timing: Timing = DAILY) -> str:
    """What the deployment's page says: what it moves, when, what Run does, where settings are."""
    when = f"{timing.words('`')}（日本時間）"
    resting = "" if timing.days == "毎日" else _RESTING
    block = pipeline.connection_type
    return f"""\
{block.get_description()}

- **いつ**: {when}に自動で処理します。
{resting}- **今すぐ実行**: 「実行」→「今すぐ実行」で、前回から変わったデータを連携します。\
何度押しても二重に登録することはありません。
- **条件を指定して実行**: 「実行」→「条件を指定して実行」で、\
全件・期間・1件・エラー明細のみ・確認のみを選べます。
- **設定の変更**: 「接続情報・設定」の「{connection}」（{block.get_block_type_name()}）を開き、\
「編集」で変更します。そのあと、連携一覧の「接続の設定変更」を実行すると、両方のサービスへの接続を\
確かめ、スケジュールを反映します。
- **結果**: 処理の「結果・明細」に、結果・エラー明細・処理履歴があります。\
この画面の「処理履歴」に終わった処理が見えないときは、絞り込みを「すべての状態」にします。
"""


TITLES = {
    "connection": "接続",
    "mode": "処理の範囲",
    "record_key": "1件の場合のコード",
    "period_from": "期間の場合の開始日",
    "period_to": "期間の場合の終了日",
    "record_keys": "エラー明細のみの場合のレコードの番号",
    "dry_run": "確認のみ（送信しない）",
}
"""Titles of the run form. Prefect drops those of a flow's parameters, so they are put in here."""


def run_form(flow: Flow[..., Any], connection: str) -> Any:
    """The flow's parameters with Japanese titles.

    The connection cannot be changed: the deployment belongs to it. Nothing is required, although
    every field is marked ``(Optional)`` then: with a required field, Quick run asks first.
    """
    form = copy.deepcopy(flow.parameters)
    for name, schema in form.properties.items():
        schema["title"] = TITLES.get(name, schema.get("title", name))
    form.properties["connection"] |= {
        "enum": [connection],
        "default": connection,
        "description": "この連携が使う接続です。変更できません。",
    }
    tidy({"properties": form.properties})
    form.required = []
    return form


async def deploy(connection: Connection, name: str, work_pool: str) -> UUID:
    """Create or update the deployment of a connection.

    Args:
        connection: The connection block.
        name: Name of its block document.
        work_pool: Where its runs are started.

    Returns:
        The deployment's id.

    Raises:
        KeyError: no connector has connections of this type.
        SettingsError: ``AC-205``, its time or its days cannot be read; nothing was saved.
    """
    connector = next(
        c for c in connectors().values() if type(connection) is c.pipeline.connection_type
    )
    timing = timing_of(connection)
    # Saving puts back references that the edit form lost (see `Connection.aload`), and gives a
    # document of an older version the form of this one.
    connection.remember()
    await connection.save(name, overwrite=True)
    deployment: RunnerDeployment = await connector.flow.ato_deployment(
        name=deployment_name(connector.pipeline, name),
        schedules=[Cron(timing.cron(), timezone=TIMEZONE, day_or=timing.day_or)],
        concurrency_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
        ),
        parameters={"connection": name},
        description=description(connector.pipeline, name, timing),
        tags=["app-connect", connector.pipeline.connector],
        work_pool_name=work_pool,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    deployment._parameter_openapi_schema = run_form(connector.flow, name)
    return await deployment.aapply()
