"""``app-connect new-connector``: a connector of slips that runs, with its blanks named.

What is written talks to an emulator of an invented vendor, so that it imports, type-checks and runs
from the first minute. Every line that only the vendor's documents can tell carries ``BLANK[name]``:
the acceptance kit is red, and lists them, until each has been dealt with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from connectors.kit import SettingsError

FILES = {
    "client.py": "connectors/{name}/client.py",
    "errors.py": "connectors/{name}/_errors.py",
    "models.py": "connectors/{name}/models.py",
    "emulator.py": "connectors/{name}/emulator.py",
    "package.py": "connectors/{name}/__init__.py",
    "MANUAL.md": "connectors/{name}/MANUAL.ja.md",
    "logo.svg": "connectors/{name}/logo.svg",
    "block.py": "blocks/{name}.py",
    "source.py": "flows/parts/{name}.py",
    "flow.py": "flows/slips_from_{name}.py",
    "sample.py": "deployments/samples/{name}.py",
    "case.py": "tests/acceptance/connectors/slips_from_{name}.py",
    "test.py": "tests/connectors/{name}/test_{name}_client.py",
}
"""Template -> file, from the root of the repository."""

BLANK = re.compile(r"BLANK\[(?P<name>[a-z.]+)\]: (?P<words>.+?)\s*(?:-->|$)")
"""What is left to be filled in: a name, and what belongs there in Japanese and in English."""

_BLOCKS, _SETTINGS = "blocks/__init__.py", "deployments/stack/settings.py"


@dataclass(frozen=True, slots=True)
class Blank:
    """One place that is to be filled in."""

    path: Path
    line: int
    name: str
    words: str


def generate(root: Path, name: str, title: str) -> list[Path]:
    """Write a connector; returns its files.

    Args:
        root: Of a checkout of this repository.
        name: The partner's folder and name in code: ``acme``.
        title: The partner's name on screens: ``アクメ精算``.

    Raises:
        SettingsError: ``AC-205``, the name cannot be used, a file is there already, or ``root`` is
            no checkout.
    """
    if not re.fullmatch("[a-z][a-z0-9]{1,30}", name):
        raise SettingsError("AC-205", f"「{name}」: 名前は英小文字で始まる英小文字と数字にします")
    if not (root / _BLOCKS).is_file():
        raise SettingsError("AC-205", f"{root} はこのプロジェクトのソースのフォルダではありません")
    targets = {template: root / path.format(name=name) for template, path in FILES.items()}
    if there := [path for path in targets.values() if path.exists()]:
        raise SettingsError("AC-205", f"{there[0]} はすでにあります（何も書いていません）")
    settings = (root / _SETTINGS).read_text("utf-8")
    port = max(map(int, re.findall(r"_port: int = Field\(default=(\d+)", settings))) + 1
    loader = PackageLoader("deployments.scaffold")
    templates = Environment(
        loader=loader,
        autoescape=False,  # noqa: S701 (source code, not HTML)
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    known = {"name": name, "title": title, "Name": name.capitalize(), "port": port}
    texts = {t: templates.get_template(f"{t}.jinja").render(known) for t in FILES}
    for template, path in targets.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[template], "utf-8")
    _edit(root / _BLOCKS, lambda text: _with_block(text, name))
    _edit(root / _SETTINGS, lambda text: _with_port(text, name, title, port))
    return list(targets.values())


def blanks(paths: Iterable[Path]) -> Iterator[Blank]:
    """What is left to be filled in, in some files."""
    for path in paths:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if found := BLANK.search(line):
                yield Blank(path, number, found["name"], found["words"])


def _edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text("utf-8")), "utf-8")


def _with_block(text: str, name: str) -> str:
    """``blocks/__init__.py`` with the new credentials, in order."""
    kind = f"{name.capitalize()}Credentials"
    lines = text.splitlines()
    imports = [n for n, line in enumerate(lines) if line.startswith("from blocks.")]
    after = [n for n in imports if lines[n] < f"from blocks.{name} "]
    lines.insert((after or [imports[0] - 1])[-1] + 1, f"from blocks.{name} import {kind}")
    names = [n for n, line in enumerate(lines) if re.match(r'    "[A-Z][a-z]', line)]
    before = [n for n in names if lines[n] < f'    "{kind}"']
    lines.insert((before or [names[0] - 1])[-1] + 1, f'    "{kind}",')
    return "\n".join(lines) + "\n"


def _with_port(text: str, name: str, title: str, port: int) -> str:
    """The settings of the stack with one more emulator."""
    text = re.sub(
        r"(EMULATORS = \{\n(?:    .*\n)+)", rf'\g<1>    "{name}": "{title}",\n', text, count=1
    )
    *_, last = re.finditer(r"    \w+_port: int = Field\(default=.*\n", text)
    line = f"    {name}_port: int = Field(default={port}, ge=1, le=65535)\n"
    return text[: last.end()] + line + text[last.end() :]
