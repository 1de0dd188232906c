"""``app-connect inquiry``: ask the support desk, and see that what was asked has left.

Exit status of ``new`` and ``retry``: 0 = everything has been sent, 3 = kept and sent later, 1 = not
taken in (the error says why).
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.engine.inquiries import MailState, Taken

inquiry = typer.Typer(help="サポート窓口にお問い合わせを送ります。", no_args_is_help=True)

COLUMNS = (
    "受付番号",
    "受付日時",
    "回答予定日",
    "貴社名",
    "コネクタの名前",
    "窓口へ",
    "受付のメール",
)

Json = Annotated[bool, typer.Option("--json", help="結果を JSON で表示します。")]


@inquiry.command()
def new(
    company: Annotated[str, typer.Option(prompt="貴社名", help="貴社名です（100文字まで）。")],
    person: Annotated[
        str, typer.Option(prompt="ご担当者氏名", help="ご担当者氏名です（100文字まで）。")
    ],
    email: Annotated[
        str, typer.Option(prompt="メールアドレス", help="回答をお送りする先です（100文字まで）。")
    ],
    registration_number: Annotated[
        str, typer.Option(prompt="登録番号", help="契約の登録番号です（100文字まで）。")
    ],
    connector: Annotated[
        str, typer.Option(prompt="コネクタの名前", help="コネクタの名前です（100文字まで）。")
    ],
    body: Annotated[str, typer.Option(prompt="内容", help="お問い合わせの内容です。")],
    run_id: Annotated[
        str, typer.Option("--run", help="処理番号です。エラーコードと件数を添えます。")
    ] = "",
    as_json: Json = False,
) -> None:
    """お問い合わせを送ります（メールを送れないときも受け付け、あとで送ります）。"""
    _client()
    from flows.engine import inquiries
    from flows.engine.business_days import day_text
    from flows.engine.store import Store
    from flows.operations.inquiry import ask

    typed = inquiries.Inquiry(company, person, email, registration_number, connector, body)
    taken, mails, problem = asyncio.run(ask(Store(), typed, run_id=run_id))
    if as_json:
        entry = _entry(taken, mails) | {"error": problem.as_dict() if problem else None}
        typer.echo(json.dumps(entry, ensure_ascii=False))
    else:
        day = day_text(taken.answer_by)
        typer.echo(f"受け付けました。受付番号: {taken.number} 回答予定日: {day}")
        typer.echo(inquiries.sentence(mails))
        if problem is not None:
            typer.echo(str(problem), err=True)
    raise typer.Exit(_status(mails))


@inquiry.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="表示する件数です。")] = 20,
    as_json: Json = False,
) -> None:
    """受け付けたお問い合わせと、メールの状態を表示します。"""
    _client()
    from deployments.cli.books import table
    from flows.engine import inquiries
    from flows.engine.store import Store

    with Store().begin() as db:
        entries = [_entry(*each) for each in inquiries.newest(db, limit)]
    if as_json:
        typer.echo(json.dumps(entries, ensure_ascii=False))
        return
    lines = [[str(entry[column]) for column in COLUMNS] for entry in entries]
    Console().print(table("お問い合わせ", COLUMNS, lines))


@inquiry.command()
def retry(as_json: Json = False) -> None:
    """送信を待っているメールを、今すぐ送ってみます（同じメールを2通送ることはありません）。"""
    _client()
    from flows.engine import inquiries
    from flows.engine.store import Store
    from flows.operations.inquiry_sending import mailer, send_due

    store = Store()

    async def work() -> int:
        block = await mailer()
        await store.do(inquiries.due_now)
        return await send_due(store, block)

    sent = asyncio.run(work())
    with store.begin() as db:
        count, _ = inquiries.waiting(db)
    if as_json:
        typer.echo(json.dumps({"sent": sent, "waiting": count}))
    else:
        typer.echo(f"送信 {sent:,} 通 / 送信待ち {count:,} 通")
    raise typer.Exit(3 if count else 0)


@inquiry.command()
def setup(
    to: Annotated[list[str], typer.Option(help="サポート窓口のメールアドレスです。")],
    smtp: Annotated[str, typer.Option(help="SMTPサーバーです（例: smtp.example.co.jp:587）。")],
    sender: Annotated[str, typer.Option(help="差出人のメールアドレスです。")],
    user: Annotated[str | None, typer.Option(help="SMTPの利用者名です。")] = None,
    security: Annotated[
        str | None, typer.Option(help="starttls / tls / none。省略するとポートで決めます。")
    ] = None,
    secret_stdin: Annotated[
        bool, typer.Option("--secret-stdin", help="パスワードを標準入力から読みます。")
    ] = False,
) -> None:
    """お問い合わせの送り先を設定します。"""
    _client()
    from pydantic import ValidationError

    from connectors.kit import SettingsError
    from deployments.alerts import target
    from deployments.cli.alerts import mail_block
    from flows.operations.inquiry_sending import BLOCK

    try:
        block = mail_block(to, smtp, sender, user, security, stdin=secret_stdin)
    except ValidationError as error:
        places = "、".join(str(entry["loc"][0]) for entry in error.errors())
        raise SettingsError("AC-208", places) from None
    asyncio.run(_save(block, BLOCK))
    typer.echo(f"お問い合わせの送り先を設定しました: {target(block)}")


async def _save(block: Any, name: str) -> None:
    await type(block).aregister_type_and_schema()
    await block.save(name, overwrite=True)


def _entry(taken: Taken, mails: Sequence[MailState]) -> dict[str, Any]:
    from flows.engine.clock import jst_text

    states = {mail.kind: mail.state for mail in mails}
    values = (
        taken.number,
        jst_text(taken.received_at),
        taken.answer_by.isoformat(),
        taken.asked.company,
        taken.asked.connector,
        states["support"],
        states["answer"],
    )
    return dict(zip(COLUMNS, values, strict=True))


def _status(mails: Sequence[MailState]) -> int:
    return 3 if any(mail.state == "送信待ち" for mail in mails) else 0


def _client() -> None:
    from deployments.cli.environment import use_running_stack

    use_running_stack()
