"""Guards against services that repeat or shuffle pages."""

from __future__ import annotations

import pytest

from connectors.kit import FaultError
from connectors.kit.paging import NoRepeat, chunks, ensure_increasing


def test_increasing_ids_pass_and_the_last_is_returned() -> None:
    assert ensure_increasing(0, [1, 2, 9], "kintone") == 9
    assert ensure_increasing(9, [], "kintone") == 9


@pytest.mark.parametrize("ids", [[9, 10], [8], [10, 10], [11, 10]])
def test_a_repeated_or_shuffled_page_is_refused(ids: list[int]) -> None:
    with pytest.raises(FaultError, match="kintone") as caught:
        ensure_increasing(9, ids, "kintone")
    assert caught.value.code == "AC-302"


def test_the_same_link_twice_is_refused() -> None:
    guard = NoRepeat("SmartHR")
    for page in ("a", "b", ("cursor", 3)):
        guard.check(page)
    with pytest.raises(FaultError, match="3 ページ目") as caught:
        guard.check("b")
    assert caught.value.code == "AC-302"
    assert caught.value.service == "SmartHR"


def test_chunks() -> None:
    assert list(chunks(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(chunks([1, 2], 2)) == [[1, 2]]
    assert list(chunks([], 2)) == []


def test_chunks_takes_no_more_than_it_hands_out() -> None:
    source = iter(range(100))
    next(chunks(source, 3))
    assert next(source) == 3


def test_chunks_of_nothing_are_a_bug() -> None:
    with pytest.raises(ValueError, match="positive"):
        next(chunks([1], 0))
