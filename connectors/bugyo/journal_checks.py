"""What 奉行クラウド would refuse of a 仕訳伝票, or book wrongly, found before it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import ROUND_DOWN, ROUND_HALF_UP, ROUND_UP, Decimal, InvalidOperation
from functools import cache, lru_cache
from typing import Final, Literal

from connectors.bugyo.journal import (
    HEADER_FIELDS,
    JOURNAL,
    MAX_SLIP_ROWS,
    JournalSide,
    JournalSlip,
    Row,
    flatten,
)
from connectors.bugyo.registry import data, item_types
from connectors.bugyo.validation import Violation, _Plan, _plan

Rounding = Literal["切捨て", "切上げ", "四捨五入"]
"""端数処理: what happens to a fraction of a yen; of a negative amount to its magnitude."""

_MODES: Final[dict[str, str]] = {
    "切捨て": ROUND_DOWN,
    "切上げ": ROUND_UP,
    "四捨五入": ROUND_HALF_UP,
}
_IMPORT = data("operations")["ImportJournalSlip"]
_BY_CODE: Final[dict[str, str]] = {code: word for word, code in _IMPORT["rounding"].items()}
_NO_TAX: Final = frozenset(_IMPORT["tax"]["none"])
_SIDES = (("debit", "借方"), ("credit", "貸方"))

# The catalogue has no finer codes for these; the message says what is wrong.
_SHAPE: Final = "AC-807"


def tax_of(amount: int, rate: str, rounding: Rounding) -> int:
    """消費税額 in yen of an amount without tax.

    Args:
        amount: 本体金額, yen.
        rate: Percent, e.g. ``10``; empty = 0.
        rounding: What happens to the fraction.

    Raises:
        ValueError: the rate is no number, or the amount is absurd.
    """
    try:
        exact = Decimal(amount) * Decimal(rate or "0") / 100
        return int(exact.quantize(Decimal(1), rounding=_MODES[rounding]))
    except InvalidOperation:
        raise ValueError(f"税率 {rate[:10]!r} の税額を計算できません") from None


def check_slip(
    slip: JournalSlip, *, rounding: Rounding = "切捨て", tolerance: int | None = 0
) -> list[Violation]:
    """Everything that is wrong with a slip; none = it may be sent.

    Checked are: 証憑番号 present, a real date, 1 to `MAX_SLIP_ROWS` lines, no line blank on both
    sides, whole yen and no zero amounts, lengths and shapes of the registry, tax, and that debit
    equals credit with the tax in it. Codes are not looked up: masters belong to the tenant.

    Args:
        slip: The slip.
        rounding: Of the tax on sides that name no 端数処理 of their own.
        tolerance: Yen by which the tax of a side may differ from rate x amount where 奉行クラウド
            does not calculate it (``tax_auto`` 0), e.g. 1 for taxes rounded per invoice; ``None``
            = such taxes are not checked. Calculated ones must always be equal.
    """
    if type(slip.date) is not date or slip.date.year < 1000:
        return [_violation("date", "伝票日付は日付（年は4桁）で指定します")]
    if wrong := list(_not_money(slip)):
        return wrong
    found: list[Violation] = []
    if not slip.voucher_number.strip():
        found.append(_violation("voucher_number", "証憑番号が空です", "AC-801"))
    if not slip.lines:
        return [*found, _violation("separator", "伝票に明細行がありません")]
    if len(slip.lines) > MAX_SLIP_ROWS:
        lines = f"伝票の明細行は{MAX_SLIP_ROWS}行までです（{len(slip.lines)}行）"
        found.append(_violation("separator", lines))
    for number, row in enumerate(flatten(slip), 1):
        found += _row_violations(number, row)
    for number, line in enumerate(slip.lines, 1):
        if line.debit is None and line.credit is None:
            blank = f"{number}行目: 借方と貸方の両方が空です"
            found.append(_violation("debit_account", blank))
        for (which, _), side in zip(_SIDES, (line.debit, line.credit), strict=True):
            if side is not None:
                found += _side_violations(number, which, side, rounding, tolerance)
    debit, credit = slip.debit_total, slip.credit_total
    if debit != credit:
        unequal = (
            f"借方合計 {debit:,}円 と貸方合計 {credit:,}円 が一致していません"
            f"（差額 {abs(debit - credit):,}円）"
        )
        found.append(_violation("debit_amount", unequal))
    return found


def _violation(name: str, message: str, code: str = _SHAPE) -> Violation:
    return Violation(name, JOURNAL.by_field[name].label, code, message)


def _not_money(slip: JournalSlip) -> Iterator[Violation]:
    for number, line in enumerate(slip.lines, 1):
        for (which, _), side in zip(_SIDES, (line.debit, line.credit), strict=True):
            for name in ("amount", "tax") if side is not None else ():
                if type(getattr(side, name)) is not int:  # a float or a bool, whatever mypy hoped
                    label = JOURNAL.by_field[f"{which}_{name}"].label
                    message = f"{number}行目: {label}は整数（円）で指定します"
                    yield _violation(f"{which}_{name}", message)


@cache
def _plans() -> dict[str, _Plan]:
    return {item.field: _plan(item) for item in JOURNAL.items}


@lru_cache(maxsize=16_384)
def _value_violations(name: str, value: str) -> tuple[Violation, ...]:
    """Length and shape of one value. Codes, rates and texts repeat: most calls are remembered."""
    return tuple(_plans()[name].violations(value))


def _row_violations(number: int, row: Row) -> Iterator[Violation]:
    """Lengths and shapes; the header, which every row repeats, is looked at once."""
    for name, value in row.items():
        if not value or (number > 1 and name in HEADER_FIELDS):
            continue
        for each in _value_violations(name, value):
            where = "" if name in HEADER_FIELDS else f"{number}行目: "
            yield Violation(each.field, each.label, each.code, f"{where}{each.message}")


def _side_violations(
    number: int, which: str, side: JournalSide, rounding: Rounding, tolerance: int | None
) -> Iterator[Violation]:
    word = dict(_SIDES)[which]
    if not side.account.strip():
        message = f"{number}行目: {word}の勘定科目コードが空です"
        yield _violation(f"{which}_account", message, "AC-801")
    if side.amount == 0:
        yield _violation(f"{which}_amount", f"{number}行目: {word}の本体金額が0円です")
    if side.rounding and side.rounding not in _BY_CODE:
        message = f"{number}行目: {word}の端数処理「{side.rounding}」は使えません"
        yield _violation(f"{which}_rounding", message)
        return
    shape = item_types()["number"].matches
    if side.tax_rate and shape is not None and not shape(side.tax_rate):
        return  # named by its shape already
    calculated = side.tax_auto not in ("", "0")
    if not calculated and tolerance is None:
        return
    own: Rounding = _rounding(side.rounding) or rounding
    try:
        expected = 0 if side.tax_code in _NO_TAX else tax_of(side.amount, side.tax_rate, own)
    except ValueError:
        return  # an amount of thirty digits: named by its length already
    allowed = 0 if calculated or tolerance is None or expected == 0 else tolerance
    if abs(side.tax - expected) > allowed:
        message = (
            f"{number}行目: {word}の消費税額 {side.tax:,}円 が、税率から計算した額"
            f" {expected:,}円（{own}）と一致していません"
        )
        yield _violation(f"{which}_tax", message)


def _rounding(code: str) -> Rounding | None:
    match _BY_CODE.get(code):
        case "切捨て":
            return "切捨て"
        case "切上げ":
            return "切上げ"
        case "四捨五入":
            return "四捨五入"
    return None
