"""The emulator's masters over HTTP: their operations, and the routes that steer them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson
from fastapi import APIRouter, HTTPException, Response

from connectors.bugyo._emulator_masters import Clock, MasterBook, Masters
from connectors.bugyo._emulator_settings import EmulatorSettings
from connectors.bugyo._emulator_slip_desk import Handler, import_reply
from connectors.bugyo._emulator_values import encode
from connectors.bugyo.registry import masters, resource

_JSON = "application/json"


class MasterDesk:
    """Masters of every tenant.

    Args:
        tenants: テナントID.
        settings: Read at every call: they may be changed at any time.
        clock: Aware, in the tenants' time zone; stamps 最終更新日時.
    """

    def __init__(
        self, tenants: Iterable[str], settings: Callable[[], EmulatorSettings], clock: Clock
    ) -> None:
        self._settings = settings
        self.masters = {tenant: Masters(clock) for tenant in tenants}

    def operations(self) -> dict[str, Handler]:
        """Operation name -> what answers it."""
        found: dict[str, Handler] = {}
        for name in masters():
            registry = resource(name)
            found[registry.export] = self._exporter(name)
            if registry.import_ is not None:
                found[registry.import_] = self._importer(name)
        return found

    def _exporter(self, name: str) -> Handler:
        def export(tenant: str, body: Any) -> Response:
            return Response(encode(self.masters[tenant][name].export(body)), media_type=_JSON)

        return export

    def _importer(self, name: str) -> Handler:
        def take(tenant: str, body: Any) -> Response:
            settings = self._settings()
            return import_reply(self.masters[tenant][name].take(body, settings), settings)

        return take

    def books(self) -> dict[str, Any]:
        """Per tenant and master: rows, import calls that stored, how often each key was written."""
        return {
            tenant: {
                name: {
                    "rows": len(book.rows),
                    "imports": book.imports,
                    "writes": dict(book.writes),
                }
                for name, book in each.books.items()
            }
            for tenant, each in self.masters.items()
        }

    def book(self, tenant: str, name: str) -> MasterBook:
        """One book.

        Raises:
            HTTPException: 404, there is no such tenant or master.
        """
        if tenant not in self.masters or name not in self.masters[tenant].books:
            raise HTTPException(404, "no such tenant or master")
        return self.masters[tenant][name]

    def steering(self) -> APIRouter:
        """Routes below the emulator's control prefix."""
        router = APIRouter()

        @router.get("/tenants/{tenant}/masters/{name}")
        async def read(tenant: str, name: str) -> Response:
            return Response(orjson.dumps(self.book(tenant, name).named()), media_type=_JSON)

        @router.put("/tenants/{tenant}/masters/{name}", status_code=204)
        async def seed(tenant: str, name: str, rows: list[dict[str, str]]) -> None:
            book = self.book(tenant, name)
            needed = {item.field for item in book.registry.keys}
            for row in rows:
                if row.keys() - book.registry.codes or needed - row.keys():
                    raise HTTPException(422, "a row has other fields than the registry's")
            book.seed(rows)

        @router.delete("/tenants/{tenant}/masters/{name}/{key:path}")
        async def remove(tenant: str, name: str, key: str) -> dict[str, int]:
            return {"deleted": int(self.book(tenant, name).remove(key))}

        # 得意先 were here before the other masters.
        @router.get("/tenants/{tenant}/customers")
        async def read_customers(tenant: str) -> Response:
            return await read(tenant, "customer")

        @router.put("/tenants/{tenant}/customers", status_code=204)
        async def seed_customers(tenant: str, rows: list[dict[str, str]]) -> None:
            await seed(tenant, "customer", rows)

        return router
