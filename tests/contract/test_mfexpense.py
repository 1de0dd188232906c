"""The emulator of クラウド経費 as the public client moneyforward-ex sees it, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

from connectors.kit.emulator import serve
from connectors.mfexpense.emulator import MfExpenseEmulator
from connectors.mfexpense.emulator_books import side


def test_the_public_client_reads_the_emulator(drive: Callable[..., Any]) -> None:
    emulator = MfExpenseEmulator()
    emulator.access.add_client("client", "secret", "https://app.example/callback")
    book = emulator.add_office("株式会社見本")
    travel = book.add("item", "旅費交通費", "701")
    payable = book.add("item", "未払金")
    book.add("sub_item", "国内出張", "1", item_id=travel)
    taxed = book.add("excise", "課税仕入 10%", "001_1", rate=0.1)
    sales = book.add("dept", "営業部", "10")
    book.add("project_code", "本社移転", "P1")
    book.add("ex_destination", "髙﨑商店")

    def post(day: date, unit: Any = "transaction") -> str:
        branch = {
            "remark": "新幹線",
            "sides": [
                side(1, 1100, 100, item=travel, excise=taxed, dept=sales),
                side(-1, 1100, item=payable),
            ],
        }
        return book.post(day, [branch], unit=unit, registration="T1234567890123")

    in_october = [post(date(2026, 10, 1 + n % 31)) for n in range(250)]
    post(date(2026, 9, 30))
    post(date(2026, 11, 1))
    report = post(date(2026, 10, 31), "report")
    token = emulator.access.pair("client")["access_token"]

    with serve(emulator) as url:
        found = drive("mfexpense", url, token, book.id, in_october[0])

    assert [(office["id"], office["name"]) for office in found["offices"]] == [
        (book.id, "株式会社見本")
    ]
    assert [journal["ex_transaction_id"] for journal in found["by_transaction"]] == in_october
    assert found["pages"] == 3
    assert {j["invoice_registration_number"] for j in found["by_transaction"]} == {"T1234567890123"}
    assert [journal["ex_report_id"] for journal in found["by_report"]] == [report]
    assert found["one"] == {
        "recognized_at": "2026-10-01",
        "remark": "新幹線",
        "sides": [1, -1],
        "values": [1100, 100, 1100],
        "item": ["701", "旅費交通費"],
        "rate": 0.1,
        "dept": "営業部",
        "credit_code": None,
    }
    names = {
        kind: [e.get("name", e.get("long_name")) for e in entries]
        for kind, entries in found["masters"].items()
    }
    assert names == {
        "excises": ["課税仕入 10%"],
        "depts": ["営業部"],
        "ex_items": ["旅費交通費", "未払金", "国内出張"],
        "project_codes": ["本社移転"],
        "ex_destinations": ["髙﨑商店"],
    }
    assert found["masters"]["ex_items"][2]["sub_item"]["code"] == "1"
    too_long = {"messages": ["計上日の期間は最大3ヶ月で指定してください。"]}
    assert found["too_long"] == [400, too_long]
    status, said = found["backwards"]
    assert (status, list(said)) == (400, ["messages"])
    assert found["unknown_token"] == [401, {"messages": ["アクセストークンが無効です。"]}]
