"""``app-connect alerts``: be told by mail, Slack or Teams when a run did not go well.

A password or a webhook's address is typed at a prompt, piped in (``--secret-stdin``), or taken from
the environment; never from the arguments, which every process of the machine may read.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from blocks.alerts import MailAlert, WebhookAlert

alerts = typer.Typer(help="処理の失敗をメール・Slack・Teams で知らせます。", no_args_is_help=True)

SECRET_VARIABLE = "APP_CONNECT_ALERT_SECRET"  # noqa: S105 (a name)
"""The SMTP password or the webhook's address, when nobody is there to type it."""

_TEST_SUBJECT = "[App Connect] 通知の試験"
_TEST_BODY = (
    "これは試験です。処理が ERROR・一部エラー・中断で終わったとき、"
    "または始まらなかったときに、このように知らせます。"
)
_COLUMNS = ("通知", "宛先", "状態")


@alerts.command("set")
def set_(
    email: Annotated[
        list[str] | None, typer.Option(help="宛先のメールアドレスです。何度でも指定できます。")
    ] = None,
    smtp: Annotated[
        str | None, typer.Option(help="SMTPサーバーです（例: smtp.example.co.jp:587）。")
    ] = None,
    sender: Annotated[str | None, typer.Option(help="差出人です。省略すると宛先の1つ目。")] = None,
    user: Annotated[str | None, typer.Option(help="SMTPの利用者名です。")] = None,
    security: Annotated[
        str | None, typer.Option(help="starttls / tls / none。省略するとポートで決めます。")
    ] = None,
    slack_webhook: Annotated[
        bool, typer.Option("--slack-webhook", help="Slack に知らせます（URLは入力を求めます）。")
    ] = False,
    teams_webhook: Annotated[
        bool, typer.Option("--teams-webhook", help="Teams に知らせます（URLは入力を求めます）。")
    ] = False,
    late_minutes: Annotated[
        int, typer.Option(min=1, max=1440, help="処理が何分始まらなければ知らせるかです。")
    ] = 10,
    secret_stdin: Annotated[
        bool, typer.Option("--secret-stdin", help="パスワードまたはURLを標準入力から読みます。")
    ] = False,
) -> None:
    """通知先を1つ設定します（同じ種類の通知先は置き換えます）。"""
    chosen = [
        name
        for name, wanted in (
            ("mail", bool(email)),
            ("slack", slack_webhook),
            ("teams", teams_webhook),
        )
        if wanted
    ]
    if len(chosen) != 1:
        raise typer.BadParameter(
            "--email、--slack-webhook、--teams-webhook のどれか1つを指定してください。"
        )
    channel = chosen[0]
    if channel == "mail" and not smtp:
        raise typer.BadParameter("--smtp にSMTPサーバーを指定してください。")
    _client()
    from pydantic import SecretStr, ValidationError

    from blocks.alerts import WebhookAlert
    from connectors.kit import SettingsError
    from deployments.alerts import LABELS, set_alert, target

    block: MailAlert | WebhookAlert
    try:
        if channel == "mail":
            block = mail_block(email or [], smtp or "", sender, user, security, stdin=secret_stdin)
        else:
            url = _secret("WebhookのURL", stdin=secret_stdin)
            block = WebhookAlert(
                channel="Slack" if channel == "slack" else "Teams", url=SecretStr(url)
            )
    except ValidationError as error:
        # Not pydantic's own words: they quote what was typed.
        fields = "、".join(str(entry["loc"][0]) for entry in error.errors())
        raise SettingsError("AC-208", fields) from None
    asyncio.run(set_alert(channel, block, late=timedelta(minutes=late_minutes)))
    typer.echo(f"通知を設定しました: {LABELS[channel]} → {target(block)}")
    typer.echo(f"届くことを確かめてください: app-connect alerts test {channel}")


@alerts.command("test")
def try_(
    channel: Annotated[
        str | None, typer.Argument(help="mail / slack / teams。省略するとすべてです。")
    ] = None,
) -> None:
    """通知を1つ送ってみます。"""
    _client()
    from prefect.blocks.abstract import NotificationError

    from connectors.kit import SettingsError
    from deployments.alerts import LABELS, load_alert
    from deployments.alerts import alerts as existing

    names = [_known(channel)] if channel else [a.channel for a in asyncio.run(existing())]
    if not names:
        raise SettingsError("AC-208", "通知は設定されていません")

    async def send(name: str) -> None:
        await (await load_alert(name)).notify(_TEST_BODY, subject=_TEST_SUBJECT)

    failed = False
    for name in names:
        try:
            asyncio.run(send(name))
        except NotificationError as error:
            typer.echo(str(error.log), err=True)
            failed = True
        else:
            typer.echo(f"送りました: {LABELS[name]}")
    raise typer.Exit(1 if failed else 0)


@alerts.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="JSON で表示します。")] = False,
) -> None:
    """設定されている通知を表示します。"""
    _client()
    from deployments.alerts import LABELS
    from deployments.alerts import alerts as existing
    from deployments.cli.books import table

    lines = [
        [LABELS[found.channel], found.target, "有効" if found.active else "停止中"]
        for found in asyncio.run(existing())
    ]
    if as_json:
        entries = [dict(zip(_COLUMNS, line, strict=True)) for line in lines]
        typer.echo(json.dumps(entries, ensure_ascii=False))
        return
    Console().print(table("通知", _COLUMNS, lines))


@alerts.command()
def remove(channel: Annotated[str, typer.Argument(help="mail / slack / teams")]) -> None:
    """通知をやめます。"""
    name = _known(channel)
    _client()
    from deployments.alerts import LABELS, remove_alert

    asyncio.run(remove_alert(name))
    typer.echo(f"通知をやめました: {LABELS[name]}")


def mail_block(
    to: list[str],
    smtp: str,
    sender: str | None,
    user: str | None,
    security: str | None,
    *,
    stdin: bool,
) -> MailAlert:
    """The mail block that the options describe; a password is asked for when there is a user.

    Raises:
        typer.BadParameter: an option is not acceptable.
    """
    from pydantic import SecretStr

    from blocks.alerts import MailAlert, Security

    host, _, port_text = smtp.rpartition(":") if ":" in smtp else (smtp, "", "587")
    if not port_text.isascii() or not port_text.isdigit():
        raise typer.BadParameter("--smtp のポートは数字で指定してください。")
    port = int(port_text)
    words: dict[str, Security] = {"starttls": "STARTTLS", "tls": "TLS", "none": "なし"}
    chosen = security or {465: "tls", 25: "none"}.get(port, "starttls")
    if chosen not in words:
        raise typer.BadParameter("--security は starttls / tls / none のどれかです。")
    if user and chosen == "none":
        raise typer.BadParameter("暗号化しない接続では、パスワードを送りません。")
    password = _secret("SMTPのパスワード", stdin=stdin) if user else None
    return MailAlert(
        to=to,
        sender=sender or to[0],
        host=host,
        port=port,
        security=words[chosen],
        user=user,
        password=SecretStr(password) if password else None,
    )


def _secret(name: str, *, stdin: bool) -> str:
    if stdin:
        found = sys.stdin.readline().strip()
    else:
        found = os.environ.get(SECRET_VARIABLE) or typer.prompt(name, hide_input=True)
    if not found:
        raise typer.BadParameter(f"{name}が空です。")
    return found


def _known(channel: str) -> str:
    if channel not in ("mail", "slack", "teams"):
        raise typer.BadParameter("mail / slack / teams のどれかを指定してください。")
    return channel


def _client() -> None:
    from deployments.cli.environment import use_running_stack

    use_running_stack()
