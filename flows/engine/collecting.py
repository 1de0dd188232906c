"""The interpreter while a run is at work: its garbage collector, and how its threads take turns."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

_THRESHOLDS = (10_000, 10, 10)
_SWITCH_SECONDS = 0.0005


@contextlib.contextmanager
def fewer_collections() -> Iterator[None]:
    """Collect less often while pages pass through.

    A page is thousands of small objects without a cycle, freed by their counts as soon as it is
    done. With Python's own thresholds the collector looks at each of them several times before:
    a fifth of a run's CPU (docs/benchmarks.md). It still runs, so real cycles do not pile up.

    A thread that comes back from the database waits for the one that converts a page until that
    is made to give way: by Python's own setting 5 ms, several times as long as the statement took.
    """
    before = gc.get_threshold()
    turns = sys.getswitchinterval()
    gc.set_threshold(*_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        sys.setswitchinterval(turns)
