"""The emulator refuses what the contract does not allow, and keeps honest books."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from connectors.bugyo.emulator import (
    DEMO_FIXED_TOKEN,
    DEMO_SUBSCRIPTION_KEY,
    DEMO_TENANTS,
)

if TYPE_CHECKING:
    from tests.connectors.bugyo.conftest import Service

HEADERS = {
    "X-OBC-SubscriptionKey": DEMO_SUBSCRIPTION_KEY,
    "X-OBC-TenantID": DEMO_TENANTS[0].id,
    "Authorization": f"Bearer {DEMO_FIXED_TOKEN}",
}
EXPORT, IMPORT = "/sdmm/ExportCustomer", "/sdmm/ImportCustomer"


def post(
    service: Service, path: str, body: Any = None, *, without: str = "", **headers: str
) -> httpx.Response:
    merged = {k: v for k, v in {**HEADERS, **headers}.items() if k != without}
    return httpx.post(f"{service.url}{path}", json=body, headers=merged)


def code_of(answer: httpx.Response) -> str:
    assert answer.status_code == 400, answer.text
    code: str = answer.json()["errors"][0]["code"]
    return code


def test_the_contracts_own_example(service: Service) -> None:
    body = {
        "filter": {
            "and": [
                {"itemKey": "AR2010001", "operator": "ne", "value": "0"},
                {"itemKey": "AR2010113", "operator": "ne", "value": ""},
            ]
        },
        "sort": ["AR2010001"],
        "itemList": [
            "AR2010001", "AR2010003", "AR2010007", "AR2010014",
            "AR2010111", "AR2010112", "AR2010113", "SD2010701",
        ],
    }  # fmt: skip
    empty = post(service, EXPORT, body)
    assert (empty.status_code, empty.content) == (200, b"")
    row = {"AR2010001": "1", "AR2010003": "甲", "AR2010113": "key"}
    stored = post(service, IMPORT, {"dataList": [row]})
    assert (stored.status_code, stored.content) == (200, b"")
    (found,) = post(service, "/SDMM/exportcustomer", body).json()
    assert set(found) == set(body["itemList"])
    assert found["SD2010701"] == "1"


@pytest.mark.parametrize("path", ["/mg/SearchTenant", EXPORT, IMPORT, "/oauth2/token"])
def test_the_key_is_asked_for_first_and_in_the_gateways_words(service: Service, path: str) -> None:
    missing = post(service, path, {}, without="X-OBC-SubscriptionKey")
    assert missing.status_code == 401
    assert missing.json()["message"].startswith("Access denied due to missing subscription key")
    renamed = {"Ocp-Apim-Subscription-Key": DEMO_SUBSCRIPTION_KEY}
    wrong = post(service, path, {}, without="X-OBC-SubscriptionKey", **renamed)
    assert wrong.status_code == 401


def test_token_and_tenant(service: Service) -> None:
    assert post(service, EXPORT, {}, without="Authorization").status_code == 401
    assert post(service, EXPORT, {}, without="X-OBC-TenantID").status_code == 400
    assert post(service, EXPORT, {}, **{"X-OBC-TenantID": "x"}).status_code == 403
    assert post(service, "/mg/searchtenant", without="X-OBC-TenantID").status_code == 200


def test_unknown_operations_and_methods(service: Service) -> None:
    for answer in (
        post(service, "/sdmm/ExportNothing", {}),
        httpx.get(f"{service.url}{EXPORT}", headers=HEADERS),
        httpx.get(f"{service.url}/"),
    ):
        assert answer.status_code == 404
        assert answer.json() == {"statusCode": 404, "message": "Resource not found"}


def leaf(item: str, operator: str, value: Any) -> dict[str, Any]:
    return {"filter": {"itemKey": item, "operator": operator, "value": value}}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([], "E0001"),
        ({"limit": 10}, "E2001"),
        ({"itemList": ["AR2019999"]}, "E2002"),
        ({"itemList": []}, "E2002"),
        ({"sort": ["AR2010003"]}, "E2003"),
        ({"sort": ["AR2010001 down"]}, "E2003"),
        ({"filter": {}}, "E2004"),
        ({"filter": {"and": []}}, "E2004"),
        ({"filter": {"itemKey": "AR2010001", "operator": "eq"}}, "E2004"),
        (leaf("AR2010905", "eq", "03"), "E2005"),
        (leaf("AR2019999", "eq", "1"), "E2005"),
        (leaf("AR2010001", "in", "1"), "E2006"),
        (leaf("AR2010113", "ge", "1"), "E2006"),
        (leaf("AR2010001", "eq", 1), "E2007"),
        (leaf("AR2010014", "ge", "yesterday"), "E2007"),
    ],
)
def test_exports_that_are_not_allowed(service: Service, body: Any, code: str) -> None:
    assert code_of(post(service, EXPORT, body)) == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"AR2019999": "x"}, "E1002"),
        ({"name": "x"}, "E1002"),
        ({"AR2010014": "2026/01/01"}, "E1002"),
        ({"AR2010003": 1}, "E1003"),
        ({"AR2010003": None}, "E1003"),
        ({"AR2010003": "あ" * 41}, "E1004"),
        ({"AR2010001": "1" * 14}, "E1004"),
        ({"AR2010901": "ア" * 41}, "E1004"),
        ({"AR2010003": "a\tb"}, "E1005"),
        ({"AR2010001": "１"}, "E1006"),
        ({"AR2010003": "　"}, "E1007"),
        ({"AR2010001": ""}, "E1007"),
        ({"AR2010001": "0"}, "E1008"),
        ({"SD2010701": "404"}, "E1009"),
    ],
)
def test_rows_that_are_not_allowed(service: Service, change: dict[str, Any], code: str) -> None:
    good = {"AR2010001": "1", "AR2010003": "甲"}
    bad = {"AR2010001": "2", "AR2010003": "乙", **change}
    answer = post(service, IMPORT, {"dataList": [good, bad]})
    assert code_of(answer) == code
    error = answer.json()["errors"][0]
    assert error["rowNo"] == 2
    assert error["itemKey"] in change
    assert service.emulator.books()["tenants"][DEMO_TENANTS[0].id]["customers"] == 1


@pytest.mark.parametrize(
    "body", [[], {}, {"dataList": []}, {"dataList": {}}, {"dataList": [1]}, {"rows": []}]
)
def test_imports_of_a_wrong_shape(service: Service, body: Any) -> None:
    assert post(service, IMPORT, body).status_code == 400


def test_only_json_is_taken(service: Service) -> None:
    raw = b'{"dataList":[{"AR2010001":"1","AR2010003":"x"}]}'
    text = httpx.post(
        f"{service.url}{IMPORT}", content=raw, headers={**HEADERS, "content-type": "text/plain"}
    )
    assert text.status_code == 400


def test_rows_per_call_are_limited(service: Service) -> None:
    rows = [{"AR2010001": str(n), "AR2010003": "x"} for n in range(1, 1002)]
    assert code_of(post(service, IMPORT, {"dataList": rows})) == "E0003"
    assert post(service, IMPORT, {"dataList": rows[:1000]}).status_code == 200


def test_a_new_customer_needs_a_name_and_a_known_one_does_not(service: Service) -> None:
    row = {"AR2010001": "1", "AR2010113": "x"}
    assert code_of(post(service, IMPORT, {"dataList": [row]})) == "E1007"
    post(service, IMPORT, {"dataList": [{"AR2010001": "1", "AR2010003": "甲"}]})
    assert post(service, IMPORT, {"dataList": [row]}).status_code == 200


def test_billing_to_an_earlier_row_a_stored_one_or_itself(service: Service) -> None:
    def row(code: str, billing: str) -> dict[str, str]:
        return {"AR2010001": code, "AR2010003": "x", "SD2010701": billing}

    assert post(service, IMPORT, {"dataList": [row("1", "1"), row("2", "1")]}).is_success
    assert post(service, IMPORT, {"dataList": [row("3", "2")]}).is_success
    later = post(service, IMPORT, {"dataList": [row("4", "5"), row("5", "5")]})
    assert later.json()["errors"][0]["rowNo"] == 1


def test_billing_to_a_row_that_was_refused_is_refused_too(service: Service) -> None:
    service.set(import_mode="partial_200")
    rows = [
        {"AR2010001": "1", "AR2010003": ""},
        {"AR2010001": "2", "AR2010003": "x", "SD2010701": "1"},
    ]
    answer = post(service, IMPORT, {"dataList": rows})
    assert [error["rowNo"] for error in answer.json()["errors"]] == [1, 2]


def test_control_routes(service: Service) -> None:
    control = f"{service.url}/__emulator__"
    tenant = DEMO_TENANTS[1].id
    rows = [{"code": "7", "name": "七", "updated_at": "2026/01/01 00:00:00"}]
    assert httpx.put(f"{control}/tenants/{tenant}/customers", json=rows).status_code == 204
    listed = httpx.get(f"{control}/tenants/{tenant}/customers").json()
    assert [(row["code"], row["name"], row["updated_at"][:10]) for row in listed][1] == (
        "7",
        "七",
        "2026/01/01",
    )
    assert httpx.get(f"{control}/tenants/nobody/customers").status_code == 404
    changed = httpx.patch(f"{control}/settings", json={"import_mode": "bare_400"}).json()
    assert changed["import_mode"] == "bare_400"
    assert httpx.patch(f"{control}/settings", json={"nonsense": 1}).status_code == 422
    assert httpx.get(f"{control}/settings").json()["import_mode"] == "bare_400"
    books = httpx.get(f"{control}/books").json()
    assert books["tenants"][tenant] == {"customers": 2, "imports": 0, "writes": {}}
    pair = httpx.post(f"{control}/tokens").json()
    bearer = {"Authorization": f"Bearer {pair['access_token']}"}
    assert post(service, "/mg/SearchTenant", **bearer).status_code == 200
    httpx.post(f"{control}/expire")
    assert post(service, "/mg/SearchTenant", **bearer).status_code == 401
    assert post(service, "/mg/SearchTenant").status_code == 200  # a fixed token does not expire


def test_a_registered_redirect_uri_is_accepted(service: Service) -> None:
    uri = "http://127.0.0.1:9999/back"
    query = {"response_type": "code", "client_id": "appconnect01", "redirect_uri": uri}
    url = f"{service.url}/oauth2/authorizerequest"
    assert httpx.get(url, params=query).status_code == 400
    httpx.post(f"{service.url}/__emulator__/redirect-uris", json={"redirect_uri": uri})
    assert httpx.get(url, params=query).status_code == 200


def test_rate_limit_in_the_gateways_words(service: Service) -> None:
    service.set(calls_per_minute=1)
    answers = [post(service, "/mg/SearchTenant") for _ in range(4)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    wait = refused[0].headers["retry-after"]
    assert refused[0].json() == {
        "statusCode": 429,
        "message": f"Rate limit is exceeded. Try again in {wait} seconds.",
    }
