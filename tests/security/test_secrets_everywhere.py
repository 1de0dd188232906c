"""Every secret field of every block, with alerts on: what is sent and written holds none of them.

`tests/errors/test_no_secrets.py` looks at the ends of ordinary runs. Here are the ways out that
came later: mails, webhooks, the events of automations, alerts that fail.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import httpx
import pytest
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from pydantic import SecretStr

from blocks.alerts import MailAlert, WebhookAlert
from blocks.webhook import WebhookSettings
from connectors.kit.emulator import Fault
from deployments import alerts
from deployments.catalog import block_types
from tests.deployments.test_alerts import Postbox, _Loopback
from tests.errors.conftest import CANARY, World, canary, secret, world
from tests.errors.test_no_secrets import ECHO, leaks

__all__ = ["world"]  # a fixture

PLANTED: dict[str, set[str]] = {
    "BugyoCredentials": {
        "subscription_key",
        "fixed_token",
        "client_secret",
        "access_token",
        "refresh_token",
        "consent_verifier",
    },
    "KintoneCredentials": {
        *("api_token", "client_secret", "access_token", "refresh_token", "consent_verifier"),
    },
    "WebhookSettings": {"secret"},
    "MailAlert": {"password"},
    "WebhookAlert": {"url"},
}
"""Where canaries are planted: by `World.make`, and below."""

ELSEWHERE = {
    "KingOfTimeCredentials": {"access_token"},
    "MfExpenseCredentials": {
        *("client_secret", "access_token", "refresh_token", "consent_verifier"),
    },
    "SmaregiCredentials": {"client_secret"},
    "SmartHRCredentials": {"access_token"},
}
"""Planted by tests/acceptance in every secret field of each connector's credentials."""


def secret_fields(block: type[Block]) -> set[str]:
    """Names of the fields that hold a SecretStr, optional or not."""

    def holds(annotation: Any) -> bool:
        if get_origin(annotation) in (Union, UnionType):
            return any(map(holds, get_args(annotation)))
        return annotation is SecretStr

    return {name for name, field in block.model_fields.items() if holds(field.annotation)}


def test_a_canary_sits_in_every_secret_field_of_every_block() -> None:
    found = {
        block.__name__: fields
        for block in [*block_types(), MailAlert, WebhookAlert]
        if (fields := secret_fields(block))
    }
    assert found == PLANTED | ELSEWHERE


@pytest.mark.parametrize("block", [*block_types(), MailAlert, WebhookAlert])
def test_what_sounds_like_a_secret_is_one(block: type[Block]) -> None:
    """A new field called "…token", "…secret", "…password" or "…key" must be a SecretStr."""
    words = ("token", "secret", "password", "key")
    named = {
        name
        for name, field in block.model_fields.items()
        if name.endswith(words) or (field.title or "").endswith(("パスワード", "トークン", "キー"))
    }
    assert named - {"code_key"} <= secret_fields(block)


@pytest.fixture(scope="module")
def told(world: World) -> Iterator[tuple[Postbox, Any]]:
    """A run that ends ERROR with its token echoed, told by mail, by a mail that is refused, and by
    a webhook that is.
    """
    box = Postbox()
    controller = _Loopback(box)
    controller.start()

    async def play() -> Any:
        mail = MailAlert(
            to=["keiri@example.co.jp"],
            sender="app@example.co.jp",
            host="127.0.0.1",
            port=controller.port,
            security="なし",
        )
        await alerts.set_alert("mail", mail, late=timedelta(minutes=10))
        webhook = WebhookSettings(service="その他", secret=secret("webhook-of-a-service"))
        await webhook.save("canary-alerted", overwrite=True)
        # This one cannot be sent: its failure is written into the server's events.
        refused = mail.model_copy(
            update={"user": "app", "password": secret("smtp-password"), "security": "STARTTLS"}
        )
        await alerts.set_alert("slack", refused, late=timedelta(minutes=10))  # type: ignore[arg-type]
        hook = WebhookAlert(
            channel="Teams",
            url=SecretStr(f"https://nowhere.logic.azure.com/workflows/{canary('hook')}?sig=1"),
        )
        await alerts.set_alert("teams", hook, late=timedelta(minutes=10))
        await asyncio.sleep(2)
        fault = Fault(kind="status", status=400, path="^/(?!__)", times=None, body=ECHO)
        ended = await world.play(world.new_case("canary-alerted", bugyo_faults=(fault,)))
        deadline = time.monotonic() + 240
        async with get_client() as client:
            while time.monotonic() < deadline:
                body = {"filter": {"event": {"prefix": ["prefect.automation.action."]}}}
                answer = await client._client.post("/events/filter", json=body)
                done = {
                    event["event"].rpartition(".")[2] for event in answer.json().get("events", [])
                }
                if box.mails and {"executed", "failed"} <= done:
                    break
                await asyncio.sleep(0.5)
        for channel in alerts.CHANNELS:
            await alerts.remove_alert(channel)
        return ended

    ended = asyncio.run(play())
    yield box, ended
    controller.stop()


def test_a_mail_tells_what_happened_and_no_secret(told: tuple[Postbox, Any]) -> None:
    box, ended = told
    assert "******** is unknown" in ended.message
    (body,) = box.text("結果: ERROR")
    assert "******** is unknown" in body
    said = "".join(str(mail) + mail.get_content() for mail in box.mails)
    assert not leaks(said)


def test_events_of_alerts_that_failed_hold_no_secret(
    told: tuple[Postbox, Any], world: World, postgres: Any, prefect_server: Any
) -> None:
    dumped = world.dump(postgres)
    assert "AC-506" in dumped  # the failure itself is written down
    assert "canary-alerted" in dumped
    assert not leaks(dumped)
    with httpx.Client(base_url=prefect_server.api, timeout=30) as api:
        said = api.post("/events/filter", json={"limit": 50}).raise_for_status().text
        said += api.post("/automations/filter", json={}).raise_for_status().text
    assert not leaks(said)


def test_log_and_state_files_hold_no_secret(told: tuple[Postbox, Any], session_dir: Path) -> None:
    del told
    searched = 0
    for path in session_dir.rglob("*"):
        if not path.is_file() or path.name in ("encryption.key", "client-environment.json"):
            continue
        searched += 1
        assert CANARY.encode() not in path.read_bytes(), path
    assert searched > 100


def test_what_a_block_says_of_itself_holds_no_secret() -> None:
    blocks: list[Block] = [
        MailAlert(
            to=["a@b.jp"], sender="a@b.jp", host="h", user="u", password=secret("smtp-password")
        ),
        WebhookAlert(channel="Slack", url=secret("hook")),
    ]
    for block in blocks:
        assert not leaks(f"{block!r} {block} {block.model_dump()} {block.model_dump_json()}")
