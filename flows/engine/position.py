"""How far extract and transform are, in the run's row: what a resumed run begins with.

Both stages write while the other is at work, so each writes its own columns and its own keys of
``position``, in the transaction that made them true, and PostgreSQL puts them together:

| key | stage | meaning |
|---|---|---|
| ``source`` | extract | where the source goes on reading |
| ``pages`` | extract | pages that are staged |
| ``newest``, ``server_time`` | extract | for the watermark |
| ``extracted`` | extract | every page is staged |
| ``transformed`` | transform | pages whose rows are staged |
| ``nothing`` | transform | source keys of which there is nothing to post, in those pages |
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

_SAVE = text(
    "UPDATE run SET extracted = coalesce(:extracted, extracted), "
    "rejected = coalesce(:rejected, rejected), stage = coalesce(:stage, stage), "
    "position = position || CAST(:position AS jsonb) WHERE id = :id"
)


def save(
    db: Connection,
    run_id: UUID,
    position: dict[str, Any],
    *,
    extracted: int | None = None,
    rejected: int | None = None,
    stage: str | None = None,
) -> None:
    """Write some keys of the position and some counts; what is not named stays as it is.

    Args:
        db: The transaction that stages the page.
        run_id: The run.
        position: Keys to be set, JSON-able.
        extracted: Records whose pages are staged.
        rejected: Records that the transform rejected.
        stage: The last stage that is complete.
    """
    values = {
        "id": run_id,
        "position": orjson.dumps(position).decode(),
        "extracted": extracted,
        "rejected": rejected,
        "stage": stage,
    }
    db.execute(_SAVE, values)
