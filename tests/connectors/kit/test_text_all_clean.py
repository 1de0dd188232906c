"""`all_clean` lets a record past every repair: it must never say yes to a text that needs one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.kit.text import (
    all_clean,
    clean_text,
    cp932_problems,
    kana_full,
    to_cp932_twins,
)

_AWKWARD = "株式会社アｱﾞ 　|～〜\u3099カ神髙①㈱a1-−\u00a0\n\t\u200b\u3000é😀"
_TEXTS = st.lists(st.one_of(st.text(max_size=12), st.text(_AWKWARD, max_size=12)), max_size=4)


@settings(max_examples=2000, deadline=None)
@given(_TEXTS)
def test_clean_texts_need_no_repair(values: list[str]) -> None:
    if all_clean(values):
        for value in values:
            assert kana_full(to_cp932_twins(clean_text(value, multiline=False))) == value
            assert cp932_problems(value) == []


@pytest.mark.parametrize(
    "value",
    [
        " 前の空白",
        "後ろの空白　",
        "ﾔﾏﾄ",
        "改\n行",
        "波〜線",
        "カ\u3099",
        "😀",
        "\u00a0x",
        "ゼロ幅\u200b",
    ],
)
def test_what_needs_repair_is_not_clean(value: str) -> None:
    assert not all_clean(["000101", value, ""])


def test_ordinary_japanese_is_clean() -> None:
    # Otherwise every record would take the slow way, and nobody would notice.
    assert all_clean(["000101", "㈱髙﨑商店①", "東京都　千代田区1-2-3", "", "ヤマト|ガラス"])
