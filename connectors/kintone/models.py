"""What kintone answers, as values. Records stay as they came: every scalar is a string."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _digits(value: Any) -> Any:
    """Kintone sends numbers as strings, and ``""`` where no limit is set."""
    return None if value in ("", None) else value


class FieldProperty(BaseModel):
    """One field of an app's form, from ``app/form/fields.json``.

    Attributes:
        type: kintone's field type, e.g. ``SINGLE_LINE_TEXT``.
        code: The field code, by which records and queries name the field.
        label: What people see in the app.
        required: Whether a record must have a value.
        unique: Whether two records may not have the same value (needed for an update key).
        max_length: Longest value in characters, ``None`` = unlimited.
        options: The choices of a choice field, by their value.
        fields: The fields of a SUBTABLE, by code.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    code: str
    label: str = ""
    required: bool = False
    unique: bool = False
    max_length: Annotated[int | None, BeforeValidator(_digits)] = Field(
        default=None, alias="maxLength"
    )
    options: dict[str, Any] = Field(default_factory=dict)
    fields: dict[str, FieldProperty] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordPage:
    """One answer with records.

    Attributes:
        raw: The body as received, ready to be staged.
        records: The same, decoded: ``{field code: {"type": …, "value": …}}``.
        last_id: The greatest ``$id`` read so far; 0 when none was read, or by cursor.
        server_date: kintone's own clock when it answered, ``None`` when it did not say.
    """

    raw: bytes
    records: list[dict[str, Any]]
    last_id: int
    server_date: datetime | None
