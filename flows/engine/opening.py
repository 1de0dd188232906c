"""Opening a connection: its block, its secrets, and what is wrong with it in a person's words."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from connectors.kit import SettingsError
from flows.engine.pipeline import Pipeline


async def load_connection(pipeline: Pipeline[Any], name: str) -> Any:
    """The connection block ``name`` of a connector, with the blocks inside it.

    Raises:
        SettingsError: ``AC-206``, there is none; ``AC-205``, its values are not (or, after an
            update of the program, no longer) valid: the subject names them by their titles.
    """
    kind = pipeline.connection_type
    try:
        return await kind.aload(name)
    except ValueError:
        problem = SettingsError("AC-206", name)
    except RuntimeError as error:  # Prefect's word for a document that does not fit the block
        if not isinstance(error.__cause__, ValidationError):
            raise
        places = [violation(kind, each["loc"], each["type"]) for each in error.__cause__.errors()]
        problem = SettingsError("AC-205", f"接続「{name}」の{'、'.join(dict.fromkeys(places))}")
    # Out here: in a handler Python would hang the original, with the block's values, into
    # ``__context__``.
    raise problem


def violation(model: Any, place: tuple[int | str, ...], kind: str) -> str:
    """One violation as a person sees it in the form: ``「設定 → アプリID」が空です``."""
    titles: list[str] = []
    for part in place:
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            # Below a field: which entry, or which type of several; the title says enough. At the
            # top of a form: a value of an older or newer version of the program.
            if not titles or fields:
                titles.append(str(part))
            break
        titles.append(fields[part].title or str(part))
        model = fields[part].annotation
    wrong = {"missing": "が空です", "extra_forbidden": "は使えない項目です"}
    return f"「{' → '.join(titles)}」{wrong.get(kind, 'の値が正しくありません')}"


def secrets_of(model: BaseModel) -> list[str]:
    """Every secret value in a block and the blocks inside it, in each form that is sent."""
    found: list[str] = []
    for value in dict(model).values():
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
            # API tokens are listed with commas and sent without the spaces around them.
            found += [text, text.strip(), *(part.strip() for part in text.split(","))]
        elif isinstance(value, BaseModel):
            found += secrets_of(value)
    return [value for value in dict.fromkeys(found) if value]
