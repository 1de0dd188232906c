"""The 奉行クラウド client: domain objects in, domain objects out."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast
from urllib.parse import urlsplit

from connectors.bugyo._answers import AnswerReader, is_nothing
from connectors.bugyo.environment import HOSTS, SERVICE, Environment
from connectors.bugyo.filters import Filter
from connectors.bugyo.models import Customer, ImportOutcome, Tenant
from connectors.bugyo.registry import Operation, Resource, data, operation, resource
from connectors.kit import (
    Answer,
    ApiClient,
    Authorizer,
    Failure,
    FaultError,
    Kind,
    Masker,
    ServiceProfile,
    SettingsError,
    Timeouts,
)

PROFILE = ServiceProfile(
    name=SERVICE,
    # One export carries everything (no paging exists), so the first byte may take its time.
    timeouts=Timeouts(connect=5.0, read=120.0, total=600.0),
    request_id_headers=("x-request-id", "x-ms-request-id", "request-id"),
    hosts=HOSTS,
)
"""The service's facts. No rate limit is public (contract 6): the client honours Retry-After."""

SUBSCRIPTION_KEY_HEADER = "X-OBC-SubscriptionKey"
TENANT_HEADER = "X-OBC-TenantID"

_SEARCH_TENANT = operation("SearchTenant")
_IMPORTS = frozenset(
    operation(entry["import"]).endpoint for entry in data("resources").values() if "import" in entry
)


def import_batch(name: str) -> int:
    """Rows that a caller should give one `BugyoClient.import_rows` call of this resource."""
    target = resource(name).import_
    return (operation(target).max_rows if target else None) or 1


IMPORT_BATCH = import_batch("customer")
"""Rows that a caller should give one `BugyoClient.import_customers` call."""


class BugyoClient:
    """One tenant of one environment; an async context manager.

    Args:
        environment: Which hosts.
        subscription_key: Of the application vendor; sent with every call.
        authorizer: Who we are: `fixed_token` or `TokenAuthorizer`.
        tenant_id: テナントID of the 法人; ``None`` while it is being chosen (`search_tenants`).
        masker: Shared with the caller, so that logs know the secrets too.
        verify: TLS verification, as httpx takes it.
        profile: Time-outs, limits, policies.

    Attributes:
        answers: Reads answers; for the modules of this package.

    Every method raises the kit's taxonomy: ``AC-101`` token refused and not renewable, ``AC-103``
    subscription key, ``AC-201`` address, ``AC-204`` tenant, ``AC-205`` the request as such,
    ``AC-301``/``AC-303``/``AC-501`` faults, ``AC-502`` maintenance, ``AC-503`` limits.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        subscription_key: str,
        authorizer: Authorizer,
        tenant_id: str | None,
        masker: Masker | None = None,
        verify: ssl.SSLContext | bool = True,
        profile: ServiceProfile = PROFILE,
    ) -> None:
        self._tenant_id = tenant_id
        masker = masker or Masker()
        masker.add(subscription_key)
        self.answers = AnswerReader(
            masker, host=urlsplit(environment.api_base).netloc, imports=_IMPORTS
        )
        self._api = ApiClient(
            profile,
            environment.api_base,
            classify=self.answers.classify,
            authorizer=authorizer,
            headers={SUBSCRIPTION_KEY_HEADER: subscription_key},
            secrets=masker,
            verify=verify,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def search_tenants(self) -> list[Tenant]:
        """The 法人 that the token may use; one for a single-company customer."""
        answer = await self._api.request("POST", _SEARCH_TENANT.path, kind="read")
        return [
            Tenant(
                id=_string(row, "id", answer),
                code=str(row.get("code") or ""),
                name=str(row.get("name") or ""),
                name_kana=str(row.get("nameKana") or ""),
                memo=str(row.get("memo") or ""),
            )
            for row in _rows(answer)
        ]

    async def export_rows(
        self,
        name: str,
        *,
        where: Filter | None = None,
        fields: Sequence[str],
        sort: Sequence[str] | None = None,
    ) -> list[dict[str, str]]:
        """Rows of a master that meet a condition, all in one answer: the API has no paging.

        Args:
            name: The resource, e.g. ``employee`` (`masters`).
            where: Condition; ``None`` = every row, built-in ones (その他) too.
            fields: English names of the fields wanted; the rows have exactly these.
            sort: English names, each optionally followed by `` desc``; ``None`` = by key.

        Raises:
            FileNotFoundError: there is no such resource.
            KeyError: there is no such field.
            FaultError: ``AC-303``, a row lacks a field that was asked for.
        """
        registry = resource(name)
        order = [item.field for item in registry.keys] if sort is None else sort
        found, _ = await self.export(operation(registry.export), registry, where, fields, order)
        return found

    async def import_rows(self, name: str, rows: Sequence[Mapping[str, str]]) -> ImportOutcome:
        """Create or update rows of a master by key, in one call.

        Args:
            name: The resource, e.g. ``employee``.
            rows: At most `import_batch` is advised. Absent fields stay untouched at 奉行クラウド.

        Returns:
            The definite answer, refusals included.

        Raises:
            UnknownOutcomeError: ``AC-402``, the rows may or may not be stored; export them by key
                before sending them again.
            ValueError: the resource can only be read.
            KeyError: there is no such field.
        """
        registry = resource(name)
        if registry.import_ is None:
            raise ValueError(f"{name} can only be read")
        if not rows:
            return ImportOutcome()
        codes = registry.codes
        body = {"dataList": [{codes[field]: row[field] for field in row} for row in rows]}
        answer = await self.call(operation(registry.import_), "post", body)
        return self.answers.outcome(answer, len(rows), registry)

    async def export_customers(
        self,
        *,
        where: Filter | None = None,
        fields: Sequence[str],
        sort: Sequence[str] = ("code",),
    ) -> list[Customer]:
        """得意先 that meet a condition; see `export_rows`."""
        found = await self.export_rows("customer", where=where, fields=fields, sort=sort)
        return cast("list[Customer]", found)

    async def import_customers(self, rows: Sequence[Customer]) -> ImportOutcome:
        """Create or update 得意先 by code, in one call; see `import_rows`."""
        return await self.import_rows("customer", cast("Sequence[Mapping[str, str]]", rows))

    async def export(
        self,
        export: Operation,
        registry: Resource,
        where: Filter | None,
        fields: Sequence[str],
        sort: Sequence[str],
    ) -> tuple[list[dict[str, str]], Answer]:
        """Rows of any resource by English field names, for the modules of this package.

        Returns:
            The rows, each with exactly ``fields``, and the answer they came in.

        Raises:
            KeyError: there is no such field.
            FaultError: ``AC-303``, a row lacks a field that was asked for.
        """
        codes = registry.codes
        columns = [(name, codes[name]) for name in fields]
        body: dict[str, Any] = {
            "sort": [_sort_key(each, codes) for each in sort],
            "itemList": [code for _, code in columns],
        }
        if where is not None:
            body["filter"] = where.encode(codes)
        answer = await self.call(export, "read", body)
        try:
            found = [{name: row[code] for name, code in columns} for row in _rows(answer)]
        except KeyError:
            raise FaultError("AC-303", detail=answer.detail, failure=Failure.UNREADABLE) from None
        for row in found:
            for name, value in row.items():
                if type(value) is not str:  # [I] that every value is a string
                    row[name] = "" if value is None else str(value)
        return found, answer

    async def call(self, target: Operation, kind: Kind, body: dict[str, Any]) -> Answer:
        """One business call for the tenant, for the modules of this package.

        Raises:
            SettingsError: ``AC-204``, no tenant has been chosen.
        """
        if not self._tenant_id:
            raise SettingsError("AC-204", service=SERVICE)
        return await self._api.request(
            "POST", target.path, kind=kind, json=body, headers={TENANT_HEADER: self._tenant_id}
        )


def _rows(answer: Answer) -> list[dict[str, Any]]:
    if is_nothing(answer):
        return []
    rows = answer.json()
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise FaultError("AC-303", detail=answer.detail, failure=Failure.UNREADABLE)
    return rows


def _string(row: dict[str, Any], key: str, answer: Answer) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise FaultError("AC-303", detail=answer.detail, failure=Failure.UNREADABLE)
    return value


def _sort_key(key: str, codes: Mapping[str, str]) -> str:
    name, _, direction = key.partition(" ")
    return f"{codes[name]} {direction}".rstrip()
