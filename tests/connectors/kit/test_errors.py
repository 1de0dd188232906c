"""The taxonomy: complete, sorted by who acts, in words that a clerk can read."""

from __future__ import annotations

import re

import pytest

from connectors.kit import (
    AppConnectError,
    DataError,
    ErrorDetail,
    FaultError,
    ReauthorizeError,
    SettingsError,
    UnknownOutcomeError,
    WaitError,
    catalogue,
    error_for,
)

CODES = sorted(catalogue())
JAPANESE = re.compile("[ぁ-んァ-ヶ一-龠]")
CLASSES = {
    "reauthorize": ReauthorizeError,
    "settings": SettingsError,
    "data": DataError,
    "wait": WaitError,
    "fault": FaultError,
}


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_complete(code: str) -> None:
    entry = catalogue()[code]
    assert re.fullmatch(r"AC-\d{3}", code)
    assert entry.next
    for text in (entry.title, entry.happened, entry.safe, *entry.next):
        assert JAPANESE.search(text), text
        assert set(re.findall(r"\{(\w*)\}", text)) <= {"service", "subject"}, text
    assert not entry.title.endswith("。")
    assert entry.happened.endswith("。")
    assert entry.safe.endswith("。")


@pytest.mark.parametrize("code", CODES)
def test_the_class_is_the_recovery(code: str) -> None:
    error = error_for(code, "件名", service="kintone")
    assert type(error) is CLASSES[catalogue()[code].recovery]
    assert error.recovery == catalogue()[code].recovery
    assert error.retryable == isinstance(error, WaitError | FaultError)


@pytest.mark.parametrize("code", CODES)
def test_text_is_filled_in_and_says_what_to_do(code: str) -> None:
    text = str(error_for(code, "件名", service="kintone"))
    assert text.startswith(f"{code} ")
    assert "［対処］1. " in text
    assert "{" not in text
    assert "{" not in str(error_for(code))


def test_codes_are_grouped_by_their_first_digit() -> None:
    assert all(catalogue()[c].recovery == "data" for c in CODES if c.startswith("AC-8"))
    assert catalogue()["AC-101"].recovery == "reauthorize"


def test_an_unknown_outcome_is_a_fault_with_its_own_class() -> None:
    assert issubclass(UnknownOutcomeError, FaultError)
    assert issubclass(FaultError, AppConnectError)


def test_an_unknown_code_is_a_bug() -> None:
    with pytest.raises(KeyError):
        error_for("AC-000")


def test_the_vendors_own_words_are_kept() -> None:
    detail = ErrorDetail(
        service="kintone",
        endpoint="GET /k/v1/records.json",
        status=404,
        vendor_code="GAIA_AP01",
        vendor_message="指定したアプリが見つかりません。",
        request_id="abc",
    )
    error = error_for("AC-202", "7", detail=detail)
    for part in ("kintone", "GET /k/v1/records.json", "404", "GAIA_AP01", "指定した", "abc"):
        assert part in str(error)
    assert error.as_dict()["detail"] == {
        "service": "kintone",
        "endpoint": "GET /k/v1/records.json",
        "status": 404,
        "vendor_code": "GAIA_AP01",
        "vendor_message": "指定したアプリが見つかりません。",
        "request_id": "abc",
    }


def test_what_is_safe_can_be_said_more_exactly() -> None:
    error = error_for("AC-301", service="kintone")
    error.safe = "500件は登録済みです。"
    assert "500件は登録済みです。" in str(error)
    assert error.as_dict()["safe"] == "500件は登録済みです。"


def test_masking_reaches_subject_detail_and_args() -> None:
    error = error_for(
        "AC-205", "鍵 s3cret", detail=ErrorDetail(service="x", vendor_message="bad s3cret")
    )
    error.mask(lambda text: text.replace("s3cret", "***"))
    assert "s3cret" not in f"{error} {error!r} {error.args} {error.as_dict()}"
    assert "bad ***" in str(error)
