"""The demonstration's customers: realistic, the same every time, and bad exactly as promised."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from typing import Any

import pytest

from connectors.kit.text import clean_text, cp932_problems, kana_full, normalise_code, width
from deployments.samples.customers import (
    APP_ID,
    AWKWARD,
    COUNT,
    FIELDS,
    awkward_positions,
    customers,
)

RECORDS = list(customers())
BAD = awkward_positions()
CLEAN = {i: r for i, r in enumerate(RECORDS) if i not in BAD}
ISSUE_KINDS = 15


def awkward(kind: str) -> dict[str, str]:
    (position,) = (one.position for one in AWKWARD if one.kind == kind)
    return RECORDS[position]


def test_twelve_hundred_of_which_fifteen_are_bad() -> None:
    assert len(RECORDS) == COUNT == 1200
    assert len(AWKWARD) == len({one.kind for one in AWKWARD}) == len(BAD) == ISSUE_KINDS
    assert Counter(one.fate for one in AWKWARD) == {"rejected": 9, "repaired": 3, "kept": 3}


def test_the_same_seed_gives_the_same_customers() -> None:
    assert list(customers()) == RECORDS
    assert list(customers(seed=1)) != RECORDS


def test_clean_records_need_no_repair() -> None:
    for record in CLEAN.values():
        for value in record.values():
            assert clean_text(value, multiline=False) == value
            assert kana_full(value) == value
            assert cp932_problems(value) == []
        assert re.fullmatch(r"\d{6}", record["得意先コード"])
        assert normalise_code(record["得意先コード"], width=6) == record["得意先コード"]


def test_clean_records_fit() -> None:
    for record in CLEAN.values():
        assert 0 < len(record["得意先名"]) <= 20
        assert 0 < len(record["略称"]) <= 12
        assert re.fullmatch("[ァ-ヶー]+", record["フリガナ"])
        assert width(record["フリガナ"]) <= 80
        assert re.fullmatch(r"\d{3}-\d{4}", record["郵便番号"])
        assert 0 < len(record["住所1"]) <= 30
        assert len(record["住所2"]) <= 20
        assert len(record["備考"]) <= 30
        for phone in (record["電話番号"], record["FAX番号"]):
            assert not phone or re.fullmatch(r"0\d{1,3}-0\d{1,3}-\d{4}", phone)
            assert not phone or len(phone.replace("-", "")) == 10
        assert record["メールアドレス"].endswith(".example.co.jp")


def test_codes_are_unique_but_for_the_one() -> None:
    counts = Counter(r["得意先コード"] for i, r in CLEAN.items())
    assert set(counts.values()) == {1}
    assert awkward("コードが重複")["得意先コード"] in counts


def test_the_readings_belong_to_the_names() -> None:
    assert {"カブシキガイシャ"} == {
        re.sub("^.*?(カブシキガイシャ).*$", r"\1", r["フリガナ"])
        for r in CLEAN.values()
        if "株式会社" in r["得意先名"]
    }
    for record in CLEAN.values():
        kana = re.sub("[^ァ-ヶー]", "", record["略称"])
        assert kana in record["フリガナ"]


def test_billing_codes_point_at_customers_who_arrive() -> None:
    codes = {r["得意先コード"]: i for i, r in CLEAN.items()}
    others = {
        i: codes[r["請求先コード"]]
        for i, r in CLEAN.items()
        if r["請求先コード"] not in ("", r["得意先コード"])
    }
    assert 0.04 <= len(others) / COUNT <= 0.06
    assert any(target > i for i, target in others.items())
    assert any(target < i for i, target in others.items())
    for target in others.values():
        assert RECORDS[target]["請求先コード"] in ("", RECORDS[target]["得意先コード"])


def test_each_bad_record_is_bad_in_its_own_way() -> None:
    codes = {r["得意先コード"] for r in CLEAN.values()}
    assert awkward("コードが空")["得意先コード"] == ""
    assert len(awkward("コードが長すぎる")["得意先コード"]) > 13
    wide = awkward("コードが全角数字")["得意先コード"]
    assert not wide.isascii()
    assert normalise_code(wide, width=6) not in codes
    assert len(awkward("名称が長すぎる")["得意先名"]) > 40
    assert awkward("髙﨑①㈱")["得意先名"] == "㈱髙﨑商店①"
    assert cp932_problems(awkward("名称に絵文字")["得意先名"]) == ["😀"]
    assert awkward("請求先が未登録")["請求先コード"] not in codes
    assert kana_full(awkward("半角カナ")["得意先名"]) == "ヤマトガラス株式会社"
    assert kana_full(awkward("半角カナ")["フリガナ"]) == "ヤマトガラスカブシキガイシャ"
    assert normalise_code(awkward("コードの先頭がゼロ")["得意先コード"], width=6) == "00000042"
    control = awkward("名称に制御文字")["得意先名"]
    assert any(unicodedata.category(c) == "Cc" for c in control)
    assert clean_text(control, multiline=False) == "株式会社みどり商会"
    assert awkward("名称が数式")["得意先名"] == "=1+1"
    assert len(awkward("備考が長すぎる")["備考"]) > 1000
    assert set(awkward("空のレコード").values()) == {""}
    name = awkward("名称が空白だけ")["得意先名"]
    assert name
    assert clean_text(name, multiline=False) == ""


@pytest.mark.parametrize("one", AWKWARD, ids=lambda one: one.kind)
def test_a_bad_record_has_one_fault_only(one: Any) -> None:
    good = list(customers(awkward=False))[one.position]
    record = RECORDS[one.position]
    changed = {k for k in good if record[k] != good[k]} - {"請求先コード"}
    if one.kind == "空のレコード":
        return
    assert len(changed) <= 3
    if one.fate == "rejected" and one.kind != "名称に絵文字":
        assert len(changed) <= 1


def test_other_counts_spread_the_bad_ones_out() -> None:
    assert len(awkward_positions(16)) == len(awkward_positions(100_000)) == ISSUE_KINDS
    small = list(customers(60))
    assert sum(r["得意先名"] == "=1+1" for r in small) == 1
    assert list(customers(3, awkward=False))[2]["得意先コード"] == "000107"
    with pytest.raises(ValueError, match="more than 15"):
        next(customers(10))


def test_nothing_is_built_before_it_is_asked_for() -> None:
    endless = customers(10**9, awkward=False)
    assert next(endless)["得意先コード"] == "000101"


def test_the_form_describes_the_records() -> None:
    system = {"レコード番号", "作成日時", "更新日時"}
    assert set(RECORDS[0]) == set(FIELDS) - system
    assert all(key == one["code"] for key, one in FIELDS.items())
    options = FIELDS["都道府県"]["options"]
    assert {r["都道府県"] for r in CLEAN.values()} <= set(options)
    assert json.loads(json.dumps(FIELDS)) == FIELDS
    assert APP_ID == "1"
