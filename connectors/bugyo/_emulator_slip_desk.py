"""The emulator's 仕訳伝票 over HTTP: the three operations, and the routes that steer them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, HTTPException, Response

from connectors.bugyo._emulator_login import json_answer
from connectors.bugyo._emulator_masters import Masters
from connectors.bugyo._emulator_settings import EmulatorSettings
from connectors.bugyo._emulator_slips import JournalBook
from connectors.bugyo._emulator_values import ImportResult, encode

_JSON = "application/json"

Handler = Callable[[str, Any], Response]
"""Tenant and body of a call to its answer."""


def import_reply(result: ImportResult, settings: EmulatorSettings) -> Response:
    """What an import says when it stored something, in the variant that is switched on."""
    status = 207 if result.errors and settings.import_mode == "partial_207" else 200
    if settings.import_reply == "rows":
        return json_answer(_by_row(result), status)
    if result.errors:
        return json_answer({"errors": result.errors}, status)
    return Response(b"[]" if settings.import_reply == "list" else b"", media_type=_JSON)


def _by_row(result: ImportResult) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"rowNo": number, "result": "OK"} for number in range(1, result.rows + 1)
    ]
    for error in result.errors:
        row = rows[error["rowNo"] - 1]
        row["result"] = "NG"
        row.setdefault("errors", []).append(
            {name: value for name, value in error.items() if name != "rowNo"}
        )
    return rows


class SlipDesk:
    """仕訳伝票 of every tenant.

    Args:
        masters: テナントID -> masters.
        settings: Read at every call: they may be changed at any time.
    """

    def __init__(
        self, masters: Mapping[str, Masters], settings: Callable[[], EmulatorSettings]
    ) -> None:
        self._settings = settings
        self.journals = {tenant: JournalBook(each) for tenant, each in masters.items()}

    def operations(self) -> dict[str, Handler]:
        """Operation name -> what answers it."""
        return {
            "ExportJournalSlip": self._export,
            "ImportJournalSlip": self._import,
            "ImportJournalSlipResult": self._result,
        }

    def _export(self, tenant: str, body: Any) -> Response:
        rows = self.journals[tenant].export(body, self._settings())
        return Response(encode(rows), media_type=_JSON)

    def _import(self, tenant: str, body: Any) -> Response:
        settings = self._settings()
        result = self.journals[tenant].take(body, settings)
        if isinstance(result, str):
            return json_answer({"acceptKey": result, "status": "accepted"})
        return import_reply(result, settings)

    def _result(self, tenant: str, body: Any) -> Response:
        result = self.journals[tenant].result(body, self._settings())
        if result is None:
            return json_answer({"status": "processing"})
        if not isinstance(result, ImportResult):
            return json_answer({"status": "failed", "errors": result})
        if self._settings().import_reply == "rows":
            return json_answer({"status": "done", "results": _by_row(result)})
        return json_answer({"status": "done", "errors": result.errors})

    def books(self) -> dict[str, Any]:
        """Per tenant: import calls that stored, every slip with its totals, imports at work."""
        for book in self.journals.values():
            book.run_due(self._settings())
        return {
            tenant: {
                "imports": book.imports,
                "vouchers": book.vouchers(),
                "waiting": sum(job.outcome is None for job in book.jobs.values()),
            }
            for tenant, book in self.journals.items()
        }

    def steering(self) -> APIRouter:
        """Routes below the emulator's control prefix."""
        router = APIRouter()

        def book(tenant: str) -> JournalBook:
            if tenant not in self.journals:
                raise HTTPException(404, "no such tenant")
            return self.journals[tenant]

        @router.get("/tenants/{tenant}/slips")
        async def list_slips(tenant: str) -> Response:
            return Response(orjson.dumps(book(tenant).rows()), media_type=_JSON)

        @router.delete("/tenants/{tenant}/slips/{voucher_number}")
        async def delete_slip(tenant: str, voucher_number: str) -> dict[str, int]:
            return {"deleted": book(tenant).remove(voucher_number)}

        return router
