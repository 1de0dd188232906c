"""KING OF TIME → 勤怠 from end to end on the plain runner: what is closed, once, at open hours."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr, ValidationError

from blocks import BugyoCredentials, KingOfTimeCredentials
from connectors.bugyo.emulator import (
    DEMO_FIXED_TOKEN,
    DEMO_SUBSCRIPTION_KEY,
    DEMO_TENANTS,
    BugyoEmulator,
)
from connectors.kingoftime.emulator import KingOfTimeEmulator
from connectors.kit.emulator import serve
from deployments.licensing import issue_sample
from deployments.samples import people
from deployments.samples.bugyo import bugyo_emulator
from deployments.samples.kingoftime import kingoftime_emulator
from flows import attendance_from_kingoftime as module
from flows.attendance_from_kingoftime import (
    CODES,
    PIPELINE,
    AttendanceFromKingOfTimeConnection,
    AttendanceSettings,
    AttendanceTransform,
)
from flows.engine import code_table, rejects
from flows.engine.codes import EMPTY_BOOK, CodeBook
from flows.engine.core import Ending, Order, execute
from flows.engine.model import Mode, Reject, Row, Trigger
from flows.engine.plain import PlainSurface
from flows.engine.store import Store, migrate
from flows.engine.store.database import URL_VARIABLE
from flows.parts.attendance import count_text, decimal_hours, hours_and_minutes

M = [month for month in people.MONTHS if month != people.OPEN]
TOKYO = ZoneInfo("Asia/Tokyo")
TOKEN = "kot-access-token-0001"
TENANT = DEMO_TENANTS[0].id
KEYS = {"101": "a" * 64, "102": "b" * 64, "103": "c" * 64}
FULL = {
    "workingDayCount": 20.5,
    "absentdayCount": 1,
    "assigned": 9600,
    "unassigned": 30,
    "overtime": 2475,
    "night": 0,
    "nightOvertime": 1020,
    "late": 15,
    "earlyLeave": 0,
    "lateCount": 1,
    "holidaysObtained": [{"code": "1", "name": "有休", "dayCount": 0.5}, {"code": "9"}],
    "legalHolidayWork": {"normal": 480, "night": 30, "dayCount": 1},
}


def jst(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=TOKYO)


class Company:
    """A KING OF TIME, a 奉行クラウド, and the connection between them."""

    def __init__(self, database: str, patch: pytest.MonkeyPatch) -> None:
        self.kot, self.bugyo = KingOfTimeEmulator(), BugyoEmulator()
        self.urls = ("", "")
        self.database, self.name, self.patch = database, f"kot-{uuid4().hex[:8]}", patch
        self.settings: dict[str, Any] = {}
        self.kot.add_token(TOKEN)
        for code, key in KEYS.items():
            self.kot.add_employee(key, code, lastName="勤怠", firstName=f"花子{code}")
        self.hire("000101", "000102")
        self.at("2026-11-24 05:00")

    def hire(self, *codes: str) -> None:
        """Register 社員 at 奉行クラウド."""
        rows = [{"code": c, "last_name": "勤怠", "first_name": "花子"} for c in codes]
        self.bugyo.seed(TENANT, rows, "employee")

    def at(self, text: str) -> None:
        """The time, there and here."""
        moment = jst(text)
        self.kot.at(moment)
        self.patch.setattr(module, "now", lambda: moment)

    def month(self, month: str, *codes: str, closed: bool = True, **values: Any) -> None:
        for code in codes:
            self.kot.add_monthly(month, KEYS[code], isClosing=closed, **{**FULL, **values})

    def connection(self) -> AttendanceFromKingOfTimeConnection:
        kot, bugyo = self.urls
        return AttendanceFromKingOfTimeConnection(
            registration_number="AC-0000-0001",
            phone="03-0000-0000",
            bugyo=BugyoCredentials(
                environment="URLを指定",
                api_url=bugyo,
                id_url=bugyo,
                subscription_key=SecretStr(DEMO_SUBSCRIPTION_KEY),
                fixed_token=SecretStr(DEMO_FIXED_TOKEN),
                tenant_id=TENANT,
            ),
            kingoftime=KingOfTimeCredentials(access_token=SecretStr(TOKEN), endpoint=kot),
            settings=AttendanceSettings(**{"start": "2026-08", "code_width": 6, **self.settings}),
        )

    async def run(self, mode: str = "差分", run_id: Any = None, **more: Any) -> Ending:
        async def load(*_: Any) -> Any:
            return self.connection()

        order = Order(
            run_id or uuid4(), self.name, Trigger.MANUAL, Mode(mode), postponable=True, **more
        )
        return await execute(PIPELINE, order, PlainSurface(), load_block=load)

    def sent(self, resource: str = "attendance") -> dict[str, dict[str, str]]:
        """What 奉行クラウド holds, by employee and period."""
        rows = self.bugyo.rows(TENANT, resource)
        return {f"{r['employee']}/{r.get('month') or r.get('date')}": r for r in rows}

    def imports(self) -> int:
        asked = self.bugyo.faults.counts().items()
        return sum(n for call, n in asked if "ImportAttendance" in call)

    def months_read(self) -> list[str]:
        """The months that were asked for since the last look."""
        found = [r.path[-7:] for r in self.kot.faults.requests if "monthly" in r.path]
        self.kot.faults.requests.clear()
        return found

    def rejects(self) -> dict[str, str]:
        with Store(self.database).begin() as db:
            return {each.source_key: each.code for each in rejects.listed(db, self.name)}


@pytest.fixture(scope="module")
def books(postgres: Any) -> str:
    url: str = postgres.fresh_database()
    migrate(url)
    issue_sample(Store(url))
    return url


@pytest.fixture
def company(books: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Company]:
    monkeypatch.setenv(URL_VARIABLE, books)
    made = Company(books, monkeypatch)
    with serve(made.kot) as kot, serve(made.bugyo) as bugyo:
        made.urls = (kot, bugyo)
        yield made


def counts(ending: Ending) -> tuple[int, int, int, int, int]:
    """取得, 登録, 更新, 変更なし, エラー."""
    assert ending.counts is not None, ending.message
    c = ending.counts
    assert c.balanced()
    return c.extracted, c.created, c.updated, c.unchanged, c.rejected


# -- closed hours ------------------------------------------------------------------------------


async def test_started_at_nine_it_goes_on_at_ten(company: Company) -> None:
    company.month("2026-10", "101", "102")
    company.at("2026-11-24 09:00")
    run_id = uuid4()
    waiting = await company.run(run_id=run_id)
    assert (waiting.result, waiting.error and waiting.error.code) == ("待機中", "AC-507")
    assert waiting.postponed is not None
    assert waiting.postponed.name == "10:00 まで待っています"
    for words in ("10:00 まで待ち", "自動で続けます", "何も登録していません", "何もする必要は"):
        assert words in waiting.message
    assert company.imports() == 0
    # The same run again, too early: it waits once more; at ten it works.
    company.at("2026-11-24 09:59:59")
    assert (await company.run(run_id=run_id, attempt=2)).result == "待機中"
    company.at("2026-11-24 10:00")
    ended = await company.run(run_id=run_id, attempt=3)
    assert (ended.result, counts(ended)) == ("SUCCESS", (2, 2, 0, 0, 0))


async def test_at_five_it_runs_and_may_be_closed_out_in_the_middle(company: Company) -> None:
    company.month("2026-09", "101")
    company.month("2026-10", "101", "102")
    company.at("2026-11-24 05:00")
    run_id = uuid4()
    # It is 08:30 when October is asked for: September has been read by then.
    company.kot.faults.hook = lambda path: (
        company.kot.at(jst("2026-11-24 08:30")) if path.endswith("2026-09") else None
    )
    first = await company.run(run_id=run_id)
    assert (first.result, first.error and first.error.code) == ("待機中", "AC-507")
    assert company.imports() == 0
    company.kot.faults.hook = None
    company.at("2026-11-24 10:00")
    second = await company.run(run_id=run_id, attempt=2)
    assert (second.result, counts(second)) == ("SUCCESS", (3, 3, 0, 0, 0))
    assert set(company.sent()) == {"000101/2026/09", "000101/2026/10", "000102/2026/10"}


# -- months ------------------------------------------------------------------------------------


async def test_only_what_is_closed_goes_and_only_once(company: Company) -> None:
    company.month("2026-09", "101", "102")
    company.month("2026-10", "101")
    company.month("2026-10", "102", closed=False)
    company.month("2026-11", "101", "102", closed=False)
    first = await company.run()
    assert (first.result, counts(first)) == ("SUCCESS", (3, 3, 0, 0, 0))
    assert "未締めのため連携していません: 2026-10 1名、2026-11 2名" in first.message
    assert company.months_read() == ["2026-08", "2026-09", "2026-10", "2026-11"]
    row = company.sent()["000101/2026/10"]
    assert row == {
        **dict.fromkeys(row, ""),
        "employee": "000101",
        "month": "2026/10",
        "work_days": "20.5",
        "absence_days": "1.0",
        "paid_leave_days": "0.5",
        "holiday_work_days": "1.0",
        "late_early_count": "1.0",
        "late_early_time": "0:15",
        "work_time": "218:45",
        "scheduled_time": "160:00",
        "overtime_time": "58:45",
        "late_night_time": "17:00",
        "legal_holiday_time": "8:30",
        "updated_at": row["updated_at"],
    }
    # Again: October and what follows; September is closed for good and two months ago.
    again = await company.run()
    assert (again.result, counts(again)) == ("SUCCESS", (1, 0, 0, 1, 0))
    assert company.months_read() == ["2026-10", "2026-11"]
    assert company.imports() == 1
    company.month("2026-10", "102")
    company.month("2026-10", "101", assigned=9660)
    closed = await company.run()
    assert (closed.result, counts(closed)) == ("SUCCESS", (2, 1, 1, 0, 0))
    assert company.sent()["000101/2026/10"]["scheduled_time"] == "161:00"
    # February: November was never closed for all, so it is still asked for.
    company.at("2027-02-10 05:00")
    company.months_read()
    await company.run()
    assert company.months_read() == ["2026-11", "2026-12", "2027-01", "2027-02"]


async def test_a_bad_row_does_not_hold_up_the_others(company: Company) -> None:
    company.month("2026-10", "101", "102", "103")
    company.kot.add_monthly("2026-10", "d" * 64, isClosing=True)
    company.month("2026-10", "102", assigned="a lot")
    first = await company.run()
    assert (first.result, counts(first)) == ("一部エラー", (4, 1, 0, 0, 3))
    assert company.rejects() == {
        "103/2026-10": "AC-821",
        "102/2026-10": "AC-807",
        f"{'d' * 64}/2026-10": "AC-843",
    }
    assert "000103" in str(first.unmapped.codes)
    # One is hired, one gets another number by コード変換表, one has its closing taken back.
    entry = code_table.Entry(CODES.kind.value, CODES.source, "000103", "", "009103")
    with Store(company.database).begin() as db:
        code_table.put(db, company.name, [entry])
    company.hire("009103")
    company.kot.monthly["2026-10"][KEYS["102"]].update(isClosing=False, assigned=60)
    company.kot.add_employee("d" * 64, "102x", lastName="新", firstName="人")
    company.hire("102x")
    company.at("2027-03-01 05:00")  # October is out of the usual reach: the rejects are not
    second = await company.run()
    assert counts(second)[1] == 2
    assert company.rejects() == {"102/2026-10": "AC-841"}
    assert {"009103/2026/10", "102x/2026/10"} <= set(company.sent())
    company.kot.monthly["2026-10"][KEYS["102"]].update(isClosing=True)
    third = await company.run("エラー明細のみ")
    assert (third.result, counts(third)) == ("SUCCESS", (1, 1, 0, 0, 0))
    assert company.rejects() == {}


async def test_the_sample(company: Company) -> None:
    company.kot, company.bugyo = kingoftime_emulator(), bugyo_emulator()
    company.kot.add_token(TOKEN)
    company.settings = {"start": people.MONTHS[0]}
    company.at("2026-11-24 09:00")  # its KING OF TIME is open all day
    with serve(company.kot) as kot, serve(company.bugyo) as bugyo:
        company.urls = (kot, bugyo)
        ending = await company.run()
        assert (ending.result, counts(ending)) == ("一部エラー", (79, 75, 0, 0, 4))
        assert "2026-10 1名、2026-11 40名" in ending.message
        unknown = {f"{people.code_of(position)}/{m}" for position in people.UNKNOWN for m in M}
        assert company.rejects() == dict.fromkeys(unknown, "AC-821")
        company.name, company.settings = f"{company.name}-days", {"target": "日次"}
        assert counts(await company.run())[4] == 1 + 2 * 20, "an error day, two who are unknown"


def files(folder: Path) -> list[str]:
    return [each.read_bytes().decode("cp932") for each in folder.glob("*.csv")]


async def test_a_file_instead_of_the_api(company: Company, tmp_path: Path) -> None:
    company.settings = {"delivery": "受入ファイル", "folder": str(tmp_path)}
    company.month("2026-10", "101", "103")  # nobody can tell who is registered: all are believed
    assert counts(await company.run()) == (2, 2, 0, 0, 0)
    (first,) = files(tmp_path)
    lines = first.splitlines()
    assert [("000101" in line, "218:45" in line) for line in lines[1:]] == [
        (True, True),
        (False, True),
    ]
    assert counts(await company.run()) == (2, 0, 0, 2, 0)
    assert len(files(tmp_path)) == 1
    assert company.imports() == 0


async def test_one_employee_and_everything(company: Company) -> None:
    company.month("2026-09", "101", "102")
    company.month("2026-10", "101", "102")
    company.month("2026-11", "101", closed=False)
    one = await company.run("1件", record_key="00101/2026-10")
    assert counts(one) == (1, 1, 0, 0, 0)
    every = await company.run("1件", record_key="101")
    assert counts(every) == (2, 1, 0, 1, 0)
    still_open = await company.run("1件", record_key="101/2026-11")
    assert still_open.error is not None
    assert "まだ締められていません" in still_open.error.happened
    full = await company.run("全件")
    assert counts(full) == (4, 2, 0, 2, 0)


async def test_a_period_is_its_months_or_days(company: Company) -> None:
    for month in ("2026-08", "2026-09", "2026-10"):
        company.month(month, "101")
    company.month("2026-11", "101", closed=False)
    # 24 November: the day is that of Japan even when it is still the 23rd elsewhere.
    asked = {"begins": date(2026, 9, 30), "ends": date(2026, 10, 1)}
    preview = await company.run("期間", dry_run=True, **asked)
    assert counts(preview) == (2, 2, 0, 0, 0)
    company.months_read()
    ran = await company.run("期間", **asked)
    assert (ran.result, counts(ran)) == ("SUCCESS", (2, 2, 0, 0, 0))
    assert ran.message.startswith("期間 2026/09/30〜2026/10/01: 取得 2 / 登録 2")
    assert company.months_read() == ["2026-09", "2026-10"]
    assert set(company.sent()) == {"000101/2026/09", "000101/2026/10"}
    # Closed months only; the first month of the connection stays the first.
    early = await company.run("期間", begins=date(2026, 1, 1), ends=date(2026, 8, 1))
    assert company.months_read() == ["2026-08"]
    assert counts(early) == (1, 1, 0, 0, 0)
    still = await company.run("期間", begins=date(2026, 11, 1), ends=date(2026, 12, 31))
    assert company.months_read() == ["2026-11"]
    assert counts(still) == (0, 0, 0, 0, 0)
    assert "未締めのため連携していません: 2026-11 1名" in still.message
    # Whatever was not in a period is taken by the next run, from the first month on.
    company.month("2026-11", "101")
    after = await company.run()
    assert company.months_read() == ["2026-08", "2026-09", "2026-10", "2026-11"]
    assert counts(after) == (4, 1, 0, 3, 0)

    company.name, company.settings = f"{company.name}-days", {"target": "日次"}
    days = [date(2026, 8, 31), date(2026, 9, 1), date(2026, 11, 5), date(2026, 11, 6)]
    for day in days:
        company.kot.add_daily(day, KEYS["101"], isClosing=True, assigned=470)
    ran = await company.run("期間", begins=days[1], ends=days[2])  # 66 days: two requests
    assert counts(ran) == (2, 2, 0, 0, 0)
    assert set(company.sent("attendance_day")) == {"000101/2026/09/01", "000101/2026/11/05"}
    assert counts(await company.run()) == (4, 2, 0, 2, 0)


# -- days --------------------------------------------------------------------------------------


async def test_days(company: Company) -> None:
    company.settings = {"target": "日次", "start": "2026-08", "time_format": "10進数"}
    work = {"isClosing": True, "assigned": 470, "overtime": 65, "lateNight": 5}
    for day in (date(2026, 8, 31), date(2026, 10, 31), date(2026, 11, 23)):
        company.kot.add_daily(day, KEYS["101"], **work)
    company.kot.add_daily(date(2026, 11, 20), KEYS["102"], isClosing=True, isError=True)
    company.kot.add_daily(date(2026, 11, 22), KEYS["101"], **{**work, "isClosing": False})
    ending = await company.run()
    assert (ending.result, counts(ending)) == ("一部エラー", (4, 3, 0, 0, 1))
    assert company.rejects() == {"102/2026-11-20": "AC-842"}
    assert "未締めのため連携していません: 2026-11 1件" in ending.message
    row = company.sent("attendance_day")["000101/2026/11/23"]
    assert row == {
        **dict.fromkeys(row, ""),
        "employee": "000101",
        "date": "2026/11/23",
        "work_time": "9.00",
        "scheduled_time": "7.92",
        "overtime_time": "1.08",
        "late_night_time": "0.08",
        "updated_at": row["updated_at"],
    }
    assert company.kot.faults.counts()["GET /v1.0/daily-workings"] == 2, "62 days a call"
    assert counts(await company.run())[1:3] == (0, 0)


# -- the transform -----------------------------------------------------------------------------


def record(**values: Any) -> dict[str, Any]:
    known = {
        "year": 2028,
        "month": 2,
        "employeeKey": "a" * 64,
        "startDate": "2028-02-01",
        "endDate": "2028-02-29",
        "isClosing": True,
        "currentDateEmployee": {"code": "101", "lastName": "勤怠", "firstName": "花子"},
    }
    return {**known, **values}


def row(values: dict[str, Any], **settings: Any) -> Row | Reject:
    chosen = AttendanceSettings(**{"start": "2026-04", **settings})
    return AttendanceTransform(chosen, EMPTY_BOOK)("101/2028-02", values)


@pytest.mark.parametrize(
    ("settings", "values", "month"),
    [
        ({}, {}, "2028/02"),
        ({"month_of": "締め期間の終了日の年月"}, {}, "2028/02"),
        ({"month_shift": 1}, {"year": 2027, "month": 12}, "2028/01"),
        ({"month_shift": -2}, {}, "2027/12"),
        (
            {"month_of": "締め期間の終了日の年月"},
            {"startDate": "2028-02-21", "endDate": "2028-03-20"},
            "2028/03",
        ),
        (
            {"month_of": "締め期間の開始日の年月", "month_shift": 1},
            {"startDate": "2027-12-31", "endDate": "2028-01-30"},
            "2028/01",
        ),
    ],
)
def test_the_month(settings: Any, values: Any, month: str) -> None:
    made = row(record(**values), **settings)
    assert isinstance(made, Row)
    assert (made.values["month"], made.key) == (month, f"101/{month}")


def test_null_is_empty_or_nought() -> None:
    empty, nought = row(record()), row(record(), empty="0")
    assert isinstance(empty, Row)
    assert isinstance(nought, Row)
    fields = [f for f in empty.values if f not in ("employee", "month")]
    assert {empty.values[f] for f in fields} == {""}
    assert {nought.values[f] for f in fields} == {"0:00", "0.0"}
    decimal = row(record(assigned=0), time_format="10進数", empty="0")
    assert isinstance(decimal, Row)
    assert decimal.values["work_time"] == "0.00"


def test_custom_items_and_holidays_by_code() -> None:
    made = row(
        record(
            customMonthlyWorkings=[{"code": "c1", "calculationResult": 90}],
            overtime=30,
            holidaysObtained=[{"code": "5", "dayCount": 1.5}],
        ),
        overtime_time="カスタム：c1＋残業時間",
        special_leave_days="休暇:5",
        absence_days="",
    )
    assert isinstance(made, Row)
    assert (made.values["overtime_time"], made.values["special_leave_days"]) == ("2:00", "1.5")
    assert "absence_days" not in made.values


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"work_time": "存在しない項目"}, "という項目はありません"),
        ({"work_time": "出勤日数"}, "取り違えています"),
        ({"work_days": "所定時間"}, "取り違えています"),
        ({"work_time": "所定時間+出勤日数"}, "足しています"),
        ({"work_time": "カスタム:"}, "という項目はありません"),
        ({"target": "日次", "work_time": "拘束時間"}, "という項目はありません"),
        ({"start": "2026-13"}, "pattern"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        AttendanceSettings(**{"start": "2026-04", **wrong})


def test_numbers() -> None:
    assert [hours_and_minutes(Decimal(m)) for m in (0, 59, 60, 13125, -90)] == [
        "0:00",
        "0:59",
        "1:00",
        "218:45",
        "-1:30",
    ]
    by_rule = {"四捨五入": "0.08", "切り捨て": "0.08", "切り上げ": "0.09"}
    for rounding, five_minutes in by_rule.items():
        assert decimal_hours(Decimal(5), rounding) == five_minutes
        assert decimal_hours(Decimal(13125), rounding) == "218.75"
    assert decimal_hours(Decimal("0.3"), "四捨五入") == "0.01"  # 0.005 hours: half goes up
    assert [count_text(Decimal(c)) for c in ("20", "20.5", "0.25", "100")] == [
        "20.0",
        "20.5",
        "0.25",
        "100.0",
    ]


def test_a_negative_time_is_a_reject() -> None:
    made = row(record(late=-5))
    assert isinstance(made, Reject)
    assert (made.code, made.item) == ("AC-807", "遅刻早退時間")


def test_the_number_of_an_employee() -> None:
    kind, source = CODES.kind, CODES.source
    settings = AttendanceSettings(start="2026-04", code_width=5)
    cases = [
        (CodeBook(known={kind: {"00101": ""}}), "00101"),
        (CodeBook(entries={(kind, source, "00101"): "9"}, known={kind: {"9": ""}}), "9"),
        (CodeBook(entries={(kind, source, "00101"): "9"}), "9"),
        (CodeBook(), "00101"),
    ]
    for book, number in cases:
        made = AttendanceTransform(settings, book)("101/2028-02", record())
        assert isinstance(made, Row)
        assert made.values["employee"] == number
    missing = AttendanceTransform(settings, CodeBook(known={kind: {"101": ""}}))("k", record())
    assert isinstance(missing, Reject)
    assert (missing.code, "00101（勤怠 花子）" in missing.reason) == ("AC-821", True)
