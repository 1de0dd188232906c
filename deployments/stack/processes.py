"""Children of the stack: started with a log, watched until healthy, stopped in reverse order.

Each child leads a session of its own, so Ctrl-C in the terminal reaches the supervisor alone,
which then stops them in order. When the supervisor itself is killed, the guard
(`deployments.stack.guard`) does the same: nothing outlives the stack.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

import httpx
import psutil

from deployments.stack.settings import StackError

_POLL_SECONDS = 0.1


def signal_group(pid: int, number: int) -> bool:
    """Signal the process group that ``pid`` leads or led; whether anybody was there."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message."""
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-lines:])
    return ""


class Child:
    """One process of the stack.

    Args:
        name: What a person calls it.
        command: Program and arguments.
        environment: Its whole environment.
        log: File that its output goes to; one older file is kept beside it.
        grace_seconds: How long it may take to stop before it is killed.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        grace_seconds: float = 10.0,
    ) -> None:
        self.name = name
        self.log = log
        self.grace_seconds = grace_seconds
        if log.exists():
            log.replace(log.with_suffix(".old.log"))
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                list(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id, and id of its process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended; ``None`` while it runs."""
        return self._process.poll()

    def wait_until(self, healthy: Callable[[], bool], *, seconds: float) -> None:
        """Wait until ``healthy()``.

        Raises:
            StackError: it ended first, or ``seconds`` passed; with the end of its log.
        """
        deadline = time.monotonic() + seconds
        while not healthy():
            if (code := self.exit_code) is not None:
                raise self.failure(f"起動の途中で終了しました（終了コード {code}）。")
            if time.monotonic() > deadline:
                raise self.failure(f"{seconds:.0f} 秒待っても起動しませんでした。")
            time.sleep(_POLL_SECONDS)

    def failure(self, what: str) -> StackError:
        """An error about this child: what happened, where the log is, and its end."""
        return StackError(f"{self.name}: {what}\nログ: {self.log}\n{tail(self.log)}".rstrip())

    def terminate(self) -> None:
        """Ask it to stop. Only the leader: it knows in which order its own children end."""
        if self.exit_code is None:
            self._process.terminate()

    def finish(self) -> None:
        """Wait for the end that was asked for, then kill what is left of its group."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self.grace_seconds)
        signal_group(self.pid, signal.SIGKILL)
        self._process.wait()


def http_healthy(url: str) -> Callable[[], bool]:
    """A health check: ``GET url`` answers with a success."""
    # Plain HTTP on loopback: reading every public certificate for each look would cost more than
    # what is looked at.
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def check() -> bool:
        try:
            return httpx.get(url, timeout=2.0, trust_env=False, verify=nobody).is_success
        except httpx.HTTPError:
            return False

    return check


class Guard:
    """Our side of `deployments.stack.guard`, the process that cleans up after a killed supervisor.

    It reads orders from a pipe; the end of the pipe without a farewell means that we are dead.

    Args:
        log: Where it writes what it did.
        keep: File descriptors that it holds on to while it works: the lock of the state folder,
            so that nobody starts a second stack into a half-stopped one.
    """

    def __init__(self, log: Path, keep: Sequence[int] = ()) -> None:
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deployments.stack.guard"],
                env={**os.environ, **python_path()},
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=tuple(keep),
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def _order(self, **order: object) -> None:
        if self._process.stdin is None:
            raise RuntimeError("the guard has no pipe")
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()

    def watch(self, child: Child) -> None:
        """Stop ``child`` when we die; the last one watched is the first one stopped."""
        self._order(watch=child.pid, seconds=child.grace_seconds)

    def watch_postgres(self, data_dir: Path, system_user: str | None) -> None:
        """Stop this PostgreSQL last when we die."""
        self._order(postgres=str(data_dir), user=system_user)

    def dismiss(self) -> None:
        """Everything was stopped in order: there is nothing left to guard."""
        self._order(dismiss=True)
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait(10)


def python_path() -> dict[str, str]:
    """``PYTHONPATH`` that makes our packages importable from any working directory."""
    root = str(Path(__file__).resolve().parents[2])
    path = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}


class StateLock:
    """One stack per state folder. The lock ends with its processes, however they end.

    Args:
        path: The lock file; it also says who holds it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: IO[str] | None = None

    def fileno(self) -> int:
        """The descriptor that holds the lock."""
        if self._stream is None:
            raise RuntimeError("the lock is not held")
        return self._stream.fileno()

    def acquire(self, url: str, *, seconds: float = 20.0) -> None:
        """Take the lock, waiting for the cleaning up after a killed stack, if any.

        Args:
            url: Address of the Prefect UI that the next one who tries is told.
            seconds: How long to wait for a holder that is being cleaned up.

        Raises:
            StackError: a stack is running on this state folder.
        """
        stream = self._path.open("a+", encoding="utf-8")
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = self._holder(stream)
                if _alive(holder.get("pid")) or time.monotonic() > deadline:
                    stream.close()
                    raise StackError(
                        "この状態フォルダー "
                        f"{self._path.parent} の App Connect は、すでに起動しています。\n"
                        f"画面: {holder.get('url', '不明')}\n"
                        "対処: そのまま使うか、起動した画面で Ctrl-C を押して終了してください。"
                    ) from None
                time.sleep(_POLL_SECONDS)
        stream.seek(0)
        stream.truncate()
        json.dump({"pid": os.getpid(), "url": url}, stream)
        stream.flush()
        self._stream = stream

    @staticmethod
    def _holder(stream: IO[str]) -> dict[str, object]:
        stream.seek(0)
        with contextlib.suppress(json.JSONDecodeError):
            found = json.loads(stream.read() or "{}")
            if isinstance(found, dict):
                return found
        return {}

    def release(self) -> None:
        """Let the next one start."""
        if self._stream is not None:
            fcntl.flock(self._stream, fcntl.LOCK_UN)
            self._stream.close()
            self._stream = None


def _alive(pid: object) -> bool:
    """Whether ``pid`` runs; a zombie does not (in a container nobody may reap it)."""
    if not isinstance(pid, int):
        return False
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def stopping_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP (terminal closed) unwind like Ctrl-C, so that ``with`` blocks clean up.

    Main thread only, as signal handlers are.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    previous = {n: signal.signal(n, interrupt) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a second Ctrl-C wait: half a clean-up is worse than a slow one (no-op in threads)."""
    try:
        previous = {
            n: signal.signal(n, signal.SIG_IGN)
            for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
    except ValueError:  # not the main thread: signals do not interrupt it
        previous = {}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
