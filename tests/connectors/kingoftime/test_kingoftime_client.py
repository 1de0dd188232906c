"""Reading: closed hours to the second, both shapes of errors, what is null, 62 days, the token."""

from __future__ import annotations

import itertools
import logging
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from connectors.kingoftime import (
    CLOSED_HOURS,
    DailyWorking,
    KingOfTimeClient,
    MonthlyWorking,
    employee_of,
    slices,
)
from connectors.kingoftime.items import DAILY, MONTHLY, value_of
from connectors.kit import (
    AppConnectError,
    ClosedHours,
    Masker,
    SettingsError,
    WaitError,
    closed_until,
)
from connectors.kit.emulator import Fault
from tests.connectors.kingoftime.conftest import KEYS, POOR, TOKEN, Company, jst

NOVEMBER = date(2026, 11, 1)
DAY = "2026-11-24"
EDGES = [
    ("08:29:59", None),
    ("08:30:00", "10:00"),
    ("09:59:59", "10:00"),
    ("10:00:00", None),
    ("17:29:59", None),
    ("17:30:00", "18:30"),
    ("18:29:59", "18:30"),
    ("18:30:00", None),
    ("05:00:00", None),
]


async def failure(awaitable: Any) -> AppConnectError:
    with pytest.raises(AppConnectError) as caught:
        await awaitable
    return caught.value


# -- closed hours ------------------------------------------------------------------------------


@pytest.mark.parametrize(("clock", "opens"), EDGES)
async def test_closed_to_the_second(company: Company, clock: str, opens: str | None) -> None:
    moment = jst(f"{DAY} {clock}")
    until = closed_until(CLOSED_HOURS, moment)
    assert until == (None if opens is None else jst(f"{DAY} {opens}"))
    company.emulator.at(moment)
    async with company.client() as kot:
        if opens is None:
            assert await kot.monthly_workings(NOVEMBER) == []
            return
        error = await failure(kot.monthly_workings(NOVEMBER))
    assert isinstance(error, WaitError)
    assert (error.code, error.subject, error.until) == ("AC-507", opens, until)
    # The service's clock, not ours, and told as a duration: the two need not agree.
    assert error.retry_after == (until - moment).total_seconds()
    assert error.detail.vendor_code == "105"
    assert len(company.emulator.faults.requests) == 1, "asking again would change nothing"


def test_closed_over_midnight() -> None:
    window = ClosedHours(time(23), time(1))
    assert window.until(jst("2026-12-31 23:30")) == jst("2027-01-01 01:00")
    assert window.until(jst("2027-01-01 00:59")) == jst("2027-01-01 01:00")
    assert window.until(jst("2027-01-01 01:00")) is None


async def test_the_real_service_is_not_even_asked(company: Company) -> None:
    async with KingOfTimeClient(TOKEN, clock=lambda: jst(f"{DAY} 17:45")) as kot:
        error = await failure(kot.employees())
    assert (error.code, error.subject, error.retry_after) == ("AC-507", "18:30", 45 * 60)


async def test_closed_at_an_unknown_hour(company: Company) -> None:
    """The vendor moved its hours: tried again after ten minutes."""
    company.emulator.closed = (ClosedHours(CLOSED_HOURS[0].end, CLOSED_HOURS[1].start),)
    company.emulator.at(jst(f"{DAY} 12:00"))
    try:
        async with company.client() as kot:
            error = await failure(kot.monthly_workings(NOVEMBER))
    finally:
        company.emulator.closed = CLOSED_HOURS
    assert (error.code, error.subject, error.retry_after) == ("AC-507", "12:10", 600)


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["list", "flat"])
async def test_both_shapes_of_errors(company: Company, shape: Any) -> None:
    company.emulator.shape = shape
    async with company.client("nobody-issued-this") as kot:
        error = await failure(kot.employees())
    assert (error.code, error.detail.vendor_code) == ("AC-102", "111")
    assert error.detail.vendor_message == "Bad Authentication."
    async with company.client(POOR) as kot:
        assert len(await kot.employees()) == 3
        error = await failure(kot.monthly_workings(NOVEMBER))
    assert isinstance(error, SettingsError)
    assert (error.code, error.detail.vendor_message) == (
        "AC-203",
        "Forbidden. No right to monthly-workings.",
    )
    company.emulator.allowed_ips = frozenset({"203.0.113.7"})
    async with company.client() as kot:
        error = await failure(kot.employees())
    assert (error.code, "許可IPアドレス" in error.happened) == ("AC-203", True)
    company.emulator.allowed_ips = frozenset({"127.0.0.1"})
    company.emulator.at(jst(f"{DAY} 09:00"))
    async with company.client() as kot:
        error = await failure(kot.employees())
    assert (error.code, error.detail.vendor_code) == ("AC-507", "105")


async def test_too_many_requests(company: Company) -> None:
    company.emulator.limit = 2
    async with company.client() as kot:
        await kot.employees()
        await kot.employees()
        error = await failure(kot.employees())
        assert (error.code, error.retry_after, error.detail.vendor_code) == ("AC-503", 300, "303")
        assert len(company.emulator.faults.requests) == 3, "asking at once would prolong it"
        company.emulator.at(jst(f"{DAY} 05:00") + timedelta(minutes=5))
        assert len(await kot.employees()) == 3


async def test_faults_on_the_way(company: Company) -> None:
    faults = company.emulator.faults
    for kind in ("drop_before", "cut_body", "status", "maintenance"):
        faults.add(Fault.model_validate({"kind": kind}))
    async with company.client() as kot:
        assert await kot.monthly_workings(NOVEMBER) == [], "reads are repeated"
        faults.add(Fault(kind="maintenance_200", times=None))
        assert (await failure(kot.employees())).code == "AC-502"
        faults.clear()
        faults.add(Fault(kind="replace_body", body='{"year": 2026}', times=None))
        assert (await failure(kot.monthly_workings(NOVEMBER))).code == "AC-303"
        assert (await failure(kot.employees())).code == "AC-303"


# -- the token ---------------------------------------------------------------------------------


async def test_a_token_that_is_echoed_shows_nowhere(
    company: Company, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    company.emulator.faults.add(
        Fault(kind="status", status=400, body=f'{{"code": "{TOKEN}", "message": "{TOKEN}?"}}')
    )
    async with company.client() as kot:
        refused = await failure(kot.employees())
    assert (refused.code, refused.subject) == ("AC-205", "********?")
    assert TOKEN not in f"{refused} {refused!r} {refused.as_dict()} {refused.__cause__}"
    assert "/v1.0/employees" in caplog.text, "the log was on"
    assert TOKEN not in caplog.text


async def test_the_masker_learns_the_token(company: Company) -> None:
    masker = Masker()
    async with company.client(masker=masker):
        assert TOKEN not in masker.mask(f"Bearer {TOKEN}")
    with pytest.raises(SettingsError, match="AC-102"):
        KingOfTimeClient("  ")


# -- months, days, employees -------------------------------------------------------------------


@pytest.mark.parametrize("member", ["currentDateEmployee", "currentEmployee"])
async def test_a_month_with_nothing_in_it_and_a_full_one(company: Company, member: str) -> None:
    company.emulator.employee_member = member
    company.emulator.add_monthly("2026-10", KEYS["0001"], isClosing=True, assigned=None)
    company.emulator.add_monthly(
        "2026-10",
        KEYS["12345"],
        startDate="2026-09-21",
        endDate="2026-10-20",
        assigned=9600,
        weekdayWorkingdayCount=20.5,
        absentdayCount=1,
        holidayWork={"normal": 480},
        customMonthlyWorkings=[{"code": "c1", "name": "手当", "calculationResult": 3.5}],
    )
    async with company.client() as kot:
        records = await kot.monthly_workings(date(2026, 10, 15))
        known = await kot.employees()
    assert "assigned" not in records[0], "null is left out"
    bare, full = TypeAdapter(list[MonthlyWorking]).validate_python(records)
    assert (bare.is_closing, full.is_closing) == (True, False)
    assert (full.start_date, full.end_date) == (date(2026, 9, 21), date(2026, 10, 20))
    holds = {name: value_of(records[1], [name], MONTHLY) for name in (*MONTHLY, "カスタム:c1")}
    assert {name: str(value) for name, value in holds.items() if value is not None} == {
        "所定時間": "9600",
        "休日労働時間": "480",
        "平日出勤日数": "20.5",
        "欠勤日数": "1",
        "カスタム:c1": "3.5",
    }
    assert [value_of(records[0], [n], MONTHLY) for n in (*MONTHLY, "カスタム:c1", "休暇:1")] == [
        None
    ] * (len(MONTHLY) + 2)
    for record, code in zip(records, ("0001", "12345"), strict=True):
        employee = employee_of(record, {})
        assert employee is not None
        assert (employee.code, employee.name) == (code, f"勤怠 花子{code}")
        bare_record = {"employeeKey": record["employeeKey"]}
        found = employee_of(bare_record, known)
        assert found is not None
        assert found.code == code
    assert employee_of({"employeeKey": "d" * 64}, known) is None


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("所定時間", {"assigned": 12.5}),
        ("所定時間", {"assigned": "a lot"}),
        ("所定時間", {"assigned": float("inf")}),
        ("所定時間", {"assigned": [480]}),
        ("休日労働時間", {"holidayWork": 480}),
        ("休日労働時間", {"holidayWork": "normal"}),
        ("出勤日数", {"workingDayCount": 10**30}),
        ("休暇:1", {"holidaysObtained": "1"}),
        ("休暇:1", {"holidaysObtained": ["1"]}),
        ("カスタム:c1", {"customMonthlyWorkings": [{"code": "c1", "calculationResult": "?"}]}),
    ],
)
def test_what_is_no_amount_is_named(name: str, record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{name}$"):
        value_of(record, [name], MONTHLY)


def test_codes_may_be_numbers() -> None:
    record = {"holidaysObtained": [{"code": 1, "dayCount": 0.5}, {"code": "2", "dayCount": 3}]}
    assert value_of(record, ["休暇:1"], MONTHLY) == Decimal("0.5")
    assert value_of(record, ["休暇:3"], MONTHLY) is None


async def test_days_come_in_slices(company: Company) -> None:
    spans = list(slices(date(2026, 1, 1), date(2026, 6, 30)))
    assert [(end - start).days + 1 for start, end in spans] == [62, 62, 57]
    assert spans[0][0] == date(2026, 1, 1)
    assert spans[-1][1] == date(2026, 6, 30)
    assert all(b[0] - a[1] == timedelta(days=1) for a, b in itertools.pairwise(spans))
    assert list(slices(date(2026, 2, 1), date(2026, 1, 31))) == []
    for day in (date(2026, 9, 1), date(2026, 11, 1)):
        company.emulator.add_daily(day, KEYS["0001"], totalWork=480, isError=True)
    async with company.client() as kot:
        found = await kot.daily_workings(date(2026, 9, 1), date(2026, 11, 1))
        with pytest.raises(ValueError, match="62"):
            await kot.daily_workings(date(2026, 9, 1), date(2026, 11, 2))
    assert [each["date"] for each in found] == ["2026-09-01", "2026-11-01"]
    days = TypeAdapter(list[DailyWorking]).validate_python(found)
    assert (days[0].day, days[0].is_error) == (date(2026, 9, 1), True)
    assert value_of(found[0], ["総労働時間"], DAILY) == 480
    assert value_of(found[0], ["深夜所定時間", "休暇:1"], DAILY) is None


def test_the_emulator_is_strict(company: Company) -> None:
    with httpx.Client(
        base_url=f"{company.url}/v1.0", headers={"authorization": f"Bearer {TOKEN}"}
    ) as api:
        daily = {"start": "2026-09-01", "end": "2026-11-02"}
        statuses = {
            "63 days": api.get("/daily-workings", params=daily),
            "start alone": api.get("/daily-workings", params={"start": "2026-09-01"}),
            "three years and a day": api.get("/employees", params={"date": "2023-11-23"}),
            "a year and a day": api.get("/employees", params={"date": "2027-11-25"}),
            "no month": api.get("/monthly-workings/2026-13"),
            "unknown parameter": api.get("/employees", params={"page": "2"}),
            "unknown field": api.get("/employees", params={"additionalFields": "salary"}),
        }
        assert {name: answer.status_code for name, answer in statuses.items()} == dict.fromkeys(
            statuses, 400
        )
        assert api.get("/nothing").status_code == 403
        assert api.get("/divisions/1000").status_code == 404
        assert api.get("/employees", params={"date": "2023-11-24"}).status_code == 200
        assert [e["code"] for e in api.get("/employees").json()] == ["0001", "12345"]
        left = api.get("/employees/0002", params={"additionalFields": "resignationDate"}).json()
        assert (left["resignationDate"], "hiredDate" in left) == ("2026-10-31", False)
        assert api.get("/employees/9999").status_code == 404
        steer = httpx.Client(base_url=f"{company.url}/__emulator__")
        assert steer.post("/clock", json={"time": "08:30"}).status_code == 200
        assert api.get("/company").json()["errors"][0]["code"] == 105
        assert steer.post("/settings", json={"shape": "flat", "closed_code": 106}).is_success
        closed = api.get("/company")
        assert (closed.status_code, closed.json()["code"]) == (403, "106")
        assert steer.post("/settings", json={"unknown": 1}).status_code == 400
        assert steer.post("/settings", json={"closed": False}).is_success
        assert api.get("/company").status_code == 200
        assert steer.post("/settings", json={"closed": True}).is_success
        assert api.get("/company").status_code == 403
        steer.close()
