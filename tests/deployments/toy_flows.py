"""Flows that do nothing but behave, for the tests of the worker. Loaded by module path."""

from __future__ import annotations

import os
import time
from pathlib import Path

from prefect import flow, get_run_logger, task


@flow
def empty() -> None:
    """The price of a run."""


@flow
def says(words: str) -> str:
    get_run_logger().info("flow says %s", words)
    return says_task(words)


@task
def says_task(words: str) -> str:
    get_run_logger().info("task says %s", words)
    return words


@flow
async def says_async(words: str) -> str:
    get_run_logger().info("async flow says %s", words)
    return words


@flow
def fails() -> None:
    raise ValueError("on purpose")


@flow
def tells_environment(name: str, file: str) -> None:
    Path(file).write_text(os.environ.get(name, "not set"))


@flow
def waits(file: str, seconds: float = 60) -> None:
    """Writes its pid, waits, and writes how it ended."""
    path = Path(file)
    path.write_text(str(os.getpid()))
    try:
        time.sleep(seconds)
    finally:
        path.with_suffix(".ended").write_text("finally")


@flow
async def waits_async(file: str, seconds: float = 60) -> None:
    import asyncio

    path = Path(file)
    path.write_text(str(os.getpid()))  # noqa: ASYNC240 - a few bytes
    try:
        await asyncio.sleep(seconds)
    finally:
        path.with_suffix(".ended").write_text("finally")


@flow
def is_stubborn(file: str) -> None:
    """Does not stop when it is asked to."""
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(file).write_text(str(os.getpid()))
    while True:
        time.sleep(1)
