"""コード変換表 without a run: looking codes up, and the CSV that goes to Excel and comes back."""

from __future__ import annotations

import csv
import io
from typing import get_args

import pytest

from connectors.kit import DataError
from flows.engine import code_edit
from flows.engine.code_edit import BUGYO, CODE, COLUMNS, KIND, NAME, SOURCE, Changes
from flows.engine.code_table import Blocked, Entry
from flows.engine.codes import EMPTY, CodeBook, CodeKind, CodeUse
from flows.engine.model import MissingCode
from flows.operations.codes import KindName

ITEM, SHOP = "経費科目", "店舗"
ACCOUNT, SUB, PLACE = CodeKind.ACCOUNT, CodeKind.SUB_ACCOUNT, CodeKind.DEPARTMENT
BOOK = CodeBook(
    "keihi",
    {
        (ACCOUNT, ITEM, "E01"): "521",
        (ACCOUNT, ITEM, "E02"): "999",
        (SUB, ITEM, "E01"): "521/0001",
        (SUB, ITEM, "E03"): "522/0001",
        (PLACE, SHOP, "S1"): "10",
        (PLACE, SHOP, ""): "0000",
    },
    {
        ACCOUNT: {"521": "交通費", "0521": "別の科目", "522": "通信費"},
        SUB: {"521/0001": "電車", "522/0001": "切手", "521/0009": "船"},
    },
)


def test_a_reader_looks_up_and_names_everything_that_is_missing_at_once() -> None:
    read = BOOK.reader()
    assert read(ACCOUNT, ITEM, "E01") == "521"
    assert read(ACCOUNT, ITEM, " 0521 ") == "0521"  # exactly this code: a 0 is not nothing
    assert read(PLACE, SHOP, "S1") == "10"  # 奉行クラウド cannot tell: the table is believed
    assert read(PLACE, SHOP, "") == "0000"
    assert read.optional(PLACE, SHOP, "S2") == ""
    assert read.reject("1", "label") is None

    assert read(ACCOUNT, ITEM, "00521", "旅費") == ""
    assert read(ACCOUNT, SHOP, "E01") == ""  # the same code of another item
    assert read(PLACE, SHOP, "S2") == ""
    assert read.optional(ACCOUNT, ITEM, "E02") == ""  # an entry that is wrong is never ignored
    assert read(ACCOUNT, ITEM, "00521", "旅費") == ""
    reject = read.reject("1", "label")
    assert reject is not None
    assert (reject.code, reject.item, reject.label) == ("AC-821", "勘定科目、部門", "label")
    assert reject.reason == (
        "コード変換表に対応がありません: 経費科目 00521（旅費）→勘定科目、店舗 E01→勘定科目、"
        "店舗 S2→部門。コード変換表の奉行コードが使えません（奉行クラウドにありません）: "
        "経費科目 E02→勘定科目「999」。"
    )
    assert "接続「keihi」" in reject.remedy
    assert len(reject.missing) == 4
    assert BOOK.reader().reject("2", "") is None  # nothing is carried over

    wrong = BOOK.reader()
    assert wrong(ACCOUNT, ITEM, "E02") == ""
    only = wrong.reject("3", "")
    assert only is not None
    assert only.code == "AC-822"


def test_a_sub_account_belongs_to_its_account() -> None:
    read = BOOK.reader()
    assert read.sub_account("521", ITEM, "E01") == "0001"
    assert read.sub_account("521", ITEM, "0009") == "0009"  # exists below this one
    assert read.sub_account("522", ITEM, "0009") == ""
    assert read.sub_account("521", ITEM, "E09") == ""  # need not have any
    assert read.reject("1", "") is None
    assert read.sub_account("521", ITEM, "E09", required=True) == ""
    assert read.sub_account("521", ITEM, "E03") == ""  # 522/0001 is somebody else's
    reject = read.reject("1", "")
    assert reject is not None
    assert [(m.code, m.bugyo_code) for m in reject.missing] == [("E09", ""), ("E03", "522/0001")]


USES = (CodeUse(ACCOUNT, ITEM), CodeUse(SUB, ITEM), CodeUse(PLACE, SHOP), CodeUse(PLACE, "部署"))
AWKWARD = (
    *("007", "1-2", "1/2", "MAR1", "2026年1月", "R8.1.1", "1E5", "123456789012", "TRUE"),
    *("=1+1", "-1", "＝A", "'=1", "@x", "「旅費」", "10%", "a,b", 'q"q', "髙①", "😀", ""),
    *("５", "+81", "1:30", "0.10", "(100)", "¥5", "令和8年1月"),
)
PLAIN = ("521", "0", "E01", "S-1", "消耗品費10万未満", "12345678901")
TABLE = [
    *[Entry("部門", SHOP, code, f"名称{n}", "00000") for n, code in enumerate(AWKWARD)],
    *[Entry("部門", "部署", code, code, "0010") for code in PLAIN],
    Entry("勘定科目", ITEM, "E01", "1月分", "0521"),
    Entry("補助科目", ITEM, "E01", "", "521/0001"),
]
WAITING = [
    Blocked(MissingCode("勘定科目", ITEM, "0009", "旅費"), 12),
    Blocked(MissingCode("勘定科目", ITEM, "E01", "", "0521"), 3),
]


def take(data: bytes | str, *, entries: list[Entry] = TABLE) -> Changes:
    return code_edit.understand(code_edit.read(data), USES, entries, WAITING, may_be_empty=True)


def rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("cp932"), newline="")))


def csv_of(*rows: tuple[str, ...], columns: tuple[str, ...] = COLUMNS[:5]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([columns, *rows])
    return out.getvalue()


def test_the_same_file_back_changes_nothing() -> None:
    data = code_edit.write(code_edit.lines(TABLE, WAITING))
    again = take(data)
    assert (again.entries, again.unchanged, again.empty) == ([], len(TABLE), 1)
    # Saved as "CSV UTF-8", or copied out of Excel as cells.
    assert take(data.decode("cp932").encode("utf-8-sig")) == again
    cells = csv.reader(io.StringIO(data.decode("cp932"), newline=""))
    tabs = io.StringIO()
    csv.writer(tabs, delimiter="\t").writerows(cells)
    assert take(tabs.getvalue()) == again

    rows = rows_of(data)
    assert rows[0] | {"表示できない文字": ""} == {
        **dict(zip(COLUMNS, ("勘定科目", ITEM, "「0009」", "旅費", "", "12"), strict=True)),
        "表示できない文字": "",
    }
    assert rows[1 + len(TABLE) - 2]["止まっている件数"] == "3"
    texts = [row[CODE] for row in rows if row[SOURCE] == SHOP]
    # Nothing that Excel would run, or take for a number or a date.
    assert not [t for t in texts if t[:1] in "=+-@＝" and t]
    assert not [t for t in texts if t[:1].isdigit() or t.upper() == "TRUE" or t.startswith("R8")]
    assert EMPTY in texts
    assert [row[CODE] for row in rows if row[SOURCE] == "部署"] == list(PLAIN)


def test_what_was_filled_in_comes_in_once() -> None:
    typed = csv_of(
        ("勘定科目", ITEM, "0009", "", "０５２２"),
        ("勘定科目", "", "E05", "新しい\n科目", "「0012」"),
        ("部門", SHOP, EMPTY, "", "00000"),
        ("部門", SHOP, "〓", "", "00001"),  # how 😀 looks in the file
        ("補助科目", ITEM, "E05", "", "521/0002"),
    )
    found = take(typed)
    assert found.entries == [
        Entry("勘定科目", ITEM, "0009", "旅費", "0522"),
        Entry("勘定科目", ITEM, "E05", "新しい 科目", "0012"),
        Entry("部門", SHOP, "😀", f"名称{AWKWARD.index('😀')}", "00001"),
        Entry("補助科目", ITEM, "E05", "", "521/0002"),
    ]
    assert found.sentence() == "追加 3 件 / 変更 1 件 / 変更なし 1 件"
    assert take(typed, entries=[*TABLE, *found.entries]).unchanged >= 4


@pytest.mark.parametrize(
    ("row", "column", "words"),
    [
        (("勘定", ITEM, "1", "", "1"), KIND, "使えるのは 勘定科目・補助科目・部門"),
        (("税区分", ITEM, "1", "", "1"), KIND, "使えません"),
        (("部門", "", "1", "", "1"), SOURCE, "使えるのは 店舗・部署"),
        (("勘定科目", ITEM, "", "", "1"), CODE, "空です"),
        (("勘定科目", ITEM, "9", "", "1"), CODE, "先頭の 0 が消えています（9、正しくは 0009）"),
        (("勘定科目", ITEM, "1.2E+11", "", "1"), CODE, "Excel が変えた値"),
        (("勘定科目", ITEM, "〓", "", "1"), CODE, "〓"),
        (("勘定科目", ITEM, "x" * 201, "", "1"), CODE, "長すぎます"),
        (("勘定科目", ITEM, "a\nb", "", "1"), CODE, "改行"),
        (("勘定科目", ITEM, "E01", "", ""), BUGYO, "空です"),
        (
            ("勘定科目", ITEM, "E03", "", "521"),
            BUGYO,
            "先頭の 0 が消えています（521、正しくは 0521）",
        ),
        (("部門", SHOP, "E03", "", "1月2日"), BUGYO, "Excel が変えた値"),
        (("補助科目", ITEM, "E01", "", "0001"), BUGYO, "勘定科目コード/補助科目コード"),
    ],
)
def test_one_wrong_line_is_named_and_nothing_is_taken_in(
    row: tuple[str, ...], column: str, words: str
) -> None:
    good = ("部門", SHOP, "NEW", "", "0010")
    lines = csv_of(good, row).replace("\r\n", "\r\n\r\n", 1)  # an empty line counts, too
    with pytest.raises(DataError) as raised:
        take(lines)
    assert raised.value.code == "AC-824"
    assert f"行目の「{column}」: " in raised.value.subject
    assert raised.value.subject.startswith("5行目" if "\n" in row[2] else "4行目")
    assert words in raised.value.subject


def test_two_lines_that_say_different_things() -> None:
    twice = csv_of(("部門", SHOP, "N", "", "0010"), ("部門", SHOP, "N", "", "0010"))
    assert len(take(twice).entries) == 1
    with pytest.raises(DataError, match="3行目の「コード」: 同じコードの行が2つ"):
        take(csv_of(("部門", SHOP, "N", "", "0010"), ("部門", SHOP, "N", "", "0020")))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "データの行がありません"),
        (b"\xff\xfe\x00", "文字コード"),
        ("種類,コード\n部門,1", "「相手側の項目」、「奉行コード」の列がありません"),
        (csv_of(("部門", SHOP, "1", "", "1", "よけい")), "2行目"),
        ('種類,相手側の項目,コード,名称,奉行コード\n"部門,1', "行目"),
    ],
)
def test_what_is_no_table_is_said_in_words(data: bytes | str, words: str) -> None:
    with pytest.raises(DataError) as raised:
        take(data)
    assert raised.value.code in ("AC-823", "AC-824")
    assert words in raised.value.subject


def test_the_form_offers_every_kind() -> None:
    assert get_args(KindName) == tuple(kind.value for kind in CodeKind)
    assert NAME in COLUMNS
