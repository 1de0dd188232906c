"""kintone on loopback: the part of its REST API that we use, strict and stateful.

Facts and quirks are the contract's (partners.md 4 and 13). Besides the vendor's paths there are
routes below ``/__emulator__/`` with which another process seeds and changes records.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from starlette.routing import Route

from connectors.kintone.emulator_access import SYSTEM_LOGIN, Access
from connectors.kintone.emulator_api import Api
from connectors.kintone.emulator_control import control_routes
from connectors.kintone.emulator_gate import Gate
from connectors.kintone.emulator_store import App, minute
from connectors.kit.emulator import Emulator

TOKYO = ZoneInfo("Asia/Tokyo")


class KintoneEmulator(Emulator):
    """One customer's domain.

    Args:
        subdomain: The name in ``{subdomain}.cybozu.com``; every other name answers 404. Loopback
            names stand for it as well.
        zone: Time zone of the users, for ``TODAY()``.
        clock: Aware time, for 更新日時, expiry and functions.
        index_delay: Seconds until the search index (``like``) knows a fresh record.
        concurrency: Requests at once before 429 ``GAIA_TO04``.
    """

    name = "kintone"

    def __init__(
        self,
        subdomain: str = "example",
        *,
        zone: tzinfo = TOKYO,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        index_delay: float = 0.0,
        concurrency: int = 100,
    ) -> None:
        super().__init__()
        self.clock = clock
        self.apps: dict[str, App] = {}
        self.access = Access(clock)
        self._calls = Api(self.apps, self.access, clock, zone, index_delay)
        hosts = {f"{subdomain}.cybozu.com", f"{subdomain}.kintone.com"}
        self.api.add_middleware(Gate, hosts=hosts, limit=concurrency)
        methods = ["GET", "POST", "PUT", "DELETE"]
        self.api.router.routes += [
            Route("/k/v1/{resource:path}", self._calls.serve, methods=methods),
            Route("/k/guest/{space:int}/v1/{resource:path}", self._calls.serve, methods=methods),
            Route("/oauth2/authorization", self.access.authorization, methods=["GET", "POST"]),
            Route("/oauth2/token", self.access.token, methods=["POST"]),
            *control_routes(self),
        ]

    # -- for tests and the stack ---------------------------------------------------------------

    def add_app(
        self,
        app_id: str,
        name: str,
        fields: Mapping[str, Mapping[str, Any]],
        *,
        tokens: Mapping[str, Collection[str]] | None = None,
        guest_space: int | None = None,
        users: Mapping[str, Collection[str]] | None = None,
    ) -> App:
        """Make an app; see `App` for the arguments. Built-in fields are added by themselves."""
        app = App(app_id, name, fields, tokens=tokens or {}, guest_space=guest_space, users=users)
        self.apps[app_id] = app
        return app

    def add_oauth_client(self, client_id: str, client_secret: str, redirect_uri: str) -> None:
        """Register an OAuth client, as an administrator does in 共通管理."""
        self.access.clients[client_id] = (client_secret, redirect_uri)

    def seed(
        self,
        app_id: str,
        records: Iterable[Mapping[str, Any]],
        updated_at: datetime | None = None,
    ) -> list[int]:
        """Add records from plain values, unchecked: the app holds whatever people typed.

        Args:
            app_id: The app.
            records: Plain values by field code; a table is a list of such mappings.
            updated_at: Their 更新日時, cut to the minute; ``None`` = now.

        Returns:
            The new ids.

        Raises:
            KeyError: no such app, or no such field.
        """
        app = self.apps[app_id]
        at = minute((updated_at or self.clock()).astimezone(UTC))
        indexed = self._calls.indexed_at()
        return [app.insert(_plain(app, values), SYSTEM_LOGIN, at, indexed).id for values in records]

    def update(
        self, app_id: str, record_id: int, values: Mapping[str, Any], at: datetime | None = None
    ) -> int:
        """Change a record as a person would; returns its new revision.

        Raises:
            KeyError: no such app or field.
            KintoneError: no such record.
        """
        app = self.apps[app_id]
        moment = minute((at or self.clock()).astimezone(UTC))
        indexed = self._calls.indexed_at()
        wire = _plain(app, values)
        return app.replace(record_id, wire, SYSTEM_LOGIN, moment, indexed).revision

    def delete(self, app_id: str, record_id: int) -> None:
        """Delete a record as a person would."""
        self.apps[app_id].delete(record_id)

    def books(self) -> dict[str, Any]:
        """Counts: records of each app, cursors open now and opened ever."""
        return {
            "apps": {
                app.id: {"name": app.name, "records": len(app.ids), "last_id": app.next_id - 1}
                for app in self.apps.values()
            },
            "cursors": self._calls.open_cursors(),
            "cursors_opened": self._calls.cursors_opened,
        }


def _plain(app: App, values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values in wire shape."""
    wire = dict(values)
    for code, value in values.items():
        if app.types[code] == "SUBTABLE":
            wire[code] = app.rows(code, value)
    return wire
