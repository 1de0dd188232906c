"""奉行クラウドへの渡し方 受入ファイル under the engine: the promises of the API hold for files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from company import APP, Kill
from files import FileCompany, FileSettings
from pydantic import ValidationError

from connectors.kit import Masker, SettingsError
from flows.engine.model import Result
from flows.engine.pipeline import Tools
from flows.engine.tokens import Vault
from flows.parts.masters import MasterSink
from flows.parts.reception_file import delivery_of, open_people_sink


@pytest.fixture
def firm(new_company: Callable[..., Any]) -> Iterator[FileCompany]:
    company: FileCompany = new_company(kind=FileCompany)
    company.folder.mkdir()
    yield company
    for path in sorted(company.folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    company.folder.rmdir()


def test_what_changed_is_in_a_new_file_and_hostile_text_is_an_error(firm: FileCompany) -> None:
    names = {1: "髙﨑①", 2: "=cmd()", 3: "山田😀", 4: "佐藤"}
    for number, name in names.items():
        firm.customer(number, 得意先名=name, 請求先コード="")
    ended = firm.run()
    assert ended.counts.created == 2
    assert ended.counts.rejected == 2
    assert [(row["code"], row["name"]) for row in firm.rows()] == [
        ("000001", "髙﨑①"),
        ("000004", "佐藤"),
    ]
    firm.kintone.update(APP, 4, {"得意先名": "佐藤商店"}, None)
    again = firm.run("全件")
    assert (again.counts.updated, again.counts.unchanged) == (1, 1)
    files = sorted(path.name for path in firm.folder.glob("*.csv"))
    assert [name.rpartition("_")[2] for name in files] == ["0001.csv", "0002.csv"]
    assert firm.rows()[-1]["name"] == "佐藤商店"
    assert firm.bugyo.books()["tenants"][firm.tenant]["imports"] == 0


@pytest.mark.parametrize(
    "point",
    [
        "after-intent",
        "reception-written",
        "reception-committed",
        "reception-published",
        "before-watermark",
    ],
)
def test_a_kill_between_file_and_ledger_doubles_nothing(firm: FileCompany, point: str) -> None:
    for number in range(1, 21):
        firm.customer(number)
    assert firm.run_child(Kill(point)) == 137
    firm.lapse()
    if point == "reception-published":
        for path in firm.folder.glob("*.csv"):  # a person is quicker than the next run
            path.rename(path.with_suffix(".taken"))
    ended = firm.run()
    assert ended.result is Result.SUCCESS
    written = Counter(row["code"] for row in firm.rows())
    assert written == Counter(f"{number:06}" for number in range(1, 21))
    assert {row["state"] for row in firm.ledger().values()} == {"posted"}


async def test_the_setting_decides(firm: FileCompany) -> None:
    tools = Tools(Masker(), Vault(firm.store))
    block = firm.block()
    delivery = delivery_of(block)
    assert delivery is not None
    assert delivery.by_file
    block.settings.delivery = "API"
    async with open_people_sink(block, tools, "employee") as sink:
        assert isinstance(sink, MasterSink)
        assert sink.resource == "employee"
    block.settings.delivery, block.settings.folder = "受入ファイル", str(firm.folder / "none")
    with pytest.raises(SettingsError, match="AC-404"):
        async with open_people_sink(block, tools, "employee"):
            pass
    with pytest.raises(ValidationError, match="受入ファイルのフォルダー"):
        FileSettings(app=APP, delivery="受入ファイル", folder="勤怠")
