"""The whole local stack, and Debian's Chromium in front of it, as the clerk has them."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from deployments.stack.ports import free_port_variables
from deployments.stack.processes import Child, Guard
from deployments.stack.settings import child_environment

AUTH = "keiri:himitsu-no-aikotoba-7"
"""What the log-in page asks for."""

expect.set_options(timeout=45_000)  # a page draws itself late on a busy machine

APP_CONNECT = [sys.executable, "-c", "from deployments.cli import main; main()"]
"""The command line, whatever is installed where."""

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"


@dataclass(frozen=True)
class Screen:
    """The running stack.

    Attributes:
        url: The Prefect UI.
        api: The Prefect API, for what a test has to know and a person reads from the screen.
        environment: Variables that make a command talk to this stack; its ports are there.
    """

    url: str
    api: httpx.Client
    environment: dict[str, str]

    def address(self, part: str) -> str:
        """Where a part of the stack is, e.g. ``gateway`` or ``bugyo``."""
        return f"http://127.0.0.1:{self.environment[f'APP_CONNECT_{part.upper()}_PORT']}"

    def find(self, kind: str, **query: Any) -> list[dict[str, Any]]:
        """Documents of a kind, e.g. ``flow_runs``."""
        answer = self.api.post(f"{kind}/filter", json=query).raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found

    def runs(self) -> list[dict[str, Any]]:
        """Runs that have begun, the newest first."""
        begun = self.find("flow_runs", sort="START_TIME_DESC")
        return [run for run in begun if run["start_time"]]

    def finished_run(self, known: set[str], seconds: float = 480) -> dict[str, Any]:
        """Wait for a run that is not ``known`` to end."""

        def ended() -> dict[str, Any] | None:
            fresh = [run for run in self.runs() if run["id"] not in known and run["end_time"]]
            return fresh[0] if fresh else None

        return until(ended, seconds)

    def begun_run(self, known: set[str]) -> dict[str, Any]:
        """Wait for a run that is not ``known`` to begin."""

        def begun() -> dict[str, Any] | None:
            fresh = [run for run in self.runs() if run["id"] not in known]
            return fresh[0] if fresh else None

        return until(begun)


def until(probe: Callable[[], dict[str, Any] | None], seconds: float = 480) -> dict[str, Any]:
    """What ``probe`` finds, as soon as it finds something."""
    deadline = time.monotonic() + seconds
    while (found := probe()) is None:
        if time.monotonic() > deadline:
            pytest.fail(f"nothing came within {seconds:.0f} s")
        time.sleep(0.3)
    return found


@contextlib.contextmanager
def stack(folder: Path, *options: str) -> Iterator[Screen]:
    """``app-connect up`` on ports and a state folder of its own, when it is ready."""
    ports = free_port_variables()
    guard = Guard(folder / "guard.log")
    environment = {
        "APP_CONNECT_STATE_DIR": str(folder / "state"),
        "APP_CONNECT_API_AUTH": AUTH,
        **ports,
    }
    child = Child(
        "app-connect up",
        [*APP_CONNECT, "up", *options],
        child_environment(environment),
        folder / "up.log",
        grace_seconds=40,
    )
    guard.watch(child)
    try:
        child.wait_until(lambda: "Ctrl-C" in child.log.read_text("utf-8"), seconds=600)
        url = f"http://127.0.0.1:{ports['APP_CONNECT_PREFECT_PORT']}"
        user, _, password = AUTH.partition(":")
        with httpx.Client(
            base_url=f"{url}/api/", auth=(user, password), timeout=30, trust_env=False
        ) as api:
            yield Screen(url, api, environment)
    finally:
        child.terminate()
        child.finish()
        guard.dismiss()


@pytest.fixture(scope="session")
def screen(session_dir: Path) -> Iterator[Screen]:
    """The stack with its samples, after its first run."""
    folder = session_dir / "ui"
    folder.mkdir()
    with stack(folder) as started:
        yield started


@contextlib.contextmanager
def browser(url: str, last: Path) -> Iterator[Page]:
    """A page of somebody who has logged in; ``last`` is a picture of its last sight."""
    with sync_playwright() as player:
        # Chromium's sandbox refuses to run as root, which is what a container is.
        chromium = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = chromium.new_context(
            viewport={"width": 1280, "height": 900}, locale="ja-JP", timezone_id="Asia/Tokyo"
        )
        context.set_default_timeout(60_000)
        page = context.new_page()
        try:
            page.goto(f"{url}/v2/login")
            page.get_by_role("textbox").fill(AUTH)
            page.get_by_role("button", name="ログイン").click()
            page.wait_for_url("**/v2/dashboard*")
            yield page
        finally:
            page.screenshot(path=last, full_page=True)
            chromium.close()


@pytest.fixture
def page(screen: Screen, tmp_path: Path) -> Iterator[Page]:
    """A page of somebody who has logged in; its last sight is ``last.png`` in the test's folder."""
    with browser(screen.url, tmp_path / "last.png") as opened:
        yield opened
