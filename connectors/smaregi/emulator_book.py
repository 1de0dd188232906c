"""What the emulated contract holds: stores, sales, daily closings. Everything as on the wire: text.

The arithmetic here is the shop's, written apart from ours: taxes are rounded down once per sale and
rate, what is taken off a whole sale is shared among its lines, and a closing is what its drawer's
sales were *when it was made*: a sale that is cancelled later does not change it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict

TOKYO = ZoneInfo("Asia/Tokyo")
METHODS = {"3": "PayPay", "5": "商品券", "9": "楽天ペイ"}
"""Payment methods besides cash and credit: paymentMethodId -> name."""

_TAX_DIVISION = {"in": "0", "out": "1", "none": "2"}
Wire = dict[str, Any]


class Item(BaseModel):
    """One line of a sale.

    Attributes:
        price: Yen of one, as ``tax`` says with the tax in it or without.
        quantity: How many; negative = goods that came back.
        rate: Percent.
        tax: 内税, 外税, 非課税.
    """

    model_config = ConfigDict(extra="forbid")

    price: int
    quantity: int = 1
    rate: int = 10
    tax: str = "in"
    name: str = "商品"


@dataclass
class Sale:
    """One transaction: its head, its details, its other payments."""

    head: Wire
    details: list[Wire]
    others: list[Wire]
    drawer: str
    updated: datetime

    @property
    def net(self) -> bool:
        """Whether it counts as 純売上."""
        return (self.head["transactionHeadDivision"], self.head["cancelDivision"]) == ("1", "0")


@dataclass
class Book:
    """The books of one contract.

    Attributes:
        clock: Aware; what updDateTime is taken from.
        sales: By transactionHeadId.
        closings: By (sumDate, storeId, cashDrawerId).
    """

    clock: Callable[[], datetime]
    stores: dict[str, Wire] = field(default_factory=dict)
    sales: dict[int, Sale] = field(default_factory=dict)
    closings: dict[tuple[str, str, str], Wire] = field(default_factory=dict)
    by_day: dict[str, list[Sale]] = field(default_factory=dict)

    def add_store(self, number: str, name: str, code: str = "") -> None:
        """Open a store."""
        now = self._now()
        self.stores[number] = {
            "storeId": number,
            "storeCode": code or number.zfill(4),
            "storeName": name,
            "insDateTime": now,
            "updDateTime": now,
        }

    def sell(
        self,
        store: str,
        day: date,
        items: Sequence[Item | Mapping[str, Any]],
        *,
        pay: Mapping[str, int] | None = None,
        discount: int = 0,
        points: int = 0,
        coupon: int = 0,
        division: str = "1",
        drawer: str = "1",
        at: datetime | None = None,
    ) -> int:
        """Ring up a sale; returns its id.

        Args:
            store: 店舗ID.
            day: 締め日.
            items: Its lines.
            pay: Yen by ``cash``, ``credit`` or paymentMethodId; ``None`` = all of it in cash.
            discount: 小計値引, yen.
            points: ポイント値引, yen.
            coupon: クーポン値引, yen.
            division: transactionHeadDivision.
            drawer: cashDrawerId.
            at: When; ``None`` = now.

        Raises:
            ValueError: ``pay`` is not what the sale costs.
        """
        number = len(self.sales) + 1
        lines = [item if isinstance(item, Item) else Item(**item) for item in items]
        details, total = _details(lines, discount, points, coupon)
        paid = dict(pay if pay is not None else {"cash": total})
        if sum(paid.values()) != total:
            raise ValueError(f"paid {sum(paid.values())}, costs {total}")
        cash, credit = paid.pop("cash", 0), paid.pop("credit", 0)
        others = [
            {
                "no": str(n),
                "paymentMethodId": method,
                "paymentMethodName": METHODS.get(method, f"支払方法{method}"),
                "depositOthers": str(yen),
                "paymentUnitPrice": None,
                "paymentChangeFlag": "0",
                "paymentDivision": "9",
            }
            for n, (method, yen) in enumerate(paid.items(), 1)
        ]
        moment = (at or self.clock()).astimezone(TOKYO).replace(microsecond=0)
        head: Wire = {
            "transactionHeadId": number,
            "transactionDateTime": moment.isoformat(),
            "transactionHeadDivision": division,
            "cancelDivision": 0,
            "subtotal": sum(line.price * line.quantity for line in lines),
            "subtotalDiscountPrice": discount,
            "pointDiscount": points,
            "couponDiscount": coupon,
            "total": total,
            "taxInclude": _sum(details, "taxIncludeProportional"),
            "taxExclude": _sum(details, "taxExcludeProportional"),
            "roundingPrice": 0,
            "cashTotal": cash,
            "creditTotal": credit,
            "deposit": total,
            "depositCash": cash,
            "depositCredit": credit,
            "change": 0,
            "amount": sum(max(line.quantity, 0) for line in lines),
            "returnAmount": sum(max(-line.quantity, 0) for line in lines),
            "costTotal": "0.00000",
            "storeId": store,
            "storeCode": self.stores[store]["storeCode"],
            "terminalId": drawer,
            "customerId": None,
            "terminalTranId": number,
            "terminalTranDateTime": moment.isoformat(),
            "sumDivision": 0,
            "sumDate": day.isoformat(),
            "disposeDivision": 0,
            "cancelDateTime": None,
            "updDateTime": moment.isoformat(),
        }
        sale = Sale(_text(head), details, others, drawer, moment.astimezone(UTC))
        self.sales[number] = sale
        self.by_day.setdefault(day.isoformat(), []).append(sale)
        return number

    def cancel(self, number: int, at: datetime | None = None) -> None:
        """取消: the sale keeps its id and its yen, and counts no more.

        Raises:
            KeyError: there is no such sale.
        """
        sale = self.sales[number]
        moment = (at or self.clock()).astimezone(TOKYO).replace(microsecond=0)
        sale.head |= {"cancelDivision": "1", "cancelDateTime": moment.isoformat()}
        sale.head["updDateTime"] = moment.isoformat()
        sale.updated = moment.astimezone(UTC)

    def close(self, store: str, day: date, at: datetime | None = None) -> None:
        """日次締め of a store-day, again if it was closed before: one for each drawer."""
        moment = (at or self.clock()).astimezone(TOKYO).replace(microsecond=0).isoformat()
        mine = [s for s in self.by_day.get(day.isoformat(), []) if s.head["storeId"] == store]
        for drawer in sorted({sale.drawer for sale in mine}) or ["1"]:
            key = (day.isoformat(), store, drawer)
            first = self.closings.get(key, {}).get("insDateTime", moment)
            sales = [sale for sale in mine if sale.drawer == drawer]
            for sale in sales:
                sale.head["sumDivision"] = "2"
            said = _closing([sale for sale in sales if sale.net])
            said |= {"insDateTime": first, "updDateTime": moment}
            ident = dict(zip(("sumDate", "storeId", "cashDrawerId"), key, strict=True))
            self.closings[key] = {**ident, "status": "2", **said}

    def reopen(self, store: str, day: date) -> None:
        """Take the closing of a store-day back."""
        for key in [k for k in self.closings if k[:2] == (day.isoformat(), store)]:
            del self.closings[key]

    def net_sales(self) -> Iterator[Sale]:
        """Every sale that counts as 純売上."""
        return (sale for sale in self.sales.values() if sale.net)

    def _now(self) -> str:
        return self.clock().astimezone(TOKYO).replace(microsecond=0).isoformat()


def _details(
    lines: Sequence[Item], discount: int, points: int, coupon: int
) -> tuple[list[Wire], int]:
    listed = [line.price * line.quantity for line in lines]
    shares = [_shared(off, listed) for off in (discount, points, coupon)]
    after = [yen - sum(each[n] for each in shares) for n, yen in enumerate(listed)]
    tax_in, tax_out = [0] * len(lines), [0] * len(lines)
    for kind, taxes in (("in", tax_in), ("out", tax_out)):
        for rate in {line.rate for line in lines}:
            group = [n for n, ln in enumerate(lines) if (ln.tax, ln.rate) == (kind, rate)]
            yen = [after[n] for n in group]
            per = 100 + rate if kind == "in" else 100
            whole = abs(sum(yen)) * rate // per * (1 if sum(yen) >= 0 else -1)
            for n, tax in zip(group, _shared(whole, yen), strict=True):
                taxes[n] = tax
    made = [
        _text(
            {
                "transactionDetailId": n + 1,
                "transactionDetailDivision": 2 if line.quantity < 0 else 1,
                "productId": 100 + n,
                "productName": line.name,
                "taxDivision": _TAX_DIVISION[line.tax],
                "price": line.price,
                "salesPrice": line.price,
                "quantity": line.quantity,
                "unitDiscountedSum": listed[n],
                "salesDivision": 0,
                "taxFreeDivision": 0,
                "taxFree": 0,
                "taxRate": 0 if line.tax == "none" else line.rate,
                "standardTaxRate": 10,
                "reduceTaxRate": 8 if line.rate == 8 else None,
                "discountPriceProportional": shares[0][n],
                "discountPointProportional": shares[1][n],
                "discountCouponProportional": shares[2][n],
                "roundingPriceProportional": 0,
                "taxIncludeProportional": tax_in[n],
                "taxExcludeProportional": tax_out[n],
            }
        )
        for n, line in enumerate(lines)
    ]
    return made, sum(after) + sum(tax_out)


def _shared(whole: int, weights: Sequence[int]) -> list[int]:
    """``whole`` by weight; the last line with a weight takes what rounding left."""
    if not whole or not sum(weights):
        return [0] * len(weights)
    parts = [whole * weight // sum(weights) for weight in weights]
    last = max(n for n, weight in enumerate(weights) if weight)
    parts[last] += whole - sum(parts)
    return parts


def _closing(sales: Sequence[Sale]) -> Wire:
    def of(name: str) -> int:
        return sum(int(sale.head[name]) for sale in sales)

    others: dict[str, int] = {}
    for each in (entry for sale in sales for entry in sale.others):
        method = each["paymentMethodId"]
        others[method] = others.get(method, 0) + int(each["depositOthers"])
    listed = [
        {
            "id": method,
            "name": METHODS.get(method, f"支払方法{method}"),
            "paymentMethodDivision": "9",
            "paymentMethodDivisionName": "その他",
            "sales": str(yen),
        }
        for method, yen in others.items()
    ]
    tax = of("taxInclude") + of("taxExclude")
    untaxed = str(of("total") - tax)
    said = {
        "salesTotal": of("subtotal") + of("taxExclude"),
        "discount": of("subtotalDiscountPrice") + of("couponDiscount"),
        "pointDiscount": of("pointDiscount"),
        "total": of("total"),
        "totalExcludeTax": untaxed,
        "totalExcludTax": untaxed,
        "taxInclude": of("taxInclude"),
        "taxExclude": of("taxExclude"),
        "taxTotal": tax,
        "taxFreeTotal": 0,
        "costTotal": "0.00000",
        "amount": of("amount"),
        "returnAmount": of("returnAmount"),
        "transactionCount": len(sales),
        "cashSales": of("cashTotal"),
        "creditSales": of("creditTotal"),
    }
    return _text(said) | {"otherSalesList": listed, "otherSalseList": listed, "taxDetailList": []}


def _sum(rows: Sequence[Wire], name: str) -> int:
    return sum(int(row[name]) for row in rows)


def _text(row: Mapping[str, Any]) -> Wire:
    return {name: None if value is None else str(value) for name, value in row.items()}
