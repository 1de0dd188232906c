"""Prefect blocks that tell a person about a run: by mail, or in a channel of Slack or Teams.

Prefect's automations send through any notification block. Its own were looked at first (3.8.8):
there is none for SMTP; those for Slack and Teams go through apprise, which neither says why a
message was not taken nor can be pointed at a test's receiver; the generic webhook keeps its
address, which is a secret, in plain text.

The server sends, so these modules must be installed where the Prefect server runs.
"""

from __future__ import annotations

import asyncio
import os
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any, Literal

import httpx
from prefect.blocks.abstract import NotificationBlock, NotificationError
from pydantic import Field, SecretStr, field_validator

from blocks.form import FormBlock
from connectors.kit import (
    Answer,
    ApiClient,
    AppConnectError,
    Failure,
    FaultError,
    Masker,
    ServiceProfile,
    SettingsError,
    Timeouts,
)
from connectors.kit.hosts import HostRefusedError, origin_of, trust_own

LOOPBACK_VARIABLE = "APP_CONNECT_ALERTS_LOOPBACK"
"""``1`` lets webhooks go to this machine: for a trial with a receiver of one's own."""

Security = Literal["STARTTLS", "TLS", "なし"]
Channel = Literal["Slack", "Teams"]

_SECONDS = 20.0
_HOSTS: dict[Channel, tuple[str, ...]] = {
    "Slack": ("hooks.slack.com", "hooks.slack-gov.com"),
    # Workflows, by its older and its newer address; connectors of Office 365 were shut down.
    "Teams": ("*.logic.azure.com", "*.api.powerplatform.com", "*.webhook.office.com"),
}


class MailAlert(FormBlock, NotificationBlock):
    """Mail by SMTP."""

    _block_type_name = "通知（メール）"
    _block_type_slug = "app-connect-mail-alert"
    _description = "処理がうまくいかなかったときに、メールで知らせます。"

    to: list[str] = Field(title="宛先", description="メールアドレスです。", min_length=1)
    sender: str = Field(title="差出人", description="メールアドレスです。")
    host: str = Field(title="SMTPサーバー", description="メールを送るサーバーの名前です。")
    port: int = Field(default=587, title="ポート", ge=1, le=65535)
    security: Security = Field(
        default="STARTTLS",
        title="暗号化",
        description="587番では STARTTLS、465番では TLS です。",
    )
    user: str | None = Field(default=None, title="利用者名")
    password: SecretStr | None = Field(default=None, title="パスワード")

    @field_validator("to", "sender", "host")
    @classmethod
    def _one_line(cls, value: Any) -> Any:
        """A line break in an address would be a header of its own."""
        for text in value if isinstance(value, list) else [value]:
            if not text.strip() or any(mark in text for mark in "\r\n"):
                raise ValueError("空欄または改行があります")
        return value

    async def notify(self, body: str, subject: str | None = None) -> None:
        """Send a mail.

        Raises:
            NotificationError: it was not taken, in the words of ``AC-506``.
        """
        try:
            await self.deliver(self.message(subject or "App Connect", body))
        except FaultError as error:
            raise NotificationError(str(error)) from None

    def message(self, subject: str, body: str, *, to: str | None = None) -> EmailMessage:
        """A mail from this block's sender.

        Args:
            subject: One line; breaks become spaces.
            body: Plain text.
            to: Whom it goes to in place of the block's own addresses.
        """
        message = EmailMessage()
        message["Subject"] = " ".join(subject.split())
        message["From"] = self.sender
        message["To"] = to or ", ".join(self.to)
        message["Date"] = formatdate(localtime=True)
        message["Message-ID"] = make_msgid(domain="app-connect.invalid")
        message.set_content(body)
        return message

    async def deliver(self, message: EmailMessage) -> None:
        """Hand a mail to the server.

        Raises:
            FaultError: ``AC-506``, it was not taken; `Failure.REFUSED` = there is no such address,
                and trying again would not help.
        """
        try:
            await asyncio.to_thread(self._send, message)
        except (OSError, smtplib.SMTPException) as error:
            secret = self.password.get_secret_value() if self.password else ""
            said = Masker([secret]).mask(f"{type(error).__name__}: {error}")
            nobody = isinstance(error, smtplib.SMTPRecipientsRefused) and all(
                code >= 500 for code, _ in error.recipients.values()
            )
            failure = FaultError(
                "AC-506",
                f"{self.host}:{self.port} {said}",
                failure=Failure.REFUSED if nobody else None,
            )
        else:
            return
        raise failure

    def _send(self, message: EmailMessage) -> None:
        context = trust_own(ssl.create_default_context())
        if self.security == "TLS":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self.host, self.port, timeout=_SECONDS, context=context
            )
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=_SECONDS)
        try:
            if self.security == "STARTTLS":
                server.starttls(context=context)  # refuses to go on without
            if self.user and self.password:
                server.login(self.user, self.password.get_secret_value())
            server.send_message(message)
            server.quit()
        finally:
            # Not ``with``: after an error it would say QUIT and wait for an answer until the end.
            server.close()


class WebhookAlert(FormBlock, NotificationBlock):
    """A message to a channel of Slack or Teams. The address is the whole secret."""

    _block_type_name = "通知（Slack・Teams）"
    _block_type_slug = "app-connect-webhook-alert"
    _description = "処理がうまくいかなかったときに、Slack または Teams で知らせます。"

    channel: Channel = Field(title="サービス")
    url: SecretStr = Field(
        title="WebhookのURL",
        description=(
            "Slack では Incoming Webhook、Teams では Workflows"
            "（Webhook要求を受信するとチャネルに投稿する）で発行します。"
        ),
    )

    def check(self) -> None:
        """Look at the address without sending anything.

        Raises:
            SettingsError: ``AC-205``/``AC-207``, it is none of the service's.
        """
        try:
            origin = origin_of(self.url.get_secret_value(), _HOSTS[self.channel])
        except ValueError:
            raise SettingsError("AC-208", "WebhookのURLが正しくありません") from None
        except HostRefusedError as error:
            raise SettingsError("AC-207", str(error), service=self.channel) from None
        if origin.loopback and os.environ.get(LOOPBACK_VARIABLE) != "1":
            raise SettingsError("AC-207", origin.host, service=self.channel)

    async def notify(self, body: str, subject: str | None = None) -> None:
        """Send a message.

        Raises:
            NotificationError: it was not taken, in the words of the error that it met.
        """
        try:
            self.check()
            await self._post(body, subject or "App Connect")
        except AppConnectError as error:
            raise NotificationError(str(error)) from None

    async def _post(self, body: str, subject: str) -> None:
        url = httpx.URL(self.url.get_secret_value())
        masker = Masker([str(url), url.path, url.raw_path.decode("ascii")])
        profile = ServiceProfile(
            self.channel,
            timeouts=Timeouts(connect=5.0, read=_SECONDS, total=_SECONDS),
            hosts=_HOSTS[self.channel],
        )
        base = f"{url.scheme}://{url.netloc.decode('ascii')}"
        async with ApiClient(profile, base, classify=_classify, secrets=masker) as client:
            try:
                await client.request(
                    "POST",
                    url.raw_path.decode("ascii"),
                    kind="post",
                    json=_slack(subject, body) if self.channel == "Slack" else _card(subject, body),
                )
            except AppConnectError as error:
                if error.code in ("AC-504", "AC-505", "AC-506"):
                    error.mask(masker.mask)
                    raise
                # Nobody posts slips here: a lost answer is a message that may not have come.
                raise FaultError("AC-506", self.channel, service=self.channel) from None


def _classify(answer: Answer) -> AppConnectError | None:
    if httpx.codes.is_success(answer.status):
        return None
    # The service's words ("invalid_token", "no_service"), not the path, which is the secret.
    said = answer.body[:100].decode("utf-8", "replace")
    failure = Failure.THROTTLED if answer.status == 429 else Failure.REFUSED
    return FaultError("AC-506", f"HTTP {answer.status} {said}", failure=failure)


def _slack(subject: str, body: str) -> dict[str, Any]:
    """https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks."""
    text = f"*{subject}*\n{body}"
    for mark, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(mark, name)
    return {"text": text}


def _card(subject: str, body: str) -> dict[str, Any]:
    """The adaptive card that the Workflows template "post to a channel" takes."""
    words = [{"type": "TextBlock", "text": subject, "weight": "Bolder", "wrap": True}]
    words += [
        {"type": "TextBlock", "text": line, "wrap": True} for line in body.splitlines() if line
    ]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": words,
    }
    content = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [content]}
