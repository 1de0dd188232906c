"""What every connector that makes 仕訳伝票 shares: its settings, its words, its checks.

A connector's transform is a `SlipTransform` with one method, which makes the slip of a record or
raises `BadValueError`; everything around it is here:

    class ReceiptTransform(SlipTransform):
        noun = "取引"

        def slip(self, record: Mapping[str, Any], codes: CodeReader) -> JournalSlip:
            total = amount("合計", record["total"])
            till = codes(CodeKind.ACCOUNT, "支払方法", record["method"], record["method_name"])
            line = JournalLine(
                debit=JournalSide(account=till, amount=total),
                credit=JournalSide(account=self.settings.sales, amount=total),
                description=self.text("摘要", record["memo"]),
            )
            date = day("取引日時", record["date"])
            return JournalSlip(date=date, voucher_number="", lines=(line,))

Codes that have no counterpart become one reject (``AC-821``), whatever else the slip holds.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import date, datetime
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import Field

from blocks import Connection, FormModel
from blocks.form import LAST
from connectors.bugyo.journal import JournalSlip, parse_date, yen
from connectors.bugyo.journal_checks import check_slip
from connectors.kit.text import normalise_code
from flows.engine.clock import business_date
from flows.engine.codes import EMPTY_BOOK, CodeBook, CodeReader, CodeUse
from flows.engine.model import Changed, Reject, Row
from flows.engine.pipeline import Pipeline, Source, Tools, Transformer
from flows.parts.fields import unencodable_field
from flows.parts.journal import FIELDS, HIDDEN, OPERATIONS, open_journal, slip_row
from flows.parts.values import BadValueError, violating, writable

__all__ = [
    "BadValueError",
    "SlipSettings",
    "SlipTransform",
    "amount",
    "code",
    "day",
    "slip_label",
    "slip_pipeline",
]

_LABEL = 60  # characters


class SlipSettings(FormModel):
    """設定 that every connector of slips has; they stand behind those that a subclass adds."""

    changed: Literal["報告のみ", "赤黒"] = Field(
        default="報告のみ",
        title="登録後に変わったとき",
        description=(
            "伝票を登録したあとで元のデータが変わったり削除されたりしたときの扱いです。"
            "「赤黒」は、赤伝票で取り消してから新しい内容で登録し直します。"
        ),
        json_schema_extra=LAST,
    )
    unencodable: Literal["エラーにする", "置き換える"] = unencodable_field()


S = TypeVar("S", bound=SlipSettings)
C = TypeVar("C", bound=Connection)


class SlipTransform(ABC, Generic[S]):
    """One record -> one slip. Pure; made once a run.

    Attributes:
        fields: The fields of every row.
        noun: What a record is called: ``レコード``, ``取引``, ``経費精算``.
        tolerance: Yen by which a tax may differ from rate x amount: taxes are often rounded per
            invoice, not per line. ``None`` = taxes are not checked.
        settings: The connection's.
    """

    fields = FIELDS
    noun: ClassVar[str] = "レコード"
    tolerance: ClassVar[int | None] = 1

    def __init__(self, settings: S, book: CodeBook = EMPTY_BOOK) -> None:
        self.settings = settings
        self._book = book
        self._replace = settings.unencodable == "置き換える"

    @abstractmethod
    def slip(self, record: Mapping[str, Any], codes: CodeReader) -> JournalSlip | None:
        """The slip of a record, without 証憑番号, which the engine gives; ``None`` = no slip.

        Args:
            record: As the source reads it.
            codes: コード変換表; what it lacks is empty in the slip, which then becomes a reject.

        Raises:
            BadValueError: a value makes no slip.
        """

    def __call__(self, source_key: str, record: Mapping[str, Any]) -> Row | Reject | None:
        """The row, the reject that says what is wrong, or ``None``: there is nothing to post."""
        codes = self._book.reader()
        try:
            slip = self.slip(record, codes)
        except BadValueError as bad:
            return bad.reject(source_key, f"{self.noun} {source_key}")
        if slip is None:
            return None
        label = slip_label(slip)
        if (reject := codes.reject(source_key, label)) is not None:
            return reject
        violations = check_slip(slip, tolerance=self.tolerance)
        violations = [each for each in violations if each.field != "voucher_number"]
        if violations:
            return violating(source_key, label, violations)
        return Row(source_key, label, slip_row(slip, label))

    def text(self, item: str, text: str) -> str:
        """A text as 奉行クラウド can hold it, on one line.

        Raises:
            BadValueError: ``AC-803``, it has characters that do not exist there, and the setting
                使えない文字 does not say 置き換える.
        """
        return writable(item, text, replace=self._replace)


def slip_pipeline(
    *,
    key_label: str,
    connection_type: type[C],
    open_source: Callable[[C, Tools], AbstractAsyncContextManager[Source]],
    transform: Callable[[Any, CodeBook], Transformer],
    codes: tuple[CodeUse, ...] = (),
) -> Pipeline[C]:
    """The pipeline of a connector of slips: see `Pipeline`; here is what is the same for all.

    Args:
        key_label: What a record's key is called.
        connection_type: Its ``settings`` are `SlipSettings`.
        open_source: Makes the source.
        transform: The subclass of `SlipTransform`.
        codes: What it looks up in コード変換表.
    """

    def settings_of(connection: Any) -> Any:
        return connection.settings

    return Pipeline(
        entity="journal_slip",
        key_label=key_label,
        connection_type=connection_type,
        open_source=open_source,
        open_sink=lambda connection, tools: open_journal(connection.bugyo, tools),
        transformer=lambda connection, book: transform(settings_of(connection), book),
        changed=lambda connection: Changed(settings_of(connection).changed),
        hidden=HIDDEN,
        operations=OPERATIONS,
        codes=codes,
    )


def slip_label(slip: JournalSlip) -> str:
    """How a person recognises a slip: its date, its yen, its common 摘要.

    It is part of the row: were it made differently, posted slips would look changed.
    """
    return f"{slip.date:%Y/%m/%d} {slip.debit_total:,}円 {slip.description}".strip()[:_LABEL]


def day(item: str, text: str) -> date:
    """The day of a date, or that of a date and time in Japan.

    Raises:
        BadValueError: ``AC-801``, it is empty; ``AC-807``, it is no date, or something follows it:
            cutting that off could be a day wrong.
    """
    text = text.strip()
    if not text:
        raise BadValueError(item, f"{item}が空です", "AC-801")
    with contextlib.suppress(ValueError):  # its words are not for a clerk
        if "T" not in text and len(text) <= len("2026/11/02"):
            return parse_date(text)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return business_date(moment)
    raise BadValueError(item, f"日付ではありません: 「{text[:40]}」")


def amount(item: str, text: str, *, where: str = "") -> int:
    """Whole yen; an empty text is 0.

    Args:
        item: Label of the item.
        text: As it came.
        where: Said before it: ``3行目: ``.

    Raises:
        BadValueError: it is no number, or has a fraction.
    """
    text = text.strip()
    try:
        return yen(text) if text else 0
    except ValueError as error:
        raise BadValueError(item, f"{where}{item}が{error}") from None


def code(text: str) -> str:
    """A 奉行 code that the partner holds as it is: half width, leading zeros kept."""
    return normalise_code(text, width=None)
