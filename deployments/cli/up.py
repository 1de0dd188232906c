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


def run_stack(settings: StackSettings, *, once: bool, as_json: bool, first_run: bool) -> int:
    """Start everything, run the sample once, and stay until Ctrl-C (or end, with ``once``).

    Returns:
        The exit status: of the run with ``once``, else 0.

    Raises:
        StackError: something could not be started, or ended by itself.
    """

    def say(message: str) -> None:
        typer.echo(message, err=as_json)

    exports = settings.state_dir / "exports"
    stack = Stack(
        settings, progress=say, extra_environment={"APP_CONNECT_EXPORT_DIR": str(exports)}
    )
    try:
        with stopping_signals(), stack:
            apply(stack.environment)
            remember(settings, stack.environment)
            status = _first_run(stack, as_json=as_json, run=first_run or once)
            if once:
                return status
            say("")
            say(f"Prefect の画面: {stack.urls.prefect}")
            say("毎日 5:00（日本時間）に自動で処理します。終了するには Ctrl-C を押してください。")
            while True:
                time.sleep(_CHECK_SECONDS)
                stack.check()
    except KeyboardInterrupt:
        return 130 if once else 0


def _first_run(stack: Stack, *, as_json: bool, run: bool) -> int:
    # Prefect reads its settings when it is imported, so not before the stack has an address.
    from deployments.catalog import (
        deploy,
        deploy_operations,
        ensure_work_pool,
        register_blocks,
    )
    from deployments.cli.running import print_finished, run_connection
    from deployments.samples import SAMPLE, sample_connection
    from flows.engine.store import migrate

    async def prepare() -> None:
        await ensure_work_pool()
        await register_blocks()
        await deploy(await sample_connection(stack.urls), SAMPLE)
        await deploy_operations()

    migrate(stack.urls.store)
    asyncio.run(prepare())
    if not run:
        return 0
    finished = asyncio.run(run_connection(SAMPLE, {}, tags=()))
    return print_finished(finished, as_json=as_json)
