"""Blocks as a person and an auditor meet them: words on every field, secrets only encrypted."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

import psycopg
import pytest
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from psycopg import sql
from pydantic import BaseModel, SecretStr, ValidationError

from blocks import BugyoCredentials, KintoneCredentials, SmaregiCredentials
from deployments.catalog import block_types, register_blocks
from flows.customers_from_kintone import CustomerSettings, CustomersFromKintoneConnection

PLANTED = "planted-secret-9f8e7d6c5b4a"
SECRET_NAME = re.compile("token|secret|key|password", re.IGNORECASE)


def models(start: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A block and the settings models inside it; other blocks have a turn of their own."""
    yield start
    for field in start.model_fields.values():
        for kind in parts(field.annotation):
            if issubclass(kind, BaseModel) and not issubclass(kind, Block):
                yield from models(kind)


def parts(annotation: Any) -> list[type]:
    """The classes that a field may hold."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return parts(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [kind for each in get_args(annotation) for kind in parts(each)]
    return [annotation] if isinstance(annotation, type) else []


FIELDS = [
    pytest.param(field, name, id=f"{model.__name__}.{name}")
    for block in block_types()
    for model in models(block)
    for name, field in model.model_fields.items()
]


@pytest.mark.parametrize(("field", "name"), FIELDS)
def test_every_field_has_words(field: Any, name: str) -> None:
    assert field.title
    assert re.search(r"[^\x00-\x7f]|^kintone$", field.title), f"{field.title} is not Japanese"
    assert field.description
    assert field.description.endswith("。")


@pytest.mark.parametrize(("field", "name"), FIELDS)
def test_what_sounds_like_a_secret_is_one(field: Any, name: str) -> None:
    kinds = parts(field.annotation)
    if SECRET_NAME.search(name) and str in kinds:
        pytest.fail(f"{name} is stored in plain text")
    if SecretStr in kinds:
        assert str not in kinds
        assert field.default in (None, ...) or field.is_required()


def test_the_secrets_that_we_know_of_are_covered() -> None:
    secret = {
        f"{block.__name__}.{name}"
        for block in (BugyoCredentials, KintoneCredentials, SmaregiCredentials)
        for name, field in block.model_fields.items()
        if SecretStr in parts(field.annotation)
    }
    assert secret == {
        *(f"BugyoCredentials.{n}" for n in ("subscription_key", "fixed_token", "client_secret")),
        *(f"BugyoCredentials.{n}" for n in ("access_token", "refresh_token", "consent_verifier")),
        *(f"KintoneCredentials.{n}" for n in ("api_token", "client_secret")),
        *(f"KintoneCredentials.{n}" for n in ("access_token", "refresh_token", "consent_verifier")),
        "SmaregiCredentials.client_secret",
    }


@pytest.mark.parametrize("block", block_types(), ids=lambda block: block.__name__)
def test_every_block_says_what_it_is(block: type[Block]) -> None:
    assert re.search(r"[^\x00-\x7f]", str(block._block_type_name))
    assert re.fullmatch("[a-z0-9-]+", str(block._block_type_slug))
    assert str(block.get_description()).endswith("。")
    example = block.get_code_example() or ""
    assert f"import {block.__name__}" in example
    assert f"{block.__name__}.aload(" in example


def test_the_days_of_a_connection_are_chosen_after_everything_else() -> None:
    form = CustomersFromKintoneConnection.model_json_schema()
    fields = sorted(form["properties"].items(), key=lambda item: item[1]["position"])
    last = dict(fields[-4:])
    assert list(last) == ["schedule", "days", "closing_day", "company_holidays"]
    assert last["schedule"]["default"] == "5:00"
    choice = ["毎日", "平日のみ", "営業日のみ", "締め日の翌営業日", "締め日の前営業日"]
    assert (last["days"]["enum"], last["days"]["default"]) == (choice, "毎日")
    assert (last["closing_day"]["minimum"], last["closing_day"]["maximum"]) == (1, 31)
    assert last["company_holidays"]["type"] == "string"
    assert not {"company_holidays"} & set(form["required"])
    assert {"schedule", "days", "closing_day"} <= set(form["required"])


def credentials() -> tuple[BugyoCredentials, KintoneCredentials]:
    bugyo = BugyoCredentials(
        subscription_key=SecretStr(f"{PLANTED}-key"),
        fixed_token=SecretStr(f"{PLANTED}-fixed"),
        client_secret=SecretStr(f"{PLANTED}-client"),
    )
    return bugyo, KintoneCredentials(
        subdomain="example", api_token=SecretStr(f"{PLANTED}-api-token")
    )


def test_a_schema_is_drawn_once_and_belongs_to_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect asks for the whole schema for each field of a block that it saves."""

    class Drawn(BugyoCredentials):
        _block_type_slug = "drawn-once"

    drawn: list[bool] = []
    draw = BaseModel.model_json_schema.__func__  # type: ignore[attr-defined]

    def counted(cls: type[BaseModel], by_alias: bool = True, *more: Any, **named: Any) -> Any:
        drawn.append(by_alias)
        return draw(cls, by_alias, *more, **named)

    monkeypatch.setattr(BaseModel, "model_json_schema", classmethod(counted))
    wanted = Drawn.model_json_schema()
    wanted["properties"].clear()  # whoever asked may change it
    assert "subscription_key" in Drawn.model_json_schema()["properties"]
    stored = Drawn.model_json_schema(by_alias=False)["properties"]
    assert "refresh_token" in stored
    assert "refresh_token" not in Drawn.model_json_schema()["properties"]
    assert drawn == [False]  # that of the form was drawn when Prefect made the class


def test_no_secret_shows_in_a_repr() -> None:
    for block in credentials():
        assert PLANTED not in f"{block!r} {block} {block.model_dump_json()}"


def test_a_wrong_subdomain_is_refused() -> None:
    with pytest.raises(ValidationError):
        KintoneCredentials(subdomain="https://example.cybozu.com/")


def everything_stored(postgres: Any) -> Iterator[str]:
    """Every row of every table of every database, as text."""
    server = postgres.server
    with psycopg.connect(server.url("postgres")) as db:
        names = [
            row[0] for row in db.execute("SELECT datname FROM pg_database WHERE NOT datistemplate")
        ]
    for name in names:
        with psycopg.connect(server.url(name)) as db:
            tables = db.execute(
                "SELECT schemaname, tablename FROM pg_tables "
                "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            ).fetchall()
            for table in tables:
                query = sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(*table))
                yield from (row[0] for row in db.execute(query))


async def test_blocks_are_stored_encrypted_and_load_by_name(
    prefect_server: Any, postgres: Any
) -> None:
    await register_blocks()
    async with get_client() as client:
        for block in block_types():
            known = await client.read_block_type_by_slug(block.get_block_type_slug())
            assert known.name == block._block_type_name
    name = "planted-blocks"
    bugyo, kintone = credentials()
    await bugyo.save(name)
    await kintone.save(name)
    await CustomersFromKintoneConnection(
        registration_number="AC-0000-0001",
        phone="03-0000-0000",
        bugyo=bugyo,
        kintone=kintone,
        settings=CustomerSettings(app="7"),
    ).save(name)

    loaded: Any = await CustomersFromKintoneConnection.aload(name)
    assert loaded.bugyo.subscription_key.get_secret_value() == f"{PLANTED}-key"
    assert loaded.kintone.api_token.get_secret_value() == f"{PLANTED}-api-token"
    assert loaded.settings.app == "7"
    # The connection refers to the credentials: what is changed there, it sees.
    changed: Any = await KintoneCredentials.aload(name)
    changed.api_token = SecretStr(f"{PLANTED}-changed")
    await changed.save(name, overwrite=True)
    again: Any = await CustomersFromKintoneConnection.aload(name)
    assert again.kintone.api_token.get_secret_value() == f"{PLANTED}-changed"

    rows = list(everything_stored(postgres))
    assert any(name in row for row in rows), "the search itself finds nothing"
    in_hex = PLANTED.encode().hex()
    assert [row for row in rows if PLANTED in row or in_hex in row] == []
