"""A few random histories in every run of the suite; ``make faults SEEDS=1000`` plays many."""

from __future__ import annotations

import histories
import pytest


# 13 and 24 turn red when the settling at a run's start believes at once that nothing was stored.
@pytest.mark.parametrize("seed", [1, 2, 13, 24, 155, 210])
def test_a_random_history_leaves_everything_in_order(books: str, seed: int) -> None:
    assert histories.play(seed, books) is None
