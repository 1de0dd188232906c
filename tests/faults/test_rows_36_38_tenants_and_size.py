"""Rows 36 and 38 of the fault matrix: several 法人 side by side, and the memory of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from company import APP, Company, Kill, voucher
from customers import CustomerCompany
from invariants import holds, none_doubled, safe, truth

from connectors.bugyo.emulator import DEMO_FOREIGN_TENANT, DEMO_TENANTS
from connectors.bugyo.journal import unflatten

A, B = (tenant.id for tenant in DEMO_TENANTS)


def sister(firm: Company, tenant: str = B) -> Company:
    """Another 法人 whose connection reads records with the very same numbers."""
    return replace(firm, name=f"{firm.name}-b", tenant=tenant)


def held(firm: Company, tenant: str) -> list[str]:
    """証憑番号 in the books of a 法人."""
    return [slip.voucher_number for slip in unflatten(firm.bugyo.journals[tenant].rows())]


# --- row 36: 法人 --------------------------------------------------------------------------------


def test_row_36_a_token_does_not_open_somebody_elses_books(firm: Company) -> None:
    firm.fill(5)
    stranger = sister(firm, DEMO_FOREIGN_TENANT.id)
    ending = stranger.run()
    assert ending.error is not None
    assert ending.error.code == "AC-204"
    assert stranger.states() == {}
    assert not any(held(firm, tenant) for tenant in firm.bugyo.tenants)
    safe(stranger, ending)
    holds(firm, firm.run())


def test_row_36_two_tenants_with_the_same_record_numbers_at_the_same_time(firm: Company) -> None:
    firm.fill(40)
    other = sister(firm)
    children = [firm.start(), other.start()]
    for child in children:
        child.join(240)
    assert [child.exitcode for child in children] == [0, 0]
    assert len(held(firm, A)) == len(held(firm, B)) == 40
    assert not set(held(firm, A)) & set(held(firm, B))
    assert not {r["key"] for r in firm.ledger().values()} & {
        r["key"] for r in other.ledger().values()
    }
    holds(firm)
    holds(other)


def test_row_36_the_lease_of_one_does_not_stop_the_other(firm: Company) -> None:
    """A's run is killed and its lease has not lapsed: B works at once, and settles nothing of A."""
    firm.fill(20)
    other = sister(firm)
    assert firm.run_child(Kill("after-intent")) == 137
    ending = other.run()
    assert str(ending.result) == "SUCCESS"
    assert firm.states() == {"pending": 20}
    assert (len(held(firm, A)), len(held(firm, B))) == (0, 20)
    holds(other, ending)
    firm.lapse()
    holds(firm, firm.run())
    assert len(held(firm, B)) == 20


def test_row_36_masters_of_two_tenants_are_apart(
    new_company: Callable[..., CustomerCompany],
) -> None:
    firm = new_company(kind=CustomerCompany)
    for number in range(1, 11):
        firm.customer(number)
    other = replace(firm, name=f"{firm.name}-b", tenant=B)
    assert firm.run().message == "取得 10 / 登録 10 / 更新 0 / 変更なし 0 / エラー 0"
    assert other.customers == {}
    assert other.run().message == "取得 10 / 登録 10 / 更新 0 / 変更なし 0 / エラー 0"
    assert firm.customers.keys() == other.customers.keys()
    truth(firm)
    truth(other)


# --- row 38: memory -------------------------------------------------------------------------------


def peak(firm: Company, folder: Path, exit_code: int) -> float:
    """Peak of memory of a run in a process of its own, in MB."""
    file = folder / firm.name
    firm.peak = str(file)
    assert firm.run_child() == exit_code
    return int(file.read_text("utf-8")) / 1024


@pytest.fixture
def usual(new_company: Callable[..., Company], tmp_path: Path) -> float:
    """Peak of memory of a run that moves five vouchers, in MB."""
    firm = new_company()
    firm.fill(5)
    return peak(firm, tmp_path, 0)


def put(firm: Company, records: list[dict[str, Any]]) -> None:
    for number in firm.kintone.seed(APP, records):
        firm.records[number] = (0, False)


def test_row_38_a_record_of_a_megabyte_is_one_reject(
    firm: Company, usual: float, tmp_path: Path
) -> None:
    firm.fill(20)
    put(firm, [voucher(1, "あ" * 350_000)])  # 1.05 MB
    assert peak(firm, tmp_path, 3) < usual + 30
    assert list(firm.rejects().values()) == ["AC-802"]
    reason = firm.sql(
        "SELECT max(length(reason)), max(length(label)) FROM reject WHERE connection = :c"
    )[0]
    assert max(reason) < 1000  # what a person reads is short
    holds(firm)


def test_row_38_ten_thousand_rejects_stay_within_a_bound(
    firm: Company, usual: float, tmp_path: Path
) -> None:
    put(firm, [voucher(1000 + n, debit=n + 1) for n in range(10_000)])
    assert peak(firm, tmp_path, 3) < usual + 60
    assert len(firm.rejects()) == 10_000
    run = firm.history()[-1]
    assert (run["extracted"], run["rejected"], run["result"]) == (10_000, 10_000, "一部エラー")
    none_doubled(firm)
    truth(firm)


def test_row_36_a_connection_that_is_pointed_at_another_tenant_is_refused(firm: Company) -> None:
    """Its books are about the first one: everything would be "unchanged", and nothing there."""
    firm.fill(3)
    firm.run()
    firm.tenant = DEMO_TENANTS[1].id
    ending = firm.run("全件")
    assert ending.error is not None
    assert ending.error.code == "AC-205"
    assert "新しい接続" in str(ending.error)
    assert firm.slips == []
    firm.tenant = DEMO_TENANTS[0].id
    assert firm.run("全件").message.startswith("取得 3 / 登録 0 / 更新 0 / 変更なし 3")
