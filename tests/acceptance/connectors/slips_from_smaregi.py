"""仕訳伝票 スマレジ→勘定奉行 in front of the kit: a record is a store's closed day."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, ClassVar

from connectors.smaregi.emulator import SmaregiEmulator
from connectors.smaregi.emulator_book import TOKYO
from tests.acceptance.protocol import Case, Hostile

DAY = date(2026, 10, 2)
STORES = 120
"""More than the 100 closings that come at once."""


class CASE(Case):
    service = "smaregi"
    data = r"/pos/(daily_summaries|transactions)"
    exempt: ClassVar = {
        "code": "コードは伝票に入りません / no code of theirs goes into a slip",
        "twin": "締め日と店舗で1件です / a store closes a day once",
    }

    def emulator(self) -> SmaregiEmulator:
        self.start = DAY  # a month is a request: years only where old days are
        return SmaregiEmulator()

    def settings(self, sample: Any) -> Any:
        return sample.model_copy(update={"start": self.start, "by_store": False})

    def _close(self, number: int, name: str = "", day: date = DAY, yen: int = 0) -> str:
        self.start = min(self.start, day)
        store, at = str(number + 1), datetime(day.year, day.month, day.day, 20, tzinfo=TOKYO)
        self.partner.book.add_store(store, name or f"{store}号店")
        self.partner.book.sell(store, day, [{"price": yen}], at=at)
        self.partner.book.close(store, day, at=at)
        return f"{store}:{day}"

    def good(self, number: int) -> str:
        return self._close(number, yen=1000 + number)

    def hostile(self, number: int, value: Hostile) -> str | None:
        match value.kind:
            case "text":
                return self._close(number, name=value.value, yen=100)
            case "date":
                return self._close(number, day=date.fromisoformat(value.value), yen=100)
            case "amount":
                return self._close(number, yen=int(value.value))
        return None

    def twin(self, number: int) -> str:
        return self.good(number)

    def crowd(self) -> list[str]:
        return [self.good(number) for number in range(STORES)]

    def shift(self, keys: list[str]) -> str:
        store, _, day = keys[3].partition(":")
        self.partner.book.reopen(store, date.fromisoformat(day))
        return keys[3]
