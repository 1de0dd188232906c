"""``app-connect up``: the local stack in the foreground, with one run to show."""

from __future__ import annotations

import asyncio
import time

import typer

from deployments.cli.environment import apply, remember
from deployments.stack.processes import stopping_signals
from deployments.stack.settings import StackSettings
from deployments.stack.stack import Stack

_CHECK_SECONDS = 0.5


def run_stack(
    settings: StackSettings, *, once: bool, as_json: bool, first_run: bool, samples: bool = True
) -> int:
    """Start everything, run every sample once, and stay until Ctrl-C (or end, with ``once``).

    Args:
        settings: See `StackSettings`.
        once: End after the first run.
        as_json: Results as JSON.
        first_run: Whether the samples are run.
        samples: Whether there are any; without, a person begins with 新しい接続.

    Returns:
        The exit status: with ``once`` that of the main sample's run, or 1 when another one ended
        with ERROR; else 0.

    Raises:
        StackError: something could not be started, or ended by itself.
    """

    def say(message: str) -> None:
        typer.echo(message, err=as_json)

    exports = settings.state_dir / "exports"
    stack = Stack(
        settings,
        progress=say,
        gateway=not once,
        extra_environment={"APP_CONNECT_EXPORT_DIR": str(exports)},
    )
    try:
        with stopping_signals(), stack:
            apply(stack.environment)
            remember(settings, stack.environment)
            status = _first_run(stack, as_json=as_json, run=first_run or once, samples=samples)
            if once:
                return status
            say("")
            say(f"Prefect の画面: {stack.urls.prefect}")
            say(f"ゲートウェイ（ほかのシステム用の API）: {settings.gateway_url}/api/docs")
            say("毎日 5:00（日本時間）に自動で処理します。終了するには Ctrl-C を押してください。")
            while True:
                time.sleep(_CHECK_SECONDS)
                stack.check()
    except KeyboardInterrupt:
        return 130 if once else 0


def _first_run(stack: Stack, *, as_json: bool, run: bool, samples: bool) -> int:
    # Prefect reads its settings when it is imported, so not before the stack has an address.
    from deployments.catalog import (
        deploy,
        deploy_operations,
        ensure_work_pool,
        register_blocks,
        screen_names,
    )
    from deployments.cli.running import print_finished, print_overview, run_one_by_one
    from deployments.frame import name_flows
    from deployments.samples import sample_connections
    from flows.engine.store import Store, migrate
    from flows.engine.updates import lines
    from flows.operations.services import rebuild_quietly
    from flows.operations.updates import notice_update

    wanted = sample_connections(stack.urls) if samples else []

    async def prepare() -> None:
        await ensure_work_pool()
        await register_blocks()
        for sample in wanted:
            await deploy(await sample.save(), sample.name)
            if sample.prepare is not None:
                await sample.prepare(Store())
        await deploy_operations()
        await rebuild_quietly(Store())
        for line in lines(await notice_update()):
            typer.echo(line, err=True)

    migrate(stack.urls.store)
    name_flows(stack.settings.ui_dir, screen_names())
    asyncio.run(prepare())
    if not (run and wanted):
        return 0
    main, *others = asyncio.run(run_one_by_one([sample.name for sample in wanted]))
    # The main job comes last: a script reads the last line.
    print_overview(others, as_json=as_json)
    status = print_finished(main, as_json=as_json)
    return 1 if any(each.result == "ERROR" for each in others) else status
