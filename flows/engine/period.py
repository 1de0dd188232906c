"""The period of a run: what a person may enter, and how it is told."""

from __future__ import annotations

from datetime import date

from connectors.kit import SettingsError
from flows.engine.model import Mode, Window

MOST_DAYS = 366
"""Longer ones are 全件; a whole year, a leap year too, is one run."""

_YEARS = range(2000, 2100)
"""Another year is a slip of the finger, and the ends of the calendar have no midnight after."""


def check_period(mode: Mode, begins: date | None, ends: date | None) -> None:
    """Refuse what is no period, or does not go with the mode.

    Raises:
        SettingsError: ``AC-205``, with words that say what to enter.
    """
    if wrong := _wrong(mode, begins, ends):
        raise SettingsError("AC-205", wrong)


def period_words(window: Window) -> str:
    """``期間 2026/10/01〜2026/10/31: ``, before the counts of such a run; of others nothing."""
    if window.begins is None or window.ends is None:
        return ""
    return f"期間 {window.begins:%Y/%m/%d}〜{window.ends:%Y/%m/%d}: "


def _wrong(mode: Mode, begins: date | None, ends: date | None) -> str:
    if mode is not Mode.PERIOD:
        if begins is None and ends is None:
            return ""
        return (
            f"処理の範囲が「{mode}」のときは、期間の日付を使いません。"
            "期間で処理するときは処理の範囲を「期間」にし、そうでなければ日付を空にします"
        )
    if begins is None or ends is None:
        missing = "と".join(
            name for name, day in (("開始日", begins), ("終了日", ends)) if day is None
        )
        return f"「期間」では開始日と終了日の両方を指定します（{missing}が空です）"
    shown = f"{begins:%Y/%m/%d}〜{ends:%Y/%m/%d}"
    if begins.year not in _YEARS or ends.year not in _YEARS:
        return f"期間の年を確かめます（{shown}）"
    if ends < begins:
        return f"期間の終了日が開始日より前です（{shown}）。同じ日か、後の日にします"
    days = (ends - begins).days + 1
    if days > MOST_DAYS:
        return (
            f"期間が長すぎます（{shown}、{days:,}日）。{MOST_DAYS}日以内に分けるか、"
            "処理の範囲を「全件」にします"
        )
    return ""
