"""Our own pages beside the Prefect UI: logos, the connectors' manuals, and the page of all errors.

The browser talks to nobody but us, so a block's logo and its documentation link have to lead
here: ``http://<Prefect>/v2/app-connect/kintone.svg`` and ``…/kintone.html``. The Prefect server
serves every file below its UI folder (``PREFECT_SERVER_UI_STATIC_DIRECTORY``). It fills that folder
while it starts, and empties it first when its version has changed; ours are written after that.
"""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

import connectors
from connectors.kit.error_links import ERRORS_PAGE, anchor
from connectors.kit.errors_page import render as errors_markdown

FOLDER = Path("v2", "app-connect")
"""Below the UI folder. ``v2`` is the version of the UI that people see."""

MANUALS = "MANUAL*.ja.md"
"""``MANUAL.ja.md`` becomes ``folder.html``, ``MANUAL.slips.ja.md`` ``folder-slips.html``; that of
``kit`` is about what all connectors have in common."""

_MANUAL = re.compile(r"(?:\.\./(?P<folder>\w+)/)?MANUAL(?P<variant>[\w.]*)\.ja\.md(?P<part>#.*)?")
_ERRORS = re.compile(r"(?:\.\./)+docs/errors\.ja\.md(?P<part>#.*)?")
LOGO = "logo.svg"

_PAGE = """<!doctype html>
<html lang="ja">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src 'self'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ margin: 0 auto; max-width: 56rem; padding: 2rem 1.5rem 6rem; color: #1c1d1f;
  font: 16px/1.8 "Hiragino Sans", "Noto Sans CJK JP", "Yu Gothic UI", Meiryo, sans-serif; }}
h1 {{ font-size: 1.7rem; }}
h2 {{ margin-top: 2.5rem; padding-bottom: .3rem; border-bottom: 1px solid #d5d7db;
  font-size: 1.3rem; }}
h3 {{ margin-top: 1.8rem; font-size: 1.08rem; }}
table {{ width: 100%; margin: 1rem 0; border-collapse: collapse; font-size: .92rem; }}
th, td {{ padding: .4rem .7rem; border: 1px solid #d5d7db; text-align: left; vertical-align: top; }}
th, td:first-child {{ white-space: nowrap; }}
th {{ background: #f1f3f5; }}
code {{ padding: .1em .35em; border-radius: 3px; background: #f1f3f5; font-size: .9em; }}
pre {{ padding: 1rem; overflow-x: auto; border-radius: 6px; background: #f1f3f5; }}
pre code {{ padding: 0; }}
img {{ max-width: 100%; border: 1px solid #d5d7db; border-radius: 6px; }}
a {{ color: #1449c4; }}
</style>
</head>
<body>
{body}</body>
</html>
"""


def publish(ui_dir: Path) -> None:
    """Write logos, manuals and their pictures below ``ui_dir``; what is there is replaced.

    Args:
        ui_dir: The folder that the Prefect server has filled with its UI.
    """
    target = ui_dir / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    for folder in sorted(Path(next(iter(connectors.__path__))).iterdir()):
        if (logo := folder / LOGO).is_file():
            shutil.copyfile(logo, target / f"{folder.name}.svg")
        for manual in sorted(folder.glob(MANUALS)):
            page = render(manual, target / "images")
            (target / str(_page_of(manual.name, folder.name))).write_text(page, "utf-8")
    (target / ERRORS_PAGE).write_text(render_errors(), "utf-8")


def render_errors() -> str:
    """The page of all errors, each section with its code as id (`connectors.kit.error_links`)."""
    reader = MarkdownIt("commonmark", {"html": False})
    # The comment at its top is for people who open the file.
    tokens = reader.parse(re.sub(r"<!--.*?-->", "", errors_markdown(), flags=re.DOTALL))
    for opening, words in pairwise(tokens):
        if opening.type == "heading_open" and (code := re.match(r"AC-\d{3}\b", words.content)):
            opening.attrs["id"] = anchor(code[0])
    body = reader.renderer.render(tokens, reader.options, {})
    return _PAGE.format(title="エラーの一覧", body=body)


def render(manual: Path, images: Path) -> str:
    """A manual as a page that asks for nothing but its pictures.

    Args:
        manual: Markdown; its pictures are named relative to it.
        images: Where its pictures are copied to. One that does not exist (an installed wheel has
            no ``docs``) is replaced by its description.

    Returns:
        The HTML. Markup inside the Markdown is shown as text.
    """
    # Not ``commonmark`` as it is: tables are ours to write, HTML is not.
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(manual.read_text("utf-8"))
    for opening, words in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrs["id"] = _id_of(words.content)
    for token in tokens:
        _bring_pictures(token.children or [], manual.parent, images)
        _lead_to_pages(token.children or [], manual.parent.name)
    body = reader.renderer.render(tokens, reader.options, {})
    title = next((t.content for t in tokens if t.type == "inline"), manual.parent.name)
    return _PAGE.format(title=html.escape(title), body=body)


def _page_of(link: str, folder: str) -> str | None:
    """The page that a link of a manual in ``folder`` is about; ``None`` = it leads elsewhere."""
    if found := _MANUAL.fullmatch(link):
        variant = found["variant"].replace(".", "-")
        return f"{found['folder'] or folder}{variant}.html{found['part'] or ''}"
    if found := _ERRORS.fullmatch(link):
        return f"{ERRORS_PAGE}{found['part'] or ''}"
    return None


def _id_of(heading: str) -> str:
    """As GitHub names a heading: the same links lead there, and here."""
    return re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")


def _lead_to_pages(tokens: Sequence[Token], folder: str) -> None:
    for token in tokens:
        if token.type == "link_open" and (page := _page_of(str(token.attrs["href"]), folder)):
            token.attrs["href"] = page


def _bring_pictures(tokens: Sequence[Token], beside: Path, images: Path) -> None:
    for token in tokens:
        if token.type != "image":
            continue
        picture = beside / str(token.attrs["src"])
        if picture.is_file():
            images.mkdir(exist_ok=True)
            shutil.copyfile(picture, images / picture.name)
            token.attrs["src"] = f"images/{picture.name}"
        else:
            token.type, token.content = "text", f"（図: {token.content}）"
