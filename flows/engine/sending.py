"""Delivering a batch whose intent is written: the request, and what its answer means.

No retry sits around the request here: the client repeats only what was certainly not processed.
An outcome that nobody knows is looked up before anything is sent again (design 6.4).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from connectors.kit import AppConnectError, Failure, FaultError, UnknownOutcomeError
from flows.engine import points
from flows.engine.context import RunContext
from flows.engine.doubt import verdict
from flows.engine.ledger import Intent, Ledger
from flows.engine.model import RowRefusal, SendOutcome
from flows.engine.transform import Prepared, hasher

LOOK_UPS = 3
"""How often an unknown outcome is looked up, and its missing rows sent again, in one run."""

GIVE_UP = 12
"""Rows that are sent one by one and refused for the same reason, one after the other, until it is
believed that the reason is not in the rows. What is then refused as a whole is not halved again."""

_VARIES = re.compile(r"\w*\d\w*")
"""What differs between two messages that mean the same: numbers, codes, ids."""


@dataclass
class Streak:
    """Rows of a batch that were refused alone, one after the other, for the same reason."""

    reason: tuple[str, str] = ("", "")
    length: int = 0

    def note(self, refusal: RowRefusal) -> None:
        """One more row was refused."""
        reason = _reason(refusal)
        self.length = self.length + 1 if reason == self.reason else 1
        self.reason = reason

    def ends(self, refusal: RowRefusal) -> bool:
        """Whether looking for the good rows in a request that was refused like this is over."""
        return self.length >= GIVE_UP and _reason(refusal) == self.reason


def _reason(refusal: RowRefusal) -> tuple[str, str]:
    return refusal.vendor_code, _VARIES.sub("#", refusal.message)


@dataclass
class Sent:
    """What became of a batch, by source key.

    Attributes:
        given_up: Refused together with others and, after `GIVE_UP`, not sent alone.
        unclear: Why a person has to look at a document.
        streak: See `GIVE_UP`.
    """

    posted: list[str] = field(default_factory=list)
    refused: dict[str, RowRefusal] = field(default_factory=dict)
    given_up: dict[str, RowRefusal] = field(default_factory=dict)
    unclear: dict[str, str] = field(default_factory=dict)
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    pending: int = 0
    streak: Streak = field(default_factory=Streak)

    def note(self, action: str) -> None:
        """Count one posted row."""
        if action == "created":
            self.created += 1
        else:
            self.updated += 1

    def accept(self, intents: Sequence[Intent]) -> None:
        """A definite yes to these rows."""
        if intents:
            self.streak = Streak()
        self.posted += [intent.source_key for intent in intents]
        created = sum([intent.action == "created" for intent in intents])
        self.created += created
        self.updated += len(intents) - created


@dataclass(frozen=True, slots=True)
class Books:
    """Where the batch's intents are written.

    Attributes:
        ledger: The books.
        batch_id: The batch in them.
    """

    ledger: Ledger
    batch_id: UUID


async def deliver(
    run: RunContext,
    books: Books,
    rows: Sequence[Prepared],
    intents: Sequence[Intent],
    sent: Sent,
) -> Sent:
    """Send the rows until each is accepted, refused, or cannot be told.

    Raises:
        AppConnectError: a definite no to the whole request, or the sink cannot even be asked.
    """
    start = 0
    for size in _portions(run, rows):
        part = slice(start, start + size)
        await _deliver(run, books, rows[part], intents[part], sent)
        start += size
    return sent


def _portions(run: RunContext, rows: Sequence[Prepared]) -> Iterator[int]:
    if run.changed is not None:
        yield from run.documents.portions([_values(run, row) for row in rows])
        return
    size = max(1, run.masters.batch_size)
    for start in range(0, len(rows), size):
        yield min(size, len(rows) - start)


def _values(run: RunContext, row: Prepared) -> dict[str, str]:
    return dict(zip(run.transformer.fields, row[3], strict=True))


async def _deliver(
    run: RunContext,
    books: Books,
    rows: Sequence[Prepared],
    intents: Sequence[Intent],
    sent: Sent,
) -> None:
    unknown = 0
    while rows:
        try:
            rows, intents = await _once(run, books, rows, intents, sent)
        except UnknownOutcomeError as error:
            if run.changed is not None:
                left = await _find(run, rows, intents, sent, error)
            else:
                await asyncio.sleep(min(error.retry_after or 0.5 * 2**unknown, 30.0))
                left = await _look_up(run, rows, intents, sent)
            rows, intents = [rows[n] for n in left], [intents[n] for n in left]
            unknown += 1
            if unknown == LOOK_UPS:
                sent.pending += len(rows)
                return


async def _look_up(
    run: RunContext, rows: Sequence[Prepared], intents: Sequence[Intent], sent: Sent
) -> list[int]:
    """Ask 奉行クラウド what it stored of a batch; returns the indexes of the rows that it lacks."""
    try:
        stored = await stored_as_sent(run, [(row[1], row[2]) for row in rows])
    except AppConnectError as error:
        # The look-up's own failure says nothing about the post before it: still unknown.
        error.failure = None
        raise
    sent.accept([i for i in intents if i.key in stored])
    return [n for n, i in enumerate(intents) if i.key not in stored]


async def _find(
    run: RunContext,
    rows: Sequence[Prepared],
    intents: Sequence[Intent],
    sent: Sent,
    error: UnknownOutcomeError,
) -> list[int]:
    """The same for documents: "not found" is believed only once it would certainly be visible."""
    visible = time.monotonic() + run.documents.visible_after
    left = list(range(len(rows)))
    try:
        while True:
            there = await run.documents.find({intents[n].key: intents[n].day or "" for n in left})
            for n in left:
                if intents[n].key not in there:
                    continue
                problem = verdict(there[intents[n].key], intents[n].amount)
                if problem is None:
                    sent.accept([intents[n]])
                else:
                    sent.unclear[intents[n].source_key] = problem
                    sent.pending += 1
            left = [n for n in left if intents[n].key not in there]
            if not left:
                return []
            wait = visible - time.monotonic()
            if wait <= 0:
                break
            await asyncio.sleep(wait)
        if not error.accepted_key:
            return left
        state = await run.documents.import_state(error.accepted_key)
    except AppConnectError as failed:
        failed.failure = None
        raise
    if state in ("done", "failed"):
        return left
    # The import may still be at work: neither sent again nor forgotten. The next run asks again.
    sent.pending += len(left)
    return []


async def _once(
    run: RunContext,
    books: Books,
    rows: Sequence[Prepared],
    intents: Sequence[Intent],
    sent: Sent,
) -> tuple[Sequence[Prepared], Sequence[Intent]]:
    """One request with a definite answer; returns the rows that have to be sent again."""
    outcome = await _request(run, books, rows)
    points.reached("after-answer")
    if outcome.whole is not None:
        if len(rows) == 1:
            sent.refused[rows[0][0]] = outcome.whole
            sent.streak.note(outcome.whole)
            return [], []
        if sent.streak.ends(outcome.whole):
            sent.given_up |= {row[0]: outcome.whole for row in rows}
            return [], []
        # Refused without naming a row: halves find it, and the good ones go through.
        middle = len(rows) // 2
        await _deliver(run, books, rows[:middle], intents[:middle], sent)
        await _deliver(run, books, rows[middle:], intents[middle:], sent)
        return [], []
    if not outcome.refused and not outcome.existing and not outcome.others_stored:
        raise FaultError("AC-401", service="奉行クラウド", failure=Failure.REFUSED)
    for index, refusal in outcome.refused.items():
        sent.refused[rows[index][0]] = refusal
        if len(rows) == 1:
            sent.streak.note(refusal)
    if not outcome.refused and not outcome.existing:
        sent.accept(intents)
        return [], []
    sent.accept([intents[n] for n in sorted(outcome.existing)])
    named = outcome.refused.keys() | outcome.existing
    others = [n for n in range(len(rows)) if n not in named]
    if outcome.others_stored:
        sent.accept([intents[n] for n in others])
        return [], []
    return [rows[n] for n in others], [intents[n] for n in others]


async def _request(run: RunContext, books: Books, rows: Sequence[Prepared]) -> SendOutcome:
    values = [_values(run, row) for row in rows]
    if run.changed is None:
        points.reached("after-intent")
        run.lease.assert_current()
        return await run.masters.send(values)
    sources = [row[0] for row in rows]

    async def accepted(key: str) -> None:
        await run.store.do(books.ledger.accepted, sources, books.batch_id, key)

    # The books know when it left: how long it may take until it is visible counts from here.
    await run.store.do(books.ledger.again, sources, run=run.run_id, fence=run.lease.fence)
    points.reached("after-intent")
    run.lease.assert_current()
    return await run.documents.send(values, [row[1] for row in rows], accepted)


async def stored_as_sent(run: RunContext, wanted: Sequence[tuple[str, str]]) -> set[str]:
    """Which of these keys 奉行クラウド holds with exactly the content that was sent.

    Args:
        run: The run at work.
        wanted: Key and content hash (hex) of each row.
    """
    fields = run.transformer.fields
    digest = hasher(fields)
    stored: set[str] = set()
    size = max(1, run.masters.batch_size)
    for start in range(0, len(wanted), size):
        part = dict(wanted[start : start + size])
        found = await run.masters.fetch(list(part), fields)
        for key, values in found.items():
            if key in part and digest([values.get(name, "") for name in fields]) == part[key]:
                stored.add(key)
    return stored
