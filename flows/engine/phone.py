"""Telephone numbers as people write them, in the one form that can be compared (E.164)."""

from __future__ import annotations

import re
import unicodedata

import phonenumbers

_REGION = "JP"
# What phonenumbers does not know: 内線 (extension), 代表, and a country code behind the 00 that
# other countries dial.
_TAIL = re.compile(r"(内線|代表?).*$")
_DIALLED = re.compile(r"^\s*00(?=81)")


def as_written(number: str) -> str:
    """``03-1234-5678`` for a number of Japan as `e164` gives it; any other text as it is."""
    if not number.startswith("+81"):
        return number
    found = phonenumbers.parse(number)
    return phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.NATIONAL)


def e164(typed: str) -> str | None:
    """``+81312345678`` for any notation of a number; ``None`` when it is none.

    Full width, hyphens of every kind, brackets, spaces, ``+81``, ``0081`` and ``010-81`` are read;
    an extension (内線, ``ext.``, ``#``) is left out. Whether somebody has the number is not asked:
    ``03-0000-0000`` is one.

    Args:
        typed: A number of Japan, or one of any country that begins with ``+``.
    """
    text = _TAIL.sub("", unicodedata.normalize("NFKC", typed)).rstrip(" (")
    try:
        found = phonenumbers.parse(_DIALLED.sub("+", text), _REGION)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(found):
        return None
    return phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164)
