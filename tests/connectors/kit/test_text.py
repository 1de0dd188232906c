"""Text helpers: what is repaired, what is left exactly as it was typed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.kit.text import (
    clean_text,
    cp932_problems,
    kana_full,
    kana_half,
    normalise_code,
    to_cp932_twins,
    to_half_alnum,
    transliterate_cp932,
    width,
)


def cp932_characters() -> list[str]:
    """Every printable character of the code page, user-defined ones included."""
    found = []
    for number in (*range(0x20, 0xD800), *range(0xE000, 0x10000)):
        try:
            chr(number).encode("cp932")
        except UnicodeEncodeError:
            continue
        if unicodedata.category(chr(number)) not in ("Cc", "Zs"):
            found.append(chr(number))
    return found


@pytest.mark.parametrize("character", ["髙", "﨑", "①", "㈱", "神", "Å", "～", "\ue000", "ｱ", "１"])
def test_clean_text_leaves_what_people_typed(character: str) -> None:
    assert clean_text(f" {character}　", multiline=False) == character


def test_clean_text_leaves_the_whole_code_page_alone() -> None:
    changed = [c for c in cp932_characters() if clean_text(c, multiline=False) != c]
    assert changed == []


@pytest.mark.parametrize(
    ("raw", "line", "lines"),
    [
        ("山田\x00商\x07事", "山田商事", "山田商事"),
        ("一行目\r\n二行目\r三行目\n", "一行目 二行目 三行目", "一行目\n二行目\n三行目"),
        ("左\t右", "左 右", "左 右"),
        ("\u3000 東京　本店 \u3000", "東京　本店", "東京　本店"),
        ("ABC\x1b[31m", "ABC[31m", "ABC[31m"),
        ("\ufeff見え\u200bない", "見えない", "見えない"),
        ("カ\u3099ハ\u309a", "ガパ", "ガパ"),
        ("\u3000 \t", "", ""),
        ("", "", ""),
        ("  plain ", "plain", "plain"),
    ],
)
def test_clean_text_repairs(raw: str, line: str, lines: str) -> None:
    assert clean_text(raw, multiline=False) == line
    assert clean_text(raw, multiline=True) == lines


@given(st.text(max_size=30))
def test_clean_text_is_stable_and_visible(raw: str) -> None:
    once = clean_text(raw, multiline=False)
    assert clean_text(once, multiline=False) == once
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in once)


def test_decomposed_kana_beside_a_compatibility_kanji() -> None:
    assert clean_text("神カ\u3099﨑", multiline=False) == "神ガ﨑"


@pytest.mark.parametrize(
    ("raw", "digits", "code"),
    [
        ("１２３４", 6, "001234"),
        ("000123", 6, "000123"),
        ("000123", 4, "000123"),
        ("000123", None, "000123"),
        ("0000000", 6, "0000000"),
        ("Ａー１", 6, "A-1"),
        ("A−1", None, "A-1"),
        ("　12 ", 6, "000012"),
        ("12\x00", 6, "000012"),
        ("コード", 6, "コード"),
        ("", 6, ""),
        ("-5", 6, "-5"),
        ("²", 6, "²"),
    ],
)
def test_normalise_code(raw: str, digits: int | None, code: str) -> None:
    assert normalise_code(raw, width=digits) == code


def test_normalise_code_pads_with_the_given_character() -> None:
    assert normalise_code("7", width=3, pad=" ") == "  7"


def test_half_alnum_touches_nothing_else() -> None:
    assert to_half_alnum("ＡＢ１２（株）　①ア") == "AB12(株) ①ア"


@pytest.mark.parametrize(
    ("raw", "full"),
    [
        ("ｶﾌﾞｼｷｶﾞｲｼｬ ﾔﾏﾀﾞ", "カブシキガイシャ ヤマダ"),
        ("ﾊﾟ･ｳﾞｰ｢｣｡､", "パ・ヴー「」。、"),
        ("ﾞ", "゛"),
        ("ABC１①㈱", "ABC１①㈱"),
        ("山田ｼｮｳｼﾞ髙", "山田ショウジ髙"),
    ],
)
def test_kana_full(raw: str, full: str) -> None:
    assert kana_full(raw) == full


@pytest.mark.parametrize(
    ("raw", "half"),
    [
        ("カブシキガイシャ　ヤマダ", "ｶﾌﾞｼｷｶﾞｲｼｬ ﾔﾏﾀﾞ"),
        ("やまだパン", "ﾔﾏﾀﾞﾊﾟﾝ"),
        ("カ\u3099ヴー・ＡＢ１", "ｶﾞｳﾞｰ･AB1"),
        ("ﾔﾏﾀﾞ", "ﾔﾏﾀﾞ"),
    ],
)
def test_kana_half(raw: str, half: str) -> None:
    assert kana_half(raw) == half


def test_kana_half_and_full_are_each_others_way_back() -> None:
    kana = "".join(chr(i) for i in range(0x30A1, 0x30F5) if chr(i) not in "ヮヰヱ")
    assert kana_full(kana_half(kana)) == kana


@pytest.mark.parametrize(
    ("text", "columns"),
    [("ABC", 3), ("山田", 4), ("ﾔﾏﾀﾞ", 4), ("ヤ①髙", 6), ("a😀é", 5), ("", 0)],
)
def test_width(text: str, columns: int) -> None:
    assert width(text) == columns


def test_cp932_problems_names_each_character_once_in_order() -> None:
    assert cp932_problems("髙﨑①㈱〜−") == []
    assert cp932_problems("𠮷野家😀と😀") == ["𠮷", "😀"]


def test_twins_are_those_of_windows() -> None:
    assert to_cp932_twins("10〜20−¥‖—葛\U000e0100") == "10～20－￥∥―葛"
    assert to_cp932_twins("髙﨑①㈱～－") == "髙﨑①㈱～－"


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("髙﨑①㈱", "髙﨑①㈱"),
        ("𠮷野家", "〓野家"),
        ("Café〜", "Cafe～"),
        ("笑顔😀堂", "笑顔〓堂"),
        ("👍🏽", "〓"),
    ],
)
def test_transliterate(raw: str, plain: str) -> None:
    assert transliterate_cp932(raw) == plain


def test_transliterate_takes_another_replacement() -> None:
    assert transliterate_cp932("😀", "?") == "?"


@given(st.text(max_size=30))
def test_transliterated_text_can_always_be_written(raw: str) -> None:
    written = transliterate_cp932(raw)
    written.encode("cp932")
    assert transliterate_cp932(written) == written
