"""受入ファイル: what stands in one, and a folder in which each appears whole and once."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from connectors.bugyo import resource
from connectors.bugyo.journal import JournalLine, JournalSide, JournalSlip, flatten
from connectors.bugyo.reception import (
    header_codes,
    reception_assumptions,
    reception_file,
    unwritable,
)
from connectors.bugyo.reception_folder import KEEP_DAYS, ReceptionFolder
from connectors.kit import AppConnectError, FaultError, SettingsError, UnknownOutcomeError

DAY = date(2026, 10, 1)
FIELDS = ("employee", "month", "work_days", "work_time")


def month(employee: str, time: str = "160:30", **more: str) -> dict[str, str]:
    return {
        "employee": employee,
        "month": "2026/09",
        "work_days": "20.5",
        "work_time": time,
        **more,
    }


def parsed(content: bytes, encoding: str = "cp932") -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(encoding), newline="")))


class Died(BaseException):
    """The process ends here: nothing of it may clean up."""


def dying(at: str) -> Callable[[str], None]:
    def reached(step: str) -> None:
        if step == at:
            raise Died

    return reached


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., ReceptionFolder]:
    def make(day: date = DAY, name: str = "attendance", **more: object) -> ReceptionFolder:
        place = ReceptionFolder(tmp_path, "kot-1", name, today=lambda: day, **more)  # type: ignore[arg-type]
        place.open()
        return place

    return make


def delivered(place: Path) -> dict[str, list[str]]:
    """File name -> 社員番号 of its rows."""
    return {
        path.name: [row[0] for row in parsed(path.read_bytes())[1:]]
        for path in sorted(place.glob("*"))
        if path.is_file()
    }


def test_the_file_has_the_shape_of_the_contract() -> None:
    content = reception_file("attendance", FIELDS, [month("000123"), month("7", "8:00")])
    assert content == (
        b'"MK01","PR1010002","PR1010003","KN08"\r\n'
        b'"000123","2026/09","20.5","160:30"\r\n"7","2026/09","20.5","8:00"\r\n'
    )
    names = [{"code": "000123", "last_name": "髙﨑", "first_name": "①郎〜"}]
    fields = tuple(names[0])
    rows = parsed(reception_file("employee", fields, names))
    assert rows == [["MK01", "HM1010002", "HM1010003"], ["000123", "髙﨑", "①郎～"]]
    bom = reception_file("employee", fields, names, utf8=True)
    assert bom.startswith(b"\xef\xbb\xbf")
    assert parsed(bom, "utf-8-sig")[1] == ["000123", "髙﨑", "①郎〜"]
    with pytest.raises(KeyError):
        reception_file("employee", ("nonsense",), [])


def test_slips_begin_with_their_mark() -> None:
    side = JournalSide(account="710", amount=100)
    lines = (JournalLine(debit=side), JournalLine(credit=JournalSide(account="100", amount=100)))
    slip = JournalSlip(date=DAY, lines=lines, voucher_number="AC1")
    rows = [row for each in (slip, slip) for row in flatten(each)]
    fields = [*dict.fromkeys(name for row in rows for name in row)]
    found = parsed(reception_file("journal_slip", fields, rows))
    mark = found[0].index("GL0010000")
    assert [row[mark] for row in found[1:]] == ["*", "", "*", ""]
    assert header_codes("journal_slip") == resource("journal_slip").codes


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("山田😀", "😀（U+1F600）"),
        ("𠮷田", "𠮷（U+20BB7）"),
        ("a\0b", "U+0000"),
        ("二行\n目", "U+000A"),
        ("=cmd()", "数式"),
        ("＝1+1", "数式"),
        ("@SUM(A1)", "数式"),
        ("+cmd|' /C calc'!A0", "数式"),
        ("-2+3+cmd|' /C calc'!A0", "数式"),
    ],
)
def test_what_cannot_be_written_is_named(value: str, words: str) -> None:
    problem = unwritable("employee", {"code": "1", "last_name": value})
    assert problem is not None
    assert problem.label == "姓"
    assert words in problem.message
    needs_cp932 = value in ("山田😀", "𠮷田")
    assert (unwritable("employee", {"last_name": value}, utf8=True) is None) == needs_cp932


def test_what_only_looks_dangerous_is_written() -> None:
    for value in ("髙﨑①", "007", "-5", "+81-90-1234-5678", "o'brien", "3=4", "", "〜−"):
        assert unwritable("employee", {"last_name": value}) is None, value


def test_assumptions_are_those_of_the_file() -> None:
    found = reception_assumptions("attendance", FIELDS)
    by_subject = {each.subject: each for each in found}
    assert "MK01" in by_subject["社員番号"].statement
    assert by_subject["対象年月"].evidence == "?"
    assert {each.source for each in found} == {"reception.toml"}
    assert sum(each.subject == "受入ファイル" for each in found) == 2


def test_files_are_numbered_and_found_again(
    folder: Callable[..., ReceptionFolder], tmp_path: Path
) -> None:
    (tmp_path / "kot-1_勤怠_20261001_0002.csv").write_text("somebody's own")
    place = folder()
    assert place.write([month("000123"), month("000124")]) == "kot-1_勤怠_20261001_0003.csv"
    assert place.write([month("000123", "170:00")]) == "kot-1_勤怠_20261001_0004.csv"
    with pytest.raises(AppConnectError, match="AC-406"):
        folder()  # two never write side by side
    folder(name="employee").close()  # another resource has books of its own
    place.close()
    (tmp_path / "kot-1_勤怠_20261001_0003.csv").unlink()  # a person took it
    again = folder(date(2026, 10, 2))
    found = again.held(["000123/2026/09", "000124/2026/09", "9/2026/09"], ("work_time",))
    assert found == {
        "000123/2026/09": {"work_time": "170:00"},
        "000124/2026/09": {"work_time": "160:30"},
    }
    assert again.write([month("000125")]) == "kot-1_勤怠_20261002_0001.csv"
    again.close()
    assert (tmp_path / "kot-1_勤怠_20261001_0002.csv").read_text() == "somebody's own"
    late = folder(date(2026, 10, 2 + KEEP_DAYS - 31).replace(month=11))
    assert late.held(["000123/2026/09"], ("work_time",)) == {"000123/2026/09": {"work_time": ""}}
    assert late.held(["000125/2026/09"], ("work_time",)) == {
        "000125/2026/09": {"work_time": "160:30"}
    }
    late.close()
    assert folder(date(2027, 1, 1)).held(["000124/2026/09"], ()) == {"000124/2026/09": {}}


@pytest.mark.parametrize("step", ["reception-written", "reception-committed"])
def test_a_death_between_the_steps_loses_and_doubles_nothing(
    folder: Callable[..., ReceptionFolder], tmp_path: Path, step: str
) -> None:
    place = folder(reached=dying(step))
    with pytest.raises(Died):
        place.write([month("000123"), month("000124")])
    place.close()
    assert delivered(tmp_path) == {}
    again = folder()
    held = again.held(["000123/2026/09"], ("work_time",))
    if step == "reception-written":
        assert held == {}
        again.write([month("000123"), month("000124")])
    else:
        assert held == {"000123/2026/09": {"work_time": "160:30"}}
    again.close()
    assert delivered(tmp_path) == {"kot-1_勤怠_20261001_0001.csv": ["000123", "000124"]}
    assert [p.name for p in (tmp_path / ".app-connect" / "kot-1.attendance").glob("*.csv")] == []


def test_a_disk_that_fails_is_a_definite_no(
    folder: Callable[..., ReceptionFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(FaultError, match="AC-405") as caught:
            place.write([month("000123")])
    assert not isinstance(caught.value, UnknownOutcomeError)
    assert place.held(["000123/2026/09"], ()) == {}
    place.close()
    assert folder().held(["000123/2026/09"], ()) == {}
    assert delivered(tmp_path) == {}


@pytest.mark.parametrize("place", ["/nonexistent/勤怠", "relative", __file__])
def test_a_folder_that_is_none(place: str) -> None:
    with pytest.raises(SettingsError, match="AC-404") as caught:
        ReceptionFolder(Path(place), "kot-1", "attendance", today=lambda: DAY).open()
    assert place in str(caught.value)
