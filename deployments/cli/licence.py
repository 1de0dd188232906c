"""``app-connect licence``: issue, list, revoke, unlock, check registration numbers (登録番号)."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from flows.engine.store import LicenceRow

licence = typer.Typer(help="コネクタの契約（登録番号）を管理します。", no_args_is_help=True)

COLUMNS = (
    *("登録番号", "コネクタ", "会社名", "電話番号", "開始日", "終了日", "状態", "備考"),
    "処理した接続",
)
_DAY = "%Y-%m-%d"

Json = Annotated[bool, typer.Option("--json", help="結果を JSON で表示します。")]
Phone = Annotated[str, typer.Option(help="電話番号です（表記は問いません）。")]
_CONNECTOR = "コネクタの名前です（例: customers-from-kintone）。省略するとすべてです。"


@licence.command()
def issue(
    phone: Phone,
    company: Annotated[str, typer.Option(help="会社名です。")],
    number: Annotated[
        str | None, typer.Argument(help="登録番号です（例: AC-0000-0001）。省略すると作ります。")
    ] = None,
    connector: Annotated[str, typer.Option(help=_CONNECTOR)] = "",
    valid_from: Annotated[
        datetime | None,
        typer.Option("--from", formats=[_DAY], help="開始日です。省略すると今日です。"),
    ] = None,
    expires_on: Annotated[
        datetime | None,
        typer.Option("--until", formats=[_DAY], help="終了日です（この日まで使えます）。"),
    ] = None,
    note: Annotated[str, typer.Option(help="備考です。")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="同じ登録番号の内容を入れ替えます（更新・再開）。")
    ] = False,
    as_json: Json = False,
) -> None:
    """登録番号を発行します（同じ内容なら何度実行しても構いません）。"""
    _client()
    from connectors.kit import SettingsError
    from deployments.catalog import connectors
    from flows.engine import licences
    from flows.engine.clock import business_date, now
    from flows.engine.store import LicenceRow, Store

    if connector and connector not in connectors():
        known = "、".join(connectors())
        raise SettingsError("AC-205", f"コネクタ「{connector}」はありません。使えるのは {known}")
    at = now()
    wanted = LicenceRow(
        registration_number=number or licences.new_number(),
        connector=connector,
        phone=phone,
        company=company,
        valid_from=valid_from.date() if valid_from else business_date(at),
        expires_on=expires_on.date() if expires_on else None,
        issued_at=at,
        note=note,
    )
    with Store().begin() as db:
        written = licences.issue(db, wanted, replace=replace)
        found = licences.find(db, wanted.registration_number)
        entry = _entry(db, found) if found else {}
    if found is None or not (written or _same(found, wanted)):
        raise SettingsError("AC-113", licences.number_of(wanted.registration_number))
    if as_json:
        typer.echo(json.dumps(entry, ensure_ascii=False))
        return
    typer.echo(f"{'発行しました' if written else '発行済みです'}: {found.registration_number}")
    for title in ("会社名", "電話番号", "コネクタ", "開始日", "終了日"):
        typer.echo(f"  {title}: {entry[title] or '（なし）'}")
    typer.echo("担当者には、登録番号と電話番号を一緒に知らせてください。2つを合わせて確かめます。")


def _same(found: LicenceRow, wanted: LicenceRow) -> bool:
    """Whether issuing again changes nothing; the first day may have been an earlier today."""
    from flows.engine.licences import phone_of

    return (
        found.revoked_at is None
        and (found.connector, found.company) == (wanted.connector, wanted.company)
        and (found.phone, found.expires_on) == (phone_of(wanted.phone), wanted.expires_on)
    )


@licence.command("list")
def list_(as_json: Json = False) -> None:
    """発行した登録番号の一覧を表示します。"""
    _client()
    from deployments.cli.books import table
    from flows.engine import licences
    from flows.engine.store import Store

    with Store().begin() as db:
        entries = [_entry(db, each) for each in licences.listed(db)]
    if as_json:
        typer.echo(json.dumps(entries, ensure_ascii=False))
        return
    lines = [list(entry.values()) for entry in entries]
    Console().print(table(f"登録番号（{len(lines)} 件）", COLUMNS, lines))


@licence.command()
def revoke(
    number: Annotated[str, typer.Argument(help="登録番号です。")], as_json: Json = False
) -> None:
    """登録番号を取り消します（次の処理から止まります。データと処理履歴は残ります）。"""
    _client()
    from flows.engine import licences
    from flows.engine.clock import now
    from flows.engine.store import Store

    with Store().begin() as db:
        found = licences.revoke(db, number, now())
        entry = _entry(db, found)
    if as_json:
        typer.echo(json.dumps(entry, ensure_ascii=False))
        return
    typer.echo(f"取り消しました: {found.registration_number}（{found.company}）")
    typer.echo(f"次の処理から止まる接続: {entry['処理した接続'] or 'ありません'}")
    typer.echo("元に戻すときは、app-connect licence issue に同じ番号と --replace を付けます。")


@licence.command()
def unlock(
    number: Annotated[str, typer.Argument(help="登録番号です。")], as_json: Json = False
) -> None:
    """続けて誤って止まった登録番号を、すぐに確かめられるようにします。"""
    _client()
    from flows.engine import licences
    from flows.engine.store import Store

    with Store().begin() as db:
        entry = _entry(db, licences.unlock(db, number))
    if as_json:
        typer.echo(json.dumps(entry, ensure_ascii=False))
        return
    typer.echo(f"解除しました: {entry['登録番号']}（電話番号 {entry['電話番号']}）")


@licence.command()
def check(
    number: Annotated[str, typer.Argument(help="登録番号です。")],
    phone: Phone,
    connector: Annotated[str, typer.Option(help=_CONNECTOR)] = "",
    as_json: Json = False,
) -> None:
    """登録番号と電話番号の組み合わせを確かめます（続けて誤ると、しばらく確認できません）。"""
    _client()
    from connectors.kit import AppConnectError
    from flows.engine import licences
    from flows.engine.clock import now
    from flows.engine.store import Store

    try:
        licences.check(Store(), number, phone, connector, now())
    except AppConnectError as error:
        if not as_json:
            raise
        typer.echo(json.dumps({"ok": False, "error": error.as_dict()}, ensure_ascii=False))
        raise typer.Exit(1) from None
    done = {"ok": True, "registration_number": licences.number_of(number)}
    typer.echo(json.dumps(done) if as_json else f"確認できました: {licences.number_of(number)}")


def _entry(db: Connection, row: LicenceRow) -> dict[str, Any]:
    from flows.engine import licences
    from flows.engine.clock import jst_text, now
    from flows.engine.phone import as_written

    problem = licences.standing(row, now())
    until = licences.locked(db, now()).get(row.registration_number)
    state = problem.title if problem else "有効"
    values = (
        row.registration_number,
        row.connector or "すべて",
        row.company,
        as_written(row.phone),
        row.valid_from.isoformat(),
        row.expires_on.isoformat() if row.expires_on else "",
        f"{state}、{jst_text(until)} まで確認を停止" if until else state,
        row.note,
        "、".join(licences.used_by(db, row.registration_number)),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _client() -> None:
    from deployments.cli.environment import use_running_stack

    use_running_stack()
