"""The emulator on the wire: everything is text, ranges are mandatory, errors have a shape."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import httpx

from connectors.smaregi.emulator import SmaregiEmulator

DAY = date(2026, 11, 20)


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in leaves(each)]
    if isinstance(value, list):
        return [leaf for each in value for leaf in leaves(each)]
    return [value]


def test_a_sale_and_a_closing_as_they_come(emulator: SmaregiEmulator, api: httpx.Client) -> None:
    items = [
        {"price": 1100, "quantity": 2},
        {"price": 540, "rate": 8},
        {"price": 300, "rate": 10, "tax": "out"},
        {"price": 50, "tax": "none"},
    ]
    emulator.book.sell("1", DAY, items, discount=100, points=19, pay={"credit": 2500, "3": 500})
    emulator.book.close("1", DAY)
    (sale,) = api.get(
        "/transactions",
        params={"sum_date": DAY.isoformat(), "with_details": "all", "with_deposit_others": "all"},
    ).json()
    (closing,) = api.get("/daily_summaries", params={"sum_date": DAY.isoformat()}).json()
    assert all(leaf is None or isinstance(leaf, str) for leaf in leaves([sale, closing]))
    assert (sale["transactionHeadId"], sale["total"], sale["creditTotal"]) == ("1", "3000", "2500")
    assert sale["depositOthers"][0] | {"no": ""} == {
        "no": "",
        "paymentMethodId": "3",
        "paymentMethodName": "PayPay",
        "depositOthers": "500",
        "paymentUnitPrice": None,
        "paymentChangeFlag": "0",
        "paymentDivision": "9",
    }
    lines = sale["details"]
    assert sum(int(line["discountPriceProportional"]) for line in lines) == 100
    assert sum(int(line["discountPointProportional"]) for line in lines) == 19
    assert [line["taxDivision"] for line in lines] == ["0", "0", "1", "2"]
    # 300 less its share of what was taken off (9 + 1) makes 29 yen of tax on top, rounded down.
    assert sale["taxExclude"] == lines[2]["taxExcludeProportional"] == "29"
    assert closing["total"] == "3000"
    assert closing["totalExcludTax"] == closing["totalExcludeTax"]
    assert closing["otherSalseList"] == closing["otherSalesList"]
    assert closing["otherSalesList"][0]["sales"] == "500"
    bare = api.get("/transactions", params={"sum_date": DAY.isoformat()}).json()[0]
    assert not bare.keys() & {"details", "depositOthers"}


def test_a_cancelled_sale_keeps_its_id_and_the_closing_its_yen(
    emulator: SmaregiEmulator, api: httpx.Client, clock: Any
) -> None:
    one = emulator.book.sell("1", DAY, [{"price": 1000}])
    emulator.book.sell("1", DAY, [{"price": 500}], drawer="2")
    emulator.book.close("1", DAY)
    clock.now += timedelta(minutes=50)
    emulator.book.cancel(one)
    window = {
        "upd_date_time-from": "2026-11-22T12:30:00+09:00",
        "upd_date_time-to": "2026-11-22T13:00:00+09:00",
    }
    (sale,) = api.get("/transactions", params=window).json()
    assert (sale["transactionHeadId"], sale["cancelDivision"]) == ("1", "1")
    assert sale["cancelDateTime"] == sale["updDateTime"] == "2026-11-22T12:54:56+09:00"
    assert api.get("/daily_summaries", params=window).json() == []
    emulator.book.close("1", DAY)
    drawers = {
        c["cashDrawerId"]: c["total"] for c in api.get("/daily_summaries", params=window).json()
    }
    assert drawers == {"1": "0", "2": "500"}


MONTH = {"sum_date-from": "2026-10-01", "sum_date-to": "2026-10-31"}


REFUSED: list[tuple[str, dict[str, str], str]] = [
    ("transactions", {}, "A date range is required"),
    ("transactions", {"store_id": "1"}, "A date range is required"),
    ("daily_summaries", {}, "A date range is required"),
    ("transactions", MONTH | {"sum_date-to": "2026-11-01"}, "31 days"),
    ("transactions", {"sum_date-from": "2026-10-01"}, "together"),
    ("transactions", MONTH | {"limit": "1001"}, "limit"),
    ("transactions", MONTH | {"limit": "101", "with_details": "all"}, "limit"),
    ("daily_summaries", MONTH | {"limit": "101"}, "limit"),
    ("transactions", MONTH | {"page": "0"}, "page"),
    ("transactions", MONTH | {"with_detail": "all"}, "with_detail"),
    ("transactions", {"upd_date_time-from": "2026-10-01", "upd_date_time-to": "x"}, "upd_"),
]


def test_what_is_refused(api: httpx.Client) -> None:
    for path, params, wrong in REFUSED:
        answer = api.get(f"/{path}", params=params)
        said = answer.json()
        assert (answer.status_code, set(said)) == (400, {"type", "title", "detail", "status"})
        assert wrong in said["detail"], params


def test_limits_pages_and_rights(emulator: SmaregiEmulator, api: httpx.Client) -> None:
    for _ in range(120):
        emulator.book.sell("1", DAY, [{"price": 100}])
    days = {"sum_date": DAY.isoformat()}
    assert len(api.get("/transactions", params=days).json()) == 100
    second = api.get("/transactions", params=days | {"page": "2", "sort": "transactionHeadId:asc"})
    assert [row["transactionHeadId"] for row in second.json()] == [str(n) for n in range(101, 121)]
    newest = days | {"sort": "transactionHeadId:desc", "limit": "1", "fields": "transactionHeadId"}
    assert api.get("/transactions", params=newest).json() == [{"transactionHeadId": "120"}]
    assert api.get("/transactions", params=MONTH | {"limit": "1000"}).json() == []
    emulator.reads_per_second = 1
    throttled = api.get("/stores")
    assert (throttled.status_code, throttled.headers["retry-after"]) == (429, "1")
    emulator.reads_per_second = None
    api.headers["Authorization"] = "Bearer wrong"
    assert api.get("/stores").status_code == 401


def test_another_process_steers_it(emulator: SmaregiEmulator, url: str) -> None:
    control = httpx.Client(base_url=f"{url}/__emulator__")
    assert control.post("/stores", json={"number": "7", "name": "福岡店"}).status_code == 200
    sale = {"store": "7", "day": "2026-11-20", "items": [{"price": 1000}], "points": 10}
    assert control.post("/sales", json=sale).json() == {"id": 1}
    assert control.post("/sales", json=sale | {"pay": {"cash": 1}}).status_code == 400
    assert control.post("/closings", json={"store": "7", "day": "2026-11-20"}).status_code == 200
    books = control.get("/books").json()
    assert (books["closings"], books["paid"]["cash"], books["taxes"]) == (1, 990, {"10": 90})
    assert control.post("/sales/1/cancel").status_code == 200
    assert control.post("/sales/9/cancel").status_code == 404
    assert control.get("/books").json()["paid"] == {}
    control.request("DELETE", "/closings", json={"store": "7", "day": "2026-11-20"})
    assert control.get("/books").json()["closings"] == 0
