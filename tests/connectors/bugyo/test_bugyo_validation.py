"""Validation before sending: every rule of the registry, in Japanese."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.bugyo import Customer, Violation, customer_validator

FIELDS = ["code", "name", "kana", "postal_code", "address1", "phone", "memo1", "billing_code"]


def check(**values: Any) -> list[Violation]:
    customer: Customer = {"code": "000123", "name": "株式会社山田商店", **values}  # type: ignore[typeddict-item]
    return customer_validator(FIELDS)(customer)


def test_a_clean_customer_has_no_violations() -> None:
    assert check(kana="ヤマダショウテン", phone="03-1234-5678", postal_code="100-0001") == []


def test_text_that_only_looks_awkward_survives() -> None:
    assert check(name="髙﨑①㈱　本店", memo1="=1+1", address1="") == []


@pytest.mark.parametrize(
    ("values", "code", "message"),
    [
        ({"name": ""}, "AC-801", "得意先名が空です"),
        ({"name": " 　"}, "AC-801", "得意先名が空です"),
        ({"code": ""}, "AC-801", "得意先コードが空です"),
        ({"name": "あ" * 45}, "AC-802", "得意先名は40文字までです（45文字）"),
        ({"code": "1" * 14}, "AC-802", "得意先コードは半角13文字までです（14文字）"),
        ({"kana": "ア" * 41}, "AC-802", "フリガナは半角80文字までです（82文字）"),
        ({"name": "山田\x07商店"}, "AC-803", "得意先名に使えない文字（U+0007）があります"),
        ({"memo1": "一行\n二行"}, "AC-803", "メモ1に使えない文字（U+000A）があります"),
        ({"memo1": "\ud83d"}, "AC-803", "メモ1に使えない文字（U+D83D）があります"),
        ({"code": "１２３"}, "AC-807", "得意先コードは半角の英数字とハイフンで入力します"),
        ({"phone": "０３"}, "AC-807", "電話番号は半角の英数字と記号で入力します"),
        ({"code": "0"}, "AC-807", "得意先コード「0」は奉行クラウドが使うため登録できません"),
    ],
)
def test_violations(values: dict[str, str], code: str, message: str) -> None:
    (found,) = check(**values)
    assert (found.code, found.message) == (code, message)
    assert found.field in values


def test_half_width_kana_takes_one_column() -> None:
    assert check(kana="ｱ" * 80) == []
    assert [each.code for each in check(kana="ｱ" * 81)] == ["AC-802"]


def test_limits_are_exact() -> None:
    assert check(name="あ" * 40, code="1" * 13, kana="ア" * 40) == []


def test_every_violation_of_a_record_is_reported() -> None:
    found = check(name="", code="x" * 20, memo1="\x00")
    assert [each.code for each in found] == ["AC-802", "AC-801", "AC-803"]


def test_required_counts_only_for_fields_that_are_sent() -> None:
    assert customer_validator(["code", "memo3"])({"code": "1", "memo3": "x"}) == []


def test_an_unknown_field_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        customer_validator(["nonsense"])
