"""How our blocks and settings look as forms in the Prefect UI.

Tried with the UI (v2) of Prefect 3.8: it orders fields by ``position``, draws ``X | None`` as two
tabs with ``Property is type "None"`` below, and marks every field with a default ``(Optional)``.
None of that says anything to the person who fills in the form, so the schema that the form is
drawn from is tidied. What is validated, stored and loaded does not change.
"""

from __future__ import annotations

import copy
import os
from abc import ABC
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from prefect.blocks.core import Block
from prefect.client.schemas.objects import BlockType
from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, HttpUrl
from pydantic_core import CoreSchema

PAGES_VARIABLE = "APP_CONNECT_PAGES_URL"
"""Where logos and manuals are served from; unset = blocks have neither (no link leads outside)."""

AUTOMATIC: dict[str, Any] = {"automatic": True}
"""``json_schema_extra`` of a field that the program fills in: stored, but not on the form."""


LAST: dict[str, Any] = {"last": True}
"""``json_schema_extra`` of a field that comes after those which a subclass adds."""


def endpoint_field(others: str) -> Any:
    """接続先URL of credentials: another address that stands for the service.

    Args:
        others: What it is for: ``kintone 以外``.
    """
    return Field(
        default=None,
        title="接続先URL（試験用）",
        description=f"エミュレーターなど、{others}に接続するときだけ入力します。",
    )


_SCHEMAS: WeakKeyDictionary[type[Block], dict[tuple[Any, ...], dict[str, Any]]] = (
    WeakKeyDictionary()
)
"""Schemas that were drawn already. Prefect asks for the whole schema once for each *field* of a
block that it saves (``Block._field_has_secrets``): two thirds of what saving one costs."""


class FormBlock(Block, ABC):
    """A block whose form is drawn as a person expects it.

    Attributes:
        _logo: Folder of ``connectors`` whose ``logo.svg`` the block shows.
        _manual: Folder of ``connectors`` whose manual the block links to.
    """

    _logo: ClassVar[str] = "kit"
    _manual: ClassVar[str | None] = None

    @classmethod
    def _to_block_type(cls) -> BlockType:
        """Prefect's description of the type, with addresses of this installation.

        Asked for whenever a block is registered *or saved*, in every process: an address that only
        the process of the registration knew would be gone after the first refreshed token.
        """
        kind = super()._to_block_type()
        if base := os.environ.get(PAGES_VARIABLE, "").rstrip("/"):
            kind.logo_url = HttpUrl(f"{base}/{cls._logo}.svg")
            if cls._manual is not None:
                kind.documentation_url = HttpUrl(f"{base}/{cls._manual}.html")
        return kind

    @classmethod
    def model_json_schema(
        cls, by_alias: bool | None = True, *args: Any, **options: Any
    ) -> dict[str, Any]:
        """The schema of the block.

        Prefect registers the schema *by alias* and draws the form from it; *by name* it asks which
        fields a block document stores (``Block._to_block_document``). Only the first is tidied:
        an automatic field is missing from the form, and is stored all the same.
        """
        arguments = (bool(by_alias), *args, *sorted(options.items()))
        known = _SCHEMAS.setdefault(cls, {})
        if arguments not in known:
            schema = super().model_json_schema(bool(by_alias), *args, **options)
            if by_alias:
                for part in (schema, *schema.get("definitions", {}).values()):
                    tidy(part)
            known[arguments] = schema
        return copy.deepcopy(known[arguments])


class FormModel(BaseModel):
    """Settings inside a block: their fields keep the order in which they are written down."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> dict[str, Any]:
        # Prefect numbers the fields of blocks only, and the database (jsonb) keeps no order.
        schema = handler.resolve_ref_schema(handler(core_schema))
        schema.pop("description", None)  # the docstring: it is for who reads the code
        for position, field in enumerate(schema.get("properties", {}).values()):
            field["position"] = position
        return tidy(schema)


def tidy(schema: dict[str, Any]) -> dict[str, Any]:
    """Make an object's schema drawable; changes and returns it, a second time changes nothing."""
    properties: dict[str, dict[str, Any]] = schema.get("properties", {})
    required: list[str] = schema.get("required", [])
    for place, (name, field) in enumerate(list(properties.items())):
        if field.get("automatic"):
            del properties[name]
            continue
        if field.pop("last", False):
            field["position"] = len(properties) + place
        if _needed(field) and name not in required:
            required.append(name)
        branches = [branch for branch in field.get("anyOf", []) if branch != {"type": "null"}]
        if len(branches) == 1 and "default" in field and field["default"] is None:
            # Left empty, nothing is sent, and the default (None) is what is loaded.
            del field["anyOf"], field["default"]
            field.update(branches[0])
    if required:
        schema["required"] = required
    return schema


def _needed(field: dict[str, Any]) -> bool:
    """Whether a field with a default may not be emptied: it is not ``(Optional)`` then.

    A text may be, unless it has a shortest length or is picked from a list.
    """
    default = field.get("default")
    if isinstance(default, str):
        return bool(default) and bool(field.keys() & {"enum", "const", "minLength"})
    return default is not None and default is not False
