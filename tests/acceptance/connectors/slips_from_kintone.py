"""仕訳伝票 kintone→勘定奉行 in front of the kit."""

from __future__ import annotations

from typing import Any, ClassVar

from deployments.samples import expenses
from tests.acceptance.connectors._kintone import KintoneCase
from tests.acceptance.protocol import Hostile


class CASE(KintoneCase):
    app = expenses
    exempt: ClassVar = {
        "code": (
            "伝票のコードは奉行クラウドにあるものに限ります / codes of a slip have to exist there"
        ),
        "twin": (
            "レコード番号は kintone が付け、重複しません / kintone numbers its records itself"
        ),
    }

    def record(self, number: int) -> dict[str, Any]:
        return self._slip(str(1000 + number))

    def _slip(self, yen: str, **more: str) -> dict[str, Any]:
        line = {
            "借方勘定科目": "710",
            "借方金額": yen,
            "貸方勘定科目": "100",
            "貸方金額": yen,
        }
        return {"伝票日付": "2026-10-02", "摘要": f"旅費 {yen}", "明細": [line], **more}

    def hostile(self, number: int, value: Hostile) -> str | None:
        field = {"text": "摘要", "date": "伝票日付"}.get(value.kind)
        if field:
            return self.put(self.record(number) | {field: value.value})
        return self.put(self._slip(value.value)) if value.kind == "amount" else None
