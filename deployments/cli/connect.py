"""新しい接続 from a terminal: what the page of the Prefect UI does, with the same checks."""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer


def connect(
    connector: Annotated[
        str, typer.Argument(help="コネクタの名前です（例 customers-from-kintone）。")
    ],
    number: Annotated[str, typer.Option("--number", help="登録番号です。")],
    phone: Annotated[str, typer.Option("--phone", help="電話番号です。書き方は問いません。")],
    bugyo: Annotated[str, typer.Option("--bugyo", help="奉行クラウドの接続情報の名前です。")],
    partner: Annotated[str, typer.Option("--partner", help="相手のサービスの接続情報の名前です。")],
    settings: Annotated[
        Path | None, typer.Option("--settings", help="設定のファイルです（TOML か JSON）。")
    ] = None,
    assigned: Annotated[
        list[str] | None,
        typer.Option("--set", help="設定を1つ入れます（例 --set app=12）。何度でも書けます。"),
    ] = None,
    tenant: Annotated[
        str, typer.Option("--tenant", help="法人が複数あるときの、法人の名前です。")
    ] = "",
    name: Annotated[str, typer.Option("--name", help="接続の名前です。省略すると自動です。")] = "",
    at: Annotated[
        str, typer.Option("--at", help="自動で処理する時刻です（cron でも書けます）。")
    ] = "5:00",
    days: Annotated[
        str,
        typer.Option(
            help="処理する日です（毎日 / 平日のみ / 営業日のみ / 締め日の翌営業日 など）。"
        ),
    ] = "毎日",
    closing_day: Annotated[
        int, typer.Option("--closing-day", help="締め日です（1〜31、31 は月末）。")
    ] = 31,
    holidays: Annotated[
        str, typer.Option("--holidays", help="会社の休業日です（例 2026-12-29〜2027-01-03）。")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="結果を JSON で表示します。")] = False,
) -> None:
    """新しい接続を作ります（接続情報は Prefect の画面で先に作成しておきます）。"""
    from deployments.cli.environment import use_running_stack

    use_running_stack()
    chosen = _settings(settings, assigned or ())
    typed = {
        "registration_number": number,
        "phone": phone,
        "tenant": tenant,
        "name": name,
        "schedule": at,
        "days": days,
        "closing_day": closing_day,
        "company_holidays": holidays,
    }
    made = asyncio.run(_connect(connector, typed, bugyo, partner, chosen))
    if as_json:
        typer.echo(json.dumps(made, ensure_ascii=False))
        return
    for title, value in zip(
        ("接続の名前", "法人", "対象の件数", "連携一覧の番号"), made.values(), strict=True
    ):
        typer.echo(f"{title}: {'' if value is None else value}")
    typer.echo(f"接続を作成しました。確かめるとき: app-connect run {made['name']} --dry-run")


def _settings(file: Path | None, assigned: Sequence[str]) -> dict[str, Any]:
    """What the connector is to do; a value of ``--set`` is text, or JSON where it looks like it.

    Raises:
        SettingsError: ``AC-205``, the file or an assignment cannot be read.
    """
    from connectors.kit import SettingsError

    found: dict[str, Any] = {}
    if file is not None:
        why = f"設定のファイル {file} を読めません（UTF-8 の TOML か JSON）"
        try:
            text = file.read_text("utf-8-sig")
            found = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
        except (OSError, ValueError):
            raise SettingsError("AC-205", why) from None
        if not isinstance(found, dict):
            raise SettingsError("AC-205", why)
    for each in assigned:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise SettingsError("AC-205", "--set は「名前=値」の形で書きます")
        found[key] = value  # a number, too: codes keep their zeros, and settings read digits
        if value.startswith(("{", "[", '"')) or value in ("true", "false", "null"):
            try:
                found[key] = json.loads(value)
            except ValueError:
                raise SettingsError("AC-205", f"--set {key} の値を JSON として読めません") from None
    return found


async def _connect(
    connector: str, typed: Mapping[str, Any], bugyo: str, partner: str, settings: dict[str, Any]
) -> dict[str, Any]:
    from blocks import BugyoCredentials, Connection
    from connectors.kit import SettingsError
    from deployments.catalog import ensure_work_pool, register_blocks
    from deployments.cli.connecting import show_consent_page
    from flows.engine.store import Store
    from flows.operations import deploying, onboarding
    from flows.operations.connections import pipelines
    from flows.operations.services import rebuild_quietly

    pipeline = pipelines().get(connector)
    if pipeline is None:
        raise SettingsError("AC-205", f"コネクタは次のどれかです: {'、'.join(sorted(pipelines()))}")
    await ensure_work_pool()
    await register_blocks()
    _, kind = onboarding.partner_field(pipeline)
    wish = onboarding.Wish(
        pipeline,
        bugyo=await _block(BugyoCredentials, bugyo),
        partner=await _block(kind, partner),
        settings=settings,
        **typed,
    )

    async def show(begun: Any) -> None:
        show_consent_page(begun.service, begun.url, err=True)

    async def deploy(connection: Connection, called: str) -> UUID:
        return await deploying.deploy(connection, called, deploying.WORK_POOL)

    store = Store()
    made = await onboarding.connect(store, wish, show, deploy)
    await rebuild_quietly(store)
    return {
        "name": made.name,
        "tenant": made.seen.tenant.name,
        "records": made.seen.records,
        "deployment": str(made.deployment),
    }


async def _block(kind: type[Any], name: str) -> Any:
    """A saved block.

    Raises:
        SettingsError: ``AC-205``, there is none of this name.
    """
    from connectors.kit import SettingsError

    try:
        return await kind.aload(name)
    except ValueError:
        why = f"「{kind.get_block_type_name()}」に「{name}」がありません"
    raise SettingsError("AC-205", why)
