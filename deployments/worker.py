"""The warm worker: flow runs are forked from a process that has imported everything already.

A Prefect process worker starts a Python per run and spends about 3 s of CPU on imports, so that
Run answers after 6 s. Here a forkserver (Python's own, `multiprocessing`) imports Prefect and our
flows once; a run is a fork of it and is Running about a second after it was asked for.

Everything around the process is Prefect's: cancellation, hooks and crash reports come from the
same executor that the process worker uses. It is not public API, which is one of the reasons
why ``pyproject.toml`` bounds Prefect to one minor version.

What happens when something dies:

- a run is killed: reported Crashed at once;
- Cancel: the run is asked to stop (``finally`` blocks run), killed after 30 s, Cancelled;
- the worker is stopped: no run is taken any more; those at work may finish for ``drain_seconds``,
  are then asked to stop, and killed after ``kill_seconds``. A run that is asked to stop sends
  nothing more, waits for the answer that is due, writes it and ends as 中断
  (`flows.engine.signals`). A second SIGTERM kills them;
- the worker is killed: its runs notice, stop in the same way and report themselves. A run whose
  worker is dead can neither be cancelled nor be reported, so it must not go on writing;
- nobody is left to report a run: `deployments.aftercare`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

import anyio
import anyio.abc
from prefect.exceptions import InfrastructureNotFound
from prefect.flows import load_flow_from_flow_run
from prefect.runner._flow_run_executor import FlowRunExecutorContext
from prefect.runner._process_manager import ProcessHandle
from prefect.workers.base import (
    BaseJobConfiguration,
    BaseVariables,
    BaseWorker,
    BaseWorkerResult,
)

from deployments.aftercare import attend, keep_attending, place
from deployments.stack.run_child import execute_flow_run

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

PRELOAD = "deployments.stack.preload"
"""Module that the forkserver imports; it imports the rest."""

_POLL_SECONDS = 0.05
_STOPPED = "ワーカーが停止したため、処理を中断しました。"


def _warm_context() -> BaseContext:
    """A forkserver where there is one; elsewhere (Windows) runs start cold, but start."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOAD])
    return context


def warm_up() -> None:
    """Start the forkserver now; it imports in the background, the first fork waits for it."""
    context = _warm_context()
    if context.get_start_method() == "forkserver":
        from multiprocessing.forkserver import ensure_running

        ensure_running()


class AppConnectWorkerResult(BaseWorkerResult):
    """How a run's process ended."""


class _ChildScope:
    """Signals for one child, through its process object: a recycled pid is never hit."""

    wait_after_graceful_kill = True

    def __init__(self, process: BaseProcess) -> None:
        self._process = process

    def is_alive(self, pid: int) -> bool:
        del pid
        return self._process.is_alive()

    def graceful_kill(self, pid: int) -> None:
        """Ask it to stop.

        Raises:
            ProcessLookupError: it has ended; without it Prefect waits 3 s for a dead process.
        """
        if not self._process.is_alive():
            raise ProcessLookupError(pid)
        self._process.terminate()

    def hard_kill(self, pid: int) -> None:
        del pid
        self._process.kill()

    def close(self) -> None:
        """Nothing is held: the process object goes with its last user."""


class _ForkStarter:
    """Starts a run as a fork of the warm process and waits for its end.

    It is a ``ProcessStarter`` of Prefect's executor.
    """

    def __init__(
        self, worker: AppConnectWorker, executors: FlowRunExecutorContext, env: dict[str, str]
    ) -> None:
        self._worker = worker
        self._executors = executors
        self._env = env

    async def start(
        self,
        flow_run: FlowRun,
        task_status: anyio.abc.TaskStatus[ProcessHandle] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        process = await self._fork(flow_run.id)
        self._worker.children[flow_run.id] = process
        try:
            # Prefect's type names the spawn process; every multiprocessing process will do.
            raw: Any = process
            task_status.started(ProcessHandle(raw, termination_scope=_ChildScope(process)))
            await _ended(process)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._worker.drain(process)
            raise
        finally:
            self._worker.children.pop(flow_run.id, None)

    async def _fork(self, flow_run_id: UUID) -> BaseProcess:
        channel = self._executors.control_channel
        environment = {
            **os.environ,
            **self._env,
            "PREFECT__FLOW_RUN_ID": str(flow_run_id),
            # Hooks are run by the executor, which survives the run.
            "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false",
        }
        try:
            port, token = channel.register(flow_run_id)
        except RuntimeError:
            pass  # no loopback listener: Cancel still works, by signals alone
        else:
            environment["PREFECT__CONTROL_PORT"] = str(port)
            environment["PREFECT__CONTROL_TOKEN"] = token
        process: BaseProcess = self._worker.context.Process(  # type: ignore[attr-defined]
            target=execute_flow_run,
            args=(str(flow_run_id), environment, self._worker.kill_seconds),
            name=f"run-{flow_run_id}",
        )
        try:
            # Blocks until the forkserver has imported everything, the first time.
            await anyio.to_thread.run_sync(process.start)
        except BaseException:
            channel.unregister(flow_run_id)
            raise
        return process


async def _ended(process: BaseProcess) -> None:
    """Wait until ``process`` has ended, and reap it."""
    if sys.platform != "win32":
        await anyio.wait_readable(process.sentinel)
    await _polled_to_end(process)


async def _polled_to_end(process: BaseProcess) -> None:
    """The same without occupying the sentinel, which one task at a time may wait for.

    Not in a thread: whoever reaps first reads the exit code, and a second reader would get none.
    """
    while process.is_alive():  # noqa: ASYNC110 - there is no event to wait for
        await anyio.sleep(_POLL_SECONDS)


class _PidStatus:
    """Hands the place of a started process to the worker's bookkeeping."""

    def __init__(self, outer: anyio.abc.TaskStatus[Any]) -> None:
        self._outer = outer

    def started(self, value: ProcessHandle | None = None) -> None:
        if value is not None and value.pid is not None:
            self._outer.started(place(value.pid))


class AppConnectWorker(BaseWorker[BaseJobConfiguration, BaseVariables, AppConnectWorkerResult]):
    """Runs flows as forks of a warm process; see the module.

    Deployments name their flow by module path (``flows.customers_from_kintone.flow_function``):
    it is imported from the installed project, nothing is pulled or copied.

    ``APP_CONNECT_DRAIN_SECONDS`` (default 3) and ``APP_CONNECT_KILL_SECONDS`` (default 10) say
    how its runs end when it is stopped; ``--limit`` says how many run at a time.

    Attributes:
        children: The running processes by flow run.
        kill_seconds: How long a run has to clean up after it was asked to stop.
    """

    type = "app-connect"
    job_configuration = BaseJobConfiguration
    _display_name = "App Connect"
    _description = "処理を、読み込み済みのプロセスから分岐させて、すぐに開始します。"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context = _warm_context()
        self.children: dict[UUID, BaseProcess] = {}
        self.drain_seconds = float(os.environ.get("APP_CONNECT_DRAIN_SECONDS", "3"))
        self.kill_seconds = float(os.environ.get("APP_CONNECT_KILL_SECONDS", "10"))
        self._executors: FlowRunExecutorContext | None = None
        self._aftercare: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Warm up, and open what all runs share: one client, one watch for cancellations."""
        await anyio.to_thread.run_sync(warm_up)
        executors = FlowRunExecutorContext()
        await executors.__aenter__()
        try:
            await super().__aenter__()
        except BaseException as exc:
            await executors.__aexit__(type(exc), exc, exc.__traceback__)
            raise
        self._executors = executors
        await attend(self.client, self._work_pool_name, self.children)
        self._aftercare = asyncio.create_task(
            keep_attending(self.client, self._work_pool_name, self.children)
        )
        return self

    async def __aexit__(self, *exc_info: Any) -> None:  # noqa: PYI036 - as in the base class
        """End the runs first, then what supervised them."""
        if self._aftercare is not None:
            self._aftercare.cancel()
            await asyncio.gather(self._aftercare, return_exceptions=True)
        try:
            await super().__aexit__(*exc_info)
        finally:
            if self._executors is not None:
                executors, self._executors = self._executors, None
                await executors.__aexit__(*exc_info)

    async def run(
        self,
        flow_run: FlowRun,
        configuration: BaseJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> AppConnectWorkerResult:
        """Run ``flow_run`` to its end in a fork of the warm process.

        Raises:
            RuntimeError: the process could not be started; the run is Crashed then.
        """
        if self._executors is None:
            raise RuntimeError("the worker is not set up")
        environment = {k: v for k, v in configuration.env.items() if v is not None}
        starter = _ForkStarter(self, self._executors, environment)
        executor = self._executors.create_executor(
            flow_run,
            starter,
            resolve_flow=load_flow_from_flow_run,
            propose_submitting=False,
        )
        try:
            status = _PidStatus(task_status or anyio.TASK_STATUS_IGNORED)
            execution = await executor.submit(task_status=status)
        except anyio.get_cancelled_exc_class():
            # We are being stopped. A run that had to be killed could not say so itself; one
            # that did, or that finished in time, is final, and the server refuses this.
            with anyio.CancelScope(shield=True):
                await self._propose_crashed_state(flow_run, _STOPPED)
            raise
        if execution is None or execution.status_code is None:
            raise RuntimeError("Failed to start flow run process.")
        return AppConnectWorkerResult(
            status_code=execution.status_code,
            identifier=place(execution.handle.pid or 0),
        )

    async def drain(self, process: BaseProcess) -> None:
        """Let ``process`` finish, then ask it to stop, then kill it."""
        for seconds, then in (
            (self.drain_seconds, process.terminate),
            (self.kill_seconds, process.kill),
        ):
            with anyio.move_on_after(seconds):
                await _ended(process)
            if not process.is_alive():
                return
            then()
        await _ended(process)

    def kill_all(self) -> None:
        """Kill the runs at work: somebody does not want to wait for them."""
        for process in list(self.children.values()):
            process.kill()

    async def kill_infrastructure(
        self,
        infrastructure_pid: str,
        configuration: BaseJobConfiguration,
        grace_seconds: int = 30,
    ) -> None:
        """Stop a run that is cancelled before it started; later ones are the executor's.

        Raises:
            InfrastructureNotFound: it is no process of this worker.
        """
        del configuration
        for process in list(self.children.values()):
            if place(process.pid or 0) == infrastructure_pid:
                process.terminate()
                with anyio.move_on_after(grace_seconds):
                    await _polled_to_end(process)
                process.kill()
                return
        raise InfrastructureNotFound(f"no run of this worker has pid {infrastructure_pid}")
