"""Sales of a shop → 仕訳伝票: one store-day that is closed (日次締め) is one balanced slip.

Payment methods go to the debit, sales by tax rate to the credit. A connector of a POS reads its
store-days as `StoreDay`; what the slip looks like is the same for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from itertools import zip_longest
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from connectors.bugyo.journal import JournalLine, JournalSide, JournalSlip
from connectors.kit import SettingsError
from flows.engine.codes import CodeKind, CodeReader, CodeUse
from flows.parts.slips import BadValueError, SlipSettings, SlipTransform

CASH, CREDIT = "cash", "credit"
"""Codes of the two payment methods that have no id."""

PAYMENT, STORE, RATE = "支払方法", "店舗", "税率"
"""What the codes of a POS are, in コード変換表."""

_SEPARATE = "別の行にする"
_REDUCED = "8"  # 軽減税率: since 2019 nothing else is taxed at 8 % in a shop

CODES = (
    CodeUse(CodeKind.ACCOUNT, PAYMENT),
    CodeUse(CodeKind.SUB_ACCOUNT, PAYMENT),
    CodeUse(CodeKind.DEPARTMENT, STORE),
    CodeUse(CodeKind.TAX, RATE),
)
"""What slips of store-days look up in コード変換表."""

_Cell = TypeVar("_Cell", bound=BaseModel)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class PaidBy(_Model):
    """Yen by one payment method."""

    code: str = Field(alias="コード")
    name: str = Field(alias="支払方法")
    amount: int = Field(alias="金額")


class Taxed(_Model):
    """Sales of one tax rate, all with the tax in them.

    Attributes:
        rate: Percent; ``0`` = 非課税.
        gross: Net of what was taken off and of goods that came back.
        tax: In ``gross``.
        off: What was taken off, and goods that came back.
        off_tax: In ``off``.
    """

    rate: str = Field(alias="税率")
    gross: int = Field(alias="売上（税込）")
    tax: int = Field(alias="うち消費税")
    off: int = Field(alias="値引・返品（税込）")
    off_tax: int = Field(alias="値引・返品の消費税")


class Line(_Model, Generic[_Cell]):
    """A row of a table, as the engine shows records to a person (`flows.engine.records`)."""

    value: _Cell


class StoreDay(_Model):
    """A record: what the slip of a store-day is made of. Its keys are a person's words.

    Attributes:
        problems: Why no slip can be made of it: (catalogue code, words).
    """

    store: str = Field(alias="店舗ID")
    store_code: str = Field(alias="店舗コード")
    store_name: str = Field(alias="店舗名")
    day: date = Field(alias="締め日")
    sales: int = Field(alias="取引数")
    total: int = Field(alias="純売上")
    paid: tuple[Line[PaidBy], ...] = Field(alias="支払")
    taxes: tuple[Line[Taxed], ...] = Field(alias="税率別")
    problems: tuple[tuple[str, str], ...] = Field(default=(), alias="問題")

    def record(self) -> dict[str, Any]:
        """The record, JSON-able."""
        return self.model_dump(mode="json", by_alias=True)


def key_of(store: str, day: date) -> str:
    """The source key of a store-day: ``12:2026-11-20``."""
    return f"{store}:{day.isoformat()}"


def parse_key(key: str) -> tuple[str, date]:
    """店舗ID and 締め日 of a source key, also as people write it (``12 2026/11/20``).

    Raises:
        ValueError: it is none.
    """
    store, _, day = key.strip().replace(" ", ":").replace("/", "-").partition(":")
    if not store.isdigit() or not store.isascii():
        raise ValueError(key)
    return store, date.fromisoformat(day.strip())


class StoreDaySettings(SlipSettings):
    """設定 of every connector of store-days: since when, which accounts, how the slip looks."""

    start: date = Field(
        title="開始日",
        description="この日以降に締めた（締め日がこの日以降の）売上を連携します。",
    )
    cash_account: str = Field(
        title="現金の勘定科目コード",
        description="現金で受け取った売上の借方です。",
        min_length=1,
        examples=["100"],
    )
    sales_account: str = Field(
        title="売上の勘定科目コード",
        description="売上の貸方です。税区分は、税率ごとにコード変換表で決めます。",
        min_length=1,
        examples=["500"],
    )
    reductions: Literal["売上から差し引く", "別の行にする"] = Field(
        default="売上から差し引く",
        title="値引・返品",
        description=(
            "小計値引・ポイント値引・クーポン・返品の扱いです。"
            "「別の行にする」は、差し引く前の売上を貸方に、値引・返品を借方に立てます。"
        ),
    )
    reductions_account: str = Field(
        default="",
        title="値引・返品の勘定科目コード",
        description="「値引・返品」が「別の行にする」のときの借方です。",
    )
    by_store: bool = Field(
        default=True,
        title="店舗ごとに部門を付ける",
        description="オンにすると、店舗の部門（コード変換表）をすべての行に付けます。",
    )
    description: str = Field(
        default="売上",
        title="摘要",
        description="摘要の先頭に入れる文字です。そのあとに店舗名が付きます。",
    )

    def check(self) -> None:
        """See that what belongs together is there.

        Raises:
            SettingsError: ``AC-205``, it is not.
        """
        if self.reductions == _SEPARATE and not self.reductions_account.strip():
            raise SettingsError("AC-205", "「値引・返品の勘定科目コード」が空です")


class StoreDayTransform(SlipTransform[StoreDaySettings]):
    """One store-day -> one slip.

    Taxes are not checked against rate x amount: they were rounded sale by sale, and their sum is
    checked against the closing instead.
    """

    noun = "店舗・締め日"
    tolerance = None

    def slip(self, record: Mapping[str, Any], codes: CodeReader) -> JournalSlip | None:
        """The slip of a store-day; none of a day on which nothing is left to post.

        Raises:
            BadValueError: ``AC-831`` closing and sales differ, ``AC-832`` the parts of a sale are
                not its total, ``AC-833`` there is a sale of a kind that cannot be booked.
        """
        day = StoreDay.model_validate(record)
        if day.problems:
            words = "。".join(words for _, words in day.problems)
            where = f"{day.store_name} {day.day:%Y/%m/%d}"
            raise BadValueError("日次締め", f"{where}: {words}", day.problems[0][0])
        department = ""
        if self.settings.by_store:
            department = codes(CodeKind.DEPARTMENT, STORE, day.store_code, day.store_name)
        debits: list[JournalSide] = []
        credits_: list[JournalSide] = []
        for side in [*self._payments(day, department, codes), *self._sales(day, department, codes)]:
            # Payments and what was taken off are negative here, sales are positive.
            (debits if side.total < 0 else credits_).append(_positive(side))
        if not debits and not credits_:
            return None
        lines = tuple(JournalLine(*pair) for pair in zip_longest(debits, credits_))
        words = self.text("摘要", f"{self.settings.description} {day.store_name}".strip())
        return JournalSlip(date=day.day, voucher_number="", lines=lines, description=words)

    def _payments(self, day: StoreDay, department: str, codes: CodeReader) -> Iterator[JournalSide]:
        for paid in (line.value for line in day.paid):
            account, sub = self.settings.cash_account, ""
            if paid.code != CASH:
                # With a word before it, no paymentMethodId is taken for an account of that number.
                code = paid.name if paid.code == CREDIT else f"ID:{paid.code}"
                account = codes(CodeKind.ACCOUNT, PAYMENT, code, paid.name)
                sub = codes.sub_account(account, PAYMENT, code, paid.name)
            yield JournalSide(account, -paid.amount, sub_account=sub, department=department)

    def _sales(self, day: StoreDay, department: str, codes: CodeReader) -> Iterator[JournalSide]:
        separate = self.settings.reductions == _SEPARATE
        for taxed in (line.value for line in day.taxes):
            word = f"{taxed.rate}%" if taxed.rate != "0" else "非課税"
            gross, tax = taxed.gross, taxed.tax
            if separate:
                gross, tax = gross + taxed.off, tax + taxed.off_tax
            account = self.settings.sales_account
            if gross:
                code = codes(CodeKind.TAX, RATE, word, f"{word}の売上")
                yield _taxed(account, gross, tax, taxed, code, department)
            if separate and taxed.off:
                account = self.settings.reductions_account
                code = codes(CodeKind.TAX, RATE, f"{word} 値引・返品", f"{word}の値引・返品")
                yield _taxed(account, -taxed.off, -taxed.off_tax, taxed, code, department)


def _taxed(
    account: str, gross: int, tax: int, taxed: Taxed, code: str, department: str
) -> JournalSide:
    return JournalSide(
        account,
        gross - tax,
        tax,
        department=department,
        tax_code=code,
        tax_rate="" if taxed.rate == "0" else taxed.rate,
        tax_rate_kind="1" if taxed.rate == _REDUCED else "",
    )


def _positive(side: JournalSide) -> JournalSide:
    return side if side.total > 0 else replace(side, amount=-side.amount, tax=-side.tax)
