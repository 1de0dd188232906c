"""Named points of a run at which a test may end the process; nothing happens by default.

The promises of design 6 and 8 are about what is left when a process dies *between* two steps. A
test arms a callback in a child process (``os._exit``, a freeze, a wait) and names the step.

The names in use are listed in ``docs/architecture.md`` and where `reached` is called.
"""

from __future__ import annotations

from collections.abc import Callable

_callback: Callable[[str], None] | None = None


def reached(name: str) -> None:
    """Say that the step ``name`` has been reached."""
    if _callback is not None:
        _callback(name)


def arm(callback: Callable[[str], None] | None) -> None:
    """Call ``callback(name)`` at every point from now on, in this process; ``None`` = no more."""
    global _callback  # noqa: PLW0603 (one process, one callback)
    _callback = callback
