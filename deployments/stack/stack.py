"""The whole local stack, started side by side and stopped in order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from deployments.frame import install as install_frame
from deployments.samples import emulated
from deployments.stack.external import check_databases, note_places
from deployments.stack.pages import publish
from deployments.stack.ports import require_free_ports
from deployments.stack.postgres import (
    PREFECT_DATABASE,
    STORE_DATABASE,
    EmbeddedPostgres,
    with_driver,
)
from deployments.stack.processes import (
    Child,
    Guard,
    StateLock,
    http_healthy,
    python_path,
    uninterrupted,
)
from deployments.stack.server import START_SECONDS, server_command, server_healthy
from deployments.stack.settings import (
    EMULATORS,
    WORK_POOL,
    StackSettings,
    StackUrls,
    child_environment,
    prefect_environment,
    prepare_state,
    server_environment,
)

Progress = Callable[[str], None]


def _silent(message: str) -> None:
    del message


class Stack:
    """PostgreSQL, Prefect server, emulators and worker; a context manager.

    ``start`` returns when flow runs can be started. Everything it started is stopped by ``stop``,
    by the end of the ``with`` block, and by the guard when this process is killed.

    Args:
        settings: See `StackSettings`; read from the environment when left out.
        progress: Told what is going on, in Japanese, a line each.
        emulators: Whether the emulators are part of it.
        worker: Whether the warm worker is part of it.
        gateway: Whether the gateway is part of it.
        extra_environment: Variables for every child.
    """

    def __init__(
        self,
        settings: StackSettings | None = None,
        *,
        progress: Progress = _silent,
        emulators: bool = True,
        worker: bool = True,
        gateway: bool = False,
        extra_environment: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings or StackSettings()
        self._progress = progress
        self._with_emulators = emulators
        self._with_worker = worker
        self._with_gateway = gateway
        self._extra = dict(extra_environment or {})
        self._lock = StateLock(self.settings.state_dir / "stack.lock")
        self._guard: Guard | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._children: list[Child] = []
        self._urls: StackUrls | None = None

    @property
    def urls(self) -> StackUrls:
        """Where everything is.

        Raises:
            RuntimeError: before ``start``.
        """
        if self._urls is None:
            raise RuntimeError("the stack is not running")
        return self._urls

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make a process a client of this stack (flows, CLI, deployments)."""
        return {**prefect_environment(self.settings, self.urls), **self._extra}

    def start(self) -> Self:
        """Start everything.

        Raises:
            StackError: a stack runs on this state folder, a port is taken, or a part does not
                start. What was started is stopped again.
            AppConnectError: ``AC-70x``, a database given by URL cannot be used.
        """
        prepare_state(self.settings)
        self._lock.acquire(self.settings.prefect_url)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        settings = self.settings
        require_free_ports(settings)
        self._guard = Guard(settings.logs_dir / "guard.log", keep=[self._lock.fileno()])
        self._urls = self._start_databases()
        ready_file = settings.state_dir / "worker.ready"
        ready_file.unlink(missing_ok=True)

        self._progress("Prefect サーバーを起動しています…")
        common = {**self.environment, **python_path()}
        server = self._child(
            "Prefect サーバー",
            server_command(settings),
            {**common, **server_environment(settings, self.urls)},
            "prefect-server",
        )
        # These two use the second core while the server imports; the worker waits for it.
        emulators = None
        if self._with_emulators:
            emulators = self._child(
                "エミュレーター",
                [sys.executable, "-m", "deployments.emulators"],
                common,
                "emulators",
            )
        worker = None
        if self._with_worker:
            worker = self._child(
                "ワーカー",
                [
                    *(sys.executable, "-m", "deployments.stack.worker_main"),
                    *("--pool", WORK_POOL, "--limit", str(settings.worker_limit)),
                    *("--ready-file", str(ready_file)),
                ],
                common,
                "worker",
                grace_seconds=settings.drain_seconds + settings.kill_seconds + 5,
            )
        if emulators is not None:
            self._progress("奉行クラウドと各サービスのエミュレーターを起動しています…")
            for service in emulated():
                url = self.urls.emulators[service]
                emulators.wait_until(http_healthy(f"{url}/__emulator__/health"), seconds=180)
        gateway = None
        if self._with_gateway:
            command = [sys.executable, "-m", "deployments.gateway"]
            gateway = self._child("ゲートウェイ", command, common, "gateway")
        server.wait_until(server_healthy(self.urls), seconds=START_SECONDS)
        # Not earlier: a server of another version empties the folder of its UI first.
        publish(settings.ui_dir)
        install_frame(settings.ui_dir, settings.prefect_url)
        if worker is not None:
            self._progress("ワーカーを準備しています…")
            worker.wait_until(ready_file.exists, seconds=180)
        if gateway is not None:
            live = f"http://{settings.host}:{settings.gateway_port}/live"
            gateway.wait_until(http_healthy(live), seconds=180)
        self._progress(f"起動しました: {self.urls.prefect}")

    def _start_databases(self) -> StackUrls:
        settings = self.settings
        own_store, own_prefect = settings.database_url, settings.prefect_database_url
        store = with_driver(own_store.get_secret_value(), "psycopg") if own_store else ""
        prefect = with_driver(own_prefect.get_secret_value(), "asyncpg") if own_prefect else ""
        needed = [n for n, u in ((PREFECT_DATABASE, prefect), (STORE_DATABASE, store)) if not u]
        if own_store or own_prefect:
            self._progress("データベース（PostgreSQL）につないでいます…")
            check_databases(settings)
        note_places(settings)
        if needed:
            self._progress("データベース（PostgreSQL）を起動しています…")
            self._postgres = EmbeddedPostgres(settings.state_dir / "postgres")
            self._postgres.start(needed)
            if self._guard is not None:
                self._guard.watch_postgres(self._postgres.data_dir, self._postgres.system_user)
            prefect = prefect or self._postgres.url(PREFECT_DATABASE, "asyncpg")
            store = store or self._postgres.url(STORE_DATABASE, "psycopg")
        return StackUrls(
            prefect=settings.prefect_url,
            store=store,
            prefect_database=prefect,
            emulators={service: settings.emulator_url(service) for service in EMULATORS},
        )

    def _child(
        self,
        name: str,
        command: list[str],
        environment: Mapping[str, str],
        log: str,
        *,
        grace_seconds: float = 10.0,
    ) -> Child:
        child = Child(
            name,
            command,
            child_environment(environment),
            self.settings.logs_dir / f"{log}.log",
            grace_seconds=grace_seconds,
        )
        self._children.append(child)
        if self._guard is not None:
            self._guard.watch(child)
        return child

    def check(self) -> None:
        """Look after the parts; call it now and then while the stack is up.

        Raises:
            StackError: a part has ended by itself, with the end of its log; or PostgreSQL did
                and cannot be started again.
        """
        if self._postgres is not None and not self._postgres.alive:
            # Killed by hand or for want of memory. Nothing committed is lost, what was under way
            # is settled by the next run, and the other parts find their way back by themselves.
            self._progress("データベースが停止したため、起動し直しています…")
            self._postgres.restart()
            self._progress("データベースを起動し直しました。")
        for child in self._children:
            if (code := child.exit_code) is not None:
                raise child.failure(f"終了しました（終了コード {code}）。")

    def pids(self) -> dict[str, int]:
        """Process ids by name, PostgreSQL included."""
        found = {child.name: child.pid for child in self._children}
        if self._postgres is not None:
            found["PostgreSQL"] = self._postgres.pid
        return found

    def stop(self) -> None:
        """Stop everything that was started, last one first; again and again is fine."""
        with uninterrupted():
            if self._children:
                self._progress("終了しています…")
            # One after the other: the worker's runs report to the server, which needs PostgreSQL.
            while self._children:
                child = self._children.pop()
                child.terminate()
                child.finish()
            if self._postgres is not None:
                self._postgres.stop()
                self._postgres = None
            if self._guard is not None:
                self._guard.dismiss()
                self._guard = None
            self._urls = None
            self._lock.release()

    def __enter__(self) -> Self:
        """`start`."""
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """`stop`."""
        self.stop()
