"""What 奉行クラウド would refuse, found before anything is sent.

Derived from the registry. Runs once per record of every run, so a clean record must cost next to
nothing: one look over all its text, and a length that needs no measuring for each field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import cast

from connectors.bugyo.models import Customer
from connectors.bugyo.registry import Item, item_types, operation, resource

_CONTROLS = "\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff"
CONTROL = re.compile(f"[{_CONTROLS}]")
"""Characters that no item of 奉行クラウド takes [I]: controls, line separators, half surrogates."""

Validator = Callable[[Customer], "list[Violation]"]
RowValidator = Callable[[Mapping[str, str]], "list[Violation]"]


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with one field of one record.

    Attributes:
        field: English field name.
        label: 項目名.
        code: A code of the error catalogue, e.g. ``AC-802``.
        message: What is wrong, for a person, e.g. 得意先名は40文字までです（45文字）.
    """

    field: str
    label: str
    code: str
    message: str


def customer_validator(fields: Sequence[str]) -> Validator:
    """`row_validator` of 得意先."""
    return cast("Validator", row_validator("customer", fields))


def row_validator(name: str, fields: Sequence[str]) -> RowValidator:
    """A check for rows of a master that carry ``fields``, its key among them.

    Args:
        name: The resource, e.g. ``employee``.
        fields: English names of the fields that will be sent. A required one among them must have
            a value in every record; absent optional ones are fine.

    Returns:
        A function from a row to its violations, in the order of ``fields``; none = clean.

    Raises:
        KeyError: there is no such field.
        ValueError: the resource can only be read.
    """
    registry = resource(name)
    if registry.import_ is None:
        raise ValueError(f"{name} can only be read")
    reserved = operation(registry.import_).reserved_keys
    key = registry.key.field
    plans = [_plan(registry.by_field[field], registry.words.get(field)) for field in fields]
    lengths = tuple((plan.field, plan.safe_length, plan.item) for plan in plans)
    names = tuple(fields)
    shapes = tuple((plan.field, plan.matches) for plan in plans if plan.matches is not None)
    needed = tuple(plan.field for plan in plans if plan.item.required)
    sound = re.compile("\n".join(plan.pattern for plan in plans)).fullmatch

    def suspicious(record: Mapping[str, str]) -> bool:
        # The records of a run have all fields in this order: one pattern does for nearly all.
        if tuple(record) == names and sound("\n".join(record.values())):
            return record[key] in reserved
        text = "".join(record.values())
        # isprintable() also says no to the full-width space, so the slower search decides.
        if not text.isprintable() and CONTROL.search(text):
            return True
        get = record.get
        for name, limit, item in lengths:
            value = get(name, "")
            if len(value) > limit and item.measure(value) > item.length:
                return True
        for name, matches in shapes:
            value = get(name, "")
            if value and not matches(value):
                return True
        for name in needed:
            if not get(name, "").strip():
                return True
        return record[key] in reserved

    def validate(record: Mapping[str, str]) -> list[Violation]:
        if not suspicious(record):
            return []
        found: list[Violation] = []
        for plan in plans:
            found += plan.violations(record.get(plan.field, ""))
        if record[key] in reserved:
            label = registry.key.label
            message = f"{label}「{record[key]}」は奉行クラウドが使うため登録できません"
            found.append(Violation(key, label, "AC-807", message))
        return found

    return validate


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything about one field that does not depend on the record."""

    item: Item
    field: str
    matches: Callable[[str], object] | None
    shape: str

    @property
    def safe_length(self) -> int:
        """Characters that need no measuring.

        Every shape is one of ASCII (``types.toml``): a column a character, and what is not ASCII
        does not match it.
        """
        return self.item.safe_length if self.matches is None else self.item.length

    @property
    def pattern(self) -> str:
        """Values that certainly break no rule, as a regular expression, on a line of their own.

        What a pattern cannot tell (a day of the calendar, a word of a list) it does not match.
        """
        start = r"(?=\S)" if self.item.required else ""
        if self.matches is None:
            return f"{start}[^{_CONTROLS}]{{0,{self.safe_length}}}"
        shape = getattr(getattr(self.matches, "__self__", None), "pattern", "(?!)")
        short_enough = f"(?=.{{0,{self.safe_length}}}$)"
        return f"(?m:{start}{short_enough}(?:{shape}){'' if self.item.required else '?'}$)"

    def violations(self, value: str) -> list[Violation]:
        label, item = self.item.label, self.item
        if not value.strip():
            if not item.required:
                return []
            return [Violation(self.field, label, "AC-801", f"{label}が空です")]
        found: list[Violation] = []
        if (length := item.measure(value)) > item.length:
            unit = "半角" if item.unit == "half" else ""
            message = f"{label}は{unit}{item.length}文字までです（{length}文字）"
            found.append(Violation(self.field, label, "AC-802", message))
        if match := CONTROL.search(value):
            message = f"{label}に使えない文字（U+{ord(match.group()):04X}）があります"
            found.append(Violation(self.field, label, "AC-803", message))
        elif self.matches is not None and not self.matches(value):
            message = f"{label}は{self.shape}で入力します"
            found.append(Violation(self.field, label, "AC-807", message))
        return found


def _plan(item: Item, words: Mapping[str, str] | None = None) -> _Plan:
    kind = item_types()[item.type]
    if words:
        codes = frozenset(words.values())
        listed = "、".join(f"{code}: {word}" for word, code in words.items())
        return _Plan(item, item.field, codes.__contains__, f"コード（{listed}）")
    matches = _real_day if item.type == "date" else kind.matches
    return _Plan(item, item.field, matches, kind.shape)


def _real_day(text: str) -> bool:
    matches = item_types()["date"].matches
    if matches is None or not matches(text):
        return False
    try:
        date(*map(int, text.split("/")))
    except ValueError:
        return False
    return True
