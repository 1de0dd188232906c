"""SmartHR of the local stack: sixty crews of a small company, some of them awkward."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from connectors.smarthr.emulator import SmartHREmulator
from deployments.samples import Sample, SampleConnection
from deployments.stack.settings import StackUrls

if TYPE_CHECKING:
    from flows.engine.store import Store

NAME = "sample-smarthr"
COUNT = 60
EPOCH = datetime(2026, 10, 1, tzinfo=UTC)
"""``updated_at`` of the first crew; the others follow, a minute each."""

DEMO_TOKEN = "demo-smarthr-access-token-7hQw3Zk9"  # noqa: S105 (an emulator's)

_SURNAMES = (
    *(("佐藤", "サトウ"), ("鈴木", "スズキ"), ("高橋", "タカハシ"), ("田中", "タナカ")),
    *(("伊藤", "イトウ"), ("渡辺", "ワタナベ"), ("山本", "ヤマモト"), ("中村", "ナカムラ")),
    *(("小林", "コバヤシ"), ("加藤", "カトウ"), ("吉田", "ヨシダ"), ("山田", "ヤマダ")),
)
_GIVEN = (
    *(("太郎", "タロウ", "male"), ("花子", "ハナコ", "female"), ("一郎", "イチロウ", "male")),
    *(("陽子", "ヨウコ", "female"), ("健", "ケン", "male")),
)
_DEPARTMENTS = (
    *(("営業部", "S10", "営業部"), ("営業一課", "S11", "営業部/営業一課")),
    *(("管理部", "S20", "管理部"), ("経理課", "S21", "管理部/経理課"), ("製造部", None, "製造部")),
)
TABLE = {"S10": "0010", "S11": "0011", "S20": "0020", "S21": "0021", "製造部": "0030"}
"""コード変換表 of the sample: a department without a code is known by its name."""

UNMAPPED = ("新規事業室", "S90")

AWKWARD: Mapping[int, dict[str, Any]] = {
    7: {"last_name": "髙﨑", "last_name_yomi": "タカサキ"},
    12: {"emp_code": None},
    19: {"emp_status": "retired", "resigned_at": "2026-09-30"},
    23: {"departments": []},
    28: {"departments": "unmapped"},
    34: {"emp_code": "１０３４"},
    41: {"emp_status": "absent"},
    45: {"entered_at": "2027-04-01"},
    52: {"first_name": "太郎\N{GRINNING FACE}"},
}
"""Position -> what is odd about this crew."""

REJECTED = (12, 28, 52)
"""Positions of those that do not get through with the sample's settings."""


def crews(emulator: SmartHREmulator) -> Iterator[dict[str, Any]]:
    """The crews; always the same."""
    places = [emulator.add_department(*each) for each in _DEPARTMENTS]
    unmapped = emulator.add_department(*UNMAPPED)
    kinds = [
        emulator.add_employment_type("正社員", "01", "full_timer"),
        emulator.add_employment_type("パート", "02", "part_timer"),
    ]
    for number in range(COUNT):
        surname, given = _SURNAMES[number % len(_SURNAMES)], _GIVEN[number % len(_GIVEN)]
        crew: dict[str, Any] = {
            # The same after a restart of the stack: our ledger knows a crew by its id.
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{NAME}/{number}")),
            "emp_code": str(1000 + number),
            "last_name": surname[0],
            "last_name_yomi": surname[1],
            "first_name": given[0],
            "first_name_yomi": given[1],
            "gender": given[2],
            "birth_at": str(date(1975, 1, 15) + timedelta(days=173 * number)),
            "entered_at": str(date(2015, 4, 1) + timedelta(days=61 * number)),
            "departments": [places[number % len(places)]],
            "employment_type": kinds[number % 5 == 4],
            "tel_number": f"03-0000-{number:04}",
            "email": f"crew{number:02}@example.com",
            "address": {"zip_code": "100-0000", "pref": "東京都", "city": "千代田区"},
            "bank_accounts": [{"bank_code": "0000", "account_number": f"{number:07}"}],
        }
        crew |= AWKWARD.get(number, {})
        if crew["departments"] == "unmapped":
            crew["departments"] = [unmapped]
        yield crew


def smarthr_emulator() -> SmartHREmulator:
    """A SmartHR with the sample crews in it."""
    emulator = SmartHREmulator()
    emulator.add_token(DEMO_TOKEN)
    for number, crew in enumerate(crews(emulator)):
        emulator.seed([crew], EPOCH + timedelta(minutes=number))
    return emulator


def connections(urls: StackUrls) -> list[SampleConnection]:
    """社員, with 部門 and 雇用区分."""
    from pydantic import SecretStr

    from blocks import SmartHRCredentials
    from deployments.samples.bugyo import bugyo_credentials
    from flows.employees_from_smarthr import EmployeeSettings, EmployeesFromSmartHRConnection

    smarthr = SmartHRCredentials(
        subdomain="example",
        access_token=SecretStr(DEMO_TOKEN),
        endpoint=urls.emulators["smarthr"],
    )
    return [
        SampleConnection(
            name=NAME,
            kind=EmployeesFromSmartHRConnection,
            registration_number="AC-0000-0006",
            credentials={"bugyo": bugyo_credentials(urls), "smarthr": smarthr},
            settings=EmployeeSettings(
                code_width=6, department="1つ目の部署", employment_type="名前"
            ),
            prepare=prepare,
        )
    ]


async def prepare(store: Store) -> None:
    """Departments in コード変換表, unless the connection has a table already."""
    from flows.employees_from_smarthr import DEPARTMENT
    from flows.engine import code_table
    from flows.engine.codes import CodeKind

    names = {code or full: full for _, code, full in _DEPARTMENTS}
    wanted = [
        code_table.Entry(CodeKind.DEPARTMENT, DEPARTMENT, code, names[code], bugyo)
        for code, bugyo in TABLE.items()
    ]
    if not await store.do(code_table.entries, NAME):
        await store.do(code_table.put, NAME, wanted)


SAMPLE = Sample(smarthr_emulator, connections)
