"""The emulator's 仕訳伝票: refuses what a 奉行クラウド would, and keeps honest books."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from connectors.bugyo.emulator import (
    DEMO_FIXED_TOKEN,
    DEMO_FOREIGN_TENANT,
    DEMO_SUBSCRIPTION_KEY,
    DEMO_TENANTS,
    BugyoEmulator,
)
from connectors.bugyo.journal import JOURNAL

if TYPE_CHECKING:
    from tests.connectors.bugyo.conftest import Service

TENANT = DEMO_TENANTS[0].id
EXPORT, IMPORT = "/gl/ExportJournalSlip", "/gl/ImportJournalSlip"
RESULT = "/gl/ImportJournalSlipResult"
CODE = JOURNAL.codes
GOOD = {
    "separator": "*",
    "date": "2026/11/22",
    "voucher_number": "K1",
    "debit_account": "604",
    "debit_tax_code": "0010",
    "debit_tax_rate": "10",
    "debit_amount": "1000",
    "debit_tax": "100",
    "credit_account": "305",
    "credit_amount": "1100",
}


def post(service: Service, path: str, body: Any, *, tenant: str = TENANT) -> httpx.Response:
    headers = {
        "X-OBC-SubscriptionKey": DEMO_SUBSCRIPTION_KEY,
        "X-OBC-TenantID": tenant,
        "Authorization": f"Bearer {DEMO_FIXED_TOKEN}",
    }
    return httpx.post(f"{service.url}{path}", json=body, headers=headers)


def rows(*named: dict[str, Any]) -> dict[str, Any]:
    return {"dataList": [{CODE.get(k, k): v for k, v in row.items()} for row in named]}


def errors(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 400, answer.text
    found: list[dict[str, Any]] = answer.json()["errors"]
    return found


def vouchers(service: Service, tenant: str = TENANT) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.emulator.books()["journals"][tenant]["vouchers"]
    return found


@pytest.mark.parametrize(
    ("change", "code", "item"),
    [
        ({"GL0019999": "x"}, "E1002", "GL0019999"),
        ({"debit_amount": 1000}, "E1003", "debit_amount"),
        ({"debit_amount": 1000.0}, "E1003", "debit_amount"),
        ({"debit_amount": "9" * 14}, "E1004", "debit_amount"),
        ({"voucher_number": "K" * 21}, "E1004", "voucher_number"),
        ({"description": "a\nb"}, "E1005", "description"),
        ({"description": "a\x00b"}, "E1005", "description"),
        ({"debit_amount": "1,000"}, "E1006", "debit_amount"),
        ({"debit_amount": "1000.5"}, "E1006", "debit_amount"),
        ({"separator": ""}, "E3001", "separator"),
        ({"separator": "+"}, "E1006", "separator"),
        ({"date": ""}, "E3004", "date"),
        ({"date": "2026/02/30"}, "E3004", "date"),
        ({"credit_amount": "1000"}, "E3006", "debit_amount"),
        ({"debit_amount": "0", "debit_tax": "1100"}, "E3007", "debit_amount"),
        ({"debit_account": "999"}, "E3011", "debit_account"),
        ({"debit_account": ""}, "E3018", "debit_account"),
        ({"debit_department": "0077"}, "E3012", "debit_department"),
        ({"slip_department": "0077"}, "E3012", "slip_department"),
        ({"debit_department": "0090"}, "E3019", "debit_department"),
        ({"debit_sub_account": "0001"}, "E3013", "debit_sub_account"),
        ({"credit_partner": "999999"}, "E3014", "credit_partner"),
        ({"debit_tax_code": "7777"}, "E3015", "debit_tax_code"),
        ({"debit_tax_rate": "7"}, "E3016", "debit_tax_rate"),
        ({"debit_tax_rate_kind": "1"}, "E3016", "debit_tax_rate_kind"),
        ({"debit_tax_code": "0000", "debit_tax_rate": ""}, "E3017", "debit_tax"),
        (
            {"debit_tax_auto": "1", "debit_tax": "101", "credit_amount": "1101"},
            "E3017",
            "debit_tax",
        ),
        ({"debit_rounding": "9"}, "E3020", "debit_rounding"),
    ],
)
def test_slips_that_are_not_allowed(
    service: Service, change: dict[str, Any], code: str, item: str
) -> None:
    first = {**GOOD, "voucher_number": "K0"}
    (error,) = errors(post(service, IMPORT, rows(first, {**GOOD, **change})))[:1]
    expected_row = 1 if code == "E3001" else 2
    if code == "E3001":  # without its separator the row belongs to the slip before it
        (error,) = errors(post(service, IMPORT, rows({**GOOD, **change})))
    assert (error["code"], error["itemKey"], error["rowNo"]) == (
        code,
        CODE.get(item, item),
        expected_row,
    )
    assert vouchers(service) == []


def test_the_header_of_later_rows_is_empty_or_the_same(service: Service) -> None:
    more = {**GOOD, "separator": ""}
    bare = {k: v for k, v in more.items() if k not in ("date", "voucher_number")}
    assert post(service, IMPORT, rows(GOOD, more, bare)).content == b""
    assert [(v["rows"], v["debit"]) for v in vouchers(service)] == [(3, 3300)]
    exported = post(service, EXPORT, {"itemList": [CODE["separator"], CODE["date"]]}).json()
    assert [row[CODE["separator"]] for row in exported] == ["*", "", ""]
    assert {row[CODE["date"]] for row in exported} == {"2026/11/22"}
    (error,) = errors(post(service, IMPORT, rows(GOOD, {**more, "date": "2026/11/23"})))
    assert (error["code"], error["rowNo"]) == ("E3002", 2)


def test_a_slip_is_stored_whole_or_not_at_all(service: Service) -> None:
    service.set(import_mode="partial_207")
    tail = {**GOOD, "separator": "", "debit_account": "999"}
    answer = post(service, IMPORT, rows(GOOD, tail, {**GOOD, "voucher_number": "K2"}))
    assert answer.status_code == 207
    assert [error["rowNo"] for error in answer.json()["errors"]] == [2]
    assert [v["voucher_number"] for v in vouchers(service)] == ["K2"]


def test_limits(service: Service) -> None:
    service.set(max_slip_rows=2, max_rows=4)
    more = {**GOOD, "separator": ""}
    assert errors(post(service, IMPORT, rows(GOOD, more, more)))[0]["code"] == "E3003"
    assert errors(post(service, IMPORT, rows(*[GOOD] * 5)))[0]["code"] == "E0003"
    assert post(service, IMPORT, rows(GOOD, more, GOOD, more)).status_code == 200


@pytest.mark.parametrize("body", [[], {}, {"dataList": []}, {"dataList": [1]}, {"rows": []}])
def test_imports_of_a_wrong_shape(service: Service, body: Any) -> None:
    assert post(service, IMPORT, body).status_code == 400


def test_numbers_are_given_and_not_twice(service: Service) -> None:
    own = {**GOOD, "number": "000002"}
    post(service, IMPORT, rows(GOOD, own, GOOD))
    post(service, IMPORT, rows(GOOD))
    assert [v["number"] for v in vouchers(service)] == ["000001", "000002", "000003", "000004"]
    (error,) = errors(post(service, IMPORT, rows(own)))
    assert (error["code"], error["itemKey"]) == ("E3008", CODE["number"])
    fresh = {**GOOD, "number": "9"}
    assert errors(post(service, IMPORT, rows(fresh, fresh)))[0]["rowNo"] == 2


def test_a_voucher_number_twice(service: Service) -> None:
    assert post(service, IMPORT, rows(GOOD, GOOD)).status_code == 200
    assert [v["voucher_number"] for v in vouchers(service)] == ["K1", "K1"]
    service.set(duplicate_voucher="refuse")
    (error,) = errors(post(service, IMPORT, rows(GOOD)))
    assert (error["code"], error["itemKey"]) == ("E3010", CODE["voucher_number"])
    new = {**GOOD, "voucher_number": "K2"}
    assert errors(post(service, IMPORT, rows(new, new)))[0]["rowNo"] == 2
    assert len(vouchers(service)) == 2


def leaf(name: str, operator: str, value: Any) -> dict[str, Any]:
    return {"filter": condition(name, operator, value)}


def condition(name: str, operator: str, value: Any) -> dict[str, Any]:
    return {"itemKey": CODE.get(name, name), "operator": operator, "value": value}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([], "E0001"),
        ({"limit": 10}, "E2001"),
        ({"itemList": ["GL0019999"]}, "E2002"),
        ({"itemList": []}, "E2002"),
        ({"sort": [CODE["description"]]}, "E2003"),
        ({"sort": [f"{CODE['date']} down"]}, "E2003"),
        ({"filter": {}}, "E2004"),
        ({"filter": {"or": []}}, "E2004"),
        (leaf("debit_account", "eq", "604"), "E2005"),
        (leaf("GL0019999", "eq", "1"), "E2005"),
        (leaf("voucher_number", "like", "K"), "E2006"),
        (leaf("date", "ge", "昨日"), "E2007"),
        (leaf("date", "ge", 20261122), "E2007"),
    ],
)
def test_exports_that_are_not_allowed(service: Service, body: Any, code: str) -> None:
    assert errors(post(service, EXPORT, body))[0]["code"] == code


def test_filters(service: Service) -> None:
    days = [f"2026/11/{day}" for day in (3, 1, 2)]
    post(
        service,
        IMPORT,
        rows(*({**GOOD, "date": day, "voucher_number": f"K{day[-1]}"} for day in days)),
    )

    def found(chosen: dict[str, Any] | None, *sort: str) -> list[str]:
        body: dict[str, Any] = {"itemList": [CODE["voucher_number"]], "sort": list(sort)}
        answer = post(service, EXPORT, {**body, **({"filter": chosen} if chosen else {})})
        return [row[CODE["voucher_number"]] for row in (answer.json() if answer.content else [])]

    def voucher(key: str) -> dict[str, Any]:
        return condition("voucher_number", "eq", key)

    later = condition("date", "ge", "2026/11/2")
    assert found(None) == ["K1", "K2", "K3"]
    assert found(None, f"{CODE['date']} desc") == ["K3", "K2", "K1"]
    assert found(None, CODE["number"]) == ["K3", "K1", "K2"]
    assert found(later) == ["K2", "K3"]
    assert found({"or": [voucher("K3"), voucher("K1"), voucher("K9")]}) == ["K1", "K3"]
    assert found({"and": [{"or": [voucher("K1"), voucher("K2")]}, later]}) == ["K2"]
    assert found({"or": [voucher("K1"), later]}) == ["K1", "K2", "K3"]
    assert found({"and": [voucher("K1"), later]}) == []


def test_tenants_are_apart(service: Service) -> None:
    other = DEMO_TENANTS[1].id
    post(service, IMPORT, rows(GOOD))
    assert post(service, EXPORT, {}, tenant=other).content == b""
    assert post(service, IMPORT, rows(GOOD), tenant=DEMO_FOREIGN_TENANT.id).status_code == 403
    assert (len(vouchers(service)), len(vouchers(service, other))) == (1, 0)


def test_an_accepted_import_is_done_when_it_is_due(service: Service) -> None:
    service.set(slip_import="async", slip_async_seconds=60, slip_result_polls=0)
    accepted = post(service, IMPORT, rows(GOOD)).json()
    ask = {"acceptKey": accepted["acceptKey"]}
    assert post(service, RESULT, ask).json() == {"status": "processing"}
    assert service.emulator.books()["journals"][TENANT]["waiting"] == 1
    assert vouchers(service) == []
    job = service.emulator.journals[TENANT].jobs[accepted["acceptKey"]]
    job.due = 0
    assert len(vouchers(service)) == 1
    assert post(service, RESULT, ask).json() == {"status": "done", "errors": []}
    assert post(service, RESULT, ask).json() == {"status": "done", "errors": []}
    assert len(vouchers(service)) == 1
    assert errors(post(service, RESULT, {"acceptKey": "?"}))[0]["code"] == "E3090"


def test_steering(service: Service) -> None:
    control = f"{service.url}/__emulator__/tenants/{TENANT}"
    missing = post(service, IMPORT, rows({**GOOD, "debit_account": "899"}, GOOD))
    assert errors(missing)[0]["code"] == "E3011"
    more = [{"code": "899", "name": "試験"}]
    assert httpx.put(f"{control}/masters/account_item", json=more).status_code == 204
    assert httpx.put(f"{control}/masters/account_item", json=[{"x": "1"}]).status_code == 422
    assert httpx.get(f"{control}/masters/nonsense").status_code == 404
    listed = httpx.get(f"{control}/masters/account_item").json()
    assert {row["code"]: row["name"] for row in listed}.items() >= {
        "899": "試験",
        "100": "現金",
    }.items()
    post(service, IMPORT, rows({**GOOD, "debit_account": "899"}, GOOD))
    listed = httpx.get(f"{control}/slips").json()
    assert [row["debit_account"] for row in listed] == ["899", "604"]
    assert httpx.get(f"{service.url}/__emulator__/books").json()["journals"][TENANT]["imports"] == 1
    assert httpx.delete(f"{control}/slips/K1").json() == {"deleted": 2}
    assert httpx.delete(f"{control}/slips/K1").json() == {"deleted": 0}
    assert vouchers(service) == []
    assert httpx.get(f"{service.url}/__emulator__/tenants/nobody/slips").status_code == 404


def test_books_survive_a_restart(service: Service) -> None:
    post(service, IMPORT, rows(GOOD))
    service.set(slip_import="async", slip_async_seconds=60)
    key = post(service, IMPORT, rows({**GOOD, "voucher_number": "K2"})).json()["acceptKey"]
    held = json.loads(json.dumps(service.emulator.dump()))
    again = BugyoEmulator()
    before = again.version
    again.restore(held)
    assert again.version != before
    book = again.journals[TENANT]
    found = again.books()["journals"][TENANT]
    assert [v["voucher_number"] for v in found["vouchers"]] == ["K1", "K2"]
    assert [v["number"] for v in found["vouchers"]] == ["000001", "000002"]
    assert list(book.jobs) == [key]
