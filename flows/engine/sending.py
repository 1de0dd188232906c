"""Delivering a batch whose intent is written: the request, and what its answer means.

No retry sits around the request here: the client repeats only what was certainly not processed.
An outcome that nobody knows is looked up before anything is sent again (design 6.4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from connectors.kit import AppConnectError, Failure, FaultError, UnknownOutcomeError
from flows.engine.context import RunContext
from flows.engine.ledger import Intent
from flows.engine.model import RowRefusal
from flows.engine.transform import Prepared, hasher

LOOK_UPS = 3
"""How often an unknown outcome is looked up, and its missing rows sent again, in one run."""


@dataclass
class Sent:
    """What became of a batch, by source key."""

    posted: list[str] = field(default_factory=list)
    refused: dict[str, RowRefusal] = field(default_factory=dict)
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    pending: int = 0

    def note(self, action: str) -> None:
        """Count one posted row."""
        if action == "created":
            self.created += 1
        else:
            self.updated += 1

    def accept(self, intents: Sequence[Intent]) -> None:
        """A definite yes to these rows."""
        self.posted += [intent.source_key for intent in intents]
        created = sum([intent.action == "created" for intent in intents])
        self.created += created
        self.updated += len(intents) - created


async def deliver(
    run: RunContext, rows: Sequence[Prepared], intents: Sequence[Intent], sent: Sent
) -> Sent:
    """Send the rows until each is accepted, refused, or cannot be told.

    Raises:
        AppConnectError: a definite no to the whole request, or the sink cannot even be asked.
    """
    size = max(1, run.sink.batch_size)
    for start in range(0, len(rows), size):
        await _deliver(run, rows[start : start + size], intents[start : start + size], sent)
    return sent


async def _deliver(
    run: RunContext, rows: Sequence[Prepared], intents: Sequence[Intent], sent: Sent
) -> None:
    unknown = 0
    while rows:
        run.lease.assert_current()
        try:
            rows, intents = await _once(run, rows, intents, sent)
        except UnknownOutcomeError as error:
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


async def _once(
    run: RunContext, rows: Sequence[Prepared], intents: Sequence[Intent], sent: Sent
) -> tuple[Sequence[Prepared], Sequence[Intent]]:
    """One request with a definite answer; returns the rows that have to be sent again."""
    fields = run.transformer.fields
    outcome = await run.sink.send([dict(zip(fields, row[3], strict=True)) for row in rows])
    if outcome.whole is not None:
        if len(rows) == 1:
            sent.refused[rows[0][0]] = outcome.whole
            return [], []
        # Refused without naming a row: halves find it, and the good ones go through.
        middle = len(rows) // 2
        await _deliver(run, rows[:middle], intents[:middle], sent)
        await _deliver(run, rows[middle:], intents[middle:], sent)
        return [], []
    if not outcome.refused and not outcome.others_stored:
        raise FaultError("AC-401", service="奉行クラウド", failure=Failure.REFUSED)
    for index, refusal in outcome.refused.items():
        sent.refused[rows[index][0]] = refusal
    if not outcome.refused:
        sent.accept(intents)
        return [], []
    others = [n for n in range(len(rows)) if n not in outcome.refused]
    if outcome.others_stored:
        sent.accept([intents[n] for n in others])
        return [], []
    return [rows[n] for n in others], [intents[n] for n in others]


async def stored_as_sent(run: RunContext, wanted: Sequence[tuple[str, str]]) -> set[str]:
    """Which of these keys 奉行クラウド holds with exactly the content that was sent.

    Args:
        run: The run at work.
        wanted: Key and content hash (hex) of each row.
    """
    fields = run.transformer.fields
    digest = hasher(fields)
    stored: set[str] = set()
    size = max(1, run.sink.batch_size)
    for start in range(0, len(wanted), size):
        part = dict(wanted[start : start + size])
        found = await run.sink.fetch(list(part), fields)
        for key, values in found.items():
            if key in part and digest([values.get(name, "") for name in fields]) == part[key]:
                stored.add(key)
    return stored
