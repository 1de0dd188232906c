"""What a measured process tells about itself."""

from __future__ import annotations

import contextlib
import gc
import json
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def measured(**more: Any) -> Iterator[dict[str, Any]]:
    """Measure the body and print one JSON line: seconds, CPU seconds, peak memory in MiB.

    Imports are over when the body begins. The body may add to the dictionary it gets.
    """
    gc.collect()
    told: dict[str, Any] = {**more, "idle_mib": _peak_mib()}
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    yield told
    told["seconds"] = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    told["cpu"] = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    told["peak_mib"] = _peak_mib()
    sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
