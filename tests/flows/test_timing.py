"""The calendar of a connection: which days it runs on, and what is typed for that."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from connectors.kit import SettingsError
from flows.engine.business_days import closed_because, company_holidays
from flows.engine.clock import JST
from flows.engine.timing import Timing, timing_of


def typed(schedule: str = "5:00", days: str = "毎日", closing: int = 31, off: str = "") -> Timing:
    return timing_of(
        SimpleNamespace(schedule=schedule, days=days, closing_day=closing, company_holidays=off)
    )


def days_of(timing: Timing, first: str, last: str) -> str:
    """The days from ``first`` to ``last`` on which it runs, as ``5/7``."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    some = (start + timedelta(days=n) for n in range((end - start).days + 1))
    return " ".join(f"{day.month}/{day.day}" for day in some if timing.is_day(day))


@pytest.mark.parametrize(
    ("day", "why"),
    [
        ("2026-05-01", ""),
        ("2026-05-02", "土曜日"),
        ("2026-05-03", "日曜日"),
        ("2026-05-04", "祝日（みどりの日）"),
        ("2026-05-06", "祝日（振替休日）"),
        ("2026-05-07", ""),
        ("2026-09-22", "祝日（国民の休日）"),
        ("2026-11-23", "祝日（勤労感謝の日）"),
        ("2026-12-30", ""),
        ("2026-12-31", "年末年始"),
        ("2027-01-01", "祝日（元日）"),
        ("2027-01-04", ""),
        ("2027-03-22", "祝日（振替休日）"),
    ],
)
def test_business_days_of_japan(day: str, why: str) -> None:
    assert closed_because(date.fromisoformat(day)) == why


def test_the_company_closes_too() -> None:
    off = company_holidays(
        "２０２６ー１２ー２９～01-03、2026年8月14日\n2026/10/1 〜 2026/10/2, 8.20から8.21まで"
    )
    shut = ["2026-12-29", "2027-01-03", "2026-08-14", "2026-10-02", "2026-08-20", "2031-08-21"]
    assert all(date.fromisoformat(day) in off for day in shut)
    open_ = ["2026-12-28", "2027-01-04", "2027-12-29", "2027-08-14", "2026-10-03", "2026-08-22"]
    assert not any(date.fromisoformat(day) in off for day in open_)
    yearly = company_holidays("12-29〜1-5 2-29")
    assert [date(2030, 1, 5) in yearly, date(2030, 1, 6) in yearly] == [True, False]
    assert date(2028, 2, 29) in yearly
    assert closed_because(date(2026, 12, 29), yearly) == "会社の休業日"


def test_days_by_rule() -> None:
    every = typed()
    assert len(days_of(every, "2026-05-01", "2026-05-10").split()) == 10
    weekdays = typed(days="平日のみ")
    assert days_of(weekdays, "2026-05-01", "2026-05-08") == "5/1 5/4 5/5 5/6 5/7 5/8"
    business = typed(days="営業日のみ", off="2026-05-07")
    assert days_of(business, "2026-05-01", "2026-05-10") == "5/1 5/8"
    after = typed(days="締め日の翌営業日")
    # 31 is the last day of every month; 4/30 is followed by a 営業日, 12/31 by a long holiday.
    assert (
        days_of(after, "2026-01-06", "2027-01-31")
        == "2/2 3/2 4/1 5/1 6/1 7/1 8/3 9/1 10/1 11/2 12/1 1/4"
    )
    before = typed(days="締め日の前営業日")
    assert days_of(before, "2026-01-05", "2026-06-30") == "1/30 2/27 3/30 4/28 5/29 6/29"


def test_closing_days_at_the_edges() -> None:
    # 29 and 30 are the last day of February, too.
    for closing in (29, 30):
        after = typed(days="締め日の翌営業日", closing=closing)
        assert days_of(after, "2026-02-25", "2026-03-15") == "3/2"
        assert len(days_of(after, "2026-03-03", "2027-02-25").split()) == 11
    # The closing day is a holiday (5/5): the 営業日 after it, and the one before it.
    assert days_of(typed(days="締め日の翌営業日", closing=5), "2026-05-01", "2026-05-31") == "5/7"
    assert days_of(typed(days="締め日の前営業日", closing=5), "2026-04-25", "2026-05-31") == "5/1"
    # The company's days push it on, over the end of the month.
    late = typed(days="締め日の翌営業日", closing=25, off="2026-12-26〜2027-01-06")
    assert days_of(late, "2026-12-01", "2027-01-20") == "1/7"
    first = typed(days="締め日の前営業日", closing=1)
    assert days_of(first, "2026-05-20", "2026-06-10") == "5/29"


@pytest.mark.parametrize("rule", ["締め日の翌営業日", "締め日の前営業日"])
@pytest.mark.parametrize("closing", [1, 20, 28, 30, 31])
def test_cron_is_narrow_and_leaves_no_day_out(rule: str, closing: int) -> None:
    timing = typed("23:45", rule, closing, "2026-12-26〜2027-01-08")
    minute, hour, month_days, month, weekdays = timing.cron().split()
    assert (minute, hour, month, weekdays, timing.day_or) == ("45", "23", "*", "1-5", False)
    spans = [[int(day) for day in span.split("-")] for span in month_days.split(",")]
    covered = {n for span in spans for n in range(span[0], span[-1] + 1)}
    assert len(covered) < 24
    some = [date(2026, 1, 1) + timedelta(days=n) for n in range(365 * 5)]
    assert {day.day for day in some if timing.is_day(day)} <= covered


def test_words_and_cron() -> None:
    told: dict[str, Any] = {
        "毎日 5:00": (typed(), "0 5 * * *"),
        "平日 6:30": (typed("０６：３０", "平日のみ"), "30 6 * * 1-5"),
        "営業日 5:00": (typed("5時", "営業日のみ"), "0 5 * * 1-5"),
        "締め日（月末）の翌営業日 5:05": (typed("5時5分", "締め日の翌営業日"), "5 5 1-9 * 1-5"),
        "締め日（20日）の前営業日 5:00": (
            typed("05:00", "締め日の前営業日", 20),
            "0 5 13-19 * 1-5",
        ),
        "0 9-17 * * *": (typed("0 9-17 * * *"), "0 9-17 * * *"),
        "営業日 0 9 * * 1": (typed("0 9 * * 1", "営業日のみ"), "0 9 * * 1"),
        "毎日 6:30": (typed("30 6 * * *"), "30 6 * * *"),
    }
    assert {words: timing.cron() for words, (timing, _) in told.items()} == {
        words: cron for words, (_, cron) in told.items()
    }
    assert [timing.words() for timing, _ in told.values()] == list(told)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"schedule": "24:00"}, "「処理する時刻」の「24:00」を読めません"),
        ({"schedule": "5:5分"}, "「5:5分」を読めません"),
        ({"schedule": "5時30"}, "「5時30」を読めません"),
        ({"schedule": "5:00分"}, "「5:00分」を読めません"),
        ({"schedule": "0 25 * * *"}, "「0 25 * * *」を読めません"),
        ({"schedule": "朝"}, "「処理する時刻」の「朝」を読めません。5:00 のように書きます"),
        ({"off": "年末"}, "「会社の休業日」の「年末」を読めません"),
        ({"off": "2026-02-29"}, "「2026-02-29」を読めません"),
        ({"off": "12-29〜2027-01-03"}, "「12-29~2027-01-03」を読めません"),
        ({"off": "2026-03-05〜2026-03-01"}, "期間が正しくありません"),
        ({"off": "1-1〜12-31", "days": "営業日のみ"}, "処理する日が1日もありません"),
        ({"off": "1-1〜12-31", "days": "締め日の翌営業日"}, "処理する日が1日もありません"),
    ],
)
def test_what_cannot_be_read_is_named(words: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        typed(**words)
    assert caught.value.code == "AC-205"
    assert said in str(caught.value)


def test_the_last_time_that_was_due() -> None:
    timing = typed("5:00", "営業日のみ")
    friday = datetime(2026, 11, 20, 5, tzinfo=JST)
    assert timing.last_due(datetime(2026, 11, 23, 5, tzinfo=JST)) == friday
    assert timing.last_due(friday) == friday
    assert timing.last_due(friday - timedelta(minutes=1)) == friday - timedelta(days=1)
    assert timing.next_day(date(2026, 11, 20)) == date(2026, 11, 24)
