"""A source record as columns, and what may be changed in it."""

from __future__ import annotations

import pytest

from connectors.kit.tables import UNSHOWN, cp932_csv, read_table
from flows.engine.records import changed, editable, flat, source_hash
from flows.engine.reject_csv import Line, parse, understand, write

RECORD = {
    "$id": {"type": "__ID__", "value": "7"},
    "理由": {"type": "SINGLE_LINE_TEXT", "value": "出張"},
    "担当": {"type": "USER_SELECT", "value": [{"code": "u1", "name": "佐藤"}]},
    "区分": {"type": "CHECK_BOX", "value": ["甲", "乙"]},
    "空": {"type": "DROP_DOWN", "value": None},
    "明細": {
        "type": "SUBTABLE",
        "value": [
            {"id": "1", "value": {"金額": {"type": "NUMBER", "value": "100"}}},
            {"id": "2", "value": {"金額": {"type": "NUMBER", "value": "200"}}},
        ],
    },
    "更新日時": {"type": "UPDATED_TIME", "value": "2026-11-22T00:00:00Z"},
}
WORDS = ("7", "対象", "AC-801", "必須項目が空", "項目", "理由", "対処")


def test_tables_are_flat_and_lists_are_joined() -> None:
    assert flat(RECORD) == {
        "理由": "出張",
        "担当": "佐藤",
        "区分": "甲、乙",
        "空": "",
        "明細[1].金額": "100",
        "明細[2].金額": "200",
        "更新日時": "2026-11-22T00:00:00Z",
    }
    assert editable(RECORD) == {"理由", "空", "明細[1].金額", "明細[2].金額"}


def test_a_change_makes_a_copy() -> None:
    before = source_hash(RECORD)
    made = changed(RECORD, {"明細[2].金額": "300", "空": "あり"})
    assert flat(made)["明細[2].金額"] == "300"
    assert flat(made)["明細[1].金額"] == "100"
    assert made["空"] == {"type": "DROP_DOWN", "value": "あり"}
    assert source_hash(RECORD) == before != source_hash(made)
    with pytest.raises(KeyError):
        changed(RECORD, {"更新日時": ""})


def test_plain_records_of_other_services() -> None:
    record = {"code": "1", "note": None, "active": True}
    assert flat(record) == {"code": "1", "note": "", "active": "True"}
    assert changed(record, {"note": "x"})["note"] == "x"


def test_a_field_that_is_called_like_a_column_of_ours() -> None:
    line = Line("slip", WORDS, RECORD)
    (row,) = parse(write("here", [line]))
    assert (row["理由"], row["理由（元データ）"]) == ("理由", "出張")
    found = understand([row | {"理由（元データ）": "会議"}], "here", {"7": line}, ())
    assert found.corrections["slip", "7"].changes == {"理由": "会議"}


def test_a_row_that_was_read_as_it_was_written_changes_nothing() -> None:
    line = Line("slip", WORDS, RECORD)
    found = understand(parse(write("here", [line])), "here", {"7": line}, ())
    assert (found.corrections, found.unchanged) == ({}, ["7"])


def test_the_extra_column_stands_where_it_is_asked_for() -> None:
    data = cp932_csv(["甲", "乙"], [["🍣", "🍣"]], unshown="名前", at=1)
    assert data.decode("cp932") == "甲,名前,乙\r\n〓,乙: U+1F363 SUSHI,〓\r\n"
    assert UNSHOWN.encode("cp932") in cp932_csv(["甲"], [["乙"]])


def test_cells_from_the_clipboard() -> None:
    assert read_table('甲\t乙\r\n"1\n2"\t3,4\r\n') == [{"甲": "1\n2", "乙": "3,4"}]
    assert read_table("甲,乙\n1\t2,3\n") == [{"甲": "1\t2", "乙": "3"}]
