"""Days in portions: none is left out, none comes twice."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from connectors.kit.days import month_end, months_later, portions

DAYS = st.dates(date(2000, 1, 1), date(2099, 12, 31))


def test_months_end_where_the_month_does() -> None:
    assert months_later(date(2026, 11, 30), 3) == date(2027, 2, 28)
    assert months_later(date(2026, 11, 25), -3) == date(2026, 8, 25)
    assert months_later(date(2027, 12, 31), 2) == date(2028, 2, 29)
    assert months_later(date(2026, 1, 1), -12) == date(2025, 1, 1)
    assert month_end(date(2028, 2, 1)) == date(2028, 2, 29)
    assert month_end(date(2026, 12, 31)) == date(2026, 12, 31)


@given(first=DAYS, days=st.integers(0, 800), longest=st.integers(1, 90))
def test_every_day_is_in_one_portion(first: date, days: int, longest: int) -> None:
    last = first + timedelta(days=days)
    for end_of in (month_end, lambda day: day + timedelta(days=longest - 1)):
        made = list(portions(first, last, end_of))
        found = [a + timedelta(days=n) for a, b in made for n in range((b - a).days + 1)]
        assert found == [first + timedelta(days=n) for n in range(days + 1)]
        assert all(end <= end_of(begin) for begin, end in made)


def test_no_day_no_portion() -> None:
    assert list(portions(date(2026, 11, 2), date(2026, 11, 1), month_end)) == []
