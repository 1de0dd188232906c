"""``app-connect new-connector``: red until its blanks are filled in, green with an example."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.kit import SettingsError
from deployments.scaffold import BLANK, FILES, blanks, generate
from tests.acceptance.protocol import ROOT

COPIED = ("connectors", "blocks", "flows", "deployments")
NEEDED = ("tests/conftest.py", "tests/faults/company.py", "tests/acceptance", "pyproject.toml")
EXAMPLE = {
    # What a person looks up in the vendor's documents; every other line is right as it is.
    "client.host": 'HOST = "api.acme-seisan.example"',
    "client.path": 'PATH = "/api/v2/expenses"',
    "client.page": "PAGE_SIZE = 50",
}


def python(root: Path, *arguments: str) -> str:
    """What Python said, run on the copy and not on what is installed."""
    paths = [str(root), str(root / "tests" / "faults")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{ended.stdout}{ended.stderr}\nexit {ended.returncode}"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A copy of the sources with a connector that was generated just now."""
    root = tmp_path_factory.mktemp("checkout")
    leave = shutil.ignore_patterns("__pycache__")
    for name in (*COPIED, *NEEDED):
        source, target = ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=leave)
        else:
            shutil.copy2(source, target)
    return root, generate(root, "acme", "アクメ精算")


def filled(text: str) -> Iterator[str]:
    """A file with the example's lines; a blank whose line is right loses its comment only."""
    for line in text.splitlines():
        found = BLANK.search(line)
        if found is None:
            yield line
        elif found["name"] in EXAMPLE:
            yield EXAMPLE[found["name"]]
        elif rest := re.sub(r"\s*(#|<!--) BLANK\[.*", "", line):
            yield rest


def test_it_is_red_with_every_blank_named_and_then_green(
    generated: tuple[Path, list[Path]],
) -> None:
    root, files = generated
    assert [str(path.relative_to(root)) for path in files] == [
        path.format(name="acme") for path in FILES.values()
    ]
    left = list(blanks(files))
    assert len({blank.name for blank in left}) == len(left) > 10
    assert all(re.match(r".*[ぁ-んァ-ヶ一-龠].* / [a-z]", blank.words) for blank in left), left
    kit = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/acceptance")
    red = python(root, *kit, "-k", "acme and blank")
    assert re.search(r"\n1 failed, ", red), red
    assert [blank.name for blank in left if f"{blank.name}: {blank.words}" not in red] == []
    for path in files:
        path.write_text("\n".join(filled(path.read_text("utf-8"))) + "\n", "utf-8")
    green = python(root, *kit, "tests/connectors/acme", "-k", "acme")
    assert green.endswith("exit 0"), green
    assert re.search(r"\n1[0-9] passed", green), green


def test_what_is_there_is_not_overwritten(generated: tuple[Path, list[Path]]) -> None:
    root, files = generated
    before = [path.read_bytes() for path in files]
    for name in ("acme", "Acme", "../acme", "bugyo"):
        with pytest.raises(SettingsError) as refused:
            generate(root, name, "x")
        assert refused.value.code == "AC-205"
    assert [path.read_bytes() for path in files] == before
