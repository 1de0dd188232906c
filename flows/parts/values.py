"""Values on their way into 奉行クラウド: what every transform does with a text."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.bugyo import Violation
from connectors.kit.text import (
    all_clean,
    clean_text,
    cp932_problems,
    to_cp932_twins,
    transliterate_cp932,
)
from flows.engine.model import Reject


class BadValueError(Exception):
    """A value that 奉行クラウド cannot take.

    Args:
        item: Label of the item at fault.
        message: What is wrong with it, without the full stop.
        code: Catalogue code of the reject.
    """

    def __init__(self, item: str, message: str, code: str = "AC-807") -> None:
        super().__init__(message)
        self.item, self.message, self.code = item, message, code

    def reject(self, source_key: str, label: str) -> Reject:
        """The reject of the record that the value is in."""
        return Reject(source_key, self.code, self.item, label, f"{self.message}。")


def violating(source_key: str, label: str, violations: Sequence[Violation]) -> Reject:
    """The reject of a record that breaks rules of 奉行クラウド; there is at least one."""
    reason = "。".join(each.message for each in violations) + "。"
    return Reject(source_key, violations[0].code, violations[0].label, label, reason)


def writable(item: str, text: str, *, replace: bool) -> str:
    """A text as 奉行クラウド can hold it, on one line.

    Args:
        item: Label of its item.
        text: As it came.
        replace: Whether characters that do not exist there are replaced (使えない文字).

    Raises:
        BadValueError: ``AC-803``, it has such characters, and they are not to be replaced.
    """
    if all_clean([text]):
        return text
    text = to_cp932_twins(clean_text(text, multiline=False))
    return encodable(item, text, replace=replace)


def encodable(item: str, text: str, *, replace: bool) -> str:
    """A clean text in the characters of 奉行クラウド (Shift_JIS); arguments as `writable`.

    Raises:
        BadValueError: ``AC-803``, it has others, and they are not to be replaced.
    """
    problems = cp932_problems(text)
    if problems and not replace:
        listed = "、".join(f"{c}（U+{ord(c):04X}）" for c in problems)
        raise BadValueError(item, f"{item}に使えない文字があります: {listed}", "AC-803")
    return transliterate_cp932(text) if problems else text
