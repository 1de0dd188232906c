"""Prefect's own frame in Japanese: a dictionary and a script that its UI loads.

Prefect's UI has no languages. It is served from a folder of ours, so one script more can be put
into its page: ``layer.js`` replaces the words that ``ja.toml`` knows, in the page as it is drawn.
Words that it does not know stay English; what people type, logs and code are left alone. The same
page gets a Content-Security-Policy: the browser talks to this installation and to nobody else
(Prefect's UI would call an analytics service).
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from deployments.stack.pages import FOLDER

_PAGE = Path("v2", "index.html")
_SCRIPT = "frame.js"
_NAMES = "frame-names.json"
_OURS = re.compile(r"\s*<!-- app-connect -->.*?<!-- /app-connect -->", re.DOTALL)
_LINK = re.compile(rf"{re.escape(_SCRIPT)}[?\w]*")
_ASSETS = re.compile(r'src="([^"]*/)assets/')


@cache
def dictionary() -> dict[str, Any]:
    """The words, the patterns, and the text of generated names, as ``ja.toml`` has them."""
    text = resources.files(__name__).joinpath("ja.toml").read_text("utf-8")
    return tomllib.loads(text)


def install(ui_dir: Path, origin: str) -> None:
    """Put the layer into Prefect's page; doing it again, after an upgrade too, is fine.

    Args:
        ui_dir: The folder that the Prefect server has filled with its UI.
        origin: Where the API is, e.g. ``http://127.0.0.1:4200``: the browser may talk to it even
            when the page was opened under another name of this machine.
    """
    folder = ui_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    page = ui_dir / _PAGE
    text = _OURS.sub("", page.read_text("utf-8"))
    found = _ASSETS.search(text)
    base = found[1] if found else "/v2/"
    head = (
        f'\n    <!-- app-connect --><meta http-equiv="Content-Security-Policy" '
        f'content="{policy(origin)}">\n'
        f'    <script src="{base}{FOLDER.name}/{_SCRIPT}" defer></script><!-- /app-connect -->'
    )
    page.write_text(text.replace("<head>", f"<head>{head}", 1), "utf-8")
    _write_script(ui_dir)


def name_flows(ui_dir: Path, names: Mapping[str, str]) -> None:
    """Say how flows are called on screens, in place of their technical names.

    Args:
        ui_dir: As in `install`.
        names: Name of a flow -> what a person calls it.
    """
    folder = ui_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _NAMES).write_text(json.dumps(names, ensure_ascii=False), "utf-8")
    _write_script(ui_dir)


def _write_script(ui_dir: Path) -> None:
    """Write the script, and name it in the page by its content: browsers keep an old one else."""
    folder, page = ui_dir / FOLDER, ui_dir / _PAGE
    words = dictionary()
    known = folder / _NAMES
    names = json.loads(known.read_text("utf-8")) if known.exists() else {}
    data = json.dumps({**words, "names": names}, ensure_ascii=False)
    layer = resources.files(__name__).joinpath("layer.js").read_text("utf-8")
    script = f"const appConnectWords = {data};\n{layer}"
    (folder / _SCRIPT).write_text(script, "utf-8")
    if page.exists():
        version = hashlib.sha256(script.encode()).hexdigest()[:12]
        page.write_text(_LINK.sub(f"{_SCRIPT}?{version}", page.read_text("utf-8")), "utf-8")


def policy(origin: str) -> str:
    """The Content-Security-Policy of Prefect's page: nothing from, and nothing to, elsewhere."""
    socket = re.sub(r"^http", "ws", origin)
    return (
        "default-src 'self'; "
        f"connect-src 'self' {origin} {socket} data: blob:; "
        "img-src 'self' data: blob:; font-src 'self' data:; "
        # The timeline of a run compiles its shaders' code: without unsafe-eval it stays empty.
        "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-eval'; "
        "worker-src 'self' blob:; "
        "object-src 'none'; base-uri 'self'; form-action 'self'"
    )
