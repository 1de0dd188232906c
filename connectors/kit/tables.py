"""CSV for people: opens in Excel on a Japanese Windows, comes back as it went.

CP932 with CRLF, safe against formula injection (OWASP ASVS 5.0, 1.2.10), and honest about
characters that CP932 cannot hold: they become 〓 and are named in a column of their own.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

from connectors.kit.errors import DataError
from connectors.kit.text import GETA, cp932_problems, to_cp932_twins

UNSHOWN: Final = "表示できない文字"
"""Label of the last column: which characters of which column could not be written."""

# Also the full-width signs, which a Japanese Excel takes for formulas as well, and a leading
# apostrophe before any of them, so that undoing the protection never eats somebody's apostrophe.
_FORMULA: Final = re.compile("'*[=+\\-@\t\r\n\0＝＋－＠]")
_PLAIN_NUMBER: Final = re.compile(r"-[0-9][0-9,]*(\.[0-9]+)?")


def cp932_csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """Rows as a CSV file for Excel, with `UNSHOWN` as an extra last column.

    Args:
        columns: Labels of the columns.
        rows: One text per column each.

    Raises:
        ValueError: a row has more or fewer texts than there are columns.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([*map(_cell, columns), UNSHOWN])
    for row in rows:
        unshown = [
            f"{column}: {_named(c)}"
            for column, text in zip(columns, row, strict=True)
            for c in cp932_problems(to_cp932_twins(text))
        ]
        writer.writerow([*map(_cell, row), _cell("、".join(unshown))])
    return out.getvalue().encode("cp932")


def _named(character: str) -> str:
    name = unicodedata.name(character, "")
    return f"U+{ord(character):04X} {name}".rstrip()


def _cell(text: str) -> str:
    text = to_cp932_twins(text)
    for character in cp932_problems(text):
        text = text.replace(character, GETA)
    return f"'{text}" if _like_formula(text) else text


def _like_formula(text: str) -> bool:
    return bool(_FORMULA.match(text)) and not _PLAIN_NUMBER.fullmatch(text)


def _uncell(text: str) -> str:
    return text[1:] if text.startswith("'") and _like_formula(text[1:]) else text


def read_cp932_csv(data: bytes) -> list[dict[str, str]]:
    """The rows of a CSV file that `cp932_csv` wrote and a person may have edited and saved.

    UTF-8 (Excel's "CSV UTF-8", with or without BOM) is recognised: Japanese in CP932 is never
    valid UTF-8 by accident. The protection against formulas is undone. Empty lines are skipped, and
    texts missing at the end of a line are empty.

    Raises:
        DataError: ``AC-807``, the encoding is neither, or a line has more texts than columns.
    """
    reader = csv.reader(io.StringIO(_decoded(data), newline=""))
    columns = [_uncell(label) for label in next(reader, [])]
    rows: list[dict[str, str]] = []
    for cells in reader:
        if not any(cells):
            continue
        if any(cells[len(columns) :]):
            raise DataError("AC-807", f"CSVの{reader.line_num}行目")
        texts = [*map(_uncell, cells), *[""] * (len(columns) - len(cells))]
        rows.append(dict(zip(columns, texts, strict=False)))
    return rows


def _decoded(data: bytes) -> str:
    if not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        for encoding in ("utf-8-sig", "cp932"):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError:
                continue
    raise DataError("AC-807", "CSVの文字コード")
