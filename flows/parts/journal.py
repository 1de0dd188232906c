"""仕訳伝票 of 奉行クラウド as documents of the engine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from pydantic import TypeAdapter

from blocks import BugyoCredentials
from connectors.bugyo.journal import (
    JOURNAL,
    MAX_SLIPS,
    VISIBLE_AFTER,
    JournalLine,
    JournalSlip,
    external_key,
    slip_batches,
)
from connectors.bugyo.journal_client import JournalClient
from connectors.kit import SettingsError
from flows.engine.model import Found, SendOutcome
from flows.engine.pipeline import Tools
from flows.parts.bugyo import SERVICE, open_bugyo
from flows.parts.bugyo_codes import known_codes
from flows.parts.masters import refusal

FIELDS: Final = ("date", "amount", "label", "slip")
"""Fields of a slip's row: its date, its yen, how a person recognises it, the slip itself."""

HIDDEN: Final = frozenset({"slip"})
"""What no person reads of them."""

OPERATIONS: Final = (
    "SearchTenant",
    "ExportJournalSlip",
    "ImportJournalSlip",
    "ImportJournalSlipResult",
)
"""What a connector of slips calls."""

VISIBLE_VARIABLE = "APP_CONNECT_BUGYO_VISIBLE_SECONDS"
"""Seconds until a slip that was sent is certainly found by an export; unset = the registry's."""

_SLIP = TypeAdapter(JournalSlip)
_TAKEN_BACK = "【取消】"
_LONGEST = JOURNAL.by_field["description"].length


def slip_row(slip: JournalSlip, label: str) -> dict[str, str]:
    """The values of a slip's row, in the order of `FIELDS`; 証憑番号 is the engine's to give."""
    return {
        "date": slip.date.isoformat(),
        "amount": str(slip.debit_total),
        "label": label,
        "slip": _SLIP.dump_json(replace(slip, voucher_number="")).decode(),
    }


def slip_of(values: Mapping[str, str], key: str = "") -> JournalSlip:
    """The slip in a row, with 証憑番号 ``key``."""
    return replace(_SLIP.validate_json(values["slip"]), voucher_number=key)


def reverse(slip: JournalSlip) -> JournalSlip:
    """The 赤伝票 of a slip: each line with its sides swapped, on the same date."""
    lines = tuple(
        JournalLine(
            debit=line.credit,
            credit=line.debit,
            description=_marked(line.description or slip.description),
        )
        for line in slip.lines
    )
    return replace(slip, lines=lines, description="", number="", voucher_number="")


def _marked(description: str) -> str:
    return fitted(f"{_TAKEN_BACK}{description}")


def fitted(words: str, tail: str = "") -> str:
    """A 摘要 that is not too long: the end of long words is cut, ``tail`` never."""
    tail = f" {tail}" if words and tail else tail
    while words and len(f"{words}{tail}".encode("cp932", "replace")) > _LONGEST:
        words = words[:-1]
    return f"{words}{tail}"


@dataclass(frozen=True)
class JournalSink:
    """仕訳伝票 of one tenant; each is found again by the 証憑番号 that we gave it.

    Attributes:
        client: Open client.
        visible_after: Seconds after a request until a look-up that finds nothing can be believed.
        batch_size: Slips that one request may carry.
    """

    client: JournalClient
    visible_after: float = VISIBLE_AFTER
    batch_size: int = MAX_SLIPS

    def key(self, connection: str, entity: str, source_key: str, revision: int) -> str:
        """証憑番号 of a record's slip; the first revision's is that of the record alone."""
        numbered = source_key if revision == 1 else f"{source_key}#{revision}"
        return external_key(connection, entity, numbered)

    def portions(self, rows: Sequence[Mapping[str, str]]) -> Sequence[int]:
        """How many slips go into each request: it has a limit of slips and one of rows."""
        return [len(batch) for batch in slip_batches(slip_of(row) for row in rows)]

    async def find(self, days: Mapping[str, str]) -> Mapping[str, Found]:
        """What is registered under these 証憑番号.

        The date is asked for only where the API cannot search by 証憑番号: a slip whose date a
        person changed is still ours.
        """
        dates = None
        if not JOURNAL.by_field["voucher_number"].filterable:
            known = sorted(date.fromisoformat(day) for day in days.values() if day)
            dates = (known[0], known[-1]) if known else None
        found = await self.client.find_slips(days, dates=dates)
        return {
            key: Found(
                copies=len(slips),
                amount=slips[0].debit_total,
                values=slip_row(slips[0], ""),
                reference=slips[0].number,
            )
            for key, slips in found.items()
        }

    async def send(
        self,
        rows: Sequence[Mapping[str, str]],
        keys: Sequence[str],
        on_accepted: Callable[[str], Awaitable[None]],
    ) -> SendOutcome:
        """Register slips in one call."""
        slips = [slip_of(row, key) for row, key in zip(rows, keys, strict=True)]
        outcome = await self.client.import_slips(slips, on_accepted=on_accepted)
        return SendOutcome(
            refused={index: refusal(error) for index, error in outcome.refused.items()},
            others_stored=bool(outcome.stored),
            existing=outcome.existing,
            whole=None if outcome.whole is None else refusal(outcome.whole),
        )

    async def import_state(self, accepted_key: str) -> str:
        """How far an import is that was accepted earlier."""
        return await self.client.import_state(accepted_key)

    async def codes(self, kind: str) -> Mapping[str, str] | None:
        """Code -> name of everything of this kind; ``None`` = 奉行クラウド cannot tell."""
        return await known_codes(self.client.client, kind)

    def reversal(self, found: Found) -> Mapping[str, str]:
        """The row of the 赤伝票 of a registered slip."""
        return slip_row(reverse(slip_of(found.values)), "赤伝票")


@contextlib.asynccontextmanager
async def open_journal(credentials: BugyoCredentials, tools: Tools) -> AsyncIterator[JournalSink]:
    """The 仕訳伝票 of the block's tenant.

    Raises:
        SettingsError: ``AC-205``, `VISIBLE_VARIABLE` is no number.
    """
    text = os.environ.get(VISIBLE_VARIABLE, "")
    try:
        visible = float(text) if text else VISIBLE_AFTER
    except ValueError:
        raise SettingsError("AC-205", f"{VISIBLE_VARIABLE}={text!r}", service=SERVICE) from None
    async with open_bugyo(credentials, tools) as client:
        yield JournalSink(JournalClient(client), visible)
