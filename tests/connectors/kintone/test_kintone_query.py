"""The query language, as the emulator understands it and as our conditions are written in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.kintone import and_, any_of, compare, literal
from connectors.kintone.emulator_query import Condition, parse

RECORDS = [
    {
        "得意先コード": "000001",
        "得意先名": "髙﨑商店",
        "備考": "一行目\n二行目",
        "金額": "9",
        "契約日": "2026-11-22",
        "訪問": "2026-11-21T15:00:00Z",
        "区分": "A",
        "印": ["重要"],
        "担当": [{"code": "Administrator", "name": "管理者"}],
        "明細": [{"品名": "りんご", "数量": "100"}, {"品名": "みかん", "数量": "200"}],
    },
    {
        "得意先コード": "000002",
        "得意先名": 'O"Reilly',
        "金額": "10",
        "契約日": "2026-11-01",
        "訪問": "2026-11-22T14:59:00Z",
        "区分": "B",
        "印": ["重要", "新規"],
        "明細": [{"品名": "共有", "数量": "50"}],
    },
    {"得意先コード": "000003", "得意先名": "空き", "契約日": "2026-12-01"},
]


@pytest.fixture
def ids(emulator, api):
    emulator.seed("1", RECORDS, datetime(2026, 11, 20, 1, 2, 59, tzinfo=UTC))

    def ask(query: str) -> list[int]:
        answer = api.get("/records.json", params={"app": 1, "query": f"{query} order by $id asc"})
        assert answer.status_code == 200, answer.text
        return [int(r["$id"]["value"]) for r in answer.json()["records"]]

    return ask


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [1, 2, 3]),
        ('得意先コード = "000002"', [2]),
        ('得意先コード != "000002"', [1, 3]),
        ('得意先名 like "商店"', [1]),
        ('得意先名 not like "商店"', [2, 3]),
        ('得意先名 = "O\\"Reilly"', [2]),
        ("金額 > 9", [2]),  # numbers, not texts
        ('金額 >= "9"', [1, 2]),
        ('金額 = ""', [3]),
        ("金額 != 9", [2, 3]),
        ('金額 in ("9.0", "10")', [1, 2]),
        ("備考 is empty", [2, 3]),
        ("備考 is not empty", [1]),
        ('区分 in ("")', [3]),
        ('区分 not in ("A")', [2, 3]),
        ('印 in ("新規")', [2]),
        ('印 not in ("新規")', [1, 3]),
        ('印 in ("")', [3]),
        ("担当 in (LOGINUSER())", [1]),
        # and binds tighter than or
        ('$id = 1 or $id = 2 and 区分 in ("A")', [1]),
        ('($id = 1 or $id = 2) and 区分 in ("B")', [2]),
        ("$id >= 2 and $id < 3", [2]),
        # full-width space is white space
        ('得意先コード　=　"000003"', [3]),
        # tables: one row meets it; "and" means the same row
        ('品名 in ("りんご")', [1]),
        ("数量 > 50", [1]),
        ('品名 in ("りんご") and 数量 in ("100")', [1]),
        ('品名 in ("りんご") and 数量 in ("200")', []),
        ('(品名 in ("りんご")) and $id > 0 and (数量 in ("200"))', []),
        # negative: at least one row, and all of them; no rows never match
        ('品名 not in ("共有")', [1]),
        ('品名 not in ("りんご")', [2]),
        # dates; today is 2026-11-22 in Tokyo, a Sunday
        ("契約日 = TODAY()", [1]),
        ("契約日 = THIS_MONTH()", [1, 2]),
        ("契約日 = THIS_MONTH(1)", [2]),
        ("契約日 = NEXT_MONTH(1)", [3]),
        ("契約日 > THIS_MONTH()", [3]),
        ("契約日 = THIS_WEEK(SUNDAY)", [1]),
        ("契約日 < FROM_TODAY(-20, DAYS)", [2]),
        ("契約日 >= FROM_TODAY(9, DAYS)", [3]),
        ("契約日 = THIS_YEAR()", [1, 2, 3]),
        ("契約日 = LAST_YEAR()", []),
        # a day is a day in Tokyo, not in UTC
        ("訪問 = TODAY()", [1, 2]),
        ("訪問 = YESTERDAY()", []),
        ("訪問 < NOW()", [1]),
        ('訪問 >= "2026-11-22T00:00:00+09:00"', [1, 2]),
        ('訪問 > "2026-11-22T00:00:00+0900"', [2]),
        # 更新日時 lost its seconds
        ('更新日時 = "2026-11-20T01:02:00Z"', [1, 2, 3]),
        ('更新日時 > "2026-11-20T01:02:30Z"', []),
        ('レコード番号 = "2"', [2]),
    ],
)
def test_conditions(ids, query, found):
    assert ids(query) == found


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("得意先コード = 'x'", "CB_VA01"),
        ('得意先コード = "a\tb"', "CB_VA01"),
        ('得意先コード = "a\nb"', "CB_VA01"),
        ("得意先コード ===", "CB_VA01"),
        ("得意先コード = 裸の値", "CB_VA01"),
        ('金額 > "たくさん"', "CB_VA01"),
        ('契約日 = "きのう"', "CB_VA01"),
        ("契約日 = SOMEDAY()", "CB_VA01"),
        ("limit -1", "CB_VA01"),
        ("limit 501", "GAIA_QU01"),
        ("offset 10001", "GAIA_QU02"),
        ('ない = "x"', "GAIA_IQ11"),
        ("order by ない asc", "GAIA_IQ11"),
        ('区分 = "A"', "GAIA_IQ03"),
        ('備考 = "x"', "GAIA_IQ03"),
        ('得意先名 > "x"', "GAIA_IQ03"),
        ("得意先名 is empty", "GAIA_IQ03"),
        ('金額 like "1"', "GAIA_IQ03"),
        ("order by 品名", "GAIA_IQ03"),
        ('品名 = "x"', "GAIA_IQ07"),
        ("数量 != 1", "GAIA_IQ07"),
        ('印 in ("知らない")', "GAIA_IQ10"),
        ("契約日 = FROM_TODAY(5, EONS)", "GAIA_IQ23"),
        ("契約日 = THIS_WEEK(NOVEMBER)", "GAIA_IQ23"),
        ("得意先名 = TODAY()", "GAIA_IQ23"),
        ("契約日 = TODAY(1)", "GAIA_IQ25"),
        ("契約日 = FROM_TODAY(5)", "GAIA_IQ25"),
        ("契約日 = THIS_MONTH(32)", "GAIA_IL08"),
    ],
)
def test_what_it_refuses(api, query, code):
    answer = api.get("/records.json", params={"app": 1, "query": query})
    said = answer.json()
    assert (answer.status_code, said["code"]) == (400, code)
    assert said["id"]
    if code == "CB_VA01":
        assert said["errors"]["query"]["messages"] == ["クエリ記法が間違っています。"]


def test_messages_follow_the_language(api):
    english = api.get(
        "/records.json", params={"app": 99}, headers={"accept-language": "en-US,en;q=0.9"}
    )
    assert english.json()["message"].startswith("The app (ID: 99) not found.")
    assert "見つかりません" in api.get("/records.json", params={"app": 99}).json()["message"]


def test_like_finds_a_fresh_record_only_later(emulator, ids):
    emulator._calls._index_delay = 3600.0
    emulator.seed("1", [{"得意先コード": "000009", "得意先名": "新しい商店"}])
    assert ids('得意先名 like "商店"') == [1]
    assert ids('得意先コード = "000009"') == [4]


# -- our own conditions ------------------------------------------------------------------------


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"])))
def test_no_text_breaks_out_of_its_quotes(text):
    where = parse(compare("得意先名", "=", text)).where
    assert where == Condition("得意先名", "=", (text,))


def test_literals():
    tokyo = timezone(timedelta(hours=9))
    assert literal("a\tb\nc") == '"a b c"'
    assert literal(Decimal("1E+3")) == '"1000"'
    assert literal(5) == '"5"'
    assert literal(datetime(2026, 4, 1, 5, tzinfo=tokyo)) == '"2026-03-31T20:00:00Z"'
    with pytest.raises(ValueError, match="タイムゾーン"):
        literal(datetime(2026, 4, 1))  # noqa: DTZ001 (what is refused)


def test_joined_conditions():
    assert and_("", "  ") == ""
    assert and_("a = 1", "") == "a = 1"
    assert and_("a = 1 or b = 2", 'c = "3"') == '(a = 1 or b = 2) and (c = "3")'
    assert any_of("区分", ["A", "B"]) == '区分 in ("A", "B")'
    with pytest.raises(ValueError, match="1つもありません"):
        any_of("区分", [])


@pytest.mark.parametrize("code", ['a" or $id > 0', "a b", "a=1", "", "a)"])
def test_a_field_code_cannot_carry_a_condition(code):
    with pytest.raises(ValueError, match="フィールドコード"):
        compare(code, "=", "x")
