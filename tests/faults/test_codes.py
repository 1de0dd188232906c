"""コード変換表 in real runs: a code without a counterpart blocks its own records, no others."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar
from uuid import uuid4

from company import APP, Company, voucher

from connectors.bugyo.journal import JournalSide, JournalSlip
from flows.engine import code_table, rejects
from flows.engine.code_table import Entry
from flows.engine.codes import CodeKind, CodeReader, CodeUse
from flows.engine.model import MissingCode, Reject
from flows.engine.pipeline import Pipeline
from flows.parts.journal import JournalSink, open_journal
from flows.slips_from_kintone import PIPELINE, KintoneSlipTransform

ITEM, SHOP = "経費科目", "店舗"
EXISTS: dict[str, dict[str, str]] = {CodeKind.ACCOUNT: {"100": "現金", "710": "交通費"}}


class KnowingSink(JournalSink):
    """勘定奉行 that can tell its 勘定科目, and no 部門."""

    async def codes(self, kind: CodeKind) -> Mapping[str, str] | None:
        return EXISTS.get(kind)


@contextlib.asynccontextmanager
async def open_sink(connection: Any, tools: Any) -> AsyncIterator[KnowingSink]:
    async with open_journal(connection.bugyo, tools) as sink:
        yield KnowingSink(sink.client, sink.visible_after)


class Coded(KintoneSlipTransform):
    """Vouchers whose 勘定科目 and 部門 are the partner's own codes."""

    def slip(self, record: Mapping[str, Any], codes: CodeReader) -> JournalSlip:
        made = super().slip(record, codes)
        (line,) = made.lines
        sides = [_converted(side, codes) for side in (line.debit, line.credit)]
        return replace(made, lines=(replace(line, debit=sides[0], credit=sides[1]),))


def _converted(side: JournalSide | None, codes: CodeReader) -> JournalSide:
    assert side is not None
    account = codes(CodeKind.ACCOUNT, ITEM, side.account, f"品目{side.account}")
    department = codes(CodeKind.DEPARTMENT, SHOP, side.department) if side.department else ""
    return replace(side, account=account, department=department)


class CodedCompany(Company):
    """A company whose connector converts codes."""

    pipeline: ClassVar[Pipeline[Any]] = replace(
        PIPELINE,
        open_sink=open_sink,
        transformer=lambda connection, book: Coded(connection.settings, book),
        codes=(CodeUse(CodeKind.ACCOUNT, ITEM), CodeUse(CodeKind.DEPARTMENT, SHOP)),
    )

    def spend(self, yen: int, item: str, shop: str = "") -> int:
        """Add a voucher with codes of the partner."""
        record = voucher(yen)
        record["明細"][0] |= {"借方勘定科目": item, "借方部門": shop}
        return self.kintone.seed(APP, [record])[0]

    def map(self, *entries: Entry) -> None:
        with self.store.begin() as db:
            code_table.put(db, self.name, entries)

    @property
    def blocked(self) -> list[tuple[str, str, str, int]]:
        """Kind, partner code, wrong 奉行 code, records."""
        with self.store.begin() as db:
            found = code_table.unmapped(db, self.name)
        codes = [(b.missing, b.records) for b in found.codes]
        return [(c.kind, c.code, c.bugyo_code, records) for c, records in codes]

    @property
    def booked(self) -> list[tuple[str, str, int]]:
        """Debit 勘定科目, 部門 and yen of every slip."""
        sides = [slip.lines[0].debit for slip in self.slips]
        return sorted((s.account, s.department, s.amount) for s in sides if s is not None)


def test_an_unmapped_code_blocks_only_its_records_until_it_is_mapped(
    new_company: Callable[..., CodedCompany],
) -> None:
    firm = new_company(kind=CodedCompany)
    firm.spend(1000, "710")  # 奉行クラウド has exactly this code
    waiting = [firm.spend(2000, "E01"), firm.spend(3000, "E01", "S1"), firm.spend(4000, "009")]

    preview = firm.run(dry_run=True)
    words = "未対応コード 3種類（3件）"
    assert preview.message.endswith(f"エラー 3 / {words}")
    assert [(b.missing.code, b.missing.name, b.records) for b in preview.unmapped.codes] == [
        *(("009", "品目009", 1), ("E01", "品目E01", 2), ("S1", "", 1))
    ]
    assert (firm.slips, firm.blocked) == ([], [])

    first = firm.run()
    assert (str(first.result), first.message) == (
        "一部エラー",
        f"取得 4 / 登録 1 / 更新 0 / 変更なし 0 / エラー 3 / {words}",
    )
    assert firm.history()[-1]["message"] == first.message
    assert firm.booked == [("710", "", 1000)]
    assert firm.rejects() == {str(n): "AC-821" for n in waiting}
    ((reason, remedy, item),) = firm.sql(
        "SELECT reason, remedy, item FROM reject WHERE connection = :c AND source_key = :k",
        k=str(waiting[1]),
    )
    assert "経費科目 E01（品目E01）→勘定科目、店舗 S1→部門" in reason  # all of them, at once
    assert f"app-connect codes set {firm.name} " in remedy
    assert item == "勘定科目、部門"
    account, department = str(CodeKind.ACCOUNT), str(CodeKind.DEPARTMENT)
    assert firm.blocked == [
        *((account, "009", "", 1), (account, "E01", "", 2), (department, "S1", "", 1))
    ]

    # One of them is mapped to a code that 奉行クラウド does not have: told before it is sent.
    firm.map(
        Entry(account, ITEM, "E01", "", "710"),
        Entry(account, ITEM, "009", "", "0999"),
        Entry(department, SHOP, "S1", "", "0010"),  # 奉行クラウド cannot tell: believed
    )
    imports = firm.requests("ImportJournalSlip")
    second = firm.run()
    assert second.message == (
        "取得 4 / 登録 2 / 更新 0 / 変更なし 1 / エラー 1 / 未対応コード 1種類（1件）"
    )
    assert firm.booked == [("710", "", 1000), ("710", "", 2000), ("710", "0010", 3000)]
    assert firm.rejects() == {str(waiting[2]): "AC-822"}
    assert firm.blocked == [(account, "009", "0999", 1)]
    assert firm.requests("ImportJournalSlip") > imports

    firm.map(Entry(account, ITEM, "009", "", "100"))
    assert firm.run("エラー明細のみ").message.startswith("取得 1 / 登録 1 /")
    assert (firm.rejects(), firm.blocked) == ({}, [])
    imports = firm.requests("ImportJournalSlip")
    assert firm.run("全件").message == "取得 4 / 登録 0 / 更新 0 / 変更なし 4 / エラー 0"
    # Another entry, and one that changed without changing a record's own values: nothing is sent.
    firm.map(Entry(account, ITEM, "E77", "", "100"), Entry(account, ITEM, "710", "", "710"))
    assert firm.run("全件").message.startswith("取得 4 / 登録 0 / 更新 0 / 変更なし 4 /")
    assert firm.requests("ImportJournalSlip") == imports
    assert set(firm.copies.values()) == {1}


def test_what_is_blocked_keeps_step_with_the_record(
    new_company: Callable[..., CodedCompany],
) -> None:
    firm = new_company(kind=CodedCompany)
    number = firm.spend(2000, "E01", "x" * 3000)
    firm.run()
    assert [(row[1][:4], len(row[1])) for row in firm.blocked] == [("E01", 3), ("xxxx", 200)]
    record = voucher(2000)
    record["明細"][0]["借方勘定科目"] = "E02"
    firm.kintone.update(APP, number, record)
    firm.run()
    assert [row[1] for row in firm.blocked] == ["E02"]
    record["伝票日付"] = ""
    firm.kintone.update(APP, number, record)
    assert firm.run().message.endswith("エラー 1")  # another error now: no code is missing
    assert (firm.rejects(), firm.blocked) == ({str(number): "AC-801"}, [])
    record |= {"伝票日付": "2026-11-02"}
    firm.kintone.update(APP, number, record)
    firm.run()
    assert [row[1] for row in firm.blocked] == ["E02"]
    firm.kintone.delete(APP, number)
    firm.run()
    assert (firm.rejects(), firm.blocked) == ({}, [])
    hostile = Reject("9", "AC-821", missing=(MissingCode("部門", SHOP, "S\x001", "\x00"),))
    with firm.store.begin() as db:
        rejects.put(db, firm.name, firm.entity, uuid4(), [(hostile, {})])
    assert [row[1] for row in firm.blocked] == ["S␀1"]
