"""Imported once by the warm process, before it forks runs: Prefect's engine and our flows.

Importing this module *is* its function; nobody else imports it. No thread may be left running and
no connection open, because neither survives a fork.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterator

from connectors.kit.hosts import public_trust

PACKAGES = ("flows", "flows.operations")
"""Packages whose modules are flows. ``flows.engine`` comes with them."""


def modules() -> Iterator[str]:
    """Modules to import: Prefect's, our flows, and those in ``APP_CONNECT_PRELOAD`` (commas)."""
    yield from ("prefect.main", "prefect.flow_engine", "prefect.task_engine")
    yield from ("prefect.events.worker", "prefect.logging.handlers", "deployments.stack.run_child")
    for package in PACKAGES:
        found = importlib.import_module(package)
        for module in pkgutil.iter_modules(found.__path__):
            if not module.ispkg:
                yield f"{package}.{module.name}"
    yield from filter(None, os.environ.get("APP_CONNECT_PRELOAD", "").split(","))


def load() -> None:
    """Import everything. A module that fails does so again in its own run, where it is seen."""
    for name in modules():
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 - one broken flow must not stop all the others
            print(f"preload of {name} failed", file=sys.stderr)
            traceback.print_exc()
    # Read once for all runs: some 20 ms for OpenSSL.
    with contextlib.suppress(OSError):  # a run says what is wrong with a file of one's own
        public_trust()
    # What was imported stays: the children's collector need not look at it (nor copy its pages).
    gc.collect()
    gc.freeze()


load()
