"""Text as Japanese business systems need it: half and full width, kana, codes, CP932.

Every function is called for each text of each record, so each begins with a check that lets clean
text through at the cost of a method call or two. Whatever is not clean takes the careful way.

Nothing here uses NFKC: it would turn ① into 1, ㈱ into (株) and, like plain NFC, some name kanji
(神, U+FA19) into others. What a person typed stays as it was typed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

import jaconv

GETA: Final = "〓"
"""The printer's mark for a missing type: what stands for a character that cannot be written."""

_SPACES: Final = " \u3000\u00a0"
_FULL_ASCII: Final = {0xFF01 + i: 0x21 + i for i in range(94)} | {0x3000: 0x20, 0x00A0: 0x20}
_ANY_FULL_ASCII: Final = re.compile("[\uff01-\uff5e\u3000\u00a0]")
_LINE_BREAK: Final = re.compile("\r\n|[\n\r\v\f\x85\u2028\u2029]")
# NFC is not for these: compatibility kanji are other characters to their owners, and Å (U+212B)
# is the only one of its two code points that CP932 has.
_LEFT_AS_TYPED: Final = re.compile("([\u212b\uf900-\ufaff\U0002f800-\U0002fa1f]+)")
_HALF_KANA: Final = re.compile("[\uff61-\uff9f]+")
_LONE_MARKS: Final = {0xFF9E: "゛", 0xFF9F: "゜"}
_HYPHENS: Final = re.compile(
    "[\u2010-\u2015\u2212\ufe63]|(?<=[0-9A-Za-z])[\u30fc\uff70\u2500](?=[0-9A-Za-z])"
)
_VARIATION_SELECTORS: Final = {*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}

# The same sign under two code points: the left one comes from JIS-minded programs (macOS, Java's
# Shift_JIS, phones), the right one is what Microsoft's code page 932 writes. A .NET server answers
# "?" to the left one, whatever Python's more tolerant codec does.
_TWINS: Final[dict[int, str | None]] = {
    0x301C: "～",
    0x2212: "－",
    0x2016: "∥",
    0x00A2: "￠",
    0x00A3: "￡",
    0x00AC: "￢",
    0x00A6: "￤",
    0x00A5: "￥",
    0x203E: "￣",
    0x2014: "―",
    0x2011: "‐",
    0x00C5: "\u212b",
    0x00A0: " ",
    **dict.fromkeys(_VARIATION_SELECTORS),
}


def to_half_alnum(s: str) -> str:
    """Full-width letters, digits, signs and spaces as ASCII; everything else untouched."""
    return s if s.isascii() or not _ANY_FULL_ASCII.search(s) else s.translate(_FULL_ASCII)


def normalise_code(s: str, *, width: int | None, pad: str = "0") -> str:
    """A code in the shape that code items take. It is a string and never becomes a number.

    Full-width characters become half-width, the look-alikes of the hyphen (－ ‐ − and ー between
    letters or digits) become ``-``, control characters and outer spaces go, and a code made of
    digits only is filled up on the left. Leading zeros stay; a code that is too long stays too
    long (the validation names it).

    Args:
        s: The code as it came.
        width: Digits that a numeric code is filled up to; ``None`` = leave its length alone.
        pad: The one character it is filled up with.
    """
    if not (s.isascii() and s.isprintable()):
        s = _HYPHENS.sub("-", to_half_alnum(clean_text(s, multiline=False)))
    s = s.strip(" ")
    if width is None or len(s) >= width or not (s.isascii() and s.isdigit()):
        return s
    return s.rjust(width, pad)


def kana_full(s: str) -> str:
    """Half-width kana as full-width, voiced marks combined (ｶﾞ → ガ); ASCII stays as it is."""
    if s.isascii() or not _HALF_KANA.search(s):
        return s
    return _HALF_KANA.sub(
        lambda run: jaconv.h2z(run[0], kana=True, ascii=False, digit=False).translate(_LONE_MARKS),
        s,
    )


def katakana(s: str) -> str:
    """For フリガナ in full width: hiragana and half-width kana as full-width katakana."""
    return s if s.isascii() else str(jaconv.hira2kata(kana_full(s)))


def kana_half(s: str) -> str:
    """For フリガナ items: hiragana and katakana as half-width katakana, letters and digits too."""
    return s if s.isascii() else _compose(s).translate(_half_table())


@lru_cache(maxsize=1)
def _half_table() -> dict[int, str]:
    """What jaconv maps as a table: ``str.translate`` is ten times faster than the calls."""
    typed = [chr(i) for i in (*range(0x3001, 0x3100), *range(0xFF01, 0xFF5F), 0x3000)]
    halves = {c: jaconv.z2h(jaconv.hira2kata(c), kana=True, ascii=True, digit=True) for c in typed}
    halves |= {"゛": "ﾞ", "゜": "ﾟ"}
    return {ord(c): half for c, half in halves.items() if half != c}


def clean_text(s: str, *, multiline: bool) -> str:
    r"""Text without what nobody can see.

    Control and invisible format characters go, tabs become spaces, outer half- and full-width
    spaces and line breaks go, decomposed kana are composed (カ + ゙ → ガ). 髙﨑①㈱ are not touched.

    Args:
        s: The text as it came.
        multiline: Line breaks become ``\n``; otherwise a space each.
    """
    if s.isascii():
        if s.isprintable():
            return s.strip(" ")
    elif s.isprintable() or s.replace("\u3000", "").isprintable():
        return _compose(s).strip(_SPACES)
    s = _LINE_BREAK.sub("\n" if multiline else " ", s).replace("\t", " ")
    visible = (c for c in s if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return _compose("".join(visible)).strip(_SPACES + "\n")


def all_clean(values: Iterable[str]) -> bool:
    """Whether these texts need no repair: one look over all of them, for the record path.

    ``True`` means that `clean_text` (on one line), `kana_full` and `to_cp932_twins` would give each
    back as it is and `cp932_problems` would find nothing. ``False`` says nothing: look at each.
    """
    joined = "|" + "|".join(values) + "|"
    # Outer spaces; four searches for a string are faster than one for a pattern.
    if " |" in joined or "| " in joined or "\u3000|" in joined or "|\u3000" in joined:
        return False
    return _only_clean()(joined) is not None


@lru_cache(maxsize=1)
def _only_clean() -> Callable[[str], object]:
    """A full match of characters that are visible, no half-width kana, and survive CP932.

    One pattern costs a fifth of asking for each of the three. What CP932 gives back unchanged is
    composed, too: it has no combining characters.
    """
    lead = (*range(0x81, 0xA0), *range(0xE0, 0xFD))
    codes = [bytes([i]) for i in range(256)]
    codes += [bytes([i, j]) for i in lead for j in range(0x40, 0xFD)]
    known = {c for code in codes if len(c := code.decode("cp932", "ignore")) == 1}
    visible = (c for c in known if c == "\u3000" or c.isprintable())
    clean = [re.escape(c) for c in sorted(visible) if not _HALF_KANA.match(c)]
    return re.compile(f"[{''.join(clean)}]*").fullmatch


def _compose(s: str) -> str:
    if unicodedata.is_normalized("NFC", s):
        return s
    parts = _LEFT_AS_TYPED.split(s)
    parts[::2] = [unicodedata.normalize("NFC", part) for part in parts[::2]]
    return "".join(parts)


def width(s: str) -> int:
    """Columns as 奉行 counts 桁: one for what CP932 writes in one byte, else two.

    So half-width kana count one, and a character that CP932 does not have counts two.
    """
    if s.isascii():
        return len(s)
    try:
        return len(s.encode("cp932"))
    except UnicodeEncodeError:
        return sum(len(c.encode("cp932")) if _encodable(c) else 2 for c in s)


def _encodable(s: str) -> bool:
    try:
        s.encode("cp932")
    except UnicodeEncodeError:
        return False
    return True


def _survives(s: str) -> bool:
    """Whether CP932 gives back what was put in, which no twin does."""
    try:
        return s.encode("cp932").decode("cp932") == s
    except UnicodeError:
        return False


def to_cp932_twins(s: str) -> str:
    """Signs that exist twice in Unicode (〜 ～, − －) as the one that Windows' CP932 has.

    Variation selectors, which choose a glyph of the same character, are dropped.
    """
    return s if s.isascii() or _survives(s) else s.translate(_TWINS)


def cp932_problems(s: str) -> list[str]:
    """The characters that CP932 cannot hold, once each, in order of appearance."""
    if s.isascii() or _encodable(s):
        return []
    return [c for c in dict.fromkeys(s) if not _encodable(c)]


def transliterate_cp932(s: str, replacement: str = GETA) -> str:
    """``s`` in characters that CP932 can hold: the twin, else the plain letter, else 〓."""
    if s.isascii() or _survives(s):
        return s
    s = to_cp932_twins(s)
    return "".join(c if _encodable(c) else _plain(c, replacement) for c in s)


def _plain(c: str, replacement: str) -> str:
    """é → e, 𝟏 → 1; an invisible joiner → nothing; anything else → ``replacement``."""
    if unicodedata.category(c) in ("Cf", "Mn", "Sk"):  # ZWJ, combining marks, skin tones
        return ""
    parts = unicodedata.normalize("NFKD", c)
    letters = "".join(p for p in parts if unicodedata.category(p) != "Mn")
    return letters if letters and _encodable(letters) else replacement
