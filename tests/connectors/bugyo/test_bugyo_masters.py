"""Masters of every kind: their registries, the client, and an emulator that is strict."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from connectors.bugyo import (
    AccountItem,
    Attendance,
    AttendanceDay,
    BusinessPartner,
    Customer,
    Department,
    Employee,
    SubAccountItem,
    TaxCategory,
    assumptions,
    keys_filter,
    master_operations,
    masters,
    operation,
    resource,
    row_validator,
    where,
)
from connectors.bugyo.emulator import DEMO_TENANTS, BugyoEmulator
from connectors.kit.emulator import Fault
from flows.parts.bugyo_codes import RESOURCES, code_operations, known_codes
from flows.parts.masters import MasterSink

if TYPE_CHECKING:
    from tests.connectors.bugyo.conftest import Service

TENANT = DEMO_TENANTS[0].id
TYPES: dict[str, Any] = {
    "customer": Customer,
    "employee": Employee,
    "attendance": Attendance,
    "attendance_day": AttendanceDay,
    "department": Department,
    "account_item": AccountItem,
    "sub_account_item": SubAccountItem,
    "business_partner": BusinessPartner,
    "tax_category": TaxCategory,
}
ONE = {"code": "000123", "last_name": "髙﨑", "first_name": "①郎", "department": "0010"}


def employees(*codes: str) -> list[dict[str, str]]:
    return [{**ONE, "code": code} for code in codes]


def month(employee: str, text: str = "2026/10", **more: str) -> dict[str, str]:
    return {"employee": employee, "month": text, "work_days": "20.5", **more}


def test_every_registry_has_its_type_and_provisional_items_say_so() -> None:
    assert set(masters()) == set(TYPES)
    for name, kind in TYPES.items():
        registry = resource(name)
        assert set(kind.__annotations__) == set(registry.by_field), name
        assert kind.__required_keys__ == {item.field for item in registry.keys}, name
        assert all(item.filterable and item.sortable for item in registry.keys)
        for item in registry.items if name != "customer" else ():
            assert item.evidence == "?"
            assert item.note.startswith("仮の記号: OBCのデータ形式で確かめること")
        for each in master_operations(name)[1:]:
            assert operation(each).evidence != "V" or name == "customer"
    codes = [item.code for name in masters() for item in resource(name).items]
    assert len(codes) == len(set(codes))
    text = json.dumps([i.label for i in resource("employee").items], ensure_ascii=False)
    assert "個人番号" not in text
    assert "マイナンバー" not in text


def test_assumptions_of_a_master_are_listed() -> None:
    found = assumptions(master_operations("attendance"), ["employee", "month"], of="attendance")
    by_subject = {each.subject: each for each in found}
    assert by_subject["対象年月"].evidence == "?"
    assert "PR1010002" in by_subject["対象年月"].statement
    assert any("/pr/ImportAttendance" in each.statement for each in found)
    assert code_operations(["部門", "補助科目", "部門"]) == (
        "ExportDepartment",
        "ExportSubAccountItem",
    )
    assert any("/pr" in each.statement and "受入ファイル" in each.statement for each in found)


def test_keys_of_several_parts() -> None:
    attendance, sub = resource("attendance"), resource("sub_account_item")
    key = attendance.key_of(month("000123"))
    assert key == "000123/2026/10"
    assert attendance.split_key(key) == ("000123", "2026/10")
    assert attendance.split_key("000123") == ("000123", "")
    assert attendance.key_label == "社員番号/対象年月"
    assert sub.key_of({"account": "111", "code": "0001"}) == "111/0001"
    condition = keys_filter(attendance, ["1/2026/10", "2/2026/10", "1/2026/11"])
    codes = attendance.codes
    assert condition.encode(codes) == {
        "or": [
            ((where("employee").eq("1") | where("employee").eq("2")) & where("month").eq("2026/10"))
            .encode(codes),
            (where("employee").eq("1") & where("month").eq("2026/11")).encode(codes),
        ]
    }  # fmt: skip
    with pytest.raises(ValueError, match="at least one"):
        keys_filter(attendance, [])


def test_rows_are_checked_before_they_leave() -> None:
    check = row_validator("employee", tuple(Employee.__annotations__))
    assert check({**ONE, "gender": "1", "hire_date": "2026/4/1"}) == []
    wrong = {**ONE, "gender": "男", "hire_date": "2026/02/30", "status": "9", "first_name": "a\0"}
    found = {each.field: each for each in check(wrong)}
    assert {name: each.code for name, each in found.items()} == {
        "gender": "AC-807",
        "hire_date": "AC-807",
        "status": "AC-807",
        "first_name": "AC-803",
    }
    assert "1: 男性、2: 女性" in found["gender"].message
    times = row_validator("attendance", ("employee", "month", "work_time", "work_days"))
    for good in ("8:00", "218:45", "7.75", "0:00", ""):
        assert times(month("1", work_time=good)) == []
    for bad in ("8:60", "8時間", ":30", "８:００"):
        assert [v.code for v in times(month("1", work_time=bad))] == ["AC-807"], bad
    assert [v.code for v in times(month("1", "2026-10"))] == ["AC-807"]
    assert [v.code for v in times(month("", "2026/10"))] == ["AC-801"]
    with pytest.raises(ValueError, match="only be read"):
        row_validator("tax_category", ("code",))


async def test_a_master_is_written_and_read_back(service: Service) -> None:
    async with service.client() as client:
        sink = MasterSink(client, "employee")
        assert sink.batch_size == 500
        stored = await sink.send(employees("000123", "000124"))
        assert (stored.refused, stored.whole) == ({}, None)
        again = await client.import_rows("employee", [{"code": "000123", "email": "a@example.jp"}])
        assert again.refused == {}
        found = await sink.fetch(["000123", "000999"], ("last_name", "email", "hire_date"))
        assert found == {
            "000123": {
                "code": "000123",
                "last_name": "髙﨑",
                "email": "a@example.jp",
                "hire_date": "",
            }
        }
        assert await sink.fetch([], ("last_name",)) == {}
        with pytest.raises(ValueError, match="only be read"):
            await client.import_rows("tax_category", [{"code": "0010"}])
    books = service.emulator.books()["masters"][TENANT]["employee"]
    assert books == {"rows": 2, "imports": 2, "writes": {"000123": 2, "000124": 1}}


async def test_attendance_is_one_row_for_employee_and_month(service: Service) -> None:
    service.emulator.seed(TENANT, employees("000123", "000124"), "employee")
    async with service.client() as client:
        sink = MasterSink(client, "attendance")
        for rows in (
            [month("000123"), month("000123", "2026/09"), month("000124")],
            [month("000123", work_days="19")],
        ):
            assert (await sink.send(rows)).refused == {}
        found = await sink.fetch(
            ["000123/2026/10", "000124/2026/10", "000124/2026/09"], ("work_days",)
        )
    assert {key: row["work_days"] for key, row in found.items()} == {
        "000123/2026/10": "19",
        "000124/2026/10": "20.5",
    }
    assert len(service.emulator.rows(TENANT, "attendance")) == 3


@pytest.mark.parametrize(
    ("name", "row", "code", "words"),
    [
        ("employee", {**ONE, "department": "9999"}, "E1009", "部門コード「9999」"),
        ("employee", {**ONE, "gender": "3"}, "E1010", "性別「3」"),
        ("employee", {**ONE, "birth_date": "1990/02/30"}, "E1006", "存在しない日付"),
        ("employee", {**ONE, "last_name": "　"}, "E1007", "姓は必須"),
        ("employee", {**ONE, "last_name": "あ" * 21}, "E1004", "桁数"),
        ("employee", {**ONE, "updated_at": "2026/01/01"}, "E1002", "受け入れできない"),
        ("attendance", month("000999"), "E1009", "社員番号「000999」"),
        ("attendance", month("000123", "2026/08"), "E4001", "締め済み"),
        ("attendance", month("000123", "2026/13"), "E1006", "YYYY/MM"),
        ("attendance", month("000123", work_time="1:75"), "E1006", "H:MM"),
        ("attendance", {"employee": "000123"}, "E1007", "対象年月は必須"),
        ("department", {"code": "0000", "name": "x"}, "E1008", "部門コード「0000」"),
        ("account_item", {"code": "1", "name": "x", "tax_category": "0077"}, "E1009", "0077"),
        ("sub_account_item", {"account": "999", "code": "1", "name": "x"}, "E1009", "999"),
    ],
)
async def test_rows_that_are_refused_are_named(
    service: Service, name: str, row: dict[str, str], code: str, words: str
) -> None:
    service.set(import_mode="partial_200", closed_month="2026/08")
    service.emulator.seed(TENANT, employees("000123", "000124"), "employee")
    before = service.emulator.rows(TENANT, name)
    good = {
        "employee": employees("000125")[0],
        "attendance": month("000124", "2026/09"),
        "department": {"code": "0050", "name": "新部門"},
        "account_item": {"code": "850", "name": "新科目"},
        "sub_account_item": {"account": "100", "code": "0001", "name": "小口"},
    }[name]
    async with service.client() as client:
        outcome = await client.import_rows(name, [good, row])
    assert outcome.refused.keys() == {1}
    assert outcome.refused[1].code == code
    assert words in outcome.refused[1].message
    assert len(service.emulator.rows(TENANT, name)) == len(before) + 1


def forget(service: Service, *rows: str) -> None:
    for row in rows:
        url = f"{service.url}/__emulator__/tenants/{TENANT}/masters/{row}"
        assert httpx.delete(url).json() == {"deleted": 1}


async def test_what_slips_may_use_is_what_is_exported(service: Service) -> None:
    async with service.client() as client:
        codes = {kind: await known_codes(client, kind) for kind in RESOURCES}
        accounts, subs = codes["勘定科目"] or {}, codes["補助科目"] or {}
        assert (accounts["100"], subs["111/0001"]) == ("現金", "本店")
        assert (codes["部門"] or {})["0010"] == "営業部"
        assert (codes["税区分"] or {}).keys() >= {"0000", "0010", "0060"}
        assert (codes["取引先"] or {})["000003"] == "髙﨑電機㈱"
        assert codes["社員番号"] == {}
        service.emulator.seed(TENANT, [ONE], "employee")
        assert await known_codes(client, "社員番号") == {"000123": "髙﨑 ①郎"}
        await asyncio.to_thread(forget, service, "account_item/100", "sub_account_item/111/0001")
        assert "100" not in (await known_codes(client, "勘定科目") or {})
        assert "111/0001" not in (await known_codes(client, "補助科目") or {})
        for status in (403, 404):
            fault = Fault(kind="status", status=status, body="{}", path="/gl/ExportDepartment")
            service.emulator.faults.add(fault)
            assert await known_codes(client, "部門") is None


def test_one_dump_holds_everything(service: Service) -> None:
    emulator = service.emulator
    before = emulator.version
    emulator.seed(TENANT, employees("000123"), "employee")
    emulator.seed(TENANT, [{"code": "1", "name": "甲"}])
    assert emulator.masters[TENANT]["account_item"].remove("100")
    assert emulator.version > before
    again = BugyoEmulator()
    again.restore(json.loads(json.dumps(emulator.dump())))
    assert [row["code"] for row in again.rows(TENANT, "employee")] == ["000123"]
    assert [row["code"] for row in again.rows(TENANT)] == ["0", "1"]
    assert not again.masters[TENANT].has("account_item", "100")
    older = {"customers": {TENANT: emulator.customers[TENANT].dump()}}
    oldest = BugyoEmulator()
    oldest.restore(older)
    assert [row["code"] for row in oldest.rows(TENANT)] == ["0", "1"]
    assert oldest.masters[TENANT].has("account_item", "100")
