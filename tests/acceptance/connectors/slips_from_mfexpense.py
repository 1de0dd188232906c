"""仕訳伝票 クラウド経費→勘定奉行 in front of the kit: a record is the journal of an expense."""

from __future__ import annotations

from datetime import date
from typing import Any, ClassVar

from connectors.kit.days import months_later
from connectors.kit.tokens import utc_now
from connectors.mfexpense.emulator import MfExpenseEmulator
from connectors.mfexpense.emulator_books import side
from deployments.samples import mfexpense as sample_module
from flows.engine.clock import business_date
from tests.acceptance.protocol import Case, Hostile

CROWD = 130
"""More than the 100 journals of a page."""


class CASE(Case):
    service = "mfexpense"
    data = "/ex_journals_by_ex_transactions"
    exempt: ClassVar = {
        "code": "コードはコード変換表を通ります / codes go through コード変換表",
        "date": "古い計上日は読みません（月数の設定） / old days are outside the window",
        "twin": "経費明細のIDは重複しません / an expense has one journal",
    }

    def emulator(self) -> MfExpenseEmulator:
        made = MfExpenseEmulator()
        sample = sample_module
        made.access.add_client(sample.CLIENT_ID, sample.CLIENT_SECRET, sample.REDIRECT_URI)
        made.access.demo = sample.TOKEN_PREFIX
        self.book = made.add_office("株式会社ためし")
        self.ids = sample_module._masters(self.book)
        self.day = business_date(utc_now())
        return made

    def settings(self, sample: Any) -> Any:
        return sample.model_copy(update={"start": months_later(self.day, -2), "months": 3})

    def _post(self, yen: int, words: str = "新幹線", day: date | None = None) -> str:
        ids = self.ids
        debit = side(1, yen, 0, item=ids["租税公課"], excise=ids["0"], dept=ids["営業部"])
        credit = side(-1, yen, item=ids["未払金"], sub_item=ids["従業員立替"])
        branch = {"remark": words, "sides": [debit, credit]}
        return self.book.post(day or self.day, [branch])

    def good(self, number: int) -> str:
        return self._post(1000 + number)

    def hostile(self, number: int, value: Hostile) -> str | None:
        match value.kind:
            case "text":
                return self._post(100 + number, value.value)
            case "amount":
                return self._post(int(value.value))
        return None

    def twin(self, number: int) -> str:
        return self.good(number)

    def crowd(self) -> list[str]:
        return [self.good(number) for number in range(CROWD)]

    def shift(self, keys: list[str]) -> str:
        self.book.cancel(keys[3])
        return keys[3]

    def spoil(self, credentials: Any) -> None:
        # Wrong tokens lead to a refresh, which reads the saved block again: tests/flows/test_tokens
        # has that, with a Prefect server. Here: 許可する was never pressed.
        credentials.access_token = credentials.refresh_token = None
