"""Several limits at once, and what answers say about them, in a time that only the test moves."""

from __future__ import annotations

import asyncio
import math

import pytest

from connectors.kit import Quota, RateLimit, Timer
from connectors.kit._pace import FullError, Pace


class Hands:
    """A clock whose sleepers move it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timer = Timer(lambda: self.now, self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def starts(pace: Pace, hands: Hands, many: int) -> list[float]:
    found = []
    for _ in range(many):
        async with pace.turn():
            found.append(hands.now - 1000.0)
    return found


async def test_both_quotas_hold_at_once() -> None:
    hands = Hands()
    limit = RateLimit(quotas=(Quota(3, 1.0), Quota(7, 60.0)))
    found = await starts(Pace(limit, math.inf, hands.timer), hands, 10)
    assert found == pytest.approx([0, 0, 0, 1, 1, 1, 2, 60, 60, 60])


async def test_a_spread_limit_and_a_quota_hold_at_once() -> None:
    hands = Hands()
    limit = RateLimit(per_second=2, quotas=(Quota(3, 10.0),))
    found = await starts(Pace(limit, math.inf, hands.timer), hands, 5)
    assert found == pytest.approx([0, 0.5, 1, 10, 10.5])


async def test_an_answer_that_says_nothing_remains_closes_the_gate_until_its_reset() -> None:
    hands = Hands()
    pace = Pace(RateLimit(headers=("x-a-", "x-b-")), math.inf, hands.timer)
    open_ = {"x-a-remaining": "1", "x-a-reset": "30", "x-b-remaining": "4", "x-b-reset": "9"}
    assert pace.learn(open_) is None
    assert await starts(pace, hands, 2) == [0, 0]
    assert pace.learn({**open_, "x-a-remaining": "0", "x-b-remaining": "0"}) == 30
    assert pace.learn({**open_, "x-b-remaining": "0"}) == 9  # a later answer opens nothing earlier
    assert await starts(pace, hands, 2) == [30, 30]


@pytest.mark.parametrize("value", ["", "soon", "nan", "inf", "-5", "0"])
async def test_nonsense_closes_nothing(value: str) -> None:
    hands = Hands()
    pace = Pace(RateLimit(headers=("x-a-",)), math.inf, hands.timer)
    assert pace.learn({"x-a-remaining": "0", "x-a-reset": value}) is None
    assert pace.learn({"x-a-remaining": value or "x", "x-a-reset": "nan"}) is None
    assert await starts(pace, hands, 1) == [0]


async def test_a_turn_that_is_too_far_away_is_not_waited_for() -> None:
    hands = Hands()
    pace = Pace(RateLimit(headers=("x-a-",)), 120.0, hands.timer)
    pace.learn({"x-a-remaining": "0", "x-a-reset": "3000"})
    with pytest.raises(FullError) as caught:
        await starts(pace, hands, 1)
    assert caught.value.seconds == 3000
    assert hands.now == 1000.0


async def test_tasks_side_by_side_share_one_pace() -> None:
    hands = Hands()
    pace = Pace(RateLimit(quotas=(Quota(2, 1.0),)), math.inf, hands.timer)
    found = await asyncio.gather(*(starts(pace, hands, 1) for _ in range(6)))
    assert sorted(each[0] for each in found) == [0, 0, 1, 1, 2, 2]
