"""Alerts for real: a Prefect server sees how a run ends, an SMTP server takes its mail."""

from __future__ import annotations

import asyncio
import email.policy
import json
import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from email.message import EmailMessage
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from prefect.blocks.abstract import NotificationError
from prefect.client.orchestration import get_client
from prefect.states import Completed, Crashed, Failed, Scheduled
from pydantic import SecretStr
from typer.testing import CliRunner

from blocks.alerts import LOOPBACK_VARIABLE, MailAlert, WebhookAlert
from connectors.kit import AppConnectError, FaultError, ReauthorizeError
from connectors.kit.error_links import PAGES_VARIABLE, error_link
from connectors.kit.hosts import CA_VARIABLE
from deployments import alerts
from deployments.cli.alerts import SECRET_VARIABLE
from deployments.cli.app import app
from deployments.stack.pages import render_errors
from tests.commands import app_connect

PASSWORD = "cAnArY-smtp-password-9f+/=7"


class Postbox:
    """Takes every mail."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.logins: list[str] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        del server, session
        parsed = BytesParser(policy=email.policy.default).parsebytes(envelope.content)
        self.mails.append(cast("EmailMessage", parsed))
        return "250 OK"

    def login(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        del server, session, envelope, mechanism
        good = isinstance(data, LoginPassword) and data.password.decode() == PASSWORD
        self.logins.append("yes" if good else "no")
        return AuthResult(success=good, handled=False)

    def text(self, words: str) -> list[str]:
        """Bodies of the mails whose subject or body has these words."""
        bodies = [(str(mail["subject"]), mail.get_content()) for mail in self.mails]
        return [body for subject, body in bodies if words in subject + body]


class _Loopback(Controller):
    def __init__(self, box: Postbox, **more: Any) -> None:
        super().__init__(box, hostname="127.0.0.1", port=0, **more)

    def _trigger_server(self) -> None:
        """The base class connects to the port that was asked for; here the system chose it."""
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture(scope="module")
def smtp() -> Iterator[tuple[Postbox, int]]:
    box = Postbox()
    controller = _Loopback(box)
    controller.start()
    yield box, controller.port
    controller.stop()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[Any], list[int]]]:
    """A webhook's other end: its address, what came, and what it answers next."""
    came: list[Any] = []
    answers: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            came.append((self.path, json.loads(body)))
            status = answers.pop(0) if answers else 200
            self.send_response(status)
            if status == 302:
                self.send_header("location", "http://169.254.169.254/")
            said = b"invalid_token" if status >= 400 else b"ok"
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv(LOOPBACK_VARIABLE, "1")
    yield f"http://127.0.0.1:{server.server_port}/services/T0/B0/cAnArY", came, answers
    server.shutdown()
    server.server_close()
    thread.join(5)


def mail_block(port: int, **more: Any) -> MailAlert:
    values = {"to": ["keiri@example.co.jp"], "sender": "app@example.co.jp", "security": "なし"}
    return MailAlert(**{**values, "host": "127.0.0.1", "port": port, **more})


# --- the whole way ------------------------------------------------------------------------------


async def test_a_run_that_ends_badly_or_does_not_begin_is_told_by_mail(
    prefect_server: Any, smtp: tuple[Postbox, int]
) -> None:
    box, port = smtp
    gone = ReauthorizeError("AC-101", service="奉行クラウド")
    service = "得意先 kintone→商奉行 本社"

    def subjects() -> list[str]:
        """What was told of this connection: the server is everybody's, and so are its alerts."""
        everything = (str(mail["subject"]) for mail in box.mails)
        return sorted(words for words in everything if words.endswith(service))

    def told(words: str) -> list[str]:
        return [body for body in box.text(words) if service in body]

    ends: dict[str, Any] = {
        "revoked": Failed(name="ERROR", message=str(gone)),
        "partial": Completed(name="一部エラー", message="取得 10 / 登録 9 / エラー 1"),
        "killed": Crashed(message="Process exited with code -9"),
        "fine": Completed(name="SUCCESS", message="取得 10"),
        "late": Scheduled(name="Late"),
    }
    async with get_client() as client:
        await alerts.set_alert("mail", mail_block(port), late=timedelta(seconds=10))
        await asyncio.sleep(2)  # the server's triggers read the new automations
        flow = await client.create_flow_from_name("alerted")
        deployment = await client.create_deployment(flow, service)
        runs = {}
        for name, state in ends.items():
            run = await client.create_flow_run_from_deployment(
                deployment, name=f"得意先 {name}", tags=["app-connect"]
            )
            runs[name] = run.id
            await client.set_flow_run_state(run.id, state, force=True)
        other = await client.create_flow_run_from_deployment(deployment, name="somebody-else")
        await client.set_flow_run_state(other.id, Failed(message="not ours"), force=True)
        deadline = time.monotonic() + 240
        while len(subjects()) < 4 and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        listed = await alerts.alerts()
        await alerts.remove_alert("mail")
        assert await alerts.alerts() == []
        assert [a for a in await client.read_automations() if alerts.TAG in a.tags] == []
    assert [(a.channel, a.active) for a in listed] == [("mail", True)]
    assert "keiri@example.co.jp" in listed[0].target
    assert subjects() == sorted(
        [
            f"[App Connect] 再連携が必要です: {service}",
            f"[App Connect] 一部エラー: {service}",
            f"[App Connect] 中断: {service}",
            f"[App Connect] 処理が始まりません: {service}",
        ]
    )
    (revoked,) = told("再連携が必要です")
    assert "結果: ERROR" in revoked
    assert str(gone) in revoked  # code, what happened, what is safe, what next
    assert f"サービス名: {service}" in revoked
    assert f"/flow-run/{runs['revoked']}" in revoked
    assert revoked.count(prefect_server.url) >= 1
    assert "errors.html#ac-101" in revoked
    (partial,) = told("結果: 一部エラー")
    assert "エラー 1" in partial
    (killed,) = told("結果: 中断")
    assert "二重に登録することはありません" in killed
    (late,) = told("結果: 開始していません")
    assert f"/flow-run/{runs['late']}" in late


# --- mail ---------------------------------------------------------------------------------------


async def test_a_mail_goes_through_tls_with_a_password(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.security.certificates import certificate

    made = certificate(tmp_path, "localhost")
    box = Postbox()
    controller = _Loopback(
        box,
        tls_context=made.server_context(),
        authenticator=box.login,
        auth_required=True,
        require_starttls=True,
    )
    controller.start()
    try:
        block = mail_block(
            controller.port,
            host="localhost",
            security="STARTTLS",
            user="app",
            password=SecretStr(PASSWORD),
        )
        with pytest.raises(NotificationError, match="AC-506") as untrusted:
            await block.notify("本文", subject="件名")
        monkeypatch.setenv(CA_VARIABLE, str(made.pem))
        await block.notify("本文 髙﨑①", subject="件名\r\nBcc: evil@example.com")
        block.password = SecretStr("wrong-password-1")
        with pytest.raises(NotificationError, match="AC-506") as refused:
            await block.notify("本文", subject="件名")
    finally:
        controller.stop()
    assert "CERTIFICATE" in untrusted.value.log
    assert "wrong-password-1" not in refused.value.log
    assert box.logins[0] == "yes"
    assert set(box.logins[1:]) == {"no"}
    (mail,) = box.mails
    assert mail["subject"] == "件名 Bcc: evil@example.com"  # one line: no header of its own
    assert mail["bcc"] is None
    assert mail.get_content().strip() == "本文 髙﨑①"


async def test_a_server_without_tls_gets_no_password(smtp: tuple[Postbox, int]) -> None:
    box, port = smtp
    before = len(box.mails)
    block = mail_block(port, security="STARTTLS", user="app", password=SecretStr(PASSWORD))
    with pytest.raises(NotificationError, match="AC-506"):
        await block.notify("本文")
    assert len(box.mails) == before


# --- webhooks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["Slack", "Teams"])
async def test_a_webhook_is_told_in_the_form_of_its_service(receiver: Any, channel: Any) -> None:
    url, came, _ = receiver
    await WebhookAlert(channel=channel, url=SecretStr(url)).notify("1行目\n<b>2行目", "件名")
    ((path, body),) = came
    assert path == "/services/T0/B0/cAnArY"
    if channel == "Slack":
        assert body == {"text": "*件名*\n1行目\n&lt;b&gt;2行目"}
    else:
        card = body["attachments"][0]["content"]
        assert [part["text"] for part in card["body"]] == ["件名", "1行目", "<b>2行目"]


@pytest.mark.parametrize(("status", "words"), [(404, "AC-506"), (500, "AC-506"), (302, "AC-505")])
async def test_a_webhook_that_refuses_is_told_without_its_address(
    receiver: Any, status: int, words: str
) -> None:
    url, came, answers = receiver
    answers += [status] * 5
    with pytest.raises(NotificationError, match="AC-50") as caught:
        await WebhookAlert(channel="Slack", url=SecretStr(url)).notify("本文")
    assert words in caught.value.log or status == 302
    assert "cAnArY" not in caught.value.log
    assert len(came) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/services/x",
        "http://hooks.slack.com/services/x",
        "http://169.254.169.254/latest",
        "http://127.0.0.1:4200/api/admin",
        "https://hooks.slack.com@evil.example/",
        "nonsense",
    ],
)
async def test_a_webhook_goes_to_its_service_only(url: str) -> None:
    block = WebhookAlert(channel="Slack", url=SecretStr(url))
    with pytest.raises(AppConnectError) as caught:
        await alerts.set_alert("slack", block)  # before anything is saved
    assert caught.value.code in ("AC-207", "AC-208")
    with pytest.raises(NotificationError):
        await block.notify("本文")


# --- the command --------------------------------------------------------------------------------


def call(*arguments: str, status: int = 0, typed: str | None = None) -> str:
    """One command, in this process; what it said, errors as `main` words them."""
    done = CliRunner().invoke(app, ["alerts", *arguments], input=typed)
    said = done.output
    if isinstance(done.exception, AppConnectError):
        said += str(done.exception)
    elif not isinstance(done.exception, SystemExit | None):
        raise done.exception
    assert done.exit_code == status, said
    assert "cAnArY" not in said
    return said


def test_alerts_by_command(
    prefect_server: Any,
    smtp: tuple[Postbox, int],
    receiver: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box, port = smtp
    url, came, _ = receiver
    server = f"127.0.0.1:{port}"
    told = call("set", "--email", "a@example.jp", "--smtp", server, "--security", "none")
    assert "a@example.jp" in told
    call("set", "--slack-webhook", "--secret-stdin", typed=f"{url}\n")
    call("set", "--slack-webhook", typed=f"{url}\n")  # at the prompt, which does not show it
    with monkeypatch.context() as patch:
        patch.setenv(SECRET_VARIABLE, url)
        call("set", "--teams-webhook")
    before = len(box.mails)
    env = {**os.environ, **prefect_server.env}
    done = app_connect("alerts", "test", env=env, own_process=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("送りました") == 3
    assert "cAnArY" not in done.stdout + done.stderr
    # Runs of other tests on this server may end badly meanwhile: they are told the same way.
    tried = [str(mail["Subject"]) for mail in box.mails[before:]]
    tried += [json.dumps(body, ensure_ascii=False) for _, body in came]
    assert [("通知の試験" in text) for text in tried].count(True) == 3
    entries = json.loads(call("list", "--json"))
    assert [entry["状態"] for entry in entries] == ["有効"] * 3
    for name in ("mail", "slack", "teams"):
        call("remove", name)
    assert json.loads(call("list", "--json")) == []
    assert "AC-208" in call("remove", "mail", status=1)
    assert "AC-207" in call("set", "--slack-webhook", "--secret-stdin", typed="http://x/", status=1)
    call("set", "--email", "a@b.jp", "--slack-webhook", status=2)
    call("set", "--email", "a@b.jp", status=2)
    # A password is not sent in the clear.
    monkeypatch.setenv(SECRET_VARIABLE, PASSWORD)
    call("set", "--email", "a@b.jp", "--smtp", "h:25", "--user", "u", status=2)


# --- the page of an error -----------------------------------------------------------------------


def test_every_code_has_its_place_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    from connectors.kit import catalogue

    page = render_errors()
    for code, entry in catalogue().items():
        assert f'<h3 id="{code.lower()}">{code} {entry.title}</h3>' in page
    assert "<!--" not in page.split("<body>")[1]
    monkeypatch.delenv(PAGES_VARIABLE, raising=False)
    assert error_link("AC-101") is None
    monkeypatch.setenv(PAGES_VARIABLE, "http://127.0.0.1:4200/v2/app-connect/")
    assert error_link("AC-101") == "http://127.0.0.1:4200/v2/app-connect/errors.html#ac-101"
    assert error_link("AC-000") is None


def test_the_page_is_served(prefect_server: Any) -> None:
    import httpx

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PAGES_VARIABLE, prefect_server.env[PAGES_VARIABLE])
        link = error_link("AC-504")
    assert link is not None
    page = httpx.get(link).raise_for_status()
    assert 'id="ac-504"' in page.text
    assert FaultError("AC-301").title in page.text
