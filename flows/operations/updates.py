"""アップデート情報: what changed, shown as a page."""

from __future__ import annotations

import logging

from prefect import State, flow
from prefect.artifacts import acreate_markdown_artifact
from prefect.variables import Variable

from flows.engine.model import Result
from flows.engine.updates import Change, changes, current, since
from flows.operations import Operation
from flows.operations.ending import as_state

_log = logging.getLogger(__name__)

VARIABLE = "app_connect_version"
"""Where Prefect keeps which version was deployed last."""


async def notice_update() -> list[Change]:
    """What changed since the version that was deployed last; from now on it is this one.

    A first installation has nothing to catch up with. A notice never keeps anything from starting.
    """
    try:
        seen = await Variable.aget(VARIABLE, default="")
        if seen == current():
            return []
        await Variable.aset(VARIABLE, current(), overwrite=True)
    except Exception as error:  # noqa: BLE001 (Prefect's client raises many kinds)
        _log.warning("The version was not noted: %s", type(error).__name__)
        return []
    return since(seen) if isinstance(seen, str) and seen else []


def page() -> str:
    """Every change as Markdown, a section a version."""
    out: list[str] = []
    version = ""
    for each in changes():
        if each.version != version:
            version = each.version
            out += ["", f"## {version}（{each.date:%Y/%m/%d}）", ""]
        out.append(f"- **{each.title}**: {each.text}")
        if each.action:
            out.append(f"    - **対応**: {each.action}")
    return "\n".join(out).strip() + "\n"


@flow(name="updates", flow_run_name="アップデート情報", persist_result=False)
async def show_updates() -> State[None]:
    """Show what changed."""
    return await as_state(_work())


async def _work() -> tuple[Result, str]:
    await acreate_markdown_artifact(page(), key="updates", description="アップデート情報")
    return Result.SUCCESS, f"お使いの版は {current()} です"


OPERATION = Operation(
    flow=show_updates,
    name="アップデート情報",
    description="""\
App Connect とコネクタの変更点、アップデートのあとに必要な対応を表示します。

- **今すぐ実行**: 「実行」→「今すぐ実行」で表示します。ページは「結果・明細」の「updates」です。
- **アップデートしたとき**: `app-connect up` または `app-connect deploy` が、\
前の版からの変更点と必要な対応を表示します。
""",
)
