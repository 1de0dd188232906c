"""SmartHR → 社員: the transform as a function, and whole runs against both emulators."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest
from company import TENANT, Company
from pydantic import SecretStr

from blocks import BugyoCredentials, SmartHRCredentials
from connectors.bugyo import resource
from connectors.bugyo.emulator import DEMO_FIXED_TOKEN, DEMO_SUBSCRIPTION_KEY, BugyoEmulator
from connectors.kit import Timer
from connectors.kit.emulator import Fault, serve
from connectors.smarthr import CREW_FIELDS
from connectors.smarthr.emulator import SmartHREmulator
from deployments.licensing import issue_sample
from deployments.samples import smarthr as sample
from flows import employees_from_smarthr as connector
from flows.employees_from_smarthr import DEPARTMENT, EmployeeSettings, EmployeeTransform
from flows.engine import code_table
from flows.engine.codes import CodeBook, CodeKind
from flows.engine.model import Reject, Row
from flows.engine.staging import decompress
from flows.engine.store import Store, migrate

KEY = "5b0c6f0e-0000-4000-8000-000000000001"
CREW: dict[str, Any] = {
    "id": KEY,
    "emp_code": "123",
    "emp_status": "employed",
    "updated_at": "2026-11-01T00:00:00Z",
    "last_name": "髙﨑",
    "first_name": "花子",
    "last_name_yomi": "タカサキ",
    "first_name_yomi": "ハナコ",
    "business_last_name": "佐藤",
    "business_first_name": "花子",
    "business_last_name_yomi": "サトウ",
    "business_first_name_yomi": "ハナコ",
    "entered_at": "2020-04-01",
    "resigned_at": None,
    "gender": "female",
    "birth_at": "1990-02-03",
    "email": "hanako@example.com",
    "tel_number": "０３－００００－００００",
    "address": {
        "zip_code": "100-0001",
        "pref": "東京都",
        "city": "千代田区",
        "street": "千代田1−1",
        "building": None,
    },
    "departments": [
        {"id": "1", "name": "一課", "full_name": "営業部/一課", "code": "S11"},
        {"id": "2", "name": "企画室", "full_name": "企画室", "code": None},
    ],
    "employment_type": {"id": "1", "name": "正社員", "preset_type": "full_timer", "code": "01"},
}
BOOK = CodeBook(
    entries={
        (CodeKind.DEPARTMENT, DEPARTMENT, "S11"): "0011",
        (CodeKind.DEPARTMENT, DEPARTMENT, "企画室"): "0020",
    },
    known={CodeKind.DEPARTMENT: {"0011": "営業一課", "0020": "管理部"}},
)
UNKNOWN = {"id": "3", "name": "室", "full_name": "室", "code": "S90"}
EVERYTHING: dict[str, Any] = {
    **dict.fromkeys(("gender", "birth_date", "address", "phone", "email"), True),
    "department": "1つ目の部署",
    "employment_type": "名前",
}


def converted(settings: dict[str, Any] | None = None, **changes: Any) -> Row | Reject:
    made = EmployeeTransform(EmployeeSettings(**(settings or {})), BOOK)
    return made(KEY, CREW | changes)


def row(settings: dict[str, Any] | None = None, **changes: Any) -> dict[str, str]:
    outcome = converted(settings, **changes)
    assert isinstance(outcome, Row), outcome
    return dict(outcome.values)


def reject(settings: dict[str, Any] | None = None, **changes: Any) -> Reject:
    outcome = converted(settings, **changes)
    assert isinstance(outcome, Reject), outcome
    return outcome


def test_without_any_setting_the_least_is_moved_and_asked_for() -> None:
    assert row() == {
        "code": "123",
        "last_name": "髙﨑",
        "first_name": "花子",
        "last_name_kana": "タカサキ",
        "first_name_kana": "ハナコ",
        "hire_date": "2020/04/01",
        "leave_date": "",
        "status": "0",
    }
    assert set(EmployeeSettings().attributes()) == {
        *("emp_code", "emp_status", "last_name", "first_name", "last_name_yomi"),
        *("first_name_yomi", "entered_at", "resigned_at"),
    }


def test_each_setting_asks_for_what_it_moves_and_nothing_else() -> None:
    least = set(EmployeeSettings().attributes())
    more = {
        name: set(EmployeeSettings(**{name: value}).attributes()) - least
        for name, value in EVERYTHING.items()
    }
    assert more == {
        "gender": {"gender"},
        "birth_date": {"birth_at"},
        "address": {"address"},
        "phone": {"tel_number"},
        "email": {"email"},
        "department": {"departments"},
        "employment_type": {"employment_type"},
    }
    assert set(EmployeeSettings(**EVERYTHING, business_name=True).attributes()) <= CREW_FIELDS


def test_everything_that_can_be_moved() -> None:
    found = row(EVERYTHING)
    assert set(found) == {i.field for i in resource("employee").items} - {"position", "updated_at"}
    assert found == row() | {
        "gender": "2",
        "birth_date": "1990/02/03",
        "department": "0011",
        "employment_type": "正社員",
        "postal_code": "100-0001",
        "prefecture": "東京都",
        "city": "千代田区",
        "street": "千代田1－1",
        "building": "",
        "phone": "03-0000-0000",
        "email": "hanako@example.com",
    }


@pytest.mark.parametrize(
    ("typed", "width", "code"),
    [
        ("123", 6, "000123"),
        ("１２３", 6, "000123"),
        ("000123", 6, "000123"),
        ("00123", None, "00123"),
        (" A-12 ", 6, "A-12"),
    ],
)
def test_the_number_in_its_width(typed: str, width: int | None, code: str) -> None:
    outcome = converted({"code_width": width}, emp_code=typed)
    assert isinstance(outcome, Row)
    assert (outcome.source_key, outcome.key, outcome.values["code"]) == (KEY, code, code)


def test_a_business_name_counts_as_a_whole() -> None:
    chosen = {"business_name": True}
    assert row(chosen)["last_name"] == "佐藤"
    assert row(chosen)["last_name_kana"] == "サトウ"
    assert row(chosen, business_last_name=None)["last_name"] == "髙﨑"
    assert row()["last_name"] == "髙﨑"


def test_kana_become_full_width_katakana() -> None:
    assert row(last_name_yomi="ﾀｶｻﾞｷ", first_name_yomi="はなこ")["last_name_kana"] == "タカザキ"
    assert row(first_name_yomi="はなこ")["first_name_kana"] == "ハナコ"


def test_those_who_left_those_on_leave_those_to_come() -> None:
    left = row(emp_status="retired", resigned_at="2026-03-31")
    assert (left["status"], left["leave_date"]) == ("2", "2026/03/31")
    assert row(emp_status="absent")["status"] == "1"
    to_come = row(entered_at="2027-04-01")
    assert (to_come["status"], to_come["hire_date"]) == ("0", "2027/04/01")


@pytest.mark.parametrize(
    ("which", "departments", "code"),
    [
        ("1つ目の部署", CREW["departments"], "0011"),
        ("最後の部署", CREW["departments"], "0020"),
        ("1つ目の部署", [None, CREW["departments"][1]], "0020"),
        ("1つ目の部署", [], ""),
        ("1つ目の部署", None, ""),
    ],
)
def test_one_department_is_the_main_one(which: str, departments: Any, code: str) -> None:
    assert row({"department": which}, departments=departments)["department"] == code


def test_the_kind_of_employment_by_name_or_by_code() -> None:
    assert row({"employment_type": "コード"})["employment_type"] == "01"
    nothing = row({"employment_type": "コード"}, employment_type=None)
    assert nothing["employment_type"] == ""


@pytest.mark.parametrize(
    ("settings", "changes", "code", "item"),
    [
        ({}, {"emp_code": None}, "AC-801", "社員番号"),
        ({}, {"emp_code": "12345678901"}, "AC-802", "社員番号"),
        ({}, {"first_name": ""}, "AC-801", "名"),
        ({}, {"first_name": "花子\N{GRINNING FACE}"}, "AC-803", "名"),
        ({}, {"emp_status": "dreaming"}, "AC-807", "在籍区分"),
        ({}, {"entered_at": "2020-02-30"}, "AC-807", "入社年月日"),
        ({"department": "最後の部署"}, {"departments": [UNKNOWN]}, "AC-821", "部門"),
    ],
)
def test_what_cannot_be_moved_is_named_without_a_name(
    settings: dict[str, Any], changes: dict[str, Any], code: str, item: str
) -> None:
    outcome = reject(settings, **changes)
    assert (outcome.source_key, outcome.code, outcome.item) == (KEY, code, item)
    assert outcome.reason
    shown = outcome.label + outcome.reason + outcome.remedy
    assert not [word for word in ("髙﨑", "花子", "タカサキ", "ハナコ") if word in shown]


def test_characters_are_replaced_when_the_setting_says_so() -> None:
    chosen = {"unencodable": "置き換える"}
    assert row(chosen, first_name="花子\N{GRINNING FACE}")["first_name"] == "花子〓"


# -- whole runs --------------------------------------------------------------------------------


class Hands:
    """The time that client and emulator count their limits by; whoever waits moves it."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.timer = Timer(lambda: self.passed, self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.passed += seconds
        await asyncio.sleep(0)


@dataclass
class Staff(Company):
    """One connection of 社員, in a time of its own.

    Attributes:
        hands: The time of the limits.
        settings: Of the connection.
    """

    entity: ClassVar[str] = "employee"
    operation: ClassVar[str] = "ImportEmployee"

    hands: Hands = field(default_factory=Hands)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def smarthr(self) -> SmartHREmulator:
        return self.kintone  # type: ignore[return-value]

    @property
    def pipeline(self) -> Any:  # type: ignore[override]
        source = partial(connector._source, timer=self.hands.timer)
        return dataclasses.replace(connector.PIPELINE, open_source=source)

    @property
    def employees(self) -> dict[str, dict[str, str]]:
        return {each["code"]: each for each in self.bugyo.rows(TENANT, "employee")}

    @property
    def asked(self) -> int:
        """Requests to SmartHR so far."""
        return sum(self.smarthr.faults.counts().values())

    def block(self) -> Any:
        smarthr_url, bugyo_url = self.urls
        return connector.EmployeesFromSmartHRConnection(
            registration_number="AC-0000-0001",
            phone="03-0000-0000",
            bugyo=BugyoCredentials(
                environment="URLを指定",
                api_url=bugyo_url,
                id_url=bugyo_url,
                subscription_key=SecretStr(DEMO_SUBSCRIPTION_KEY),
                fixed_token=SecretStr(DEMO_FIXED_TOKEN),
                tenant_id=TENANT,
            ),
            smarthr=SmartHRCredentials(
                subdomain="example",
                access_token=SecretStr(sample.DEMO_TOKEN),
                endpoint=smarthr_url,
            ),
            settings=EmployeeSettings(**self.settings),
        )


@pytest.fixture(scope="module")
def books(postgres: Any) -> str:
    url: str = postgres.fresh_database()
    migrate(url)
    issue_sample(Store(url))
    return url


@pytest.fixture
def hire(books: str, request: pytest.FixtureRequest) -> Iterator[Callable[..., Staff]]:
    """Makes a company around a SmartHR."""
    with ExitStack() as stack:

        def make(smarthr: SmartHREmulator, hands: Hands | None = None, **settings: Any) -> Staff:
            bugyo = BugyoEmulator()
            urls = stack.enter_context(serve(smarthr)), stack.enter_context(serve(bugyo))
            name = request.node.name.replace("_", "-")
            hands = hands or Hands()
            return Staff(smarthr, bugyo, urls, books, name, hands=hands, settings=settings)  # type: ignore[arg-type]

        yield make


def test_the_sample_from_its_first_run_to_its_last_reject(
    hire: Callable[..., Staff], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    staff = hire(sample.smarthr_emulator(), code_width=6, **EVERYTHING)
    staff.name = sample.NAME  # its コード変換表
    asyncio.run(sample.prepare(staff.store))
    first = staff.run()
    good = sample.COUNT - len(sample.REJECTED)
    assert (str(first.result), first.counts.created, first.counts.rejected) == (
        *("一部エラー", good),
        len(sample.REJECTED),
    )
    assert len(staff.employees) == good
    assert sorted(staff.rejects().values()) == ["AC-801", "AC-803", "AC-821"]
    assert staff.employees["001034"]["department"] == "0030"  # by its name; full-width number
    assert staff.asked == 1  # sixty fit on one page

    # What is kept of those that did not get through is what was asked for, no more.
    for (kept,) in staff.sql("SELECT source FROM reject WHERE connection = :c"):
        assert set(orjson.loads(decompress(bytes(kept)))) <= CREW_FIELDS
    assert {"bank_accounts"} & CREW_FIELDS == set()
    assert all(name in CREW_FIELDS for each in staff.smarthr.asked for name in each.split(","))
    # Nothing about anybody in a log.
    said = caplog.text
    assert not [word for word in ("髙﨑", "花子", "タカサキ", "crew07@", "1975") if word in said]

    imports = staff.requests("ImportEmployee")
    second = staff.run()
    assert (second.counts.created, second.counts.updated) == (0, 0)
    assert staff.requests("ImportEmployee") == imports  # nothing is posted a second time

    # A person maps the department, and corrects the others in SmartHR.
    unmapped = code_table.Entry(CodeKind.DEPARTMENT, DEPARTMENT, "S90", "新規事業室", "0010")
    with staff.store.begin() as db:
        code_table.put(db, staff.name, [unmapped])
    crews = list(staff.smarthr.crews.rows)
    staff.smarthr.update(crews[12], {"emp_code": "1012"})
    staff.smarthr.update(crews[52], {"first_name": "太郎"})
    before = staff.asked
    last = staff.run("エラー明細のみ")
    assert (str(last.result), last.counts.created, staff.rejects()) == ("SUCCESS", 3, {})
    assert staff.asked - before == 1
    assert len(staff.employees) == sample.COUNT

    one = staff.run("1件", record_key="001034")  # SmartHR holds it in full width, so: not found
    assert one.counts.extracted == 0
    one = staff.run("1件", record_key="001035")
    assert (one.counts.extracted, one.counts.unchanged) == (1, 1)
    preview = staff.run("全件", dry_run=True)
    assert preview.counts.extracted == sample.COUNT


def crews(many: int, at: datetime) -> SmartHREmulator:
    emulator = SmartHREmulator()
    emulator.add_token(sample.DEMO_TOKEN)
    for number in range(many):
        crew = {"emp_code": f"{number + 1}", "last_name": "佐藤", "first_name": f"太郎{number}"}
        crew |= {"last_name_yomi": "サトウ", "first_name_yomi": "タロウ"}
        emulator.seed([{**crew, "entered_at": "2020-04-01"}], at + timedelta(seconds=20 * number))
    return emulator


def test_five_thousand_crews_in_the_fewest_requests_within_both_limits(
    hire: Callable[..., Staff],
) -> None:
    """Fifty pages, which is all that the API allows, and the first page once more; then one."""
    hands = Hands()
    start = datetime.now(UTC) - timedelta(days=3)
    smarthr = crews(5000, start)
    smarthr.limits._ticks = lambda: hands.passed
    staff = hire(smarthr, hands, code_width=6)
    first = staff.run("全件")
    assert (str(first.result), first.counts.created) == ("SUCCESS", 5000)
    assert staff.asked == 50 + 1
    assert smarthr.limits.refused == 0
    assert hands.passed < 6  # what ten requests a second allow for 51
    assert len(staff.employees) == 5000

    ids = list(smarthr.crews.rows)
    for crew in (ids[7], ids[2500], ids[4999]):
        smarthr.update(crew, {"emp_status": "absent"})
    second = staff.run()
    assert (second.counts.updated, second.counts.created) == (3, 0)
    assert staff.asked == 51 + 1
    assert {c for c, e in staff.employees.items() if e["status"] == "1"} == {
        *("000008", "002501", "005000")
    }


def test_a_run_that_breaks_off_moves_no_watermark(hire: Callable[..., Staff]) -> None:
    smarthr = crews(250, datetime.now(UTC) - timedelta(days=1))
    staff = hire(smarthr)
    smarthr.faults.add(Fault(kind="status", status=403, after=2, times=1))
    broken = staff.run()
    assert (str(broken.result), broken.error.code if broken.error else "") == ("ERROR", "AC-203")
    assert staff.watermark() is None
    assert staff.employees == {}
    whole = staff.run()
    assert (str(whole.result), whole.counts.created) == ("SUCCESS", 250)
    mark = staff.watermark()
    assert mark is not None
    assert mark == datetime.fromisoformat(max(c["updated_at"] for c in smarthr.crews.rows.values()))


def test_as_a_file(hire: Callable[..., Staff], tmp_path: Path) -> None:
    staff = hire(
        crews(3, datetime.now(UTC) - timedelta(days=1)),
        delivery="受入ファイル",
        folder=str(tmp_path),
        retired_since=date(2020, 1, 1),
    )
    ending = staff.run()
    assert (str(ending.result), ending.counts.created) == ("SUCCESS", 3)
    assert staff.requests("Import") == 0
    written = [each.read_bytes() for each in tmp_path.rglob("*.csv")]
    assert any("佐藤".encode("cp932") in each for each in written)


def test_a_period_is_what_was_changed_on_its_days(hire: Callable[..., Staff]) -> None:
    smarthr = SmartHREmulator()
    smarthr.add_token(sample.DEMO_TOKEN)
    staff = hire(smarthr)
    moments = {
        "1": "2025-09-30T23:59:59",
        "2": "2025-10-01T00:00:00",
        "3": "2025-10-31T23:59:59",
        "4": "2025-11-01T00:00:00",
    }

    def seed(number: str, moment: str, **more: Any) -> str:
        names = {key: CREW[key] for key in CREW if "name" in key and "business" not in key}
        crew = {**names, "emp_code": number, "entered_at": "2020-04-01", **more}
        return smarthr.seed([crew], datetime.fromisoformat(f"{moment}+09:00"))[0]

    bad = seed("9", "2025-08-01T00:00:00", last_name="")
    assert staff.run().counts.rejected == 1
    for number, moment in moments.items():
        seed(number, moment)
    mark = staff.sql("SELECT watermark FROM connection WHERE name = :c")
    october = {"begins": date(2025, 10, 1), "ends": date(2025, 10, 31)}
    assert staff.run("期間", dry_run=True, **october).counts.created == 2
    assert not {"1", "2", "3", "4"} & set(staff.employees)
    ran = staff.run("期間", **october)
    assert ran.message == (
        "期間 2025/10/01〜2025/10/31: 取得 2 / 登録 2 / 更新 0 / 変更なし 0 / エラー 0"
    )
    assert {"1", "2", "3", "4"} & set(staff.employees) == {"2", "3"}
    assert set(staff.rejects()) == {bad}
    assert staff.sql("SELECT watermark FROM connection WHERE name = :c") == mark
    after = staff.run()
    assert (after.counts.created, after.counts.unchanged, after.counts.rejected) == (2, 2, 1)
