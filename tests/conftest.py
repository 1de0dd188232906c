"""What the tests share. Everything is lazy: a unit test starts nothing.

- ``postgres``: one embedded PostgreSQL per session; databases are cheap (``fresh_database``).
- ``prefect_server``: one real Prefect server per session, on its own database and a free port.
- ``warm_worker``: one warm worker on the pool ``app-connect`` of that server.

All of it is ours: stopped by process id at the end, and by the stack's guard when pytest is killed.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import zoneinfo
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

# Before anything imports Prefect: the user's own profile is neither read nor touched, nothing is
# reported to anybody, and a test that forgot ``prefect_server`` fails instead of starting one.
_HOME = Path(tempfile.mkdtemp(prefix="app-connect-tests-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith(("PREFECT_", "APP_CONNECT_"))]:
    del os.environ[_name]
# Servers, workers and commands of the tests are processes of their own by the dozen: each would
# compile every module again, which costs more than what it is started for.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ.update(
    DO_NOT_TRACK="1",
    PREFECT_HOME=str(_HOME / "prefect"),
    PREFECT_PROFILES_PATH=str(_HOME / "prefect" / "profiles.toml"),
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE="false",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
)

# As in every process of the stack; see ``PYTHONTZPATH`` in `deployments.stack.settings`.
zoneinfo.reset_tzpath(())

from deployments.stack.ports import free_ports  # noqa: E402
from deployments.stack.postgres import EmbeddedPostgres  # noqa: E402
from deployments.stack.processes import Child, Guard, python_path  # noqa: E402
from deployments.stack.settings import WORK_POOL, StackSettings, child_environment  # noqa: E402
from deployments.stack.stack import Stack  # noqa: E402

TOY_FLOWS = Path(__file__).parent / "deployments"
"""Folder that makes ``toy_flows`` importable in the worker."""


SLOW_FIRST = (
    *("flows", "faults", "errors", "docs", "deployments", "operations_flows", "gateway"),
    *("acceptance", "operations", "security", "blocks"),
)
"""Folders with servers and processes, the longest first; all others are quick."""


LONGEST = (
    *("flows/test_rows_30_31_prefect.py", "deployments/test_up.py", "flows/test_ledger_kill.py"),
    *("errors/test_every_wrong_setting.py", "deployments/test_stack_local.py"),
    *("deployments/test_cli.py", "deployments/test_prefect_yaml.py", "security/test_api_auth.py"),
    *("docs/test_documented_code.py", "operations_flows/test_delete_connection.py"),
)
"""Files of minutes, before all others, whatever their folder: none of them is left to the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: what is handed out last decides when the last of several processes ends."""
    place = {name: number for number, name in enumerate((*LONGEST, *SLOW_FIRST))}
    here = Path(__file__).parent

    def key(item: pytest.Item) -> int:
        path = item.path.relative_to(here)
        return place.get(path.as_posix(), place.get(path.parts[0], len(place)))

    items.sort(key=key)


class TestPostgres:
    """Databases of the session's PostgreSQL, which is fast because it is not durable."""

    __test__ = False

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self._count = 0
        self._templates: set[str] = set()

    def fresh_database(
        self, template: str | None = None, prepare: Callable[[str], None] | None = None
    ) -> str:
        """URL (``postgresql://…``) of a new database that nobody else uses.

        Args:
            template: Name of a template; made by the first who asks.
            prepare: Fills the template, given its URL (e.g. runs the migrations); it must close
                its connections.
        """
        if template and template not in self._templates:
            self._create(template)
            if prepare is not None:
                prepare(self.server.url(template))
            self._templates.add(template)
        self._count += 1
        name = f"test_{self._count}"
        self._create(name, template)
        return self.server.url(name)

    def _create(self, name: str, template: str | None = None) -> None:
        with psycopg.connect(self.server.url("postgres"), autocommit=True) as connection:
            connection.execute(
                sql.SQL("create database {} template {}").format(
                    sql.Identifier(name), sql.Identifier(template or "template1")
                )
            )


@dataclass(frozen=True)
class PrefectServer:
    """The session's Prefect server.

    Attributes:
        url: Its UI.
        api: Its API; this process's Prefect client uses it, too.
        env: Variables that make a subprocess its client.
        store: URL of the store that the worker's flows use by default.
        work_pool: Name of the pool that ``warm_worker`` works on.
    """

    url: str
    api: str
    env: dict[str, str]
    store: str
    work_pool: str


@pytest.fixture(scope="session")
def session_dir() -> Path:
    """A folder for the session with a path short enough for a Unix socket."""
    folder = _HOME / "session"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def postgres(session_dir: Path) -> Iterator[TestPostgres]:
    """The session's PostgreSQL."""
    server = EmbeddedPostgres(session_dir / "pg")
    guard = Guard(session_dir / "guard.log")
    server.start(durable=False)
    guard.watch_postgres(server.data_dir, server.system_user)
    yield TestPostgres(server)
    server.stop()
    guard.dismiss()


@pytest.fixture
def fresh_database(postgres: TestPostgres) -> Callable[..., str]:
    """Makes a new database and returns its URL; see `TestPostgres.fresh_database`."""
    return postgres.fresh_database


@pytest.fixture(scope="session")
def prefect_server(postgres: TestPostgres, session_dir: Path) -> Iterator[PrefectServer]:
    """The session's Prefect server; the Prefect client of this process uses it from now on."""
    settings = StackSettings(
        state_dir=session_dir / "state",
        database_url=postgres.fresh_database(),
        prefect_database_url=postgres.fresh_database(),
        **free_ports(),
    )
    stack = Stack(settings, emulators=False, worker=False)
    with stack, pytest.MonkeyPatch.context() as patch:
        from prefect.context import refresh_global_settings_context

        # The environment and not `temporary_settings`: Prefect's own threads start without our
        # context variables, and would look for another server.
        for name, value in stack.environment.items():
            patch.setenv(name, value)
        refresh_global_settings_context()
        yield PrefectServer(
            url=stack.urls.prefect,
            api=stack.urls.prefect_api,
            env={**stack.environment, **python_path()},
            store=stack.urls.store,
            work_pool=WORK_POOL,
        )
    refresh_global_settings_context()


@pytest.fixture(scope="session")
def start_worker(
    prefect_server: PrefectServer, session_dir: Path
) -> Iterator[Callable[..., Child]]:
    """Starts a warm worker of your own: ``start_worker(pool, **variables) -> Child``."""
    guard = Guard(session_dir / "guard.log")
    children: list[Child] = []

    def start(pool: str, **variables: str) -> Child:
        name = f"worker-{len(children)}"
        ready = session_dir / f"{name}.ready"
        path = os.pathsep.join([str(TOY_FLOWS), prefect_server.env["PYTHONPATH"]])
        environment = {
            **prefect_server.env,
            "PYTHONPATH": path,
            "APP_CONNECT_PRELOAD": "toy_flows",
            **variables,
        }
        command = [sys.executable, "-m", "deployments.stack.worker_main"]
        child = Child(
            name,
            [*command, "--pool", pool, "--ready-file", str(ready)],
            child_environment(environment),
            session_dir / f"{name}.log",
            grace_seconds=20,
        )
        guard.watch(child)
        children.append(child)
        child.wait_until(ready.exists, seconds=180)
        return child

    yield start
    for child in children:
        child.terminate()
    for child in children:
        child.finish()
    guard.dismiss()


@pytest.fixture(scope="session")
def warm_worker(prefect_server: PrefectServer, start_worker: Callable[..., Child]) -> Child:
    """The session's warm worker, on the pool ``app-connect``."""
    return start_worker(prefect_server.work_pool)
