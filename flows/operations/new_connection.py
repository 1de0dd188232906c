"""新しい接続: from 登録番号 to a deployment that runs every morning, on one page of the Prefect UI.

The flow is one; its deployments are one per connector (`deployments.catalog.entrances`), because
each connector has its own credentials and settings, and so a run form of its own.
"""

from __future__ import annotations

import copy
from typing import Annotated, Any
from uuid import UUID

from prefect import State, flow
from prefect.artifacts import acreate_markdown_artifact
from prefect.context import FlowRunContext
from prefect.runtime import flow_run as runtime
from prefect.utilities.urls import url_for
from pydantic import Field

from blocks import DAILY_AT, Connection, Days
from connectors.kit import SettingsError
from flows.engine.model import Result
from flows.engine.pipeline import Pipeline
from flows.engine.store import Store
from flows.operations import deploying
from flows.operations.connections import pipelines
from flows.operations.ending import as_state
from flows.operations.onboarding import Connected, Wish, connect, partner_field
from flows.operations.permitting import show_consent
from flows.operations.services import rebuild_quietly


def _run_name() -> str:
    """A name like ``新しい接続 得意先 kintone→商奉行``, for Prefect to call."""
    pipeline = pipelines().get(str(runtime.parameters.get("connector", "")))
    return f"新しい接続 {pipeline.service}" if pipeline else "新しい接続"


@flow(name="new-connection", flow_run_name=_run_name, persist_result=False)
async def new_connection(
    connector: str,
    registration_number: str,
    phone: str,
    bugyo: Any,
    partner: Any,
    settings: dict[str, Any],
    tenant: str = "",
    name: str = "",
    schedule: str = DAILY_AT,
    days: Days = "毎日",
    closing_day: Annotated[int, Field(ge=1, le=31)] = 31,
    company_holidays: str = "",
) -> State[None]:
    """Make a connection: licence, both sides, 法人, block, deployment.

    Args:
        connector: このページで作る接続の種類です。変更できません。
        registration_number: コネクタの登録番号です。全角でも構いません。
        phone: 登録番号と一緒に登録した電話番号です。書き方は問いません。
        bugyo: 奉行クラウドの接続情報です。なければ「追加」で作成し、作成したものを選びます。
        partner: 相手のサービスの接続情報です。なければ「追加」で作成し、作成したものを選びます。
        settings: 連携の設定です。
        tenant: 法人が複数あるときだけ、法人の名前を入れます。
        name: 接続の名前です（英小文字・数字・ハイフン）。空欄なら自動的に付けます。
        schedule: 自動で処理する時刻です（日本時間）。5:00 のように書きます。
        days: 平日は月〜金曜日、営業日は平日から祝日・年末年始（12/31〜1/3）・会社の休業日を
            除いた日です。
        closing_day: 「処理する日」が締め日の翌・前営業日のときに使います。31 は月末です。
        company_holidays: 祝日のほかに休む日です。「2026-12-29〜2027-01-03, 2026-08-14」のように、
            「、」か改行で区切ります。毎年同じ日なら「8-13〜8-15」のように、年を書きません。
    """
    return await as_state(
        _make(
            connector,
            registration_number=registration_number,
            phone=phone,
            bugyo=bugyo,
            partner=partner,
            settings=settings,
            tenant=tenant,
            name=name,
            schedule=schedule,
            days=days,
            closing_day=closing_day,
            company_holidays=company_holidays,
        )
    )


async def _make(connector: str, **typed: Any) -> tuple[Result, str]:
    pipeline = pipelines().get(connector)
    if pipeline is None:
        raise SettingsError("AC-205", f"コネクタ「{connector[:60]}」はありません")
    store = Store()
    made = await connect(store, Wish(pipeline, **typed), show_consent, deploy_here)
    await rebuild_quietly(store)
    return Result.SUCCESS, await summary(made, "接続を作成しました")


async def deploy_here(connection: Connection, name: str) -> UUID:
    """Save a connection; its runs are started where this one was."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    pool = (run.work_pool_name if run else None) or deploying.WORK_POOL
    return await deploying.deploy(connection, name, pool)


async def summary(made: Connected, done: str) -> str:
    """The page of what was set, and the sentence about it."""
    service = made.pipeline.service
    _, partner = partner_field(made.pipeline)
    records = made.seen.records
    seen = "接続できました" if records is None else f"接続できました（対象 {records:,} 件）"
    url = url_for("deployment", obj_id=made.deployment) or ""
    where = f"[{service} {made.name}]({url})" if url else f"{service} {made.name}"
    rows = {
        "接続の名前": made.name,
        "登録番号と電話番号": "確認しました",
        "奉行クラウド": f"接続できました（法人: {made.seen.tenant.name}）",
        partner.get_block_type_name().removesuffix(" 接続情報"): seen,
        "連携タイミング": made.timing.words("`"),
    }
    lines = "\n".join(f"| {title} | {value} |" for title, value in rows.items())
    await acreate_markdown_artifact(
        f"## {done}\n\n| 項目 | 内容 |\n|---|---|\n{lines}\n\n"
        f"次にすること: {where} を開き、「実行」→「条件を指定して実行」で「確認のみ」を"
        "オンにすると、送る内容を登録せずに確かめられます。そのあと「今すぐ実行」で連携します。\n",
        key="connection",
        description=f"{done}: {made.name}",
    )
    counted = "" if records is None else f"、対象 {records:,} 件"
    return f"{done}: 「{made.name}」（法人: {made.seen.tenant.name}{counted}）。"


FIELDS = {
    "connector": "接続の種類",
    "registration_number": "登録番号",
    "phone": "電話番号",
    "bugyo": "奉行クラウド",
    "partner": "相手のサービス",
    "settings": "設定",
    "tenant": "法人",
    "name": "接続の名前",
    "schedule": "処理する時刻",
    "days": "処理する日",
    "closing_day": "締め日",
    "company_holidays": "会社の休業日",
}
"""Titles of the run form; that of ``partner`` is the service's own."""


def entrance_form(pipeline: Pipeline[Any]) -> Any:
    """The run form of a connector: the flow's parameters, drawn as its connection block is."""
    form = copy.deepcopy(new_connection.parameters)
    block = pipeline.connection_type.model_json_schema()
    title, _ = partner_field(pipeline)
    for position, (name, label) in enumerate(FIELDS.items()):
        known = form.properties[name]
        own = block["properties"].get({"partner": title}.get(name, name), {})
        drawn = {k: v for k, v in own.items() if k in ("$ref", "examples", "title")}
        if "$ref" in drawn:
            known = {k: v for k, v in known.items() if k == "description"}
        titled = drawn.get("title", label) if name == "partner" else label
        form.properties[name] = {**known, **drawn, "title": titled, "position": position}
    form.properties["connector"] |= {"enum": [pipeline.connector], "default": pipeline.connector}
    form.definitions = block["definitions"]
    for model in form.definitions.values():
        # What is left as it is need not be sent: the connection knows its own defaults.
        if "block_type_slug" not in model and "required" in model:
            drawn = model["properties"]
            model["required"] = [each for each in model["required"] if "default" not in drawn[each]]
    form.required = ["registration_number", "phone", "bugyo", "partner", "settings"]
    return form


def entrance_description(pipeline: Pipeline[Any]) -> str:
    """What the deployment's page says."""
    _, partner = partner_field(pipeline)
    other = partner.get_block_type_name()
    return f"""\
「{pipeline.service}」の新しい接続を作ります。

1. 「実行」→「条件を指定して実行」を開き、登録番号と電話番号を入れます。
2. 「奉行クラウド」と「{other}」は、作成済みのものを選ぶか、「追加」で作成して選びます。\
パスワードやキーは、この「追加」の画面にだけ入れます。
3. 設定を入れて実行します。両方に実際に接続して確かめ、接続と予定（変えなければ\
毎日 5:00）を作成します。

- **許可が要るとき**: 処理の「結果・明細」に「許可のお願い」が出ます（出ないときは、画面を\
再読み込みします）。開いて、リンクの画面で「許可する」を押すと、処理は自動的に続きます（10分以内）。
- **法人が複数あるとき**: 一覧を表示して終わります。「法人」に名前を入れて、もう一度実行します。
- **途中で終わったとき**: 許可と接続情報は保存されています。同じ内容でもう一度実行すると続きます。\
同じ接続が2つできることはありません。
"""
