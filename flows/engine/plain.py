"""A run without Prefect around it: for the benchmark, and for tests that run hundreds of them."""

from __future__ import annotations

import asyncio
import logging

from connectors.kit import AppConnectError
from flows.engine.context import RunContext
from flows.engine.extract import extract
from flows.engine.load import first_error, load
from flows.engine.transform import transform

_log = logging.getLogger(__name__)


class PlainSurface:
    """A `flows.engine.core.Surface` that shows nothing: words go to the log of the module."""

    async def progress(self, stage: str, done: int, total: int | None) -> None:
        """Shown to nobody."""

    def log(self, message: str, *values: object) -> None:
        """To Python's logging."""
        _log.info(message, *values)

    async def stages(self, run: RunContext) -> None:
        """Extract and transform side by side, then load."""
        ended = await asyncio.gather(extract(run), transform(run), return_exceptions=True)
        problem = first_error([each for each in ended if each is not None])
        if problem is None:
            try:
                await load(run)
            except AppConnectError as error:
                problem = error
        if isinstance(problem, AppConnectError):
            run.error = problem
        elif problem is not None:
            raise problem
