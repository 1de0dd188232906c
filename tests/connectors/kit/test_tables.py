"""The CSV that opens in Excel, and comes back."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.kit import DataError
from connectors.kit.tables import UNSHOWN, cp932_csv, read_cp932_csv


def raw_cells(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("cp932"), newline="")))


def test_bytes_are_cp932_with_crlf_and_the_extra_column() -> None:
    data = cp932_csv(["コード", "名称"], [["000123", "髙﨑商店①㈱"]])
    assert data == f"コード,名称,{UNSHOWN}\r\n000123,髙﨑商店①㈱,\r\n".encode("cp932")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+81-3-1234", "'+81-3-1234"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tTAB", "'\tTAB"),
        ("\rCR", "'\rCR"),
        ("-A1", "'-A1"),
        ("-1+2", "'-1+2"),
        ("＝1+1", "'＝1+1"),
        ("-1,234.5", "-1,234.5"),
        ("-5", "-5"),
        ("1=1", "1=1"),
        ("'=1", "''=1"),
        ("it's", "it's"),
    ],
)
def test_formulas_are_disarmed_and_come_back(text: str, cell: str) -> None:
    data = cp932_csv(["値"], [[text]])
    assert raw_cells(data)[1][0] == cell
    assert read_cp932_csv(data)[0]["値"] == text


def test_labels_are_disarmed_too() -> None:
    data = cp932_csv(["=A1"], [["x"]])
    assert raw_cells(data)[0][0] == "'=A1"
    assert read_cp932_csv(data) == [{"=A1": "x", UNSHOWN: ""}]


def test_characters_that_cannot_be_shown_are_named() -> None:
    rows = raw_cells(cp932_csv(["コード", "名称"], [["1", "𠮷野家😀"], ["2", "10〜20"]]))
    assert rows[1] == [
        "1",
        "〓野家〓",
        "名称: U+20BB7 CJK UNIFIED IDEOGRAPH-20BB7、名称: U+1F600 GRINNING FACE",
    ]
    assert rows[2] == ["2", "10～20", ""]


cp932_text = st.text(st.sampled_from("=+-@'＝\t\r\n\",09.アｱ漢髙①a "), max_size=8)


@given(st.lists(st.tuples(cp932_text, cp932_text), max_size=4))
def test_whatever_was_written_is_read(rows: list[tuple[str, str]]) -> None:
    expected = [{"甲": a, "乙": b, UNSHOWN: ""} for a, b in rows if a or b]
    assert read_cp932_csv(cp932_csv(["甲", "乙"], rows)) == expected


@pytest.mark.parametrize("encoding", ["cp932", "utf-8", "utf-8-sig"])
def test_reads_what_excel_saves(encoding: str) -> None:
    data = '名称,備考\r\n"ﾔﾏﾀﾞ,髙",\'=1\r\n,\r\n短い\r\n'.encode(encoding)
    assert read_cp932_csv(data) == [
        {"名称": "ﾔﾏﾀﾞ,髙", "備考": "=1"},
        {"名称": "短い", "備考": ""},
    ]


def test_a_line_with_too_many_texts_is_named() -> None:
    with pytest.raises(DataError, match="CSVの3行目") as caught:
        read_cp932_csv("名称\r\n一\r\n二,三\r\n".encode("cp932"))
    assert caught.value.code == "AC-807"


@pytest.mark.parametrize("data", ["名称".encode("utf-16"), b"\x83\x84\x81"])
def test_an_unknown_encoding_is_an_error(data: bytes) -> None:
    with pytest.raises(DataError, match="文字コード"):
        read_cp932_csv(data)


def test_a_row_of_the_wrong_length_is_a_bug() -> None:
    with pytest.raises(ValueError, match="zip"):
        cp932_csv(["a", "b"], [["1"]])


def test_an_empty_file_has_no_rows() -> None:
    assert read_cp932_csv(b"") == []
