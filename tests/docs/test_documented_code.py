"""The code in the documentation, as it stands there, against a real server and worker."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from sqlalchemy import text

from connectors.bugyo.emulator import DEMO_TENANTS, BugyoEmulator
from connectors.kit.emulator import serve
from deployments import catalog
from deployments.samples import MAIN
from deployments.samples.customers import AWKWARD, awkward_positions
from deployments.samples.kintone import connections, kintone_emulator
from deployments.stack.settings import StackSettings, StackUrls, child_environment
from flows.customers_from_kintone import PIPELINE
from flows.engine.store import Store, migrate

DOCS = Path(__file__).parents[2] / "docs"
RECORDS = 20
DEPLOYMENT = f"{PIPELINE.connector}/{catalog.deployment_name(PIPELINE, MAIN)}"


def blocks(page: str, *languages: str) -> list[tuple[str, str]]:
    """Language and text of the fenced blocks of a page, in order."""
    found = re.findall(
        r"^```(\w+)\n(.*?)^```$", (DOCS / page).read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return [(language, code) for language, code in found if language in languages]


API = blocks("api.md", "bash", "python")
# make test promises to need nothing but Python and make; a machine without curl cannot run curl.
RUNNABLE = [block for block in API if block[0] != "bash" or shutil.which("curl")]

Execute = Callable[..., Awaitable[subprocess.CompletedProcess[str]]]


@pytest.fixture
def bugyo() -> Iterator[tuple[BugyoEmulator, str]]:
    emulator = BugyoEmulator()
    with serve(emulator) as url:
        yield emulator, url


@pytest.fixture
async def execute(prefect_server: Any, warm_worker: Any, bugyo: tuple[BugyoEmulator, str]) -> Any:
    """The stack of `make run`, small, with the sample connection; runs a block as a program."""
    migrate(prefect_server.store)
    with Store(prefect_server.store).begin() as db:
        for table in ("ledger", "reject", "run"):
            db.execute(text(f"DELETE FROM {table} WHERE connection IN ('sample', 'tokyo')"))
        db.execute(text("DELETE FROM connection WHERE name IN ('sample', 'tokyo')"))
    with serve(kintone_emulator(RECORDS)) as kintone:
        urls = StackUrls(
            prefect=prefect_server.url,
            store=prefect_server.store,
            prefect_database="",
            emulators={"kintone": kintone, "bugyo": bugyo[1]},
        )
        await catalog.ensure_work_pool()
        await catalog.register_blocks()
        deployment = await catalog.deploy(await connections(urls)[0].save(), MAIN)
        await _hold_schedules(deployment)
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        environment = child_environment({**prefect_server.env, "PATH": path})

        async def run(language: str, code: str, **variables: str) -> Any:
            program = [sys.executable, "-c"] if language == "python" else ["bash", "-euc"]
            return await asyncio.to_thread(
                subprocess.run,
                [*program, code],
                env={**environment, **variables},
                capture_output=True,
                text=True,
                timeout=480,
            )

        yield run


def history(store: str, connection: str) -> list[tuple[str, str, int]]:
    """Trigger, result and extracted of the runs of a connection, oldest first."""
    statement = (
        "SELECT trigger, result, extracted FROM run WHERE connection = :c ORDER BY started_at"
    )
    with Store(store).begin() as db:
        return [tuple(row) for row in db.execute(text(statement), {"c": connection})]


def test_the_pages_hold_code() -> None:
    assert [language for language, _ in API] == ["bash", "python", "python"]
    for _, code in API:
        for name in ("PREFECT_API_URL", "DEPLOYMENT", "REQUEST_KEY", "api"):
            assert name in code or "get_client" in code


@pytest.mark.parametrize(("language", "code"), RUNNABLE, ids=[f"{b[0]}" for b in RUNNABLE])
async def test_starting_a_run_and_waiting(
    execute: Execute, prefect_server: Any, language: str, code: str
) -> None:
    key = f"order-{uuid4()}"
    for _ in range(2):  # the second call with the same key answers with the first run
        ran = await execute(language, code, DEPLOYMENT=DEPLOYMENT, REQUEST_KEY=key)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.startswith(f"一部エラー 取得 {RECORDS} / 登録 "), ran.stdout
    assert history(prefect_server.store, MAIN) == [("API", "一部エラー", RECORDS)]


async def test_the_readme_tells_the_fate_of_each_awkward_record(
    execute: Execute, prefect_server: Any, bugyo: tuple[BugyoEmulator, str]
) -> None:
    """README table: kind, fate, code; compared with the sample and with what a run does."""
    fates = {"kept": "届く", "repaired": "直して届く", "rejected": "エラー明細"}
    expected = {one.kind: fates[one.fate] for one in AWKWARD}
    kinds = {str(n + 1): one.kind for n, one in awkward_positions(RECORDS).items()}
    ran = await execute("python", API[2][1], DEPLOYMENT=DEPLOYMENT, REQUEST_KEY=f"{uuid4()}")
    assert ran.returncode == 0, ran.stderr
    with Store(prefect_server.store).begin() as db:
        rows = db.execute(text("SELECT source_key, code FROM reject WHERE connection = 'sample'"))
        codes = {kinds[key]: code for key, code in rows}
    for page in ("README.md", "README.ja.md"):
        lines = re.findall(
            r"(?m)^\| (\S.*?) \| (届く|直して届く|エラー明細) \| (.*?) \|",
            (DOCS.parent / page).read_text("utf-8"),
        )
        assert {kind: fate for kind, fate, _ in lines} == expected, page
        told = {kind: last for kind, fate, last in lines if fate == "エラー明細"}
        assert {kind: re.findall(r"AC-\d+", last) for kind, last in told.items()} == {
            kind: [code] for kind, code in codes.items()
        }, page


def test_the_readme_names_every_setting() -> None:
    names = [f"APP_CONNECT_{name.upper()}" for name in StackSettings.model_fields]
    for page in ("README.md", "README.ja.md"):
        words = (DOCS.parent / page).read_text("utf-8")
        assert [name for name in names if f"`{name}`" not in words] == [], page
        for name, field in StackSettings.model_fields.items():
            if field.default not in (None, ""):
                row = re.search(rf"(?m)^\| `APP_CONNECT_{name.upper()}` \| `([^`]*)`", words)
                assert row is not None, (page, name)
                assert row.group(1) == str(field.default), (page, name)


@pytest.mark.parametrize(
    "page", [*DOCS.parent.glob("*.md"), *DOCS.glob("*.md")], ids=lambda p: p.name
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


async def test_what_the_page_says_about_409_and_404(execute: Execute) -> None:
    _, code = blocks("api.md", "python")[0]
    wrong = code.replace('{"mode": "差分"}', '{"mode": "全部"}')
    assert wrong != code
    ran = await execute("python", wrong, DEPLOYMENT=DEPLOYMENT, REQUEST_KEY="wrong")
    assert ran.returncode != 0
    assert "409" in ran.stderr
    ran = await execute("python", code, DEPLOYMENT=f"{DEPLOYMENT}-x", REQUEST_KEY="nowhere")
    assert "404" in ran.stderr


async def test_a_second_connection_beside_the_first(
    execute: Execute, bugyo: tuple[BugyoEmulator, str], prefect_server: Any
) -> None:
    emulator, _ = bugyo
    first, second = (tenant.id for tenant in DEMO_TENANTS[:2])
    before = {row["code"] for row in emulator.rows(second)}
    (_, program), (_, commands) = blocks("second-connection.md", "python", "bash")
    ran = await execute("python", program)
    assert ran.returncode == 0, ran.stderr
    ran = await execute("bash", commands)
    assert ran.returncode == 0, ran.stderr
    result = next(json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{"))
    assert result["result"] == "一部エラー"
    assert result["extracted"] == RECORDS
    for words in ("tokyo", "処理履歴", "エラー明細", "AC-801"):
        assert words in ran.stdout
    assert len({row["code"] for row in emulator.rows(second)} - before) == result["created"] > 0
    # Nothing of it in the first 法人, nor in the first connection's books.
    assert {row["code"] for row in emulator.rows(first)} <= {"0"}
    assert history(prefect_server.store, MAIN) == []
    schedules = await _schedules(["sample", "tokyo"])
    assert schedules == {"sample": "0 5 * * *", "tokyo": "30 5 * * *"}


async def _hold_schedules(deployment: UUID) -> None:
    """Tests that run at 05:00 in Tokyo must not meet a run that nobody here asked for."""
    async with get_client() as client:
        for schedule in await client.read_deployment_schedules(deployment):
            await client.update_deployment_schedule(deployment, schedule.id, active=False)


async def _schedules(names: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    async with get_client() as client:
        for name in names:
            deployment = await client.read_deployment_by_name(
                f"{PIPELINE.connector}/{catalog.deployment_name(PIPELINE, name)}"
            )
            schedule: Any = deployment.schedules[0].schedule
            assert schedule.timezone == "Asia/Tokyo"
            found[name] = schedule.cron
    return found
