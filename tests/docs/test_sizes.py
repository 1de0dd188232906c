"""A connector stays small: what several need is in the kit, what 奉行 wants in flows/parts."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST = 480
"""Lines of code of a connector's folder and one flow, without its emulator: "about 400"."""

_NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}


def lines_of_code(path: Path) -> int:
    """Lines with code on them: no blank ones, comments, docstrings."""
    text = path.read_text("utf-8")
    written: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            written.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            written -= {*range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    return len(written)


@pytest.mark.parametrize("flow", sorted((ROOT / "flows").glob("*_from_*.py")), ids=lambda p: p.stem)
def test_a_connector_is_an_afternoon_s_work(flow: Path) -> None:
    partner = flow.stem.rpartition("_from_")[2]
    folder = (ROOT / "connectors" / partner).rglob("*.py")
    files = [flow, *(path for path in folder if "emulator" not in path.name)]
    count = {str(path.relative_to(ROOT)): lines_of_code(path) for path in files}
    assert sum(count.values()) <= MOST, count
