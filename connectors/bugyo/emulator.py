"""奉行クラウド on loopback: API host and id host in one, strict, stateful, switchable.

Where the contract knows the answer the emulator follows it to the letter; where it does not
([?]), `EmulatorSettings` switches between the plausible variants. Routes below ``/__emulator__/``:

======================================  ========================================================
``GET /books``                          per tenant: rows, imports, writes per key; slips
``GET|PUT /tenants/{id}/masters/{name}``  full rows of a master (``employee`` …) in our field
                                        names; PUT seeds without checks
``DELETE …/masters/{name}/{key}``       one row, as if a person deleted it
``GET|PUT /tenants/{id}/customers``     the same for 得意先
``GET /tenants/{id}/slips``             rows of 仕訳伝票 in our field names
``DELETE /tenants/{id}/slips/{key}``    the slips of a 証憑番号, as if a person deleted them
``GET|PATCH /settings``                 `EmulatorSettings`
``POST /revoke``                        ``{"token": …}`` or ``{"tenant": …}`` or ``{}`` = all
``POST /expire``                        every access token expires now
``POST /tokens``                        a pair, as if a person had pressed 許可する
``POST /redirect-uris``                 ``{"redirect_uri": …}`` becomes a registered one
======================================  ========================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict

from connectors.bugyo._emulator_accounts import Accounts, Application, Grant
from connectors.bugyo._emulator_login import Login, json_answer, json_body
from connectors.bugyo._emulator_master_desk import MasterDesk
from connectors.bugyo._emulator_masters import MasterBook
from connectors.bugyo._emulator_settings import EmulatorSettings
from connectors.bugyo._emulator_slip_desk import Handler, SlipDesk
from connectors.bugyo._emulator_values import Refusal
from connectors.bugyo.models import Tenant
from connectors.bugyo.registry import operation
from connectors.kit.emulator import Emulator

__all__ = [
    "DEMO_CLIENT_ID",
    "DEMO_CLIENT_SECRET",
    "DEMO_FIXED_TOKEN",
    "DEMO_FOREIGN_TENANT",
    "DEMO_OBCID",
    "DEMO_PASSWORD",
    "DEMO_PORTAL_URL",
    "DEMO_REDIRECT_URI",
    "DEMO_SECONDARY_KEY",
    "DEMO_SUBSCRIPTION_KEY",
    "DEMO_TENANTS",
    "BugyoEmulator",
    "EmulatorSettings",
]

_JSON = "application/json"

DEMO_SUBSCRIPTION_KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
DEMO_SECONDARY_KEY = "f0e1d2c3b4a5968778695a4b3c2d1e0f"
DEMO_CLIENT_ID = "appconnect01"
DEMO_CLIENT_SECRET = "a1b2c3d4e5f60718293a4b5c6d7e8f90"  # noqa: S105 (an emulator's)
DEMO_FIXED_TOKEN = "demo-fixed-access-token-7Qk2ZrW8"  # noqa: S105 (an emulator's)
DEMO_REDIRECT_URI = "http://127.0.0.1:8700/oauth2/callback"
DEMO_OBCID = "demo@example.co.jp"
DEMO_PASSWORD = "demo-password"  # noqa: S105 (an emulator's)
DEMO_PORTAL_URL = "https://id.obc.jp/demo00example/"
DEMO_TENANTS = (
    Tenant("b7d0c2f4-1001", "ABCDE01234", "サンプル商事株式会社", "サンプルショウジ", ""),
    Tenant("b7d0c2f4-1002", "", "サンプル物流株式会社", "サンプルブツリュウ", "関西"),
)
"""One licence, two 法人; the demo user's 許可 and the fixed token open both."""
DEMO_FOREIGN_TENANT = Tenant("b7d0c2f4-9001", "", "別会社株式会社", "ベツガイシャ", "")
"""A 法人 of somebody else: it exists and no demo token opens it."""


class RevokeRequest(BaseModel):
    """Whose 許可 is taken back; neither field = everybody's."""

    model_config = ConfigDict(extra="forbid")

    token: str | None = None
    tenant: str | None = None


class RedirectRequest(BaseModel):
    """A redirect URI to be registered for the demo application."""

    redirect_uri: str


class BugyoEmulator(Emulator):
    """The emulator.

    Args:
        tenants: 法人 that exist and that the demo user and the fixed token may use.
        foreign: 法人 that exist and that nobody here may use.
        redirect_uris: Registered for the demo application; compared character by character.
        settings: Variants and limits.
        clock: Aware, in the tenants' time zone; stamps 最終更新日時.
    """

    name = "bugyo"

    def __init__(
        self,
        *,
        tenants: Iterable[Tenant] = DEMO_TENANTS,
        foreign: Iterable[Tenant] = (DEMO_FOREIGN_TENANT,),
        redirect_uris: Iterable[str] = (DEMO_REDIRECT_URI,),
        settings: EmulatorSettings | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(ZoneInfo("Asia/Tokyo")),
    ) -> None:
        super().__init__()
        self.settings = settings or EmulatorSettings()
        own = tuple(tenants)
        self.tenants = {tenant.id: tenant for tenant in (*own, *foreign)}
        self._masters = MasterDesk(self.tenants, lambda: self.settings, clock)
        self.masters = self._masters.masters
        self._slips = SlipDesk(self.masters, lambda: self.settings)
        self.journals = self._slips.journals
        allowed = frozenset(tenant.id for tenant in own)
        self.accounts = Accounts(
            subscription_keys={DEMO_SUBSCRIPTION_KEY, DEMO_SECONDARY_KEY},
            applications={
                DEMO_CLIENT_ID: Application(DEMO_CLIENT_ID, DEMO_CLIENT_SECRET, set(redirect_uris))
            },
            portal_urls={DEMO_PORTAL_URL.rstrip("/")},
            users={DEMO_OBCID: DEMO_PASSWORD},
            user_tenants=allowed,
        )
        self.accounts.fixed(DEMO_FIXED_TOKEN, allowed)
        names = [tenant.name for tenant in own]
        self._login = Login(self.accounts, lambda: self.settings, names)
        self._window = (0, 0)
        handlers: dict[str, Handler] = {
            **self._masters.operations(),
            **self._slips.operations(),
        }
        self._operations = {operation(each).path.lower(): handlers[each] for each in handlers}
        # One route for everything else: the gateway matches paths without regard to case.
        self.api.add_route("/{path:path}", self._gateway, methods=["GET", "POST", "PUT", "DELETE"])

    # --- for tests and the stack ---------------------------------------------------------------

    @property
    def customers(self) -> dict[str, MasterBook]:
        """得意先 of every tenant."""
        return {tenant: each["customer"] for tenant, each in self.masters.items()}

    def seed(
        self, tenant_id: str, rows: Iterable[Mapping[str, Any]], name: str = "customer"
    ) -> None:
        """Rows of a master that have always been there; no checks, and no import in the books."""
        self.masters[tenant_id][name].seed(rows)

    def rows(self, tenant_id: str, name: str = "customer") -> list[dict[str, str]]:
        """Every row of a master by key, in our field names, その他 included."""
        return self.masters[tenant_id][name].named()

    # --- over a restart ------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Changes with every change of what `dump` would say."""
        books = [book.version for each in self.masters.values() for book in each.books.values()]
        return sum(books) + sum(journal.version for journal in self.journals.values())

    def dump(self) -> dict[str, Any]:
        """Everything that is registered, as JSON can hold it; no accounts, no settings."""
        return {
            "masters": {
                tenant: {name: book.dump() for name, book in each.books.items()}
                for tenant, each in self.masters.items()
            },
            "journals": {tenant: book.dump() for tenant, book in self.journals.items()},
        }

    def restore(self, held: Mapping[str, Any]) -> None:
        """Hold what another emulator dumped; what it did not know stays as it is."""
        # Before there were other masters, a dump held customers.
        older = {tenant: {"customer": each} for tenant, each in held.get("customers", {}).items()}
        for tenant, books in held.get("masters", older).items():
            for name, content in books.items():
                if tenant in self.masters and name in self.masters[tenant].books:
                    self.masters[tenant][name].restore(content)
        for tenant, content in held.get("journals", {}).items():
            if tenant in self.journals:
                self.journals[tenant].restore(content)

    def issue_tokens(self, redirect_uri: str = DEMO_REDIRECT_URI) -> dict[str, Any]:
        """A token answer, as if a person had pressed 許可する."""
        application = self.accounts.applications[DEMO_CLIENT_ID]
        lives = self.settings.access_lifetime, self.settings.refresh_lifetime
        return self.accounts.pair(application, redirect_uri, *lives)

    def books(self) -> dict[str, Any]:
        """Per tenant: rows, imports that stored, how often each key was written; 仕訳伝票.

        ``tenants`` is about 得意先, ``masters`` about every master.
        """
        return {
            "tenants": {
                tenant: {
                    "customers": len(book.rows),
                    "imports": book.imports,
                    "writes": dict(book.writes),
                }
                for tenant, book in self.customers.items()
            },
            "masters": self._masters.books(),
            "journals": self._slips.books(),
            "refreshes": self.accounts.refreshes,
        }

    def steering_routers(self) -> list[APIRouter]:
        """Settings and accounts, masters, slips."""
        own = [self._own_steering(), self._masters.steering(), self._slips.steering()]
        return [*super().steering_routers(), *own]

    def _own_steering(self) -> APIRouter:
        router = APIRouter()

        @router.get("/settings")
        async def read_settings() -> EmulatorSettings:
            return self.settings

        @router.patch("/settings")
        async def change_settings(changes: dict[str, Any]) -> EmulatorSettings:
            merged = {**self.settings.model_dump(), **changes}
            try:
                self.settings = EmulatorSettings.model_validate(merged)
            except ValueError as error:
                raise HTTPException(422, str(error)) from None
            return self.settings

        @router.post("/revoke")
        async def revoke(request: RevokeRequest) -> dict[str, int]:
            return {"revoked": self.accounts.revoke(token=request.token, tenant=request.tenant)}

        @router.post("/expire", status_code=204)
        async def expire() -> None:
            self.accounts.expire_access()

        @router.post("/tokens")
        async def tokens() -> dict[str, Any]:
            return self.issue_tokens()

        @router.post("/redirect-uris", status_code=204)
        async def register(request: RedirectRequest) -> None:
            application = self.accounts.applications[DEMO_CLIENT_ID]
            application.redirect_uris.add(request.redirect_uri)

        return router

    # --- gateway -------------------------------------------------------------------------------

    async def _gateway(self, request: Request) -> Response:
        path = request.url.path.lower()
        if path == operation("Authorize").path.lower():
            return await self._login.authorize(request)
        handler = self._operations.get(path)
        is_token = path == operation("Token").path.lower()
        is_search = path == operation("SearchTenant").path.lower()
        if request.method != "POST" or not (handler or is_token or is_search):
            return _gateway_error(404, "Resource not found")
        key = request.headers.get("x-obc-subscriptionkey")
        if key not in self.accounts.subscription_keys:
            return _gateway_error(401, _KEY_MISSING if key is None else _KEY_WRONG)
        if wait := self._throttled():
            message = f"Rate limit is exceeded. Try again in {wait} seconds."
            return _gateway_error(429, message, {"retry-after": str(wait)})
        if is_token:
            return await self._login.token(request)
        grant = self.accounts.grant_of(request.headers.get("authorization"))
        if grant is None:
            return _refuse(
                401,
                [{"code": "E0401", "message": "アクセストークンが無効です。"}],
                {"www-authenticate": 'Bearer error="invalid_token"'},
            )
        if handler is None:
            return self._search_tenant(grant)
        tenant = self._tenant(request, grant)
        if isinstance(tenant, Response):
            return tenant
        try:
            return handler(tenant, _body(request, await request.body()))
        except Refusal as refused:
            return _refuse(400, refused.errors)

    def _throttled(self) -> int:
        """Seconds to wait when this minute's calls are used up, else 0."""
        limit = self.settings.calls_per_minute
        if limit is None:
            return 0
        minute, second = divmod(int(time.monotonic()), 60)
        calls = self._window[1] + 1 if self._window[0] == minute else 1
        self._window = (minute, calls)
        return 60 - second if calls > limit else 0

    # --- business ------------------------------------------------------------------------------

    def _search_tenant(self, grant: Grant) -> Response:
        found = [self.tenants[each] for each in self.tenants if each in grant.tenants]
        return json_answer(
            [
                {
                    "id": t.id,
                    "code": t.code,
                    "name": t.name,
                    "nameKana": t.name_kana,
                    "memo": t.memo,
                }
                for t in found
            ]
        )

    @staticmethod
    def _tenant(request: Request, grant: Grant) -> str | Response:
        tenant = request.headers.get("x-obc-tenantid")
        if not tenant:
            message = "X-OBC-TenantID ヘッダーを指定してください。"
            return _refuse(400, [{"code": "E0400", "message": message}])
        if tenant not in grant.tenants:
            message = "指定されたテナントは使用できません。"
            return _refuse(403, [{"code": "E0403", "message": message}])
        return tenant


_KEY_MISSING = (
    "Access denied due to missing subscription key. "
    "Make sure to include subscription key when making requests to an API."
)
_KEY_WRONG = (
    "Access denied due to invalid subscription key. "
    "Make sure to provide a valid key for an active subscription."
)


def _gateway_error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return json_answer({"statusCode": status, "message": message}, status, headers)


def _refuse(
    status: int, errors: list[dict[str, Any]], headers: dict[str, str] | None = None
) -> Response:
    return json_answer({"errors": errors}, status, headers)


def _body(request: Request, body: bytes) -> Any:
    """The JSON body; anything that is not declared and encoded as JSON is refused by the caller."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != _JSON:
        return None
    return json_body(body)
