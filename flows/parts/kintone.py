"""kintone as a source of the engine: which pages a window means, and in what order."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from pydantic import Field

from blocks import KintoneCredentials
from connectors.kintone import KintoneClient, api_token
from connectors.kintone import query as q
from connectors.kintone.auth import MAX_TOKENS, OAuthClient
from connectors.kit import Authorizer, SettingsError, TokenAuthorizer
from connectors.kit.paging import chunks
from flows.engine.handover import ParsedPage
from flows.engine.model import Mode, SourcePage, Window
from flows.engine.pipeline import Tools

SERVICE = "kintone"
OAUTH_BLOCK = KintoneCredentials
_RETRY_CHUNK = 100  # ids in one condition: stays well below the URL's limit


def app_field(app: str, example: str) -> Any:
    """アプリID of an app, which people call ``app``."""
    return Field(
        title="アプリID",
        description=f"{app}を開いたときのURL（/k/ここ/）の数字です。",
        pattern=r"^[1-9][0-9]*$",
        examples=[example],
    )


def condition_field(example: str) -> Any:
    """絞り込み条件: which records of the app are moved."""
    return Field(
        default="",
        title="絞り込み条件",
        description="連携するレコードの条件（kintone のクエリ）です。空欄ならすべて連携します。",
        examples=[example],
    )


def needed_field(item: str) -> Any:
    """Which field of the app holds an item that every record has; by default that of its name."""
    return Field(
        default=item,
        title=f"{item} ←",
        description=f"{item}が入っているフィールドのフィールドコードです。",
        min_length=1,
    )


def open_kintone(credentials: KintoneCredentials, tools: Tools) -> KintoneClient:
    """A client for the credentials of a block.

    Raises:
        SettingsError: ``AC-102``, neither an API token nor OAuth is set up; ``AC-201`` sub-domain;
            ``AC-205``, the number of API tokens, or the address.
    """
    return KintoneClient(
        credentials.subdomain,
        authorizer=_authorizer(credentials, tools),
        endpoint=credentials.endpoint,
        masker=tools.masker,
        guest_space=credentials.guest_space,
    )


def _authorizer(credentials: KintoneCredentials, tools: Tools) -> Authorizer:
    if credentials.api_token is not None and credentials.api_token.get_secret_value().strip():
        listed = [part.strip() for part in credentials.api_token.get_secret_value().split(",")]
        tokens = [token for token in listed if token]
        if not 1 <= len(tokens) <= MAX_TOKENS:
            wrong = f"APIトークンは{MAX_TOKENS}個まで入力できます（入力: {len(tokens)}個）"
            raise SettingsError("AC-205", wrong, service=SERVICE)
        return api_token(*tokens)
    app = oauth_app(credentials, tools)
    if not credentials.access_token:
        raise SettingsError("AC-102", service=SERVICE)
    return TokenAuthorizer(tools.vault.keeper(credentials), app.refresh, masker=tools.masker)


def oauth_app(credentials: KintoneCredentials, tools: Tools) -> OAuthClient:
    """The OAuth client of a block.

    Raises:
        SettingsError: ``AC-102``, client id or secret is missing; ``AC-201`` sub-domain.
    """
    if not (credentials.client_id and credentials.client_secret):
        raise SettingsError("AC-102", service=SERVICE)
    return OAuthClient(
        credentials.subdomain,
        credentials.client_id,
        credentials.client_secret.get_secret_value(),
        credentials.redirect_uri or "",
        endpoint=credentials.endpoint,
        masker=tools.masker,
    )


@dataclass(frozen=True)
class KintoneSource:
    """The records of one app.

    Attributes:
        client: Open client.
        app: App id.
        condition: The connection's own condition; empty = every record.
        fields: Field codes that the transform reads.
        key_field: Field code that holds the business key.
        updated_field: Field code of 更新日時 (it can be renamed, so it is discovered).
    """

    client: KintoneClient
    app: str
    condition: str
    fields: Sequence[str]
    key_field: str
    updated_field: str

    async def count(self, window: Window) -> int | None:
        """How many records the window holds."""
        conditions = self._conditions(window)
        return sum([await self.client.count(self.app, each) for each in conditions])

    async def pages(self, window: Window, position: Any) -> AsyncGenerator[SourcePage, None]:
        """Retried records first, then the window; no record comes twice.

        ``position`` is ``[part, last id]``: parts are the conditions of the window in order.
        """
        part, after = position or (0, 0)
        wanted = [*dict.fromkeys([*self.fields, self.updated_field])]
        for number, condition in enumerate(self._conditions(window)):
            if number < part:
                continue
            start = after if number == part else 0
            reader = self.client.records_by_id(
                self.app, condition=condition, fields=wanted, after=start
            )
            async with contextlib.aclosing(reader) as pages:
                async for page in pages:
                    newest = max(r[self.updated_field]["value"] for r in page.records)
                    # `>= 05:00` cannot tell what changed within 05:00, so all of it is read again.
                    yield ParsedPage(
                        parsed=[(r["$id"]["value"], r) for r in page.records],
                        body=page.raw,
                        records=len(page.records),
                        position=[number, page.last_id],
                        newest=datetime.fromisoformat(newest),
                        server_time=page.server_date,
                    )

    def records(self, body: bytes) -> Iterable[tuple[str, Mapping[str, Any]]]:
        """The records of a page; their key is the record id."""
        for record in orjson.loads(body)["records"]:
            yield record["$id"]["value"], record

    def _conditions(self, window: Window) -> list[str]:
        if window.mode is Mode.ONE:
            key = window.key or ""
            spellings = {key, key.lstrip("0") or "0"}
            return [q.and_(self.condition, q.any_of(self.key_field, sorted(spellings)))]
        if window.mode is Mode.REJECTS:
            asked = chunks(window.retry, _RETRY_CHUNK)
            return [q.and_(self.condition, q.any_of("$id", ids)) for ids in asked]
        if window.moments is not None:
            begin, end = window.moments
            within = (
                q.compare(self.updated_field, ">=", begin),
                q.compare(self.updated_field, "<", end),
            )
            return [q.and_(self.condition, *within)]
        if window.since is None:
            return [self.condition]
        moment = window.since.replace(second=0, microsecond=0)
        older = q.compare(self.updated_field, "<", moment)
        retried = [
            q.and_(self.condition, q.any_of("$id", ids), older)
            for ids in chunks(window.retry, _RETRY_CHUNK)
        ]
        return [*retried, q.and_(self.condition, q.compare(self.updated_field, ">=", moment))]


async def kintone_source(
    client: KintoneClient, app: str, condition: str, fields: Sequence[str], key_field: str
) -> KintoneSource:
    """A source whose settings were checked against the app's form.

    Raises:
        SettingsError: ``AC-205``, a field of the settings is not in the app's form.
    """
    form = await client.form_fields(app)
    missing = [code for code in fields if code not in form]
    if missing:
        names = "、".join(missing)
        raise SettingsError(
            "AC-205", f"アプリ {app} にフィールド「{names}」がありません", service=SERVICE
        )
    updated = next((code for code, f in form.items() if f.type == "UPDATED_TIME"), None)
    if updated is None:
        raise SettingsError("AC-205", f"アプリ {app} に更新日時がありません", service=SERVICE)
    return KintoneSource(client, app, condition, fields, key_field, updated)


def text_of(record: Mapping[str, Any], code: str) -> str:
    """The value of a field as text: lists joined, nothing as ``""``.

    Raises:
        KeyError, TypeError: the field is not there, or holds what is no text (a table).
    """
    value = record[code]["value"]
    if type(value) is str:
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        return "、".join(_word(item) for item in value)
    return _word(value)


def _word(item: Any) -> str:
    """One value as text; of a person, a group or a department its name, of a file its name.

    Raises:
        TypeError: it is something else, e.g. a row of a table.
    """
    if isinstance(item, str | int | float):
        return str(item)
    if isinstance(item, Mapping) and isinstance(item.get("name"), str):
        return str(item["name"])
    raise TypeError("the value is no text")
