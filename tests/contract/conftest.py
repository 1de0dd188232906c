"""The vendors' own clients, each in an environment of its own that `make test-contract` keeps."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".contract"


@pytest.fixture(scope="session")
def drive() -> Callable[..., Any]:
    """Runs ``<name>_driver.py`` with the vendor's client; returns what it prints as JSON."""

    def run(name: str, *arguments: str) -> Any:
        python = ENVIRONMENTS / name / "bin" / "python"
        assert python.exists(), "make test-contract makes the environment of the vendor's client"
        # -I: nothing of ours is importable, whatever the folder or the environment says.
        command = [str(python), "-I", str(HERE / f"{name}_driver.py"), *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    return run
