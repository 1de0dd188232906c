"""A flow whose import takes long, so that its run stays Pending with a process."""

from __future__ import annotations

import os
import time
from pathlib import Path

from prefect import flow

if file := os.environ.get("TOY_PID_FILE"):
    Path(file).write_text(str(os.getpid()))
    time.sleep(60)


@flow
def never() -> None:
    """Is cancelled before it starts."""
