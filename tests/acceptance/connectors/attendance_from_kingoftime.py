"""勤怠 KING OF TIME→奉行クラウド in front of the kit: a record is one person's closed month."""

from __future__ import annotations

from typing import Any, ClassVar

from connectors.kingoftime.emulator import KingOfTimeEmulator
from deployments.samples import people
from deployments.samples.kingoftime import DEMO_TOKEN
from tests.acceptance.protocol import Case, Hostile

MONTH = people.MONTHS[0]
KNOWN = [n for n in range(people.COUNT) if n not in people.UNKNOWN]
"""Positions of the people whom 奉行クラウド knows: a month of anybody else cannot be posted."""


class CASE(Case):
    service = "kingoftime"
    data = "/monthly-workings/"
    exempt: ClassVar = {
        "text": "文字は連携しません / no text is moved",
        "code": "社員番号は奉行クラウドにあるものに限ります / employees have to exist there",
        "date": "3年より前は取得できません / older than three years cannot be read",
        "retry-after": "5分の制限は待たず、次の処理に回します / a limit of 5 min is not waited for",
        "twin": "従業員と年月で1件です / a person has a month once",
        "shift": "ページに分かれません / a month comes whole, without pages",
    }

    def emulator(self) -> KingOfTimeEmulator:
        made = KingOfTimeEmulator(closed=())
        made.add_token(DEMO_TOKEN)
        for person in people.staff():
            made.add_employee(**person)
        return made

    def _month(self, number: int, days: Any) -> str:
        position = KNOWN[number]
        values = {"isClosing": True, "workingDayCount": days, "assigned": 9600}
        self.partner.add_monthly(MONTH, people.key_of(position), **values)
        return f"{people.code_of(position)}/{MONTH}"

    def good(self, number: int) -> str:
        return self._month(number, 20)

    def hostile(self, number: int, value: Hostile) -> str | None:
        return self._month(number, int(value.value)) if value.kind == "amount" else None

    def twin(self, number: int) -> str:
        return self.good(number)

    def crowd(self) -> list[str]:
        return [self.good(number) for number in range(len(KNOWN))]

    def shift(self, keys: list[str]) -> str:
        return keys[0]
