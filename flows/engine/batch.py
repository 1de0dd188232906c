"""A batch on its way through the load stage."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import random
from typing import TypeVar
from uuid import UUID, uuid4

import orjson

from connectors.kit import catalogue
from flows.engine import staging
from flows.engine.context import RunContext
from flows.engine.ledger import Intent, Known
from flows.engine.model import Reject, RowRefusal
from flows.engine.sending import Sent
from flows.engine.staging import Staged
from flows.engine.transform import Prepared

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reversal:
    """One document to be taken back.

    Attributes:
        red: The row that takes it back, with its ``intent`` in the books of reversals.
        source_key: The record.
        revision: Which revision is taken back.
        black: What is posted in its place; ``None`` = nothing, the record is gone.
    """

    red: Prepared
    intent: Intent
    source_key: str
    revision: int
    black: tuple[Prepared, Intent] | None = None


@dataclass
class Batch:
    """One staged page on its way, or several short ones.

    Attributes:
        seqs: The pages; ``stage`` says which kind.
        page_of: Source key -> its page, where a row goes back to when it has to wait.
        candidates: Rows that differ from what was sent last.
        ours: Keys of those that we have sent before, so they are there.
        wanted: Keys of the candidates and of what they refer to.
        found: Those of the others that 奉行クラウド already had.
        rows: What has to be sent, with the matching ``intents``.
        passed: Source keys that need nothing more (sent or unchanged).
        rejected: Rows that cannot be sent.
        deferred: Rows that refer to something not posted yet.
        again: Source keys that an earlier page of this run held already.
        repeated: How often a record came once more.
        tried: Source keys of rows that were sent by an earlier run, without success.

    Of documents alone:

    Attributes:
        changed: Records that differ from what was posted, with their ledger rows.
        adopted: Found at 奉行クラウド although our books did not know.
        waiting: Source keys whose earlier outcome is still unknown.
        unclear: Source key -> why a person has to look; ``doubts`` says the same to that person.
        observed: Source key -> content hash of a record that changed after it was posted.
        waiting_reds: Reversals whose outcome is still unknown.
        yen: Of what this batch posted or found.
        vanished: Documents whose record is gone; what a person reads of them is in ``doubts``.
        reversals: Documents to be taken back before their new revision is sent.
    """

    stage: str
    seqs: list[int]
    page_of: dict[str, int] = field(default_factory=dict)
    batch_id: UUID = field(default_factory=uuid4)
    candidates: list[Prepared] = field(default_factory=list)
    ours: set[str] = field(default_factory=set)
    wanted: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)
    rows: list[Prepared] = field(default_factory=list)
    intents: list[Intent] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    rejected: list[Reject] = field(default_factory=list)
    deferred: list[Prepared] = field(default_factory=list)
    sent: Sent = field(default_factory=Sent)
    again: set[str] = field(default_factory=set)
    repeated: int = 0
    tried: set[str] = field(default_factory=set)
    changed: list[tuple[Prepared, Known]] = field(default_factory=list)
    adopted: list[Intent] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    unclear: dict[str, str] = field(default_factory=dict)
    doubts: list[Reject] = field(default_factory=list)
    observed: dict[str, str] = field(default_factory=dict)
    reversals: list[Reversal] = field(default_factory=list)
    waiting_reds: list[str] = field(default_factory=list)
    vanished: int = 0
    yen: int = 0

    @property
    def planned(self) -> bool:
        """Whether the look-up left anything to write or to send."""
        return bool(
            self.candidates
            or self.adopted
            or self.waiting
            or self.unclear
            or self.observed
            or self.reversals
        )

    def new_ones_first(self) -> None:
        """Put the rows in the order in which they are sent, see `in_turn`."""
        if self.tried:
            pairs = zip(self.rows, self.intents, strict=True)
            ordered = in_turn(pairs, lambda pair: pair[0][0] in self.tried)
            self.rows, self.intents = [row for row, _ in ordered], [i for _, i in ordered]


def opened(run: RunContext, stage: str, pages: list[Staged]) -> tuple[Batch, list[Prepared]]:
    """The batch of these pages, and their rows: the last one of each source record.

    One record is one record, however often it was read: a page may shift, or a record may change,
    while the source is read.
    """
    batch = Batch(stage, [page.seq for page in pages])
    unique: dict[str, Prepared] = {}
    for page in pages:
        for row in orjson.loads(page.body):
            if row[0] in unique:
                batch.repeated += 1
            unique[row[0]] = row
            batch.page_of[row[0]] = page.seq
    if stage == staging.ROWS:
        batch.again = set().union(*(unique.keys() & keys for keys in run.recent))
        batch.repeated += len(batch.again)
        run.recent.append(set(unique))
    return batch, list(unique.values())


def refused(run: RunContext, row: Prepared, sent: Sent, source_key: str) -> Reject | None:
    """奉行クラウド's no to what was sent under ``source_key``, as a line of エラー明細 about a row.

    Returns:
        ``None`` when it was no such no.
    """
    alone = sent.refused.get(source_key)
    refusal = alone or sent.given_up.get(source_key)
    if refusal is None:
        return None
    words = f"奉行クラウドのメッセージ: {refusal.message or refusal.vendor_code or '(なし)'}"
    return Reject(
        source_key=row[0],
        code="AC-609" if alone is None else "AC-806",
        item=refusal.item,
        label=label_of(run, row),
        reason=f"{catalogue()['AC-609'].happened}{words}" if alone is None else words,
        remedy=_remedy(refusal),
    )


_CLOSED = re.compile("締め|締切|締日")
"""In a refusal's message: the date is in a period that is closed."""
_PERIOD = re.compile("[（(]([^（）()]*まで)[）)]")


def _remedy(refusal: RowRefusal) -> str:
    """What to do about it, where more can be said than "follow the message"; else empty."""
    if not _CLOSED.search(refusal.message):
        return ""
    period = _PERIOD.search(refusal.message)
    named = f"締め済みの期間（{period[1]}）" if period else "締め済みの期間"
    return (
        f"元データの日付を{named}より後に直す、"
        f"または経理の責任者に頼んで奉行クラウドで{named}の締めを解除する"
        " → 次回の処理（または手動実行）が自動で送り直します"
    )


def in_turn(items: Iterable[T], tried: Callable[[T], bool]) -> list[T]:
    """Those that were tried before come last, each time in another order.

    When 奉行クラウド does not say which row it refuses, the search for the good ones ends after a
    dozen bad ones (`flows.engine.sending.GIVE_UP`): none may wait behind the same ones for ever.
    """
    return sorted(items, key=lambda item: random() if tried(item) else -1.0)  # noqa: S311 (no secret)


def label_of(run: RunContext, row: Prepared) -> str:
    """How a person recognises the record: the key of a master, the label of a document."""
    return row[3][run.transformer.fields.index("label")] if run.changed else row[1]
