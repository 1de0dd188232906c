"""SIGTERM to a run: drain first (`flows.engine.brake`), then end as Prefect would have at once.

Prefect raises an exception wherever the run happens to be, so that a request on its way loses its
answer. Here its own handler is put off until the run has drained. A second SIGTERM is Prefect's.

Not public API of Prefect (3.8): the handler is recognised by its identity when Cancel announces
itself, so it is replaced where Prefect looks for it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

from prefect._internal.control_listener import get_intent
from prefect.utilities import engine

from flows.engine.brake import Brake, stopped

KILL_VARIABLE = "APP_CONNECT_KILL_SECONDS"
"""How long a run has to clean up after SIGTERM, before it is killed; see `deployments.worker`."""

_SHARE = 0.6  # of that time is for answers; the rest for our books, Prefect's state and its pages


def _patience() -> float:
    try:
        return max(0.0, float(os.environ.get(KILL_VARIABLE) or "10")) * _SHARE
    except ValueError:
        return 10 * _SHARE


@contextlib.contextmanager
def drained_by_sigterm(brake: Brake) -> Iterator[None]:
    """While the body runs, the first SIGTERM pulls ``brake``; the second one is Prefect's.

    When the body ends after a Cancel, Prefect gets the signal that it has been kept from.
    Does nothing where Prefect has no handler: outside of the main thread, or in a direct call.
    """
    theirs = engine._prefect_sigterm_handler
    if not engine.is_prefect_sigterm_handler_installed():
        yield
        return

    first = True

    def ours(number: int, *frame: object) -> None:
        nonlocal first
        before, first = first, False
        if before and brake.ended:
            return  # only the pages and the state are missing: a moment
        cancelled = get_intent() == "cancel"
        why = "取り消されました" if cancelled else "処理を実行するプログラムが停止します"
        if not brake.pull(stopped(why), _patience()):
            theirs(number, *frame)

    _install(ours)
    try:
        yield
    finally:
        _install(theirs)
    if brake.error is not None and get_intent() is not None:
        signal.raise_signal(signal.SIGTERM)


def _install(handler: object) -> None:
    with engine._prefect_sigterm_bridge_lock:
        engine._prefect_sigterm_handler = handler  # type: ignore[assignment]
        signal.signal(signal.SIGTERM, handler)  # type: ignore[arg-type]
