"""``app-connect key``: keys with which other systems use the gateway's API."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from flows.engine.store.gateway_tables import ApiKeyRow

key = typer.Typer(help="ほかのシステムが使う APIキーを管理します。", no_args_is_help=True)

COLUMNS = ("番号", "名前", "権限", "接続", "回数/分", "期限", "最後に使った日時", "状態")

Json = Annotated[bool, typer.Option("--json", help="結果を JSON で表示します。")]


@key.command()
def issue(
    name: Annotated[str, typer.Argument(help="どのシステムのものかが分かる名前です。")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="run（処理を始める）/ read（読む）。省略すると両方です。"),
    ] = None,
    connection: Annotated[
        list[str] | None,
        typer.Option("--connection", "-c", help="使える接続です（繰り返せます。省略はすべて）。"),
    ] = None,
    per_minute: Annotated[int, typer.Option(min=1, help="1分に送れる回数です。")] = 60,
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="終了日です（この日まで使えます）。"),
    ] = None,
    as_json: Json = False,
) -> None:
    """APIキーを発行します。表示されるのはこの1回だけです。"""
    _client()
    from deployments.gateway import keys
    from flows.engine.clock import JST
    from flows.engine.store import Store

    wanted = [each for each in keys.SCOPES if not scope or each in scope]
    if set(scope or []) - set(keys.SCOPES):
        raise typer.BadParameter("--scope は run か read です。")
    made = keys.issue(
        Store(),
        name,
        scopes=wanted,
        connections=connection or [],
        per_minute=per_minute,
        expires_at=until.replace(tzinfo=JST) + timedelta(days=1) if until else None,
    )
    if as_json:
        typer.echo(json.dumps({"key": made, "scopes": wanted, "connections": connection or []}))
        return
    typer.echo(made)
    typer.echo("この APIキーは二度と表示できません。使うシステムに保存してください。", err=True)


@key.command("list")
def list_(as_json: Json = False) -> None:
    """発行した APIキーの一覧を表示します（キーそのものは表示できません）。"""
    _client()
    from deployments.cli.books import table
    from deployments.gateway import keys
    from flows.engine.store import Store

    lines = [_cells(row) for row in keys.listed(Store())]
    if as_json:
        entries = [dict(zip(COLUMNS, line, strict=True)) for line in lines]
        typer.echo(json.dumps(entries, ensure_ascii=False))
        return
    Console().print(table(f"APIキー（{len(lines)} 件）", COLUMNS, lines))


@key.command()
def revoke(
    number: Annotated[str, typer.Argument(help="app-connect key list の番号です。")],
) -> None:
    """APIキーを取り消します（すぐに使えなくなります）。"""
    _client()
    from deployments.gateway import keys
    from flows.engine.store import Store

    keys.revoke(Store(), number)
    typer.echo(f"取り消しました: {number}")


def _cells(row: ApiKeyRow) -> list[str]:
    from deployments.gateway.keys import is_alive
    from flows.engine.clock import jst_text, now

    state = "有効" if is_alive(row, now()) else "取り消し" if row.revoked_at else "期限切れ"
    return [
        row.id,
        row.name,
        "、".join(row.scopes),
        "、".join(row.connections) or "すべて",
        str(row.per_minute),
        jst_text(row.expires_at) if row.expires_at else "",
        jst_text(row.last_used_at) if row.last_used_at else "",
        state,
    ]


def _client() -> None:
    from deployments.cli.environment import use_running_stack

    use_running_stack()
