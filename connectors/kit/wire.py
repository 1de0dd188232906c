"""What vendors send, as values: all is text, what is not there is null or an empty text."""

from __future__ import annotations

from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Wire(BaseModel):
    """An object of an answer. Members that we do not need are passed over: vendors add some."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


def _yen(value: Any) -> Any:
    if value in ("", None):
        return 0
    if type(value) is str and value.isdigit() and value.isascii():
        return int(value)  # nearly all of them
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return value
    whole = number.is_finite() and number == number.to_integral_value()
    return int(number) if whole else value


def _percent(value: Any) -> Any:
    try:
        return f"{Decimal(str(value or 0)).normalize():f}"
    except InvalidOperation:
        return value


Yen = Annotated[int, BeforeValidator(_yen)]
"""``"1080"``, ``"-5"``, ``"0.00000"``; empty and null are 0. A fraction of a yen is refused."""

Percent = Annotated[str, BeforeValidator(_percent)]
"""A percentage as our registry writes it: ``"10"`` for ``"10.0"``; empty and null are ``"0"``."""

Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
"""Null is empty."""

Day = Annotated[date | None, BeforeValidator(lambda value: value or None)]
"""An empty text is no day."""

Exact = Annotated[Decimal | None, BeforeValidator(lambda v: str(v) if isinstance(v, float) else v)]
"""A number of JSON as it was written: 0.08 must not become 0.0800000000000000016."""
