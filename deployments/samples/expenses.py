"""The slip app of the demonstration's kintone: expenses of a small company, a few of them bad."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any, Final

APP_ID: Final = "2"
APP_NAME: Final = "経費精算"
SEED: Final = 20261122
COUNT: Final = 120

_FIRST = date(2026, 11, 1)
_TEXT, _NUMBER = {"type": "SINGLE_LINE_TEXT"}, {"type": "NUMBER"}
_SIDES = ("借方", "貸方")
FIELDS: Final[dict[str, Any]] = {
    "伝票日付": {"type": "DATE"},
    "摘要": _TEXT,
    "明細": {
        "type": "SUBTABLE",
        "fields": {
            **{
                f"{side}{name}": _TEXT for side in _SIDES for name in ("勘定科目", "税区分", "税率")
            },
            **{f"{side}{name}": _NUMBER for side in _SIDES for name in ("金額", "消費税額")},
        },
    },
}
"""The form of the app; the columns are those that ``slips_from_kintone`` recognises."""

_EXPENSES = (
    ("710", "新幹線 東京→新大阪", 13_870),
    ("711", "携帯電話料金", 6_800),
    ("713", "会議用の弁当", 4_500),
    ("714", "トナーカートリッジ", 18_200),
    ("716", "振込手数料", 600),
)


def slips(count: int = COUNT) -> Iterator[dict[str, Any]]:
    """Expenses paid in cash: the third is not balanced, the fourth has no lines."""
    rng = random.Random(SEED)  # noqa: S311 (sample data)
    for number in range(count):
        account, words, yen = rng.choice(_EXPENSES)
        yen += rng.randint(0, 9) * 100
        tax = yen // 10
        line = {
            "借方勘定科目": account,
            "借方税区分": "0012",
            "借方税率": "10",
            "借方金額": str(yen),
            "借方消費税額": str(tax),
            "貸方勘定科目": "100",
            "貸方金額": str(yen + tax + (number == 2)),
        }
        yield {
            "伝票日付": (_FIRST + timedelta(days=rng.randint(0, 19))).isoformat(),
            "摘要": words,
            "明細": [] if number == 3 else [line],
        }
