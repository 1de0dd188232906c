"""The garbage collector while a run is at work."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

_THRESHOLDS = (10_000, 10, 10)


@contextlib.contextmanager
def fewer_collections() -> Iterator[None]:
    """Collect less often while pages pass through.

    A page is thousands of small objects without a cycle, freed by their counts as soon as it is
    done. With Python's own thresholds the collector looks at each of them several times before:
    a fifth of a run's CPU (docs/benchmarks.md). It still runs, so real cycles do not pile up.
    """
    before = gc.get_threshold()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
