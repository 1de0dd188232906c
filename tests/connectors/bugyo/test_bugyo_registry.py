"""The registry files: complete, consistent, honest; and what is derived from them."""

from __future__ import annotations

import re

import pytest

from connectors.bugyo import (
    Customer,
    Environment,
    any_of,
    assumptions,
    authorization_url,
    environment,
    operation,
    resource,
    where,
)
from connectors.kit import Consent, SettingsError

VERIFIED = {
    "AR2010001": "code",
    "AR2010003": "name",
    "AR2010007": "short_name",
    "AR2010014": "updated_at",
    "AR2010111": "memo1",
    "AR2010112": "memo2",
    "AR2010113": "memo3",
    "SD2010701": "billing_code",
}


def test_the_items_of_the_contract_are_there_and_verified() -> None:
    by_code = resource("customer").by_code
    assert {code: by_code[code].field for code in VERIFIED} == VERIFIED
    assert {item.code for item in by_code.values() if item.evidence == "V"} == set(VERIFIED)


def test_provisional_items_say_so() -> None:
    for item in resource("customer").items:
        if item.code not in VERIFIED:
            assert item.evidence == "?"
            assert item.note == "仮の記号: OBCのデータ形式で確かめること"
        else:
            assert "仮:" in item.note


def test_the_customer_type_has_the_fields_of_the_registry() -> None:
    registry = resource("customer")
    assert set(Customer.__annotations__) == set(registry.by_field)
    assert Customer.__required_keys__ == {registry.key.field}
    assert registry.key.code == "AR2010001"


def test_the_last_change_cannot_be_imported() -> None:
    item = resource("customer").by_field["updated_at"]
    assert not item.importable
    assert item.exportable


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("SearchTenant", "/mg/SearchTenant"),
        ("ExportCustomer", "/sdmm/ExportCustomer"),
        ("ImportCustomer", "/sdmm/ImportCustomer"),
        ("Token", "/oauth2/token"),
        ("Authorize", "/oauth2/authorizerequest"),
    ],
)
def test_verified_paths(name: str, path: str) -> None:
    assert operation(name).path == path
    assert operation(name).evidence == "V"


def test_assumptions_name_what_a_connection_depends_on() -> None:
    found = assumptions(["ExportCustomer", "ImportCustomer"], ["code", "phone"])
    assert all(each.evidence != "V" for each in found)
    by_subject = {each.subject: each for each in found}
    assert by_subject["電話番号"].evidence == "?"
    assert "AR2010905" in by_subject["電話番号"].statement
    assert by_subject["得意先コード"].evidence == "I"  # the item is verified, its length is not
    assert "ImportCustomer" in by_subject
    assert "得意先名" not in by_subject


def test_assumptions_about_hosts() -> None:
    hosts = [each.statement for each in assumptions([], [], environment="production")]
    assert hosts == [
        "APIの接続先は https://api.obc.jp",
        "ログイン画面の接続先は https://id.obc.jp",
    ]
    assert assumptions([], [], environment="sandbox") == []


def test_environments() -> None:
    assert environment("sandbox").api_base == "https://api-sandbox.obc.jp"
    assert environment("sandbox").id_base == "https://id-demo.obc.jp"
    with pytest.raises(SettingsError, match="AC-205"):
        environment("nowhere")


@pytest.mark.parametrize(
    "base",
    [
        "http://api.obc.jp",
        "http://169.254.169.254",
        "ftp://api.obc.jp",
        "https://user:pw@api.obc.jp",
        "https://api.obc.jp/path",
        "api.obc.jp",
        "",
    ],
)
def test_plain_http_and_odd_addresses_are_refused(base: str) -> None:
    with pytest.raises(SettingsError, match="AC-205"):
        Environment("own", base, "https://id.obc.jp")


def test_loopback_may_be_plain_http() -> None:
    for base in ("http://127.0.0.1:8702", "http://localhost:8702", "http://[::1]:8702"):
        assert Environment("emulator", base, base).api_base == base


def test_filters_are_encoded_to_item_codes() -> None:
    codes = resource("customer").codes
    condition = where("code").ne("0") & where("memo3").ne("") & where("code").ge("1")
    assert condition.encode(codes) == {
        "and": [
            {"itemKey": "AR2010001", "operator": "ne", "value": "0"},
            {"itemKey": "AR2010113", "operator": "ne", "value": ""},
            {"itemKey": "AR2010001", "operator": "ge", "value": "1"},
        ]
    }
    nested = (where("code").ge("1") & where("code").le("3")) | where("name").eq("x")
    assert list(nested.encode(codes)) == ["or"]
    assert list(nested.encode(codes)["or"][0]) == ["and"]


def test_any_of_one_is_a_single_leaf() -> None:
    codes = resource("customer").codes
    assert any_of("code", ["1"]).encode(codes) == {
        "itemKey": "AR2010001",
        "operator": "eq",
        "value": "1",
    }
    assert len(any_of("code", ["1", "2"]).encode(codes)["or"]) == 2
    with pytest.raises(ValueError, match="at least one"):
        any_of("code", [])
    with pytest.raises(KeyError):
        where("nonsense").eq("1").encode(codes)


def test_authorization_url_has_the_three_parameters_state_and_pkce() -> None:
    # The verifier and its challenge are those of RFC 7636, appendix B.
    consent = Consent(
        "奉行クラウド", state="s", verifier="dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    )
    back = "https://a.example/cb?x=1"
    url = authorization_url(environment("sandbox"), "client000001", back, consent)
    assert re.fullmatch(
        r"https://id-demo\.obc\.jp/oauth2/authorizerequest\?response_type=code"
        r"&client_id=client000001&redirect_uri=https%3A%2F%2Fa\.example%2Fcb%3Fx%3D1&state=s"
        r"&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256",
        url,
    )
