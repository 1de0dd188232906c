"""再確認: what our books say is posted, looked up in 奉行クラウド. Nothing is changed there.

A document that is missing, doubled, or carries another amount is a line of エラー明細 (AC-813),
once: what a person has dealt with is not reported again until something else is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from uuid import UUID

from sqlalchemy import Connection, text

from flows.engine import rejects
from flows.engine.doubt import verdict
from flows.engine.ledger import reversal_entity
from flows.engine.model import Found, Reject
from flows.engine.pipeline import DocumentSink
from flows.engine.store import Store

BATCH = 500
"""Documents per look-up."""

CODE = "AC-813"

_POSTED = text(
    "SELECT source_key, external_key, amount, document_date, acknowledged_hash IS NOT NULL, "
    "entity FROM ledger WHERE connection = :connection AND entity = ANY(:entities) "
    "AND state IN ('posted', 'reversed') AND document_date BETWEEN :first AND :last "
    "AND updated_at < clock_timestamp() - make_interval(secs => :visible) "
    "ORDER BY document_date DESC, external_key LIMIT :limit"
)
_KNOWN = text(
    "SELECT entity, source_key, reason FROM reject WHERE connection = :connection "
    "AND entity = ANY(:entities)"
)


@dataclass
class Day:
    """Documents and yen of one 伝票日付, here and there."""

    ours: int = 0
    our_yen: int = 0
    theirs: int = 0
    their_yen: int = 0

    @property
    def differs(self) -> bool:
        """Whether the books disagree."""
        return (self.ours, self.our_yen) != (self.theirs, self.their_yen)


@dataclass
class Compared:
    """What the re-check of one connection came to.

    Attributes:
        days: By 伝票日付.
        found: Source key -> what is wrong, of those that nobody has dealt with.
        new: How many of these were not known before.
        cut: Whether there are more documents than were looked up.
    """

    days: dict[date, Day] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)
    new: int = 0
    cut: bool = False

    @property
    def total(self) -> Day:
        """Of all days."""
        every = self.days.values()
        return Day(
            sum(d.ours for d in every),
            sum(d.our_yen for d in every),
            sum(d.theirs for d in every),
            sum(d.their_yen for d in every),
        )


@dataclass(frozen=True, slots=True)
class _Posted:
    source_key: str
    key: str
    amount: int | None
    day: date
    acknowledged: bool
    entity: str


async def recheck(
    store: Store,
    connection: str,
    entity: str,
    sink: DocumentSink,
    *,
    first: date,
    last: date,
    limit: int,
    run_id: UUID,
) -> Compared:
    """Look up the posted documents of a period and keep what is wrong as エラー明細.

    Args:
        store: The books.
        connection: Name of the connection.
        entity: What it moves.
        sink: 奉行クラウド; only asked.
        first: First 伝票日付.
        last: Last 伝票日付.
        limit: Documents at most, the newest first.
        run_id: The run that reports.
    """
    posted = await store.do(_posted, connection, entity, first, last, limit + 1, sink.visible_after)
    compared = Compared(cut=len(posted) > limit)
    posted = posted[:limit]
    for start in range(0, len(posted), BATCH):
        part = posted[start : start + BATCH]
        there = await sink.find({row.key: row.day.isoformat() for row in part})
        wrong = _compare(compared, part, there)
        await store.do(_keep, connection, entity, part, wrong, run_id, compared)
    return compared


def _posted(
    db: Connection,
    connection: str,
    entity: str,
    first: date,
    last: date,
    limit: int,
    visible: float,
) -> list[_Posted]:
    values = {
        "connection": connection,
        "entities": [entity, reversal_entity(entity)],
        "first": first,
        "last": last,
        "visible": visible,
        "limit": limit,
    }
    return [_Posted(*row) for row in db.execute(_POSTED, values)]


def _compare(
    compared: Compared, part: Iterable[_Posted], there: Mapping[str, Found]
) -> dict[str, tuple[_Posted, str]]:
    wrong: dict[str, tuple[_Posted, str]] = {}
    for row in part:
        day = compared.days.setdefault(row.day, Day())
        found = there.get(row.key)
        day.ours += 1
        day.our_yen += row.amount or 0
        if found is not None:
            day.theirs += found.copies
            day.their_yen += found.amount * found.copies
        why = verdict(found, row.amount)
        # Of what changed at the source a person has said that it is dealt with, there as well; two
        # of it are wrong all the same.
        doubled = found is not None and found.copies > 1
        if why is not None and (doubled or not row.acknowledged):
            wrong[row.source_key] = (row, why)
    return wrong


def _keep(
    db: Connection,
    connection: str,
    entity: str,
    part: Sequence[_Posted],
    wrong: Mapping[str, tuple[_Posted, str]],
    run_id: UUID,
    compared: Compared,
) -> None:
    reported, seen = rejects.recheck_entity(entity), rejects.seen_entity(entity)
    values = {"connection": connection, "entities": [reported, seen]}
    known = {(row[0], row[1]): row[2] for row in db.execute(_KNOWN, values)}
    fine = [row.source_key for row in part if row.source_key not in wrong]
    for each in (reported, seen):
        rejects.resolve(db, connection, each, [key for key in fine if (each, key) in known])
    new: list[Reject] = []
    for key, (row, why) in wrong.items():
        reject = _reject(row, why)
        if known.get((seen, key)) == reject.reason:
            continue  # a person has dealt with exactly this
        compared.found[key] = why
        if known.get((reported, key)) != reject.reason:
            compared.new += 1
            new.append(reject)
    rejects.put(db, connection, reported, run_id, [(reject, {}) for reject in new])


def _reject(row: _Posted, why: str) -> Reject:
    kind = "赤伝票" if row.entity.endswith(".reversal") else "伝票"
    yen = f"{row.amount:,} 円" if row.amount is not None else "金額不明"
    return Reject(
        source_key=row.source_key,
        code=CODE,
        item="証憑番号",
        label=f"{kind} {row.day:%Y/%m/%d} {yen}",
        reason=f"登録した{kind}（証憑番号 {row.key}、{row.day:%Y/%m/%d}、{yen}）: {why}。",
    )
