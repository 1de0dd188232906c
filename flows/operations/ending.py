"""How an operation ends: a state with the words of the product, never a traceback."""

from __future__ import annotations

from collections.abc import Awaitable

from prefect import State
from prefect.states import Completed, Failed

from connectors.kit import AppConnectError, FaultError
from flows.engine.model import Result


async def as_state(work: Awaitable[tuple[Result, str]]) -> State[None]:
    """The state of an operation.

    Args:
        work: The operation; gives its 結果 and what is said about it.
    """
    try:
        result, message = await work
    except AppConnectError as error:
        return Failed(name=Result.ERROR, message=str(error))
    except Exception as error:  # noqa: BLE001 (a clerk never reads a traceback)
        return Failed(name=Result.ERROR, message=str(FaultError("AC-901", type(error).__name__)))
    if result is Result.ERROR:
        return Failed(name=result, message=message)
    return Completed(name=result, message=message)
