"""得意先 kintone→商奉行 in front of the kit."""

from __future__ import annotations

from typing import Any, ClassVar

from deployments.samples import customers
from tests.acceptance.connectors._kintone import KintoneCase
from tests.acceptance.protocol import Hostile


class CASE(KintoneCase):
    app = customers
    exempt: ClassVar = {
        "amount": "得意先には金額がありません / a customer has no amount",
        "date": "得意先には日付がありません / a customer has no date",
    }

    def record(self, number: int) -> dict[str, Any]:
        code = f"{number:06}"
        return {"得意先コード": code, "得意先名": f"株式会社ためし{number}", "請求先コード": ""}

    def hostile(self, number: int, value: Hostile) -> str | None:
        field = {"text": "得意先名", "code": "得意先コード"}.get(value.kind)
        return self.put(self.record(number) | {field: value.value}) if field else None
