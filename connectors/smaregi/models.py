"""What スマレジ answers, as values: yen are ``int``, dates are dates. On the wire all is text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from pydantic import AliasChoices, Field, ValidationError, model_validator

from connectors.kit.wire import Day, Percent, Text, Wire, Yen
from connectors.smaregi._facts import FACTS

_DETAILS: dict[str, Any] = FACTS["details"]
_RETURNED: str = _DETAILS["return_division"]
_ON_TOP: str = _DETAILS["excluded_tax_division"]
_NO_TAX: str = _DETAILS["no_tax_division"]
_NOT_SALES: str = _DETAILS["not_sales_division"]
_NET = (FACTS["sales"]["head_division"], FACTS["sales"]["cancel_division"])


class Store(Wire):
    """店舗."""

    id: str = Field(alias="storeId")
    code: Text = Field(default="", alias="storeCode")
    name: Text = Field(default="", alias="storeName")


class OtherSales(Wire):
    """Sales of one day by another payment method, as a closing lists them."""

    sales: Yen = 0


class Closing(Wire):
    """日次締め of one cash drawer of one store-day.

    Attributes:
        total: 純売上 with the tax.
        others: From ``otherSalesList``, or its misspelt twin in older contracts.
    """

    day: date = Field(alias="sumDate")
    store: str = Field(alias="storeId")
    drawer: Text = Field(default="", alias="cashDrawerId")
    total: Yen = 0
    cash: Yen = Field(default=0, alias="cashSales")
    credit: Yen = Field(default=0, alias="creditSales")
    others: tuple[OtherSales, ...] = Field(
        default=(), validation_alias=AliasChoices("otherSalesList", "otherSalseList")
    )
    tax: Yen = Field(default=0, alias="taxTotal")
    updated: datetime = Field(alias="updDateTime")

    @property
    def other(self) -> int:
        """Yen by payment methods other than cash and credit."""
        return sum(each.sales for each in self.others)


class Payment(Wire):
    """Payment by a method other than cash and credit (``depositOthers``)."""

    id: str = Field(alias="paymentMethodId")
    name: Text = Field(default="", alias="paymentMethodName")
    amount: Yen = Field(default=0, alias="depositOthers")


class Detail(Wire):
    """One line of a sale, with its share of what was taken off the whole sale.

    Attributes:
        listed: Yen before that, as the product says with the tax in it or without.
        off: The shares, by the names in `FACTS`.
    """

    division: Text = Field(default="", alias="transactionDetailDivision")
    tax_division: Text = Field(default="", alias="taxDivision")
    sales_division: Text = Field(default="0", alias="salesDivision")
    rate: Percent = Field(default="0", alias="taxRate")
    tax_free: Yen = Field(default=0, alias="taxFree")
    listed: Yen = Field(default=0, alias=_DETAILS["sum"])
    off: tuple[Yen, ...] = ()
    tax_in: Yen = Field(default=0, alias="taxIncludeProportional")
    tax_on_top: Yen = Field(default=0, alias="taxExcludeProportional")

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping) and "off" not in raw:
            return {**raw, "off": [raw.get(name) for name in _DETAILS["discounts"]]}
        return raw

    @property
    def discount(self) -> int:
        """Yen taken off."""
        return sum(self.off)

    @property
    def taxed(self) -> bool:
        """Whether there is a tax at all."""
        return self.tax_division != _NO_TAX

    @property
    def tax(self) -> int:
        """Yen of tax in `gross`."""
        return self.tax_on_top if self.on_top else self.tax_in

    @property
    def gross(self) -> int:
        """Yen with the tax, discounts taken off."""
        return self.listed - self.discount + (self.tax_on_top if self.on_top else 0)

    @property
    def not_sales(self) -> bool:
        """Whether the shop does not count it as sales (売上対象外)."""
        return self.sales_division == _NOT_SALES

    @property
    def returned(self) -> bool:
        """Whether it is goods that came back (返品): its yen are negative."""
        return self.division == _RETURNED

    @property
    def on_top(self) -> bool:
        """Whether the tax comes on top of what is listed (外税)."""
        return self.tax_division == _ON_TOP


HEAD_FIELDS = (
    "transactionHeadId",
    "transactionHeadDivision",
    "cancelDivision",
    "storeId",
    "sumDate",
    "updDateTime",
)
"""Which sale it is, of which store-day, and whether it counts."""


class Transaction(Wire):
    """取引. Details and other payments are there when they were asked for.

    Attributes:
        problem: Set where yen or details could not be read: the field at fault.
    """

    id: int = Field(alias="transactionHeadId")
    division: str = Field(alias="transactionHeadDivision")
    cancelled: str = Field(default="0", alias="cancelDivision")
    store: str = Field(alias="storeId")
    day: Day = Field(default=None, alias="sumDate")
    total: Yen = 0
    cash: Yen = Field(default=0, alias="cashTotal")
    credit: Yen = Field(default=0, alias="creditTotal")
    others: tuple[Payment, ...] = Field(default=(), alias="depositOthers")
    details: tuple[Detail, ...] = ()
    updated: datetime = Field(alias="updDateTime")
    problem: str = Field(default="", init=False)

    @classmethod
    def tolerant(cls, raw: Any) -> Transaction:
        """The transaction, or its head with `problem`: one bad sale does not hide the others.

        Raises:
            ValidationError: not even its head can be read.
        """
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            head = {name: raw[name] for name in HEAD_FIELDS if name in raw}
            where = ".".join(map(str, error.errors(include_input=False)[0]["loc"]))
            return cls.model_validate(head).model_copy(update={"problem": where})

    @property
    def is_sale(self) -> bool:
        """純売上: a normal sale that was not cancelled."""
        return (self.division, self.cancelled) == _NET
