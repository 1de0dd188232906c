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
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from connectors.kit.errors import DataError
from connectors.kit.text import GETA, cp932_problems, to_cp932_twins

UNSHOWN: Final = "表示できない文字"
"""Label of the last column: which characters of which column could not be written."""

# Also the full-width signs, which a Japanese Excel takes for formulas as well, and a leading
# apostrophe before any of them, so that undoing the protection never eats somebody's apostrophe.
_FORMULA: Final = re.compile("'*[=+\\-@\t\r\n\0＝＋－＠]")
_PLAIN_NUMBER: Final = re.compile(r"-[0-9][0-9,]*(\.[0-9]+)?")


def cp932_csv(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    unshown: str = UNSHOWN,
    at: int | None = None,
) -> bytes:
    """Rows as a CSV file for Excel, with an extra column for what could not be written.

    Args:
        columns: Labels of the columns.
        rows: One text per column each.
        unshown: Label of the extra column.
        at: How many columns stand before it, whose characters it does not name: what they say
            is about the others. ``None`` = it is the last one and names those of all.

    Raises:
        ValueError: a row has more or fewer texts than there are columns.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    place = len(columns) if at is None else at
    labels = [_cell(label) for label in columns]
    writer.writerow([*labels[:place], unshown, *labels[place:]])
    for row in rows:
        named = [
            f"{column}: {_named(c)}"
            for column, text in list(zip(columns, row, strict=True))[at or 0 :]
            for c in cp932_problems(to_cp932_twins(text))
        ]
        cells = [_cell(text) for text in row]
        writer.writerow([*cells[:place], _cell("、".join(named)), *cells[place:]])
    return out.getvalue().encode("cp932")


def _named(character: str) -> str:
    name = unicodedata.name(character, "")
    return f"U+{ord(character):04X} {name}".rstrip()


def shown(text: str) -> str:
    """What a person sees of ``text`` in a file of `cp932_csv`, once it was read back."""
    text = to_cp932_twins(text)
    for character in cp932_problems(text):
        text = text.replace(character, GETA)
    return text


def _cell(text: str) -> str:
    text = shown(text)
    return f"'{text}" if like_formula(text) else text


def like_formula(text: str) -> bool:
    """Whether a spreadsheet would take the text for a formula (OWASP ASVS 5.0, 1.2.10)."""
    return bool(_FORMULA.match(text)) and not _PLAIN_NUMBER.fullmatch(text)


def _uncell(text: str) -> str:
    return text[1:] if text.startswith("'") and like_formula(text[1:]) else text


def read_cp932_csv(data: bytes) -> list[dict[str, str]]:
    """The rows of a CSV file that `cp932_csv` wrote and a person may have edited and saved.

    UTF-8 (Excel's "CSV UTF-8", with or without BOM) is recognised: Japanese in CP932 is never
    valid UTF-8 by accident. The protection against formulas is undone. Empty lines are skipped, and
    texts missing at the end of a line are empty.

    Raises:
        DataError: ``AC-807``, the encoding is neither, or a line has more texts than columns.
    """
    return read_table(_decoded(data))


def read_table(text: str) -> list[dict[str, str]]:
    """The same for text that was pasted: a CSV, or cells that were copied in Excel (tabs).

    Raises:
        DataError: ``AC-807``, a line has more texts than columns.
    """
    return [row for _, row in numbered_rows(text)]


def numbered_rows(data: bytes | str) -> list[tuple[int, dict[str, str]]]:
    """Rows of a file, or of text that was pasted, each with the number of its (last) line.

    Raises:
        DataError: ``AC-807``, as `read_cp932_csv` and `read_table`.
    """
    text = data if isinstance(data, str) else _decoded(data)
    first = text.partition("\n")[0]
    delimiter = "\t" if "\t" in first and "," not in first.partition("\t")[0] else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns = [_uncell(label) for label in next(_lines(reader), [])]
    rows: list[tuple[int, dict[str, str]]] = []
    for cells in _lines(reader):
        if not any(cells):
            continue
        if any(cells[len(columns) :]):
            raise DataError("AC-807", f"CSVの{reader.line_num}行目")
        texts = [*map(_uncell, cells), *[""] * (len(columns) - len(cells))]
        rows.append((reader.line_num, dict(zip(columns, texts, strict=False))))
    return rows


def _lines(reader: Any) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error:  # a quotation mark that never ends, for one
        raise DataError("AC-807", f"CSVの{reader.line_num}行目") from None


def _decoded(data: bytes) -> str:
    if not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        for encoding in ("utf-8-sig", "cp932"):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError:
                continue
    raise DataError("AC-807", "CSVの文字コード")
