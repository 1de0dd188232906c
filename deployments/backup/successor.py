"""A new data folder that takes the place of another one only when it is complete."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from deployments.stack.postgres import EmbeddedPostgres, folder_major, new_folder, take_place


def dated_copy(data_dir: Path) -> Path:
    """Where ``data_dir`` is kept when another one takes its place, e.g. ``postgres-15-20261122``.

    Local time: it is for the operator who looks at the folder.
    """
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return data_dir.with_name(f"{data_dir.name}-{folder_major(data_dir)}-{stamp}")


@contextlib.contextmanager
def successor(
    data_dir: Path, databases: list[str], kept: Path | None
) -> Iterator[EmbeddedPostgres]:
    """A running server on a new folder. When the body succeeds, the folder becomes ``data_dir``.

    When it fails, the new folder is removed and ``data_dir`` is as it was.

    Args:
        data_dir: Where the new folder shall be.
        databases: What is made in it, empty.
        kept: The name that the present ``data_dir`` gets; ``None`` when there is none.
    """
    new = new_folder(data_dir)
    shutil.rmtree(new, ignore_errors=True)  # of an attempt that was killed
    server = EmbeddedPostgres(new)
    try:
        server.start(databases)
        yield server
        server.stop()
        take_place(new, data_dir, kept)
    except BaseException:
        server.stop()
        shutil.rmtree(new, ignore_errors=True)
        raise
