"""What the emulator's 奉行クラウド says to 仕訳伝票: every check.

Written apart from `connectors.bugyo.journal_checks` on purpose: the judge does not share its
arithmetic with the judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

from connectors.bugyo._emulator_masters import Masters, day_of
from connectors.bugyo._emulator_settings import EmulatorSettings
from connectors.bugyo._emulator_values import Row, checks, padded
from connectors.bugyo.registry import data, resource

JOURNAL = resource("journal_slip")
CODE = JOURNAL.codes
SEPARATOR, DATE, NUMBER, VOUCHER = (
    CODE[name] for name in ("separator", "date", "number", "voucher_number")
)
_NAME_OF = {code: name for name, code in CODE.items()}
HEADER = frozenset(code for code in _NAME_OF if code.startswith("GL0010") and code != SEPARATOR)
"""Items of the slip, not of its lines."""
SIDES = ("debit", "credit")
_CODE_OF = {
    side: {
        name.removeprefix(f"{side}_"): code
        for name, code in CODE.items()
        if name.startswith(f"{side}_")
    }
    for side in SIDES
}
_MONEY = tuple(CODE[f"{side}_{name}"] for side in SIDES for name in ("amount", "tax"))
_ROUNDING = {
    code: word for word, code in data("operations")["ImportJournalSlip"]["rounding"].items()
}

Error = dict[str, Any]


def split(rows: Sequence[Any]) -> list[tuple[int, list[Any]]]:
    """Number of the first row (1 = first of dataList) and rows of each slip."""
    slips: list[tuple[int, list[Any]]] = []
    for number, row in enumerate(rows, 1):
        if not slips or (isinstance(row, dict) and row.get(SEPARATOR) == "*"):
            slips.append((number, []))
        slips[-1][1].append(row)
    return slips


@lru_cache(maxsize=16_384)
def _verdict(code: str, value: str) -> tuple[str, str] | None:
    """What is wrong with a text of an importable item; most values repeat."""
    return checks("journal_slip")[code](value)


def slip_errors(
    first: int, rows: list[Any], masters: Masters, settings: EmulatorSettings
) -> list[Error]:
    """Everything that is wrong with one slip; none = it is stored.

    Args:
        first: Number of its first row in the call.
        rows: 項目記号 -> value, as they arrived.
        masters: Of the tenant.
        settings: Closed period and limits.
    """
    found = [error for number, row in enumerate(rows, first) for error in _row_errors(number, row)]
    if found:
        return found  # nothing else can be said about values that are none
    if rows[0].get(SEPARATOR) != "*":
        return [_error(first, "E3001", "伝票の先頭行の区切に「*」を指定してください。", SEPARATOR)]
    if len(rows) > settings.max_slip_rows:
        message = f"1伝票の行数は{settings.max_slip_rows}行までです。（{len(rows)}行）"
        return [_error(first, "E3003", message, SEPARATOR)]
    found += _header_errors(first, rows, masters, settings)
    totals = dict.fromkeys(SIDES, 0)
    for number, row in enumerate(rows, first):
        sides = [side for side in SIDES if _is_used(row, side)]
        if not sides:
            message = "借方または貸方の勘定科目コードを指定してください。"
            found.append(_error(number, "E3009", message, CODE["debit_account"]))
        for side in sides:
            found += _side_errors(number, side, row, rows[0].get(DATE, ""), masters)
            totals[side] += _yen(row, side, "amount") + _yen(row, side, "tax")
    if totals["debit"] != totals["credit"]:
        message = (
            f"貸借の金額が一致していません。（借方 {totals['debit']} / 貸方 {totals['credit']}）"
        )
        found.append(_error(first, "E3006", message, CODE["debit_amount"]))
    return found


def _error(number: int, code: str, message: str, item: str) -> Error:
    return {"code": code, "message": message, "rowNo": number, "itemKey": item}


def _row_errors(number: int, row: Any) -> list[Error]:
    if not isinstance(row, dict):
        return [_error(number, "E1001", "行の形式が正しくありません。", "")]
    table = checks("journal_slip")
    found = []
    for code, value in row.items():
        check = table.get(code)
        if check is None:
            found.append(_error(number, "E1002", f"{code}は存在しない項目です。", code))
        elif wrong := _verdict(code, value) if type(value) is str else check(value):
            found.append(_error(number, *wrong, code))
    if not found and row.get(SEPARATOR, "") not in ("", "*"):
        found.append(_error(number, "E1006", "区切は「*」または空で指定してください。", SEPARATOR))
    if not found:
        found += [
            _error(number, "E1006", "金額は整数で指定してください。", code)
            for code in _MONEY
            if "." in row.get(code, "")
        ]
    return found


def _header_errors(
    first: int, rows: list[Row], masters: Masters, settings: EmulatorSettings
) -> list[Error]:
    header, found = rows[0], []
    day = day_of(header.get(DATE, ""))
    if day is None:
        found.append(_error(first, "E3004", "伝票日付が正しくありません。", DATE))
    elif settings.closed_until is not None and day <= settings.closed_until:
        period = f"{settings.closed_until:%Y/%m/%d}"
        message = f"伝票日付 {header[DATE]} は締め済みの期間（{period}まで）です。"
        found.append(_error(first, "E3005", message, DATE))
    for number, row in enumerate(rows[1:], first + 1):
        for code in HEADER & row.keys():
            if row[code] not in ("", header.get(code, "")):
                label = JOURNAL.by_code[code].label
                message = f"{label}が伝票の先頭行と異なります。"
                found.append(_error(number, "E3002", message, code))
    department = header.get(CODE["slip_department"], "")
    found += _department_errors(
        first, CODE["slip_department"], department, header.get(DATE, ""), masters
    )
    return found


def _department_errors(
    number: int, item: str, code: str, day: str, masters: Masters
) -> list[Error]:
    if not code:
        return []
    if not masters.has("department", code):
        return [_error(number, "E3012", f"部門コード「{code}」は登録されていません。", item)]
    until = masters.value("department", code, "valid_until")
    if until and padded(day) > until:
        return [_error(number, "E3019", f"部門コード「{code}」は使用できません。", item)]
    return []


def _side_errors(number: int, side: str, row: Row, day: str, masters: Masters) -> list[Error]:
    found: list[Error] = []
    code_of, get = _CODE_OF[side], row.get

    def value(name: str) -> str:
        return get(code_of[name], "")

    def wrong(code: str, message: str, name: str) -> None:
        found.append(_error(number, code, message, code_of[name]))

    amount, tax = int(value("amount") or 0), int(value("tax") or 0)
    account = value("account")
    if not account:
        wrong("E3018", "勘定科目コードを指定してください。", "account")
    elif not masters.has("account_item", account):
        wrong("E3011", f"勘定科目コード「{account}」は登録されていません。", "account")
    sub = value("sub_account")
    if sub.strip("0") and not masters.has("sub_account_item", f"{account}/{sub}"):
        wrong("E3013", f"補助科目コード「{sub}」は登録されていません。", "sub_account")
    item, department = code_of["department"], value("department")
    found += _department_errors(number, item, department, day, masters)
    partner = value("partner")
    if partner and not masters.has("business_partner", partner):
        wrong("E3014", f"取引先コード「{partner}」は登録されていません。", "partner")
    if amount == 0:
        wrong("E3007", "本体金額が0円の明細は受け入れできません。", "amount")
    # 0 is another way to write 0000 (contract 8.2).
    tax_code = value("tax_code") if value("tax_code").strip("0") else "0000"
    rate = value("tax_rate") or "0"
    taxed = masters.value("tax_category", tax_code, "rate").strip("0.") != ""
    if not masters.has("tax_category", tax_code):
        wrong("E3015", f"消費税区分コード「{tax_code}」は登録されていません。", "tax_code")
    elif rate not in (("10", "8") if taxed else ("0",)):
        wrong("E3016", f"消費税率「{rate}」は使用できません。", "tax_rate")
    elif not taxed and tax != 0:
        wrong("E3017", "対象外の明細に消費税額が指定されています。", "tax")
    kind = value("tax_rate_kind")
    if kind not in ("", "0", "1") or (kind == "1" and rate != "8"):
        wrong("E3016", "税率種別が消費税率と合っていません。", "tax_rate_kind")
    rounding = value("rounding") or "0"
    if rounding not in _ROUNDING:
        wrong("E3020", f"端数処理「{rounding}」は使用できません。", "rounding")
    elif value("tax_auto") not in ("", "0") and taxed and rate in ("10", "8"):
        expected = _calculated(amount, int(rate), _ROUNDING[rounding])
        if tax != expected:
            wrong("E3017", f"消費税額が計算した額（{expected}円）と異なります。", "tax")
    return found


def _calculated(amount: int, rate: int, rounding: str) -> int:
    exact = Fraction(abs(amount) * rate, 100)
    match rounding:
        case "切捨て":
            tax = exact.numerator // exact.denominator
        case "切上げ":
            tax = -(-exact.numerator // exact.denominator)
        case _:
            tax = (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)
    return tax if amount >= 0 else -tax


def _is_used(row: Row, side: str) -> bool:
    return bool(
        row.get(CODE[f"{side}_account"]) or _yen(row, side, "amount") or _yen(row, side, "tax")
    )


def _yen(row: Row, side: str, name: str) -> int:
    return int(row.get(CODE[f"{side}_{name}"]) or 0)


def totals(rows: Sequence[Row]) -> dict[str, Any]:
    """What a checker compares: yen of both sides, tax included, and by account and tax code."""
    found: dict[str, Any] = {"debit": 0, "credit": 0, "by_account": {}, "by_tax_code": {}}
    for row in rows:
        for side in SIDES:
            if not _is_used(row, side):
                continue
            amount, tax = _yen(row, side, "amount"), _yen(row, side, "tax")
            found[side] += amount + tax
            for kind, name in (("by_account", "account"), ("by_tax_code", "tax_code")):
                code = row.get(CODE[f"{side}_{name}"], "")
                sums = found[kind].setdefault(code, dict.fromkeys((*SIDES, *_TAXES), 0))
                sums[side] += amount
                sums[f"{side}_tax"] += tax
    return found


_TAXES = tuple(f"{side}_tax" for side in SIDES)


def named(row: Row) -> Row:
    """A row in our field names."""
    return {_NAME_OF[code]: value for code, value in row.items()}
