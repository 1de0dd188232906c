"""得意先 as 奉行クラウド takes them, whatever service they come from.

Every value is text. What can be repaired is repaired (full-width codes, half-width kana, control
characters, outer spaces); what cannot becomes a reject that names the item and the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from connectors.bugyo import Customer, customer_validator
from connectors.bugyo.registry import resource
from connectors.kit.text import (
    all_clean,
    clean_text,
    cp932_problems,
    kana_full,
    normalise_code,
    to_cp932_twins,
)
from flows.engine.model import Reject, Row
from flows.parts.values import BadValueError, encodable, violating

_CODES = ("code", "billing_code")


class CustomerTransform:
    """One record -> one 得意先. Pure; made once a run.

    Args:
        fields: Fields of 得意先 that are moved; ``code`` is one of them.
        texts: The values of a record, as they came: field -> text.
        width: Digits that a code of digits is padded to; ``None`` = it stays as it is.
        replace: Whether characters that do not exist there are replaced (使えない文字).
    """

    def __init__(
        self,
        fields: Iterable[str],
        texts: Callable[[Mapping[str, Any]], dict[str, str]],
        *,
        width: int | None,
        replace: bool,
    ) -> None:
        self.fields = tuple(fields)
        self._values_of, self._width, self._replace = texts, width, replace
        self._codes = [name for name in self.fields if name in _CODES]
        self._texts = [name for name in self.fields if name not in _CODES]
        self._validate = customer_validator(self.fields)
        self._labels = {i.field: i.label for i in resource("customer").items}

    def __call__(self, source_key: str, record: Mapping[str, Any]) -> Row | Reject:
        """The row, or the reject that says what is wrong."""
        values = self._values_of(record)
        clean = all_clean(values.values())
        if not clean:
            for name in self._texts:
                text = clean_text(values[name], multiline=False)
                values[name] = kana_full(to_cp932_twins(text))
        for name in self._codes:
            # Clean ASCII has nothing to be repaired but its width.
            if not (clean and self._width is None and values[name].isascii()):
                values[name] = normalise_code(values[name], width=self._width)
        code = values["code"]
        if not code and not any(values.values()):
            return Reject(source_key, "AC-808", label=f"レコード {source_key}")
        if values.get("billing_code") == "":
            values["billing_code"] = code
        try:
            if not clean and cp932_problems("".join(values.values())):
                for name, value in values.items():
                    values[name] = encodable(self._labels[name], value, replace=self._replace)
        except BadValueError as bad:
            return bad.reject(source_key, _label(source_key, values))
        if violations := self._validate(cast("Customer", values)):
            return violating(source_key, _label(source_key, values), violations)
        return Row(source_key, code, values)


def _label(source_key: str, values: Mapping[str, str]) -> str:
    shown = f"{values.get('code', '')} {values.get('name', '')}".strip()
    return shown[:60] or f"レコード {source_key}"
