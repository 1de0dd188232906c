"""許可する: shows a person where to press it, and gets a consent that has lapsed back."""

from __future__ import annotations

from prefect.artifacts import acreate_markdown_artifact
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from flows.engine.clock import jst_text
from flows.engine.model import Trigger
from flows.engine.report import trigger_of
from flows.parts.consents import Begun


async def show_consent(begun: Begun) -> None:
    """Show where to press 許可する: as a page of the run, and in its log."""
    who = "OBCiD で" if begun.service == "奉行クラウド" else ""
    until = jst_text(begun.expires_at)
    get_run_logger().info(
        "%s の許可が要ります。次のURLを %s までに開き、%sログインして「許可する」を押します: %s ",
        *(begun.service, until, who, begun.url),
    )
    await acreate_markdown_artifact(
        f"## {begun.service} の許可\n\n"
        f"1. [{begun.service} の画面を開く]({begun.url})\n"
        f"2. {who}ログインし、「許可する」を押します（{until} まで）。\n"
        "3. この処理は、許可を受け取ると自動的に続きます。閉じて構いません。\n",
        key="consent",
        description=f"{begun.service} の画面で「許可する」を押してください（{until} まで）",
    )


def somebody_is_there() -> bool:
    """Whether a person started this run, and so can press 許可する now."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    return run is not None and trigger_of(run.auto_scheduled, run.tags) is Trigger.MANUAL
