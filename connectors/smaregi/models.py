"""What スマレジ answers, as values: yen are ``int``, dates are dates. On the wire all is text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from connectors.smaregi._facts import FACTS

_DETAILS: dict[str, Any] = FACTS["details"]
_RETURNED: str = _DETAILS["return_division"]
_ON_TOP: str = _DETAILS["excluded_tax_division"]
_NO_TAX: str = _DETAILS["no_tax_division"]
_NOT_SALES: str = _DETAILS["not_sales_division"]
_NET = (FACTS["sales"]["head_division"], FACTS["sales"]["cancel_division"])


def _yen(value: Any) -> Any:
    """``"1080"``, ``"-5"``, ``"0.00000"``; empty and null are 0. A fraction of a yen is refused."""
    if value in ("", None):
        return 0
    if type(value) is str and value.isdigit() and value.isascii():
        return int(value)  # nearly all of them
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return value
    return int(number) if number == number.to_integral_value() else value


def _rate(value: Any) -> Any:
    """A percentage as our registry writes it: ``"10"`` for ``"10.0"``; none = ``"0"``."""
    try:
        return f"{Decimal(str(value or 0)).normalize():f}"
    except InvalidOperation:
        return value


def _text(value: Any) -> Any:
    return "" if value is None else value


Yen = Annotated[int, BeforeValidator(_yen)]
Text = Annotated[str, BeforeValidator(_text)]
Day = Annotated[date | None, BeforeValidator(lambda v: v or None)]


class _Model(BaseModel):
    """Fields are found by the vendor's names; those that we do not need are passed over."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Store(_Model):
    """店舗."""

    id: str = Field(alias="storeId")
    code: Text = Field(default="", alias="storeCode")
    name: Text = Field(default="", alias="storeName")


class OtherSales(_Model):
    """Sales of one day by another payment method, as a closing lists them."""

    sales: Yen = 0


class Closing(_Model):
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


class Payment(_Model):
    """Payment by a method other than cash and credit (``depositOthers``)."""

    id: str = Field(alias="paymentMethodId")
    name: Text = Field(default="", alias="paymentMethodName")
    amount: Yen = Field(default=0, alias="depositOthers")


class Detail(_Model):
    """One line of a sale, with its share of what was taken off the whole sale.

    Attributes:
        listed: Yen before that, as the product says with the tax in it or without.
        off: The shares, by the names in `FACTS`.
    """

    division: Text = Field(default="", alias="transactionDetailDivision")
    tax_division: Text = Field(default="", alias="taxDivision")
    sales_division: Text = Field(default="0", alias="salesDivision")
    rate: Annotated[str, BeforeValidator(_rate)] = Field(default="0", alias="taxRate")
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


class Transaction(_Model):
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
