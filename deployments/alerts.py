"""Alerts: a notification block for each channel, and the Prefect automations that send by it.

The Prefect server does all the work: it sees how a run ended, or that it did not begin, and sends.
So an alert comes when the worker is dead, and none comes when the server is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from prefect.blocks.abstract import NotificationBlock
from prefect.client.orchestration import PrefectClient, get_client
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from blocks.alerts import MailAlert, WebhookAlert
from connectors.kit import SettingsError, catalogue
from connectors.kit.error_links import error_link

CHANNELS: dict[str, type[MailAlert | WebhookAlert]] = {
    "mail": MailAlert,
    "slack": WebhookAlert,
    "teams": WebhookAlert,
}
"""Channels by the name of their block."""

LABELS = {"mail": "メール", "slack": "Slack", "teams": "Teams"}

TAG = "app-connect-alert"
"""Of our automations."""

LATE = timedelta(minutes=10)
"""How long a run may not have begun, after Prefect called it late (15 s after its time)."""

_BAD_ENDS = ("ERROR", "一部エラー", "要確認", "中断", "Failed", "Crashed", "TimedOut")
_BEGUN = ("Pending", "Running", "Cancelled", "Cancelling", "スキップ", "SUCCESS", *_BAD_ENDS)

_RUNS = {"prefect.resource.id": "prefect.flow-run.*"}
_OURS = {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.app-connect"}

_RESULT = """\
{%- set name = flow_run.state.name -%}
{%- set message = flow_run.state.message or "" -%}
{%- if name in ("Crashed", "中断") -%}{%- set result = "中断" -%}
{%- elif name in ("Failed", "TimedOut") -%}{%- set result = "ERROR" -%}
{%- else -%}{%- set result = name -%}{%- endif -%}
"""
_SUBJECT = (
    _RESULT + "[App Connect] {% if message.startswith('AC-101') %}再連携が必要です"
    "{% else %}{{ result }}{% endif %}: {{ deployment.name or flow_run.name }}"
)
_BODY = (
    _RESULT
    + """\
サービス名: {{ deployment.name or flow.name }}
処理: {{ flow_run.name }}
結果: {{ result }}
{% if message.startswith("AC-101") %}
再連携が必要です。もう一度許可するまで、この接続の処理は成功しません。
{% endif %}
{% if result == "中断" %}
処理が途中で止まりました。送ったデータはすべて記録してあります。\
次の処理が、登録されたかどうかを確かめてから続けるため、二重に登録することはありません。
対処: 手動実行する（しなくても、次のスケジュールで続きから処理します）
詳細: {{ message }}
{% else %}
{{ message }}
{% endif %}

処理の画面: {{ flow_run|ui_url }}
"""
)
_LATE_SUBJECT = "[App Connect] 処理が始まりません: {{ deployment.name or flow_run.name }}"
_LATE_BODY = """\
サービス名: {{{{ deployment.name or flow.name }}}}
処理: {{{{ flow_run.name }}}}
結果: 開始していません

予定の時刻を {minutes} 分過ぎても、処理が始まっていません。
まだ何も送っていません。これまでに登録したデータには影響ありません。
対処: 1. ワーカー（app-connect up、または prefect worker start）が動いているか、\
システム管理者に確かめてもらう 2. ワーカーを起動すると、待っている処理が自動で始まります

処理の画面: {{{{ flow_run|ui_url }}}}
"""


@dataclass(frozen=True)
class Alert:
    """One alert that is set up.

    Attributes:
        channel: ``mail``, ``slack`` or ``teams``.
        target: Whom it reaches, without secrets.
        automations: How many of its automations are switched on.
    """

    channel: str
    target: str
    automations: int

    @property
    def active(self) -> bool:
        """Whether every automation of it is on."""
        return self.automations == len(_NAMES)


_NAMES = ("処理の失敗", "開始の遅れ")


def _name(channel: str, what: str) -> str:
    return f"App Connect 通知（{LABELS[channel]}）: {what}"


def _body() -> str:
    """The body, with the way to the error's page where pages are served."""
    base = (error_link(next(iter(catalogue()))) or "").partition("#")[0]
    if not base:
        return _BODY
    link = (
        '{% if message.startswith("AC-") %}'
        f"エラーの説明: {base}#{{{{ message[:6]|lower }}}}\n"
        "{% endif %}"
    )
    return _BODY + link


def _automations(channel: str, block_id: Any, late: timedelta) -> list[AutomationCore]:
    def send(subject: str, body: str) -> list[SendNotification]:
        return [SendNotification(block_document_id=block_id, subject=subject, body=body)]

    failed = EventTrigger(
        expect={f"prefect.flow-run.{name}" for name in _BAD_ENDS},
        match=_RUNS,
        match_related=_OURS,
        posture=Posture.Reactive,
    )
    unbegun = EventTrigger(
        after={"prefect.flow-run.Late"},
        expect={f"prefect.flow-run.{name}" for name in _BEGUN},
        match=_RUNS,
        match_related=_OURS,
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        within=late,
    )
    late_body = _LATE_BODY.format(minutes=round(late.total_seconds() / 60))
    parts = ((failed, _SUBJECT, _body()), (unbegun, _LATE_SUBJECT, late_body))
    return [
        AutomationCore(
            name=_name(channel, what),
            description="app-connect alerts set で作りました。",
            tags=[TAG, channel],
            trigger=trigger,
            actions=send(subject, body),
        )
        for what, (trigger, subject, body) in zip(_NAMES, parts, strict=True)
    ]


async def set_alert(
    channel: str, block: MailAlert | WebhookAlert, *, late: timedelta = LATE
) -> None:
    """Save the block and its automations; what the channel had before is replaced.

    Args:
        channel: One of `CHANNELS`.
        block: Where to send, with its secret.
        late: See `LATE`; at least 10 seconds.

    Raises:
        SettingsError: ``AC-207``/``AC-208``, the block's address is not acceptable.
    """
    if isinstance(block, WebhookAlert):
        block.check()
    async with get_client() as client:
        await type(block).aregister_type_and_schema(client=client)
        block_id = await block.save(f"app-connect-{channel}", overwrite=True, client=client)
        await _remove_automations(client, channel)
        for automation in _automations(channel, block_id, late):
            await client.create_automation(automation)


async def _remove_automations(client: PrefectClient, channel: str) -> int:
    found = 0
    for what in _NAMES:
        for automation in await client.read_automations_by_name(_name(channel, what)):
            await client.delete_automation(automation.id)
            found += 1
    return found


async def remove_alert(channel: str) -> None:
    """Remove the automations and the block of a channel.

    Raises:
        SettingsError: ``AC-208``, nothing is set up for it.
    """
    async with get_client() as client:
        found = await _remove_automations(client, channel)
        try:
            await CHANNELS[channel].adelete(f"app-connect-{channel}", client=client)
        except (ObjectNotFound, ValueError):
            if not found:
                raise SettingsError("AC-208", f"{LABELS[channel]}の通知はありません") from None


async def load_alert(channel: str) -> NotificationBlock:
    """The block of a channel.

    Raises:
        SettingsError: ``AC-208``, there is none.
    """
    try:
        return await CHANNELS[channel].aload(f"app-connect-{channel}")
    except ValueError:
        raise SettingsError("AC-208", f"{LABELS[channel]}の通知はありません") from None


async def alerts() -> list[Alert]:
    """Every alert that is set up."""
    found = []
    for channel in CHANNELS:
        try:
            block = await load_alert(channel)
        except SettingsError:
            continue
        async with get_client() as client:
            enabled = [
                automation
                for what in _NAMES
                for automation in await client.read_automations_by_name(_name(channel, what))
                if automation.enabled
            ]
        found.append(Alert(channel, target(block), len(enabled)))
    return found


def target(block: NotificationBlock) -> str:
    """Whom a block reaches, without its secret."""
    if isinstance(block, MailAlert):
        return f"{', '.join(block.to)}（{block.host}:{block.port}）"
    if isinstance(block, WebhookAlert):
        return f"{block.channel} のチャネル"
    return ""
