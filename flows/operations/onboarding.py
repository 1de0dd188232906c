"""接続を作る: checks of the licence and of both sides, the choice of a 法人, the saved block.

The flow of the Prefect UI and the command line do the same with these. Whatever a person has done
(許可する, the choice of a 法人) is kept in the credentials block at once: after an error the same
input once more goes on where it ended, and a connection that is there already is not made twice.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import Connection as Db
from sqlalchemy import text

from blocks import DAILY_AT, BugyoCredentials, Connection, Days, OAuthBlock
from blocks.form import FormBlock
from blocks.oauth import is_filled
from connectors.bugyo import Tenant
from connectors.kit import AppConnectError, Masker, ReauthorizeError, SettingsError
from flows.engine import history, licences
from flows.engine.clock import now
from flows.engine.model import Mode, Window
from flows.engine.opening import load_connection, secrets_of, violation
from flows.engine.pipeline import Pipeline, Tools
from flows.engine.store import Store
from flows.engine.timing import Timing, timing_of
from flows.engine.tokens import Vault, service_of, write_fields
from flows.operations.deploying import saved_connections
from flows.parts import consents
from flows.parts.bugyo import open_bugyo

T = TypeVar("T")

Show = Callable[[consents.Begun], Awaitable[None]]
"""Shows a person where to press 許可する."""

Deploy = Callable[[Connection, str], Awaitable[UUID]]
"""Saves a connection under a name, and creates or updates its deployment."""

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_SHOWN = 20
_ROWS = text("SELECT name, connector FROM connection")
_ROW = text("SELECT 1 FROM connection WHERE name = :name")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person put in.

    Attributes:
        bugyo: Saved credentials of 奉行クラウド.
        partner: Saved credentials of the partner.
        settings: Of the connector; not validated yet.
        tenant: Name, code or id of the 法人; empty = there is only one.
        name: Of the connection; empty = one is proposed.
    """

    pipeline: Pipeline[Any]
    registration_number: str
    phone: str
    bugyo: Any = field(repr=False)
    partner: Any = field(repr=False)
    settings: Mapping[str, Any]
    tenant: str = ""
    name: str = ""
    schedule: str = DAILY_AT
    days: Days = "毎日"
    closing_day: int = 31
    company_holidays: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the two sides answered.

    Attributes:
        tenant: The 法人 that is written to.
        records: How many records the partner holds; ``None`` = it cannot say beforehand.
    """

    tenant: Tenant
    records: int | None


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection that is ready."""

    pipeline: Pipeline[Any]
    name: str
    timing: Timing
    seen: Seen
    deployment: UUID


def partner_field(pipeline: Pipeline[Any]) -> tuple[str, type[FormBlock]]:
    """Name and type of the field of a connection that holds the partner's credentials."""
    for name, info in pipeline.connection_type.model_fields.items():
        kind = info.annotation
        if name != "bugyo" and isinstance(kind, type) and issubclass(kind, FormBlock):
            return name, kind
    raise LookupError(pipeline.connector)


async def connect(store: Store, wish: Wish, show: Show, deploy: Deploy) -> Connected:
    """Make a connection, or go on with one that was begun.

    Raises:
        SettingsError: ``AC-107`` … ``AC-111`` licence, ``AC-205`` a value, ``AC-216`` its name,
            ``AC-217`` several 法人; whatever the two sides say.
        ReauthorizeError: ``AC-105``, ``AC-114``, nobody pressed 許可する.
        WaitError: ``AC-112``, too many wrong numbers.
    """
    masker = Masker()
    try:
        return await _connect(store, wish, show, deploy, masker)
    except AppConnectError as error:
        error.mask(masker.mask)
        raise


async def _connect(
    store: Store, wish: Wish, show: Show, deploy: Deploy, masker: Masker
) -> Connected:
    pipeline, tools = wish.pipeline, Tools(masker, Vault(store))
    number, phone = wish.registration_number, wish.phone
    await asyncio.to_thread(licences.check, store, number, phone, pipeline.connector, now())
    title, kind = partner_field(pipeline)
    bugyo, partner = picked(BugyoCredentials, wish.bugyo), picked(kind, wish.partner)
    masker.add(*secrets_of(bugyo), *secrets_of(partner))
    filled = {
        "registration_number": licences.number_of(number),
        "phone": phone,
        "bugyo": bugyo,
        title: partner,
        "settings": dict(wish.settings),
        "schedule": wish.schedule.strip(),
        "days": wish.days,
        "closing_day": wish.closing_day,
        "company_holidays": wish.company_holidays.strip(),
    }
    draft = build(pipeline, filled)  # what is wrong here needs nobody's 許可する
    name = await name_for(store, pipeline, wish.name, draft)
    bugyo, tenants = await _answered(
        store, bugyo, masker, show, lambda block: companies(block, tools)
    )
    tenant = choose(tenants, bugyo.tenant_id or "", wish.tenant)
    if bugyo.tenant_id != tenant.id:
        await write_fields(bugyo, {"tenant_id": tenant.id})
    partner, records = await _answered(
        store,
        partner,
        masker,
        show,
        lambda block: count_records(
            pipeline, build(pipeline, {**filled, "bugyo": bugyo, title: block}), tools
        ),
    )
    connection = build(pipeline, {**filled, "bugyo": bugyo, title: partner})
    await store.do(_same_books, name, connection.destination())
    deployment = await deploy(connection, name)
    return Connected(pipeline, name, timing_of(connection), Seen(tenant, records), deployment)


async def recheck_and_deploy(
    store: Store, pipeline: Pipeline[Any], name: str, deploy: Deploy
) -> Connected:
    """See that a connection whose block was edited is right on both sides, and deploy it.

    Raises:
        AppConnectError: as `connect`.
    """
    masker = Masker()
    try:
        connection = await load_connection(pipeline, name)
        masker.add(*secrets_of(connection))
        timing_of(connection)
        tools = Tools(masker, Vault(store))
        typed = connection.registration_number, connection.phone
        await asyncio.to_thread(licences.check, store, *typed, pipeline.connector, now())
        tenants = await companies(connection.bugyo, tools)
        tenant = choose(tenants, connection.bugyo.tenant_id or "", "")
        if connection.bugyo.tenant_id != tenant.id:
            await write_fields(connection.bugyo, {"tenant_id": tenant.id})
        await store.do(_same_books, name, connection.destination())
        records = await count_records(pipeline, connection, tools)
        deployment = await deploy(connection, name)
    except AppConnectError as error:
        error.mask(masker.mask)
        raise
    return Connected(pipeline, name, timing_of(connection), Seen(tenant, records), deployment)


def picked(kind: type[FormBlock], value: Any) -> Any:
    """A saved block of this type, as the form hands it over.

    Raises:
        SettingsError: ``AC-205``, it is something else, or was never saved.
    """
    if not isinstance(value, kind) or not getattr(value, "_block_document_name", None):
        what = kind.get_block_type_name()
        raise SettingsError("AC-205", f"「{what}」を選んでください。なければ「追加」で作成します")
    return value


def build(pipeline: Pipeline[Any], filled: Mapping[str, Any]) -> Connection:
    """The connection of these values; it is not saved.

    Raises:
        SettingsError: ``AC-205``, values are missing or wrong: the subject names them.
    """
    kind: type[Connection] = pipeline.connection_type
    places: list[str] = []
    try:
        connection = kind(**filled)
    except ValidationError as error:
        places = [violation(kind, each["loc"], each["type"]) for each in error.errors()]
    if places:  # out here: in a handler the original would come along, with the values
        raise SettingsError("AC-205", "、".join(dict.fromkeys(places)))
    timing_of(connection)
    return connection


async def name_for(store: Store, pipeline: Pipeline[Any], typed: str, draft: Connection) -> str:
    """The name under which a connection is saved.

    A name that is taken is given once more to the same connection (登録番号 and both credentials
    are the same): a person who runs 新しい接続 again goes on with it. Books that a removed
    connection left are gone on with when a person says its name.

    Raises:
        SettingsError: ``AC-216``, it cannot be used.
    """
    typed = typed.strip()
    if typed and (not _NAME.fullmatch(typed) or len(typed) > 60):
        raise SettingsError("AC-216", typed[:60])
    saved = {name: each.pipeline for name, each in await saved_connections()}
    books: dict[str, str] = await store.do(lambda db: dict(_pairs(db)))
    base = pipeline.connector
    names: Iterable[str] = (
        [typed] if typed else (base if n == 1 else f"{base}-{n}" for n in count(1))
    )
    for name in names:
        if name in saved:
            if saved[name].connector == base and await _same(pipeline, name, draft):
                return name
        elif name not in books or (typed and books[name] == base):
            return name
    raise SettingsError("AC-216", f"「{typed}」は、ほかの接続で使っています")


def _pairs(db: Db) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in db.execute(_ROWS)]


async def _same(pipeline: Pipeline[Any], name: str, draft: Connection) -> bool:
    try:
        known: Connection = await load_connection(pipeline, name)
    except SettingsError:
        return False
    numbers = {licences.number_of(each.registration_number) for each in (known, draft)}
    blocks = [{b._block_document_id for b in each.credentials()} for each in (known, draft)]
    return len(numbers) == 1 and blocks[0] == blocks[1]


def _same_books(db: Db, name: str, destination: str) -> None:
    if db.execute(_ROW, {"name": name}).first() is not None:
        history.same_destination(db, name, destination)


async def companies(bugyo: BugyoCredentials, tools: Tools) -> list[Tenant]:
    """The 法人 that 奉行クラウド lets us use: the check of its side."""
    async with open_bugyo(bugyo, tools) as client:
        return await client.search_tenants()


async def count_records(
    pipeline: Pipeline[Any], connection: Connection, tools: Tools
) -> int | None:
    """How many records there are at the partner: the check of its side, settings included."""
    async with (
        pipeline.open_source(connection, tools) as source,
        pipeline.open_sink(connection, tools),
    ):
        return await source.count(Window(Mode.FULL))


def choose(tenants: Sequence[Tenant], held: str, wanted: str) -> Tenant:
    """The 法人 of a connection.

    Args:
        tenants: Those that may be used.
        held: テナントID of the credentials block; empty = not chosen yet.
        wanted: Name, code or id that a person put in; may be empty.

    Raises:
        SettingsError: ``AC-204``, the one of the block may not be used, or there is none;
            ``AC-217``, a person has to choose, or chose another one than the block's.
    """
    wanted = wanted.strip()
    named = [each for each in tenants if wanted in (each.name, each.code, each.id)]
    if held:
        found = next((each for each in tenants if each.id == held), None)
        if found is None:
            raise SettingsError("AC-204", held, service=service_of(BugyoCredentials))
        if wanted and found not in named:
            why = f"この接続情報の法人は「{found.name}」です。「{wanted[:40]}」ではありません"
            raise SettingsError("AC-217", why)
        return found
    if not tenants:
        raise SettingsError("AC-204", service=service_of(BugyoCredentials))
    if wanted and len(named) == 1:
        return named[0]
    if not wanted and len(tenants) == 1:
        return tenants[0]
    names = "、".join(f"{each.name}（{each.code}）" for each in tenants[:_SHOWN])
    raise SettingsError("AC-217", f"使える法人: {names}")


async def _answered(
    store: Store, block: Any, masker: Masker, show: Show, ask: Callable[[Any], Awaitable[T]]
) -> tuple[Any, T]:
    """What a side answers; a person is sent to 許可する first when there is no consent."""
    if may_consent(block) and not is_filled(block.refresh_token):
        block = await _permitted(store, block, masker, show)
    elif isinstance(block, BugyoCredentials) and not (
        block.uses_oauth or is_filled(block.fixed_token)
    ):
        why = "奉行クラウドの接続情報に、固定アクセストークンか、クライアントIDなど3つを入れます"
        raise SettingsError("AC-205", why)
    try:
        return block, await ask(block)
    except ReauthorizeError:
        if not may_consent(block):
            raise
    # The consent was taken back, or has lapsed.
    block = await _permitted(store, block, masker, show)
    return block, await ask(block)


def may_consent(block: Any) -> bool:
    """Whether 許可する is how this block gets its tokens."""
    if not isinstance(block, OAuthBlock) or not getattr(block, "client_id", None):
        return False
    constant = ("fixed_token", "api_token")
    return not any(is_filled(getattr(block, name, None)) for name in constant)


async def _permitted(store: Store, block: Any, masker: Masker, show: Show) -> Any:
    begun = await consents.begin(store, block)
    await show(begun)
    await consents.wait(store, begun)
    fresh = await type(block).aload(block._block_document_name)
    masker.add(*secrets_of(fresh))
    return fresh
