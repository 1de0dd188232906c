"""The ledger: what was sent, and what is known about it (design 6).

    (no row) --intent--> pending --definite yes--> posted
                            |------definite no---> rejected
                            '------anything else-> stays pending, until it is settled:
                                                   found -> posted, not found -> unsent,
                                                   cannot tell -> unclear

An ``unsent`` row is known not to be stored; its record is read and sent again by the next run (so
are those that were refused among others, and not on their own). An
``unclear`` row (要確認) waits for a person and is never sent again by itself.

Documents have two states more: a ``posted`` one whose reversal was posted is ``reversed``, and may
be posted again under its next revision. The reversals have rows of their own, under the entity
`reversal_entity`, so that they cannot meet a record of that name.

Every function is one statement or a few in the caller's transaction; rows travel as arrays, so a
batch of 500 costs the same round trips as a batch of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import Connection

from connectors.kit import WaitError
from flows.engine import ledger_sql as sql

PENDING, POSTED, REJECTED, UNSENT = "pending", "posted", "rejected", "unsent"
UNCLEAR, REVERSED = "unclear", "reversed"


def _json(texts: Sequence[object]) -> str:
    return orjson.dumps(texts).decode()


def reversal_entity(entity: str) -> str:
    """The entity under which reversals (赤伝票) of documents are kept."""
    return f"{entity}.reversal"


class Known(NamedTuple):
    """A ledger row, as far as the load stage needs it.

    Attributes:
        content_hash: Hex.
        revision: Of a document: 1, and one more each time it was reversed and posted again.
        amount: Yen of a document.
        day: Date of a document.
        accepted_key: Of an asynchronous import whose result was not seen.
        age: Seconds since the row was written last, by the database's clock.
        acknowledged: Hex of the later content of which a person said that it is dealt with; empty
            = the record is gone.
    """

    source_key: str
    key: str
    content_hash: str
    state: str
    action: str
    run_id: UUID
    revision: int = 1
    amount: int | None = None
    day: date | None = None
    accepted_key: str | None = None
    age: float = 0.0
    error: str | None = None
    acknowledged: str | None = None


class Intent(NamedTuple):
    """A row that is about to be sent; ``content_hash`` in hex. The last three are of documents."""

    source_key: str
    key: str
    content_hash: str
    action: str
    revision: int = 1
    amount: int | None = None
    day: str | None = None


def _master_columns(intents: Sequence[Intent]) -> dict[str, str]:
    return {
        "sources": _json([i.source_key for i in intents]),
        "keys": _json([i.key for i in intents]),
        "hashes": _json([i.content_hash for i in intents]),
        "actions": _json([i.action for i in intents]),
    }


def _columns(intents: Sequence[Intent]) -> dict[str, str]:
    return {
        **_master_columns(intents),
        "revisions": _json([i.revision for i in intents]),
        "amounts": _json([i.amount for i in intents]),
        "days": _json([i.day for i in intents]),
    }


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger of one entity of one connection."""

    connection: str
    entity: str

    def _who(self) -> dict[str, str]:
        return {"connection": self.connection, "entity": self.entity}

    def known(self, db: Connection, sources: Sequence[str]) -> dict[str, Known]:
        """The ledger rows of these source records."""
        rows = db.execute(sql.LOOK_UP, {**self._who(), "sources": _json(sources)})
        return {row[0]: Known(*row) for row in rows}

    def documents(self, db: Connection, sources: Sequence[str]) -> dict[str, Known]:
        """The ledger rows of these documents, with everything that is known of them."""
        rows = db.execute(sql.DOCUMENTS, {**self._who(), "sources": _json(sources)})
        return {row[0]: Known(*row) for row in rows}

    def observe(self, db: Connection, seen: Mapping[str, str]) -> None:
        """How a posted document's source looks now: source key -> content hash (empty = gone)."""
        if seen:
            parameters = {"sources": list(seen), "hashes": list(seen.values())}
            db.execute(sql.OBSERVE, {**self._who(), **parameters})

    def acknowledge(self, db: Connection, sources: Sequence[str]) -> list[str]:
        """A person has dealt with what changed at the source; returns those that it applied to."""
        rows = db.execute(sql.ACKNOWLEDGE, {**self._who(), "sources": list(sources)})
        return [row[0] for row in rows]

    def decide(self, db: Connection, sources: Sequence[str], *, stored: bool) -> list[str]:
        """A person has looked at unclear documents: they are there, or they are to be sent again.

        Returns:
            The source keys that were still unclear; pressing twice changes nothing.
        """
        state = POSTED if stored else UNSENT
        rows = db.execute(sql.DECIDE, {**self._who(), "state": state, "sources": list(sources)})
        return [row[0] for row in rows]

    def own(self, db: Connection, sources: Sequence[str], run: UUID) -> None:
        """Rows of earlier runs whose outcome is still unknown count in this run."""
        if sources:
            db.execute(sql.OWN, {**self._who(), "sources": list(sources), "run": run})

    def holders(self, db: Connection, keys: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Which source record holds each of these 奉行クラウド keys: key -> (source key, state)."""
        rows = db.execute(sql.HOLDERS, {**self._who(), "keys": _json(keys)})
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
        document = any(i.day is not None for i in intents)
        written = db.execute(
            sql.INTENT_DOCUMENT if document else sql.INTENT,
            {
                **self._who(),
                "batch": batch_id,
                "run": run_id,
                **(_columns(intents) if document else _master_columns(intents)),
            },
        )
        if written.rowcount != len(intents):
            raise RuntimeError("a document that may be stored was about to be sent again")

    def posted(self, db: Connection, sources: Sequence[str], batch_id: UUID) -> None:
        """A definite yes for these rows of the batch."""
        db.execute(sql.POSTED, {**self._who(), "sources": _json(sources), "batch": batch_id})

    def rejected(
        self, db: Connection, errors: dict[str, str], batch_id: UUID, state: str = REJECTED
    ) -> None:
        """A definite no for these rows: source key -> 奉行クラウド's words.

        Args:
            db: The transaction.
            errors: The rows.
            batch_id: Their batch.
            state: `UNSENT` when the no was to many rows at once and may not be about these.
        """
        db.execute(
            sql.MARK_REJECTED,
            {
                **self._who(),
                "sources": list(errors),
                "errors": list(errors.values()),
                "batch": batch_id,
                "state": state,
            },
        )

    def in_state(
        self, db: Connection, state: str, limit: int = 1_000_000, after: str = ""
    ) -> list[Known]:
        """Rows in a state, by key, those behind the key ``after`` only."""
        rows = db.execute(
            sql.IN_STATE, {**self._who(), "state": state, "limit": limit, "after": after}
        )
        return [Known(*row) for row in rows]

    def settle(
        self,
        db: Connection,
        *,
        posted: Sequence[str] = (),
        unsent: Sequence[str] = (),
        unclear: Mapping[str, str] | None = None,
        run: UUID,
        fence: int,
    ) -> None:
        """Write what a look-up at 奉行クラウド found out about pending and unclear rows.

        Args:
            db: The transaction.
            posted: They are stored.
            unsent: They are certainly not.
            unclear: Source key -> why nobody can tell.
            run: The run that holds the lease.
            fence: Its fencing number.

        Raises:
            WaitError: ``AC-601``, another run took the lease over.
        """
        assert_fence(db, self.connection, run, fence)
        for state, sources in ((POSTED, posted), (UNSENT, unsent)):
            if sources:
                db.execute(sql.SETTLE, {**self._who(), "state": state, "sources": list(sources)})
        self._doubt(db, unclear or {})

    def doubt(self, db: Connection, why: Mapping[str, str], *, run: UUID, fence: int) -> None:
        """Nobody can tell whether these are stored as they were sent: source key -> why.

        Raises:
            WaitError: ``AC-601``, another run took the lease over.
        """
        assert_fence(db, self.connection, run, fence)
        self._doubt(db, why)

    def _doubt(self, db: Connection, why: Mapping[str, str]) -> None:
        if why:
            words = [text_.replace("\x00", "") for text_ in why.values()]
            db.execute(sql.UNCLEAR, {**self._who(), "sources": list(why), "errors": words})

    def adopt(
        self,
        db: Connection,
        found: Sequence[Intent],
        *,
        batch_id: UUID,
        run_id: UUID,
        fence: int,
    ) -> None:
        """Documents that 奉行クラウド holds although these books did not know: they are posted.

        Raises:
            WaitError: ``AC-601``, another run took the lease over.
        """
        assert_fence(db, self.connection, run_id, fence)
        db.execute(sql.ADOPT, {**self._who(), "batch": batch_id, "run": run_id, **_columns(found)})

    def accepted(
        self, db: Connection, sources: Sequence[str], batch_id: UUID, accepted_key: str
    ) -> None:
        """奉行クラウド took these rows and will tell their result later, under ``accepted_key``."""
        db.execute(
            sql.ACCEPTED,
            {
                **self._who(),
                "sources": list(sources),
                "batch": batch_id,
                "accepted": accepted_key.replace("\x00", ""),
            },
        )

    def again(self, db: Connection, sources: Sequence[str], *, run: UUID, fence: int) -> None:
        """These pending rows are about to be sent once more: their age starts anew.

        Raises:
            WaitError: ``AC-601``, another run took the lease over; nothing may be sent.
        """
        assert_fence(db, self.connection, run, fence)
        db.execute(sql.TOUCH, {**self._who(), "sources": list(sources)})

    def reversed(self, db: Connection, revisions: Mapping[str, int], *, run: UUID) -> None:
        """The reversal of these documents is posted: source key -> revision that it reverses."""
        if revisions:
            db.execute(
                sql.REVERSED,
                {
                    **self._who(),
                    "sources": list(revisions),
                    "revisions": list(revisions.values()),
                    "run": run,
                },
            )

    def unsent(self, db: Connection) -> list[str]:
        """Source keys of records that are known not to be stored and have to be sent again."""
        return [r[0] for r in db.execute(sql.UNSENT, self._who())]

    def totals(self, db: Connection, run_id: UUID) -> dict[tuple[str, str], int]:
        """What one run did, from the books: (state, action) -> rows."""
        rows = db.execute(sql.TOTALS, {**self._who(), "run": run_id})
        return {(row[0], row[1]): row[2] for row in rows}

    def sums(self, db: Connection, run_id: UUID) -> dict[str, tuple[int, int]]:
        """What one run touched, from the books: state -> (yen, rows)."""
        rows = db.execute(sql.SUMS, {**self._who(), "run": run_id})
        return {row[0]: (int(row[1]), row[2]) for row in rows}

    def analyze(self, db: Connection) -> None:
        """Let PostgreSQL look at the table again, while a first run fills it.

        Before it has looked (autovacuum does so once a minute), it takes any index that begins
        with connection and entity for as good as the right one, and every batch reads all rows.
        """
        db.execute(sql.ANALYZE)

    def release(self, db: Connection, sources: Sequence[str]) -> None:
        """Forget these rows: their source record is gone."""
        if sources:
            db.execute(sql.RELEASE, {**self._who(), "sources": list(sources)})


def assert_fence(db: Connection, connection: str, run_id: UUID, fence: int) -> None:
    """Lock the lease row for this transaction, or refuse.

    Raises:
        WaitError: ``AC-601``, the lease lapsed or belongs to another run.
    """
    held = db.execute(sql.FENCE, {"connection": connection, "run": run_id, "fence": fence}).first()
    if held is None:
        raise WaitError("AC-601", "この処理の持ち時間が切れ、ほかの処理が引き継ぎました")
