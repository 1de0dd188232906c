"""B: the same requests with the same content, by a loop over httpx, and nothing else.

``python -m bench.bare KINTONE BUGYO [--no-look-ups]``. It reads by ``$id``, renames the fields,
asks which codes exist, posts. No ledger, no validation, no retries, nothing stored: when it dies,
nobody knows what was posted. Rows that are billed to a customer not posted yet wait in memory.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httpx
import orjson

from bench.meter import measured
from connectors.bugyo.emulator import DEMO_FIXED_TOKEN, DEMO_SUBSCRIPTION_KEY, DEMO_TENANTS
from connectors.bugyo.registry import operation, resource
from deployments.samples.customers import APP_ID
from deployments.samples.kintone import DEMO_API_TOKEN, customer_settings

_BATCH = 500
_JSON = {"content-type": "application/json"}


class Bare:
    """The loop."""

    def __init__(self, kintone: str, bugyo: str, *, look_ups: bool) -> None:
        self._look_ups = look_ups
        self._kintone = httpx.AsyncClient(
            base_url=kintone,
            headers={"x-cybozu-api-token": DEMO_API_TOKEN, "host": "example.cybozu.com"},
            timeout=60,
            trust_env=False,
        )
        self._bugyo = httpx.AsyncClient(
            base_url=bugyo,
            headers={
                "authorization": f"Bearer {DEMO_FIXED_TOKEN}",
                "x-obc-subscriptionkey": DEMO_SUBSCRIPTION_KEY,
                "x-obc-tenantid": DEMO_TENANTS[0].id,
                **_JSON,
            },
            timeout=60,
            trust_env=False,
        )
        codes = resource("customer").codes
        mapping = customer_settings().mapping()
        self._plan = [(codes[name], field) for name, field in mapping.items()]
        self._fields = ["$id", "$revision", *mapping.values(), "更新日時"]
        self._code, self._billing = codes["code"], codes["billing_code"]
        self._import = operation("ImportCustomer").path
        self._export = operation("ExportCustomer").path

    async def run(self) -> int:
        """Everything from kintone to 奉行クラウド; returns how many customers."""
        read, last = 0, 0
        posted: set[str] = set()
        waiting: list[dict[str, str]] = []
        async with self._kintone, self._bugyo:
            while records := await self._page(last):
                read += len(records)
                last = int(records[-1]["$id"]["value"])
                rows = [self._row(record) for record in records]
                # A 請求先 has to be registered already, or to be the row itself.
                ready = [row for row in rows if self._can_go(row, posted)]
                waiting += [row for row in rows if not self._can_go(row, posted)]
                await self._send(ready)
                posted.update(row[self._code] for row in ready)
            for start in range(0, len(waiting), _BATCH):
                await self._send(waiting[start : start + _BATCH])
        return read

    async def _page(self, after: int) -> list[dict[str, Any]]:
        params: dict[str, str] = {
            "app": APP_ID,
            "query": f"$id > {after} order by $id asc limit {_BATCH}",
        }
        params |= {f"fields[{n}]": field for n, field in enumerate(self._fields)}
        answer = await self._kintone.get("/k/v1/records.json", params=params)
        answer.raise_for_status()
        records: list[dict[str, Any]] = orjson.loads(answer.content)["records"]
        return records

    def _row(self, record: dict[str, Any]) -> dict[str, str]:
        row = {code: record[field]["value"] for code, field in self._plan}
        if not row[self._billing]:
            row[self._billing] = row[self._code]
        return row

    def _can_go(self, row: dict[str, str], posted: set[str]) -> bool:
        billing = row[self._billing]
        return billing == row[self._code] or billing in posted

    async def _send(self, rows: list[dict[str, str]]) -> None:
        if self._look_ups:
            leaves = [
                {"itemKey": self._code, "operator": "eq", "value": row[self._code]} for row in rows
            ]
            body = {"sort": [self._code], "itemList": [self._code], "filter": {"or": leaves}}
            answer = await self._bugyo.post(self._export, content=orjson.dumps(body))
            answer.raise_for_status()
            if answer.content.strip():
                orjson.loads(answer.content)
        answer = await self._bugyo.post(self._import, content=orjson.dumps({"dataList": rows}))
        answer.raise_for_status()


if __name__ == "__main__":
    loop = Bare(sys.argv[1], sys.argv[2], look_ups="--no-look-ups" not in sys.argv)
    with measured() as told:
        told["records"] = asyncio.run(loop.run())
