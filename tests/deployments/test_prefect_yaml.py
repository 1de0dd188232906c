"""``prefect.yaml`` and Prefect's own commands make what ``make run`` makes, and it runs."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from connectors.bugyo.emulator import BugyoEmulator
from connectors.kit.emulator import serve
from deployments import catalog
from deployments.samples import MAIN
from deployments.samples.kintone import connections, kintone_emulator
from deployments.stack.settings import StackUrls, child_environment
from flows.customers_from_kintone import PIPELINE
from flows.engine.store import migrate

ROOT = Path(__file__).parents[2]
POOL = "own-pool"


@pytest.fixture
def own_project(tmp_path: Path) -> Path:
    """The project's file for a pool of its own, so that no other worker takes the run."""
    text = (ROOT / "prefect.yaml").read_text("utf-8")
    assert text.count("      name: app-connect\n") == 1 + len(catalog.operations())
    changed = text.replace("      name: app-connect\n", f"      name: {POOL}\n")
    (tmp_path / "prefect.yaml").write_text(changed, "utf-8")
    return tmp_path


class Cli:
    """Prefect's command line as an operator uses it: from a folder, against a server."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, child_environment(environment)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "prefect", "--no-prompt", *arguments]

    async def __call__(self, *arguments: str) -> str:
        ran = await asyncio.to_thread(
            subprocess.run,
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout


@pytest.fixture
def urls(prefect_server: Any) -> Iterator[StackUrls]:
    with serve(kintone_emulator(20)) as kintone, serve(BugyoEmulator()) as bugyo:
        yield StackUrls(
            prefect=prefect_server.url,
            store=prefect_server.store,
            prefect_database="",
            emulators={"kintone": kintone, "bugyo": bugyo},
        )


@contextmanager
def working(cli: Cli, log: Path) -> Iterator[Callable[[], str]]:
    """A worker from Prefect's own command; yields what it has printed so far."""
    command = cli.command("worker", "start", "--pool", POOL, "--type", "app-connect")
    with log.open("wb") as stream:
        worker = subprocess.Popen(
            command, cwd=cli.folder, env=cli.environment, stdout=stream, stderr=subprocess.STDOUT
        )
        try:
            yield lambda: log.read_text("utf-8", "replace")
        finally:
            worker.send_signal(signal.SIGINT)
            worker.wait(80)


async def test_prefect_s_own_commands(
    own_project: Path, prefect_server: Any, urls: StackUrls, tmp_path: Path
) -> None:
    migrate(prefect_server.store)
    cli = Cli(own_project, prefect_server.env)
    await cli("work-pool", "create", "--type", "app-connect", POOL)
    listed = await cli("block", "register", "-m", "blocks")
    assert "kintone" in listed
    listed = await cli("block", "register", "-m", "flows.customers_from_kintone")
    assert "得意先" in listed
    await connections(urls)[0].save()
    await cli("deploy", "--all")

    entry = catalog.connectors()[PIPELINE.connector]
    name = f"{entry.flow.name}/{catalog.deployment_name(entry.pipeline, MAIN)}"
    async with get_client() as client:
        by_file = await client.read_deployment_by_name(name)
        assert by_file.work_pool_name == POOL
        (schedule,) = by_file.schedules
        assert (schedule.schedule.cron, schedule.schedule.timezone, schedule.active) == (
            "0 5 * * *",
            "Asia/Tokyo",
            True,
        )
        with working(cli, tmp_path / "worker.log") as words:
            run = await client.create_flow_run_from_deployment(by_file.id)
            deadline = time.monotonic() + 160
            while True:
                found = await client.read_flow_run(run.id)
                if found.state is not None and found.state.is_final():
                    break
                assert time.monotonic() < deadline, words()
                await asyncio.sleep(0.2)
        assert found.state.is_completed(), found.state.message
        assert found.state.name == "一部エラー"
        assert "エラー 9" in (found.state.message or "")

        # The same deployment, made by `make run`: everything a file can say is said alike.
        await catalog.ensure_work_pool()
        await catalog.deploy(await connections(urls)[0].save(), MAIN)
        by_code = await client.read_deployment_by_name(name)
        assert by_code.id == by_file.id
        for field in ("entrypoint", "tags", "parameters", "path"):
            assert getattr(by_file, field) == getattr(by_code, field), field
        assert not by_file.pull_steps
        assert not by_code.pull_steps
        assert (by_file.description or "").strip() == (by_code.description or "").strip()
        limits = [d.global_concurrency_limit for d in (by_file, by_code)]
        assert [limit.limit for limit in limits if limit is not None] == [1, 1]
        for deployment in (by_file, by_code):
            assert deployment.concurrency_options is not None
            assert deployment.concurrency_options.collision_strategy.value == "ENQUEUE"
    await _operations_are_alike()


async def _operations_are_alike() -> None:
    """`deploy --all` has made them from the file; made by the code, they are what they were."""
    names = [f"{each.flow.name}/{each.name}" for each in catalog.operations().values()]
    assert names
    async with get_client() as client:
        by_file = [await client.read_deployment_by_name(name) for name in names]
        await catalog.deploy_operations()
        by_code = [await client.read_deployment_by_name(name) for name in names]
    for name, one, two in zip(names, by_file, by_code, strict=True):
        for field in ("id", "entrypoint", "tags", "parameters", "path"):
            assert getattr(one, field) == getattr(two, field), f"{name}: {field}"
        assert (one.description or "").strip() == (two.description or "").strip(), name
        when = [
            [(s.schedule.cron, s.schedule.timezone, s.active) for s in d.schedules]
            for d in (one, two)
        ]
        assert when[0] == when[1], name
        for deployment in (one, two):
            assert deployment.global_concurrency_limit.limit == 1, name
        assert one.concurrency_options == two.concurrency_options, name
        titles = [p["title"] for p in two.parameter_openapi_schema["properties"].values()]
        assert all(not title.isascii() for title in titles), titles
