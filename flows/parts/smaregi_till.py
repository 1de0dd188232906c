"""Sales of スマレジ added up to a store-day, beside what its daily closings say. Pure arithmetic.

The base is the sales (純売上 only): payment methods by id and taxes by rate are proven there, while
the inner shape of the closing's lists is not. The closing decides *that* a day is posted, and is
what the sums are checked against.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

from connectors.smaregi import Closing, Detail, Store, Transaction
from flows.parts.store_days import CASH, CREDIT, Line, PaidBy, StoreDay, Taxed

_SHOWN = 3  # problems named in one reject


@dataclass
class _Group:
    """Sales of one tax rate; ``off`` is what was taken off, by whether the tax comes on top."""

    gross: int = 0
    tax: int = 0
    off: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})
    returned: int = 0
    returned_tax: int = 0

    def add(self, line: Detail) -> None:
        self.gross += line.gross
        self.tax += line.tax
        if line.returned:
            self.returned -= line.gross
            self.returned_tax -= line.tax
        else:
            self.off[line.on_top] += line.discount

    def taxed(self, rate: str) -> Taxed:
        # What the tax on a discount was, nobody tells; rounded down, like the shop's own.
        percent = int(rate)
        inside = self.off[False] * percent // (100 + percent)
        on_top = self.off[True] * percent // 100
        return Taxed(
            rate=rate,
            gross=self.gross,
            tax=self.tax,
            off=self.returned + self.off[False] + self.off[True] + on_top,
            off_tax=self.returned_tax + inside + on_top,
        )


class Till:
    """Adds up the sales of one store-day, one after the other."""

    def __init__(self) -> None:
        self._paid = Counter[str]()
        self._names = {CASH: "現金", CREDIT: "クレジット"}
        self._groups = defaultdict[str, _Group](_Group)
        self._problems: list[tuple[str, str]] = []
        self._total = self._count = 0

    def add(self, sale: Transaction) -> None:
        """One transaction; what is no 純売上 (取消, 入出金 …) is passed over."""
        if not sale.is_sale:
            return
        self._count += 1
        self._total += sale.total
        self._problems += _problems(sale)
        self._paid[CASH] += sale.cash
        self._paid[CREDIT] += sale.credit
        for other in sale.others:
            self._names[other.id] = other.name
            self._paid[other.id] += other.amount
        for line in sale.details:
            if line.rate.isdigit():
                self._groups[line.rate if line.taxed else "0"].add(line)

    def result(self, store: Store, day: date, closings: Iterable[Closing]) -> StoreDay:
        """The store-day, checked against its closings: several (cash drawers) are added up."""
        groups = sorted(self._groups.items(), key=lambda entry: -int(entry[0]))
        taxes = [group.taxed(rate) for rate, group in groups]
        differences = self._differences(list(closings), sum(each.tax for each in taxes))
        return StoreDay(
            store=store.id,
            store_code=store.code or f"ID:{store.id}",
            store_name=store.name,
            day=day,
            sales=self._count,
            total=self._total,
            paid=tuple(
                Line(value=PaidBy(code=code, name=self._names[code], amount=yen))
                for code, yen in sorted(self._paid.items())
                if yen
            ),
            taxes=tuple(Line(value=each) for each in taxes),
            problems=tuple([*self._problems, *differences][:_SHOWN]),
        )

    def _differences(self, closings: Sequence[Closing], tax: int) -> Iterator[tuple[str, str]]:
        paid = self._paid
        others = paid.total() - paid[CASH] - paid[CREDIT]
        said = {
            "純売上": (sum(each.total for each in closings), self._total),
            "現金": (sum(each.cash for each in closings), paid[CASH]),
            "クレジット": (sum(each.credit for each in closings), paid[CREDIT]),
            "その他の支払": (sum(each.other for each in closings), others),
            "消費税": (sum(each.tax for each in closings), tax),
        }
        for what, (closed, summed) in said.items():
            if closed != summed:
                yield "AC-831", f"{what}: 日次締めは {closed:,} 円、取引の合計は {summed:,} 円"


def _problems(sale: Transaction) -> Iterator[tuple[str, str]]:
    """What keeps one sale out of a slip: parts that do not make its total, kinds we cannot book."""
    where = f"取引ID {sale.id}"
    if sale.problem:
        yield "AC-832", f"{where} の項目「{sale.problem}」を読み取れません"
        return
    lines = sum(line.gross for line in sale.details)
    if lines != sale.total:
        yield "AC-832", f"{where} の合計 {sale.total:,} 円と、明細の合計 {lines:,} 円"
    paid = sale.cash + sale.credit + sum(each.amount for each in sale.others)
    if paid != sale.total:
        yield "AC-832", f"{where} の合計 {sale.total:,} 円と、支払の合計 {paid:,} 円"
    if any(line.tax_free for line in sale.details):
        yield "AC-833", f"{where} は免税販売です"
    if any(line.not_sales for line in sale.details):
        yield "AC-833", f"{where} に売上対象外の商品があります"
    if wrong := [line.rate for line in sale.details if not line.rate.isdigit()]:
        yield "AC-833", f"{where} の税率「{wrong[0][:10]}」は連携できません"
