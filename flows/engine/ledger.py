"""The ledger: what was sent, and what is known about it (design 6).

    (no row) --intent--> pending --definite yes--> posted
                            |------definite no---> rejected
                            '------anything else-> stays pending, until it is settled:
                                                   found -> posted, not found -> unsent

An ``unsent`` row is known not to be stored; its record is read and sent again by the next run.

Every function is one statement or a few in the caller's transaction; rows travel as arrays, so a
batch of 500 costs the same round trips as a batch of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from connectors.kit import WaitError

PENDING, POSTED, REJECTED, UNSENT = "pending", "posted", "rejected", "unsent"


def _json(texts: Sequence[str]) -> str:
    return orjson.dumps(texts).decode()


class Known(NamedTuple):
    """A ledger row, as far as the load stage needs it; ``content_hash`` in hex."""

    source_key: str
    key: str
    content_hash: str
    state: str
    action: str
    run_id: UUID


class Intent(NamedTuple):
    """A row that is about to be sent; ``content_hash`` in hex."""

    source_key: str
    key: str
    content_hash: str
    action: str


# Arrays travel as JSON: psycopg writes a list of texts element by element in Python, which costs
# more than everything else that a batch does here; orjson writes it at once.
_LOOK_UP = text(
    "SELECT source_key, external_key, encode(content_hash, 'hex'), state, action, run_id "
    "FROM ledger WHERE connection = :connection AND entity = :entity "
    "AND source_key = ANY(ARRAY(SELECT json_array_elements_text(CAST(:sources AS json))))"
)
_HOLDERS = text(
    "SELECT external_key, source_key, state FROM ledger "
    "WHERE connection = :connection AND entity = :entity "
    "AND external_key = ANY(ARRAY(SELECT json_array_elements_text(CAST(:keys AS json)))) "
    # An update that was refused leaves the record at 奉行クラウド as it was: it keeps its code.
    "AND (state <> 'rejected' OR action = 'updated')"
)
_FENCE = text(
    "SELECT 1 FROM connection WHERE name = :connection AND lease_owner = :run AND fence = :fence "
    "AND lease_expires > clock_timestamp() FOR UPDATE"
)
_INTENT = text(
    "INSERT INTO ledger (connection, entity, source_key, external_key, content_hash, state, "
    "action, batch_id, run_id, updated_at) "
    "SELECT :connection, :entity, s, k, decode(h, 'hex'), 'pending', a, :batch, :run, now() "
    "FROM ROWS FROM (json_array_elements_text(CAST(:sources AS json)), "
    "json_array_elements_text(CAST(:keys AS json)), "
    "json_array_elements_text(CAST(:hashes AS json)), "
    "json_array_elements_text(CAST(:actions AS json))) AS t(s, k, h, a) "
    "ON CONFLICT (connection, entity, source_key) DO UPDATE SET "
    "external_key = excluded.external_key, content_hash = excluded.content_hash, "
    "state = 'pending', action = excluded.action, batch_id = excluded.batch_id, "
    "run_id = excluded.run_id, error = NULL, updated_at = now()"
)
_POSTED = text(
    "UPDATE ledger SET state = 'posted', updated_at = now() "
    "WHERE connection = :connection AND entity = :entity "
    "AND source_key = ANY(ARRAY(SELECT json_array_elements_text(CAST(:sources AS json)))) "
    "AND batch_id = :batch AND state = 'pending'"
)
_MARK_REJECTED = text(
    "UPDATE ledger SET state = 'rejected', error = t.e, updated_at = now() "
    "FROM unnest(CAST(:sources AS text[]), CAST(:errors AS text[])) AS t(s, e) "
    "WHERE connection = :connection AND entity = :entity AND source_key = t.s "
    "AND batch_id = :batch AND state = 'pending'"
)
_PENDING = text(
    "SELECT source_key, external_key, encode(content_hash, 'hex'), state, action, run_id "
    "FROM ledger WHERE connection = :connection AND entity = :entity AND state = 'pending' "
    "ORDER BY source_key LIMIT :limit"
)
_SETTLE = text(
    "UPDATE ledger SET state = :state, updated_at = now() WHERE connection = :connection "
    "AND entity = :entity AND state = 'pending' AND source_key = ANY(:sources)"
)
_UNSENT = text(
    "SELECT source_key FROM ledger WHERE connection = :connection AND entity = :entity "
    "AND state = 'unsent'"
)
_TOTALS = text(
    "SELECT state, action, count(*) FROM ledger WHERE connection = :connection "
    "AND entity = :entity AND run_id = :run GROUP BY state, action"
)
_ANALYZE = text("ANALYZE ledger")
_RELEASE = text(
    "DELETE FROM ledger WHERE connection = :connection AND entity = :entity "
    "AND source_key = ANY(:sources)"
)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger of one entity of one connection."""

    connection: str
    entity: str

    def _who(self) -> dict[str, str]:
        return {"connection": self.connection, "entity": self.entity}

    def known(self, db: Connection, sources: Sequence[str]) -> dict[str, Known]:
        """The ledger rows of these source records."""
        rows = db.execute(_LOOK_UP, {**self._who(), "sources": _json(sources)})
        return {row[0]: Known(*row) for row in rows}

    def holders(self, db: Connection, keys: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Which source record holds each of these 奉行クラウド keys: key -> (source key, state)."""
        rows = db.execute(_HOLDERS, {**self._who(), "keys": _json(keys)})
        return {r[0]: (r[1], r[2]) for r in rows}

    def intend(
        self,
        db: Connection,
        intents: Sequence[Intent],
        *,
        batch_id: UUID,
        run_id: UUID,
        fence: int,
    ) -> None:
        """Write the intent rows of a batch, if this run still holds the lease.

        Raises:
            WaitError: ``AC-601``, another run took the lease over; nothing may be sent.
        """
        assert_fence(db, self.connection, run_id, fence)
        db.execute(
            _INTENT,
            {
                **self._who(),
                "batch": batch_id,
                "run": run_id,
                "sources": _json([i.source_key for i in intents]),
                "keys": _json([i.key for i in intents]),
                "hashes": _json([i.content_hash for i in intents]),
                "actions": _json([i.action for i in intents]),
            },
        )

    def posted(self, db: Connection, sources: Sequence[str], batch_id: UUID) -> None:
        """A definite yes for these rows of the batch."""
        db.execute(_POSTED, {**self._who(), "sources": _json(sources), "batch": batch_id})

    def rejected(self, db: Connection, errors: dict[str, str], batch_id: UUID) -> None:
        """A definite no for these rows: source key -> 奉行クラウド's words."""
        db.execute(
            _MARK_REJECTED,
            {
                **self._who(),
                "sources": list(errors),
                "errors": list(errors.values()),
                "batch": batch_id,
            },
        )

    def pending(self, db: Connection, limit: int) -> list[Known]:
        """Rows whose outcome nobody knows yet, oldest key first."""
        rows = db.execute(_PENDING, {**self._who(), "limit": limit})
        return [Known(*row) for row in rows]

    def settle(
        self, db: Connection, *, posted: Sequence[str], unsent: Sequence[str], run: UUID, fence: int
    ) -> None:
        """Write what a look-up at 奉行クラウド found out about pending rows."""
        assert_fence(db, self.connection, run, fence)
        for state, sources in ((POSTED, posted), (UNSENT, unsent)):
            if sources:
                db.execute(_SETTLE, {**self._who(), "state": state, "sources": list(sources)})

    def unsent(self, db: Connection) -> list[str]:
        """Source keys of records that are known not to be stored and have to be sent again."""
        return [r[0] for r in db.execute(_UNSENT, self._who())]

    def totals(self, db: Connection, run_id: UUID) -> dict[tuple[str, str], int]:
        """What one run did, from the books: (state, action) -> rows."""
        rows = db.execute(_TOTALS, {**self._who(), "run": run_id})
        return {(row[0], row[1]): row[2] for row in rows}

    def analyze(self, db: Connection) -> None:
        """Let PostgreSQL look at the table again, while a first run fills it.

        Before it has looked (autovacuum does so once a minute), it takes any index that begins
        with connection and entity for as good as the right one, and every batch reads all rows.
        """
        db.execute(_ANALYZE)

    def release(self, db: Connection, sources: Sequence[str]) -> None:
        """Forget these rows: their source record is gone."""
        if sources:
            db.execute(_RELEASE, {**self._who(), "sources": list(sources)})


def assert_fence(db: Connection, connection: str, run_id: UUID, fence: int) -> None:
    """Lock the lease row for this transaction, or refuse.

    Raises:
        WaitError: ``AC-601``, the lease lapsed or belongs to another run.
    """
    held = db.execute(_FENCE, {"connection": connection, "run": run_id, "fence": fence}).first()
    if held is None:
        raise WaitError("AC-601", "この処理の持ち時間が切れ、ほかの処理が引き継ぎました")
