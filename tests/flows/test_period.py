"""What may be entered as the period of a run."""

from __future__ import annotations

from datetime import date, datetime

import pytest

from connectors.kit import SettingsError
from flows.engine.clock import JST
from flows.engine.model import Mode, Window
from flows.engine.period import check_period, period_words

FIRST, LAST = date(2026, 10, 1), date(2026, 10, 31)


@pytest.mark.parametrize(
    ("mode", "begins", "ends", "words"),
    [
        ("期間", FIRST, None, "両方を指定します（終了日が空です）"),
        ("期間", None, LAST, "両方を指定します（開始日が空です）"),
        ("期間", None, None, "両方を指定します（開始日と終了日が空です）"),
        ("期間", LAST, FIRST, "終了日が開始日より前です（2026/10/31〜2026/10/01）"),
        ("期間", FIRST, date(2027, 10, 2), "期間が長すぎます（2026/10/01〜2027/10/02、367日）"),
        ("期間", date(1, 1, 1), date(1, 1, 31), "期間の年を確かめます"),
        ("期間", date(9999, 12, 1), date(9999, 12, 31), "期間の年を確かめます"),
        ("差分", FIRST, LAST, "処理の範囲が「差分」のときは、期間の日付を使いません"),
        ("全件", FIRST, None, "処理の範囲を「期間」にし"),
        ("1件", None, LAST, "処理の範囲を「期間」にし"),
        ("エラー明細のみ", FIRST, LAST, "日付を空にします"),
    ],
)
def test_a_wrong_period_is_refused_in_words(
    mode: str, begins: date | None, ends: date | None, words: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        check_period(Mode(mode), begins, ends)
    assert caught.value.code == "AC-205"
    assert words in str(caught.value)


def test_a_right_one_is_not() -> None:
    for begins, ends in ((FIRST, FIRST), (FIRST, date(2027, 10, 1)), (FIRST, date(2026, 12, 31))):
        check_period(Mode.PERIOD, begins, ends)
    for mode in Mode:
        if mode is not Mode.PERIOD:
            check_period(mode, None, None)


def test_a_period_is_whole_days_in_japan() -> None:
    window = Window(Mode.PERIOD, begins=FIRST, ends=LAST)
    midnight = datetime(2026, 10, 1, tzinfo=JST), datetime(2026, 11, 1, tzinfo=JST)
    assert window.moments == midnight
    assert window.days(date(2026, 10, 20), date.max) == (date(2026, 10, 20), LAST)
    assert window.days(date(2026, 1, 1), date(2026, 10, 5)) == (FIRST, date(2026, 10, 5))
    assert period_words(window) == "期間 2026/10/01〜2026/10/31: "
    other = Window(Mode.FULL)
    assert (other.moments, period_words(other)) == (None, "")
    assert other.days(FIRST, LAST) == (FIRST, LAST)
