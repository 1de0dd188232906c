"""社員 SmartHR→奉行クラウド in front of the kit."""

from __future__ import annotations

from typing import Any, ClassVar

from connectors.smarthr.emulator import SmartHREmulator
from deployments.samples.smarthr import DEMO_TOKEN
from tests.acceptance.protocol import Case, Hostile

CROWD = 130
"""More than the 100 crews of a page."""


class CASE(Case):
    service = "smarthr"
    data = "/api/v1/crews"
    exempt: ClassVar = {"amount": "社員には金額がありません / a crew has no amount"}

    def emulator(self) -> SmartHREmulator:
        made = SmartHREmulator(limits=())
        made.add_token(DEMO_TOKEN)
        return made

    def settings(self, sample: Any) -> Any:
        return sample.model_copy(
            update={"department": "連携しない", "employment_type": "連携しない"}
        )

    def _crew(self, number: int, **more: str) -> str:
        crew = {
            "emp_code": f"{5000 + number:06}",
            "last_name": f"試験{number}",
            "first_name": "太郎",
            "last_name_yomi": "シケン",
            "first_name_yomi": "タロウ",
            "entered_at": "2020-04-01",
            **more,
        }
        key: str = self.partner.seed([crew])[0]
        return key

    def good(self, number: int) -> str:
        return self._crew(number)

    def hostile(self, number: int, value: Hostile) -> str | None:
        fields = {"text": "last_name", "code": "emp_code", "date": "entered_at"}
        if value.kind not in fields:
            return None
        return self._crew(number, **{fields[value.kind]: value.value})

    def twin(self, number: int) -> str:
        return self._crew(number)

    def crowd(self) -> list[str]:
        return [self._crew(number) for number in range(CROWD)]

    def shift(self, keys: list[str]) -> str:
        # From the newest down: the first page holds those that were made last.
        self.partner.delete(keys[-3])
        return keys[-3]
