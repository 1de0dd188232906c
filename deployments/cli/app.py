"""The commands. Each reads its options, and leaves the work to a module that can be imported.

Prefect is imported by the commands that need it, after its environment is known: it reads its
settings when it is imported.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from deployments.cli.alerts import alerts
from deployments.cli.codes import codes
from deployments.cli.connect import connect
from deployments.cli.inquiry import inquiry
from deployments.cli.keys import key
from deployments.cli.licence import licence
from deployments.cli.scaffold import new_connector
from deployments.stack.settings import StackError, StackSettings

EXIT = {"SUCCESS": 0, "スキップ": 0, "一部エラー": 3, "待機中": 4, "ERROR": 1}
"""Exit status by result."""

app = typer.Typer(
    name="app-connect",
    help="奉行クラウドと他サービスを連携します。",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bugyo = typer.Typer(help="奉行クラウドについて調べます。", no_args_is_help=True)
app.add_typer(bugyo, name="bugyo")
app.add_typer(alerts, name="alerts")
app.add_typer(codes, name="codes")
app.add_typer(inquiry, name="inquiry")
app.add_typer(key, name="key")
app.add_typer(licence, name="licence")
app.command("connect")(connect)
app.command("new-connector")(new_connector)

Json = Annotated[bool, typer.Option("--json", help="結果を JSON で表示します。")]
ConnectionOption = Annotated[
    str | None, typer.Option("--connection", "-c", help="接続の名前です。")
]


@app.command()
def up(
    once: Annotated[bool, typer.Option("--once", help="1回だけ処理して終了します。")] = False,
    as_json: Json = False,
    no_run: Annotated[bool, typer.Option("--no-run", help="起動時の処理をしません。")] = False,
    empty: Annotated[
        bool, typer.Option("--empty", help="見本の接続を作りません（自分で接続を作るとき）。")
    ] = False,
) -> None:
    """ローカル環境（データベース、Prefect、エミュレーター、ワーカー）を起動します。"""
    from deployments.cli.up import run_stack

    if once and empty:
        raise typer.BadParameter("--once は見本を処理するので、--empty と一緒には使えません。")
    raise typer.Exit(
        run_stack(
            StackSettings(), once=once, as_json=as_json, first_run=not no_run, samples=not empty
        )
    )


@app.command()
def run(
    connection: Annotated[str, typer.Argument(help="接続の名前です。")],
    mode: Annotated[str, typer.Option(help="差分 / 全件 / 期間 / 1件 / エラー明細のみ")] = "差分",
    key: Annotated[str | None, typer.Option(help="1件のときのコードです。")] = None,
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="期間のときの開始日です。"),
    ] = None,
    last: Annotated[
        datetime | None,
        typer.Option("--to", formats=["%Y-%m-%d"], help="期間のときの終了日です。"),
    ] = None,
    record: Annotated[
        list[str] | None,
        typer.Option(help="エラー明細のみのときのレコードの番号です（繰り返せます）。"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="送る内容を表示するだけで、送りません。")
    ] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="同じキーの2回目は、1回目の処理を返します。")
    ] = None,
    as_json: Json = False,
) -> None:
    """接続の処理を今すぐ実行し、終わるまで待ちます。"""
    _client_environment()
    from deployments.cli.running import run_and_wait

    parameters: dict[str, Any] = {"mode": mode, "dry_run": dry_run}
    if key is not None:
        parameters["record_key"] = key
    if record:
        parameters["record_keys"] = record
    for name, day in (("period_from", first), ("period_to", last)):
        if day is not None:
            parameters[name] = day.date().isoformat()
    raise typer.Exit(
        run_and_wait(
            connection, parameters, tags=(), idempotency_key=idempotency_key, as_json=as_json
        )
    )


@app.command()
def history(
    connection: ConnectionOption = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", "-n", min=1, help="件数です。省略すると5件、期間・CSV ではすべてです。"
        ),
    ] = None,
    first: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="この日からです。")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="この日までです。")
    ] = None,
    result: Annotated[
        str | None, typer.Option(help="SUCCESS / 一部エラー / ERROR / スキップ / 待機中")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Excel で開ける CSV（Shift_JIS）に書き出します。")
    ] = None,
    as_json: Json = False,
) -> None:
    """処理履歴を表示します（CSV にも書き出せます）。"""
    if result is not None and result not in EXIT:
        raise typer.BadParameter(f"--result は {' / '.join(EXIT)} のどれかです。")
    _client_environment()
    from deployments.cli.books import print_history

    if limit is None and first is None and last is None and csv is None:
        limit = 5
    chosen = {
        "connection": connection,
        "limit": limit,
        "first": first.date() if first else None,
        "last": last.date() if last else None,
        "result": result,
    }
    print_history(chosen, csv, as_json=as_json)


@app.command()
def updates(as_json: Json = False) -> None:
    """アップデート情報（変更点と、必要な対応）を表示します。"""
    import json
    from dataclasses import asdict

    from flows.engine.updates import changes, current, lines

    if as_json:
        found = [{**asdict(each), "date": each.date.isoformat()} for each in changes()]
        typer.echo(json.dumps({"version": current(), "changes": found}, ensure_ascii=False))
        return
    typer.echo("\n".join([f"お使いの版: {current()}", *lines(changes())]))


@app.command()
def doctor(
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", help="窓口に送る zip を作ります（秘密の情報は入りません）。"),
    ] = None,
    as_json: Json = False,
) -> None:
    """診断: 時計、データベース、Prefect、契約、連携トークン、API などを確かめます。"""
    _client_environment()
    from deployments.cli.doctor import examine

    raise typer.Exit(examine(bundle, as_json=as_json))


@app.command()
def rejects(
    connection: Annotated[str, typer.Argument(help="接続の名前です。")],
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Excel で直せる CSV（Shift_JIS）に書き出します。")
    ] = None,
    corrected: Annotated[
        Path | None, typer.Option("--import", help="直した CSV を取り込み、送り直します。")
    ] = None,
    resend: Annotated[bool, typer.Option("--resend", help="送り直します。")] = False,
    done: Annotated[
        bool, typer.Option("--done", help="登録後の変更・取消（AC-811〜813）を対応済みにします。")
    ] = False,
    record: Annotated[
        list[str] | None,
        typer.Option(help="--resend、--done のレコードの番号です（繰り返せます。省略はすべて）。"),
    ] = None,
    as_json: Json = False,
) -> None:
    """エラー明細（連携できていないデータ）を表示します。直した CSV の取り込みと再送もします。"""
    if sum([csv is not None, corrected is not None, resend, done]) > 1:
        raise typer.BadParameter("--csv、--import、--resend、--done は、どれか1つを指定します。")
    _client_environment()
    from deployments.cli import rejects as work

    if corrected is not None:
        raise typer.Exit(work.import_and_resend(connection, corrected, as_json=as_json))
    if resend:
        raise typer.Exit(work.resend_rejects(connection, record or [], as_json=as_json))
    if done:
        work.acknowledge(connection, record or [])
        return
    work.print_rejects(connection, csv, as_json=as_json)


@app.command()
def review(
    connection: Annotated[str, typer.Argument(help="接続の名前です。")],
    posted: Annotated[
        list[str] | None,
        typer.Option(help="登録済みにする伝票のレコードの番号か証憑番号です（繰り返せます）。"),
    ] = None,
    resend: Annotated[
        list[str] | None,
        typer.Option(help="もう一度送る伝票のレコードの番号か証憑番号です（繰り返せます）。"),
    ] = None,
    as_json: Json = False,
) -> None:
    """要確認の伝票（登録されたかどうか分からないもの）を表示し、判断を記録します。"""
    _client_environment()
    from deployments.cli import rejects as work

    if posted or resend:
        raise typer.Exit(work.decide(connection, posted or [], resend or [], as_json=as_json))
    work.print_unclear(connection, as_json=as_json)


@app.command()
def connections(
    delete: Annotated[str | None, typer.Option("--delete", help="この接続を削除します。")] = None,
    confirm: Annotated[
        str | None, typer.Option("--confirm", help="削除する接続の名前を、もう一度指定します。")
    ] = None,
    with_pending: Annotated[
        bool, typer.Option("--with-pending", help="確認待ちのデータがあっても削除します。")
    ] = False,
    as_json: Json = False,
) -> None:
    """接続の一覧を表示します。接続の削除もします（登録の控えと処理履歴は残ります）。"""
    if delete is None and (confirm is not None or with_pending):
        raise typer.BadParameter("--confirm と --with-pending は、--delete と一緒に指定します。")
    _client_environment()
    from deployments.cli.connecting import delete_and_print, print_connections

    if delete is None:
        print_connections(as_json=as_json)
        return
    again = confirm or typer.prompt("確認のため、接続の名前をもう一度入力してください", err=True)
    delete_and_print(delete, again, with_pending=with_pending, as_json=as_json)


@app.command()
def deploy(
    connection: Annotated[
        list[str] | None, typer.Argument(help="接続の名前です。省略するとすべてです。")
    ] = None,
) -> None:
    """接続のスケジュールと実行画面を Prefect に登録します（自分のサーバーでも使えます）。"""
    _client_environment()
    from deployments.cli.connecting import deploy_connections

    raise typer.Exit(deploy_connections(connection or []))


@app.command()
def login(
    credentials: Annotated[str, typer.Argument(help="接続情報の名前です。")],
) -> None:
    """OBCiD でログインして「許可する」を押し、連携トークンを保存します。"""
    _client_environment()
    from deployments.cli.connecting import log_in

    raise typer.Exit(log_in(credentials))


@app.command()
def gateway() -> None:
    """ゲートウェイ（許可の戻り先、通知の受け口、ほかのシステム用の API）を起動します。"""
    _client_environment()
    from deployments.gateway.__main__ import serve

    serve(StackSettings())


@app.command()
def migrate() -> None:
    """データベースを最新の形にします。"""
    _client_environment()
    from flows.engine.store import Store
    from flows.engine.store import migrate as upgrade
    from flows.engine.store.database import URL_VARIABLE

    Store()
    upgrade(os.environ[URL_VARIABLE])
    typer.echo("データベースは最新です。")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="作成するファイルです（例: backup-20261122.zip）。")],
) -> None:
    """データベースを1つのファイルに保存します（動いたままで構いません）。"""
    from deployments.cli.database import back_up

    back_up(StackSettings(), file)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="app-connect backup で作成したファイルです。")],
    replace: Annotated[
        bool,
        typer.Option("--replace", help="今のデータベースと入れ替えます（今のものは残します）。"),
    ] = False,
) -> None:
    """バックアップを、空のフォルダーまたは空のデータベースに戻します（停止してから実行します）。"""
    from deployments.cli.database import put_back

    put_back(StackSettings(), file, replace=replace)


@app.command("upgrade-database")
def upgrade_database(
    old_binaries: Annotated[
        Path | None,
        typer.Option(help="元の版の PostgreSQL の bin フォルダーです（省略すると取得します）。"),
    ] = None,
) -> None:
    """内蔵の PostgreSQL のデータを、新しい版に移します（元のデータは残します）。"""
    from deployments.cli.database import upgrade

    upgrade(StackSettings(), old_binaries)


@bugyo.command("check")
def bugyo_check(
    connection: Annotated[str, typer.Argument(help="接続の名前です。")],
    as_json: Json = False,
) -> None:
    """この接続が頼っている、まだ確認されていない仕様を表示します。"""
    _client_environment()
    from deployments.cli.connecting import print_assumptions

    print_assumptions(connection, as_json=as_json)


def _client_environment() -> None:
    """Point this process at the local stack, unless the environment already names a server."""
    from deployments.cli.environment import use_running_stack

    use_running_stack()


def main() -> None:
    """Entry point: errors with words are printed; a traceback only with ``APP_CONNECT_DEBUG``."""
    import httpx

    from connectors.kit import AppConnectError, FaultError

    try:
        app()
    except StackError as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
    except AppConnectError as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
    except Exception as error:
        if os.environ.get("APP_CONNECT_DEBUG"):
            raise
        unreachable = isinstance(error, httpx.TransportError)
        address = os.environ.get("PREFECT_API_URL", "")
        told = (
            FaultError("AC-501", address, service="Prefect サーバー")
            if unreachable
            else FaultError("AC-901", type(error).__name__)
        )
        typer.echo(str(told), err=True)
        sys.exit(1)
