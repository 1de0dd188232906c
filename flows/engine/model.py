"""The words of a run, as types. Screens show the Japanese values; code uses the names."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from flows.engine.clock import JST


class Mode(enum.StrEnum):
    """What a run reads."""

    INCREMENTAL = "差分"
    """Records that changed since the last good run, and the rejects of earlier runs."""
    FULL = "全件"
    """Every record of the source."""
    PERIOD = "期間"
    """The records of some days, and nothing else; the watermark stays where it is."""
    ONE = "1件"
    """The record with one key."""
    REJECTS = "エラー明細のみ"
    """Records that could not be posted, all of them or some, and nothing else."""


class Trigger(enum.StrEnum):
    """実行種別: who started the run."""

    MANUAL = "手動"
    SCHEDULE = "スケジュール"
    API = "API"


class Result(enum.StrEnum):
    """結果 of a run that has ended, for now (`POSTPONED`) or for good."""

    SUCCESS = "SUCCESS"
    PARTIAL = "一部エラー"
    ERROR = "ERROR"
    SKIPPED = "スキップ"
    POSTPONED = "待機中"
    """The service is closed at this hour: the run goes on by itself later."""


class RunHandle(BaseModel):
    """What the stages hand each other: names of things in the store, never the things."""

    model_config = ConfigDict(frozen=True)

    run_id: UUID
    connection: str


@dataclass(frozen=True, slots=True)
class Row:
    """One record on its way to 奉行クラウド.

    Attributes:
        source_key: The record's key at the partner.
        key: Its key at 奉行クラウド.
        values: Field name -> value; the same fields in the same order for every row of a run.
    """

    source_key: str
    key: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MissingCode:
    """A partner's code that cannot be turned into one of 奉行クラウド; see `flows.engine.codes`.

    Attributes:
        kind: What it should become: ``勘定科目``.
        source: What the code is at the partner: ``経費科目``.
        code: The partner's code.
        name: What the partner calls it.
        bugyo_code: What コード変換表 says, which 奉行クラウド does not have; empty = no entry.
    """

    kind: str
    source: str
    code: str
    name: str = ""
    bugyo_code: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """One record that cannot be posted, and why.

    Attributes:
        code: Catalogue code, ``AC-8xx``.
        item: Label of the item at fault.
        label: How a person recognises the record.
        reason: What is wrong with this very record.
        remedy: What to do about it; empty = the catalogue's remedy.
        holder: Source key of the record that already has this code.
        missing: Codes without a counterpart at 奉行クラウド (``AC-821``, ``AC-822``).
    """

    source_key: str
    code: str
    item: str = ""
    label: str = ""
    reason: str = ""
    remedy: str = ""
    holder: str | None = None
    missing: tuple[MissingCode, ...] = ()


@dataclass(slots=True)
class Counts:
    """件数 of a run. ``extracted`` equals the sum of the next five when the run has ended well.

    Attributes:
        vanished: Documents that were posted and whose source record is gone; not in ``extracted``.
    """

    extracted: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    pending: int = 0
    vanished: int = 0

    def balanced(self) -> bool:
        """Whether every record that was read is accounted for."""
        return self.extracted == (
            self.created + self.updated + self.unchanged + self.rejected + self.pending
        )

    def sentence(self) -> str:
        """The counts as a person reads them, for state messages."""
        text = (
            f"取得 {self.extracted:,} / 登録 {self.created:,} / 更新 {self.updated:,} / "
            f"変更なし {self.unchanged:,} / エラー {self.rejected:,}"
        )
        if self.pending:
            text += f" / 確認待ち {self.pending:,}"
        return f"{text} / 元データなし {self.vanished:,}" if self.vanished else text


@dataclass(frozen=True, slots=True)
class SourcePage:
    """A page as it came from the partner.

    Attributes:
        body: The bytes as received; they are staged as they are.
        records: How many records it holds.
        position: Where reading goes on after this page; opaque to the engine, JSON-able.
        newest: Latest modification time in the page, for the watermark.
        server_time: The partner's own clock when it answered.
    """

    body: bytes
    records: int
    position: Any
    newest: datetime | None = None
    server_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """What a run has to read.

    Attributes:
        mode: See `Mode`.
        since: Read records modified at or after this moment (the overlap is already in it).
        key: The one record asked for (`Mode.ONE`).
        retry: Source keys of open rejects and their holders, to be read whatever their age; in
            `Mode.REJECTS` they are everything that is read.
        begins: First day of the period (`Mode.PERIOD`), in Japan.
        ends: Its last day, included.
    """

    mode: Mode
    since: datetime | None = None
    key: str | None = None
    retry: tuple[str, ...] = ()
    begins: date | None = None
    ends: date | None = None

    def days(self, first: date, last: date) -> tuple[date, date]:
        """Those of the days from ``first`` to ``last`` that are in the period, if there is one.

        Returns:
            The first and the last day; the first is the later one when there is no such day.
        """
        return max(first, self.begins or first), min(last, self.ends or last)

    @property
    def moments(self) -> tuple[datetime, datetime] | None:
        """When the period begins, and when it is over: midnights in Japan, the second excluded."""
        if self.begins is None or self.ends is None:
            return None
        after = self.ends + timedelta(days=1)
        return datetime.combine(self.begins, time(), JST), datetime.combine(after, time(), JST)


@dataclass(frozen=True, slots=True)
class RowRefusal:
    """奉行クラウド's definite no to one row, in its own words."""

    vendor_code: str = ""
    message: str = ""
    item: str = ""


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """A definite answer to a batch.

    Attributes:
        refused: Index in the batch -> why.
        others_stored: Whether the rows that are not in ``refused`` are stored.
        existing: Documents that were there already, from a call whose answer was lost.
        whole: Set when the batch was refused without naming a row.
    """

    refused: Mapping[int, RowRefusal] = field(default_factory=dict)
    others_stored: bool = True
    existing: frozenset[int] = frozenset()
    whole: RowRefusal | None = None


class Changed(enum.StrEnum):
    """What happens to a document whose source record changed, or went, after it was posted."""

    REPORT = "報告のみ"
    """It is reported; the document stays as it is."""
    REVERSE = "赤黒"
    """It is reversed (赤伝票) and, if the record is still there, posted again (黒伝票)."""


@dataclass(frozen=True, slots=True)
class Found:
    """A document as 奉行クラウド holds it.

    Attributes:
        copies: How many carry the same key; more than one = somebody doubled it.
        amount: Yen.
        values: As in `Row.values`.
        reference: 奉行クラウド's own number of it.
    """

    copies: int
    amount: int
    values: Mapping[str, str]
    reference: str = ""
