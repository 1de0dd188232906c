"""仕訳伝票 over the API: import with a verdict for every slip, export, and look-up by 証憑番号.

Nobody knows which way the real import answers (contract 5.5, 9), so every plausible one is
understood: nothing, per-row results, a 207 with the refused rows, a refusal of everything, and an
accepted key whose result comes later. What is not understood is an unknown outcome, never a guess.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import accumulate
from typing import Any, Final

import httpx
import orjson

from connectors.bugyo.client import BugyoClient
from connectors.bugyo.filters import Filter, any_of, where
from connectors.bugyo.journal import JOURNAL, JournalSlip, flatten, unflatten
from connectors.bugyo.models import ImportOutcome, RowError
from connectors.bugyo.registry import data, operation
from connectors.kit import (
    Answer,
    AppConnectError,
    ErrorDetail,
    Failure,
    FaultError,
    SettingsError,
    UnknownOutcomeError,
)
from connectors.kit.paging import chunks

_EXPORT = operation("ExportJournalSlip")
_IMPORT = operation("ImportJournalSlip")
_RESULT = operation("ImportJournalSlipResult")
_ASKING: Final[dict[str, Any]] = data("operations")["ImportJournalSlipResult"]
_LOOKUP_VALUES: Final[int] = data("operations")["ExportJournalSlip"]["lookup_values"]
_ALWAYS = ("separator", "date", "number", "voucher_number")
_FIELDS = tuple(item.field for item in JOURNAL.items if item.exportable)
_VOUCHER = JOURNAL.by_field["voucher_number"]


@dataclass(frozen=True, slots=True)
class Asking:
    """How the result of an accepted import is asked for. Seconds.

    Attributes:
        first: First pause between two questions.
        longest: Longest pause; each is twice the one before it.
        deadline: When asking ends.
    """

    first: float = _ASKING["first_pause"]
    longest: float = _ASKING["longest_pause"]
    deadline: float = _ASKING["deadline"]


@dataclass(frozen=True, slots=True)
class SlipOutcome:
    """The definite answer to one import call, by index in the slips sent.

    Every slip is in exactly one of ``stored``, ``existing``, ``refused`` and `unsent`.

    Attributes:
        count: Slips in the call.
        stored: Stored by this call.
        existing: Refused because 奉行クラウド holds a slip of this 証憑番号: stored by an earlier
            call whose answer was lost.
        refused: Why a slip was refused; the message names its rows.
        whole: Why the call was refused, when several slips were sent and none was named.
        detail: Where the answer came from.
    """

    count: int = 0
    stored: frozenset[int] = frozenset()
    existing: frozenset[int] = frozenset()
    refused: Mapping[int, RowError] = field(default_factory=dict)
    whole: RowError | None = None
    detail: ErrorDetail = field(default_factory=ErrorDetail)

    @property
    def unsent(self) -> tuple[int, ...]:
        """Slips that were not stored although nothing is wrong with them: they may go again."""
        settled = self.stored | self.existing | self.refused.keys()
        return tuple(n for n in range(self.count) if n not in settled)


class SlipsPendingError(UnknownOutcomeError):
    """``AC-402``: the import was accepted, and its result could not be had.

    Ask again for its ``accepted_key`` with `JournalClient.import_result`. A look-up that finds
    nothing proves nothing as long as the import may still be at work.
    """


class JournalClient:
    """仕訳伝票 of the tenant of a `BugyoClient`, which stays the caller's to close.

    Args:
        client: The connection.
        asking: How results of asynchronous imports are asked for.

    Attributes:
        client: The connection.

    Methods raise what `BugyoClient` raises.
    """

    def __init__(self, client: BugyoClient, *, asking: Asking | None = None) -> None:
        self.client = client
        self._asking = asking or Asking()

    # --- reading ------------------------------------------------------------------------------

    async def export_slips(
        self,
        *,
        where: Filter | None = None,
        fields: Sequence[str] | None = None,
        sort: Sequence[str] = ("date", "number"),
    ) -> list[JournalSlip]:
        """Slips that meet a condition, in `JournalSlip.canonical` form.

        Args:
            where: Condition on header fields of the registry (``date`` as ``YYYY/MM/DD``); ``None``
                = every slip.
            fields: English names of the registry; ``None`` = all. Date, number and 証憑番号 always
                come too, everything else is then empty (a side without account and amount is
                ``None``).
            sort: English names, each optionally followed by `` desc``.

        Raises:
            KeyError: there is no such field.
            FaultError: ``AC-303``, the rows are no slips.
        """
        wanted = _FIELDS if fields is None else tuple(dict.fromkeys((*_ALWAYS, *fields)))
        rows, answer = await self.client.export(_EXPORT, JOURNAL, where, wanted, sort)
        try:
            return unflatten(rows)
        except ValueError:
            raise FaultError("AC-303", detail=answer.detail, failure=Failure.UNREADABLE) from None

    async def find_slips(
        self,
        voucher_numbers: Collection[str],
        *,
        dates: tuple[date, date] | None = None,
        fields: Sequence[str] | None = None,
    ) -> dict[str, list[JournalSlip]]:
        """What is registered under these 証憑番号; more than one slip each = doubled.

        Args:
            voucher_numbers: `external_key` of each slip.
            dates: First and last 伝票日付 to look at. Narrows the search; needed when the registry
                says that 証憑番号 cannot be filtered by (抽出).
            fields: As in `export_slips`.

        Raises:
            SettingsError: ``AC-205``, neither 証憑番号 nor dates can be asked for.
        """
        wanted = {number for number in voucher_numbers if number}
        if not wanted:
            return {}
        period = None
        if dates is not None:
            first, last = (f"{day:%Y/%m/%d}" for day in dates)
            period = where("date").ge(first) & where("date").le(last)
        found: dict[str, list[JournalSlip]] = {}
        for condition in _conditions(sorted(wanted), period):
            for slip in await self.export_slips(where=condition, fields=fields):
                # A service that ignores a condition it does not know would return everything.
                if slip.voucher_number in wanted:
                    found.setdefault(slip.voucher_number, []).append(slip)
        return found

    # --- writing ------------------------------------------------------------------------------

    async def import_slips(
        self,
        slips: Sequence[JournalSlip],
        *,
        on_accepted: Callable[[str], Awaitable[None]] | None = None,
    ) -> SlipOutcome:
        """Register slips in one call, and wait for the verdict if it comes later.

        Args:
            slips: At most what `slip_batches` makes of them is advised; `check_slip` them first.
            on_accepted: Called with the accepted key before its result is waited for, so that it
                can be written down.

        Returns:
            The definite answer, refusals included.

        Raises:
            UnknownOutcomeError: ``AC-402``, the slips may or may not be stored: `find_slips` before
                sending them again, no earlier than `VISIBLE_AFTER`.
            SlipsPendingError: the same; the import was accepted and may still be at work.
            ValueError: a slip has no line or no 証憑番号, or two have the same one. Nothing left.
        """
        if not slips:
            return SlipOutcome()
        numbers = [slip.voucher_number for slip in slips]
        if not all(numbers) or len(set(numbers)) != len(numbers):
            raise ValueError("every slip of a call needs a 証憑番号 of its own")
        if not all(slip.lines for slip in slips):
            raise ValueError("a slip has no lines")
        codes = JOURNAL.codes
        rows = [
            {codes[name]: value for name, value in row.items()}
            for slip in slips
            for row in flatten(slip)
        ]
        answer = await self.client.call(_IMPORT, "post", {"dataList": rows})
        key = _accepted_key(answer)
        if key is None:
            if answer.status == httpx.codes.ACCEPTED:  # "later", and no key to ask with
                raise UnknownOutcomeError(
                    "AC-402", detail=answer.detail, failure=Failure.UNREADABLE
                )
            return self._outcome(answer, slips)
        if on_accepted is not None:
            await on_accepted(key)
        return await self.import_result(key, slips)

    async def import_result(self, accepted_key: str, slips: Sequence[JournalSlip]) -> SlipOutcome:
        """The verdict on an import that was accepted earlier.

        Args:
            accepted_key: What `import_slips` gave to ``on_accepted``.
            slips: Exactly the slips of that call, in their order.

        Raises:
            SlipsPendingError: ``AC-402``, it could not be had within `Asking.deadline`, or 奉行
                クラウド does not know the key.
        """
        end = time.monotonic() + self._asking.deadline
        pause = self._asking.first
        while True:
            try:
                answer = await self.client.call(_RESULT, "read", {_ASKING["key"]: accepted_key})
            except AppConnectError as error:
                # The question failed; the import before it may have been processed all the same.
                raise _pending(accepted_key, error.detail, error.retry_after) from error
            match _state(answer):
                case "done":
                    return self._verdict(accepted_key, answer, slips)
                case "failed":
                    no = replace(answer, status=httpx.codes.BAD_REQUEST)
                    return self._verdict(accepted_key, no, slips)
                case "unknown":
                    raise _pending(accepted_key, self.client.answers.detail(answer))
            if time.monotonic() + pause > end:
                raise _pending(accepted_key, self.client.answers.detail(answer))
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._asking.longest)

    async def import_state(self, accepted_key: str) -> str:
        """How far an import is that was accepted earlier, asked once.

        Returns:
            ``pending``, ``done``, ``failed``, or ``unknown``: 奉行クラウド does not know the key,
            or says a word that is not in the registry.
        """
        try:
            answer = await self.client.call(_RESULT, "read", {_ASKING["key"]: accepted_key})
        except AppConnectError as error:
            if error.failure is Failure.REFUSED:
                return "unknown"
            raise
        return _state(answer)

    def _verdict(self, key: str, answer: Answer, slips: Sequence[JournalSlip]) -> SlipOutcome:
        try:
            return self._outcome(answer, slips)
        except UnknownOutcomeError as error:
            raise _pending(key, error.detail) from None

    def _outcome(self, answer: Answer, slips: Sequence[JournalSlip]) -> SlipOutcome:
        rows = sum(len(slip.lines) for slip in slips)
        return _by_slip(self.client.answers.outcome(answer, rows, JOURNAL), slips)


def _conditions(numbers: Sequence[str], period: Filter | None) -> list[Filter]:
    if _VOUCHER.filterable:
        parts = [any_of("voucher_number", part) for part in chunks(numbers, _LOOKUP_VALUES)]
        return [part if period is None else part & period for part in parts]
    if period is None:
        raise SettingsError("AC-205", "証憑番号で抽出できないため、伝票日付の範囲が要ります")
    return [period]


def _by_slip(outcome: ImportOutcome, slips: Sequence[JournalSlip]) -> SlipOutcome:
    """Row numbers back to slips; a slip with a refused row is refused as a whole [I]."""
    ends = list(accumulate(len(slip.lines) for slip in slips))
    refused: dict[int, RowError] = {}
    existing: set[int] = set()
    for row in sorted(outcome.refused):
        error = outcome.refused[row]
        index = bisect_right(ends, row)
        slip = slips[index]
        if _already_there(error, slip):
            existing.add(index)
            continue
        line = row - ends[index] + len(slip.lines) + 1
        if len(slip.lines) > 1:
            error = replace(error, message=f"{line}行目: {error.message}")
        if index in refused:
            first = refused[index]
            error = replace(first, message=f"{first.message} / {error.message}")
        refused[index] = error
    whole = outcome.whole
    if whole is not None and len(slips) == 1:
        if _already_there(whole, slips[0]):
            existing.add(0)
        else:
            refused[0] = whole
        whole = None
    refused = {index: error for index, error in refused.items() if index not in existing}
    stored: frozenset[int] = frozenset()
    if outcome.others_stored:
        stored = frozenset(range(len(slips))) - existing - refused.keys()
    return SlipOutcome(len(slips), stored, frozenset(existing), refused, whole, outcome.detail)


def _already_there(error: RowError, slip: JournalSlip) -> bool:
    """Whether a refusal says that this 証憑番号 is registered, and not that something else is."""
    signs = data("answers")["duplicate"]
    if error.code in signs["codes"]:
        return True
    about_voucher = error.field == _VOUCHER.field or (
        error.field is None
        and (_VOUCHER.label in error.message or slip.voucher_number in error.message)
    )
    return about_voucher and any(word in error.message.lower() for word in signs["words"])


def _pending(key: str, detail: ErrorDetail, retry_after: float | None = None) -> SlipsPendingError:
    error = SlipsPendingError(
        "AC-402", detail=detail, failure=Failure.UNREADABLE, retry_after=retry_after
    )
    error.accepted_key = key
    return error


def _object(answer: Answer) -> Mapping[str, Any]:
    """The one object of an answer, also in a list of one; a list of results as ``results``."""
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    if isinstance(body, list):
        rows = data("answers")["errors"]["row"]
        if any(isinstance(each, dict) and any(name in each for name in rows) for each in body):
            return {"results": body}
        body = body[0] if len(body) == 1 else None
    return body if isinstance(body, dict) else {}


def _accepted_key(answer: Answer) -> str | None:
    if not httpx.codes.is_success(answer.status):
        return None
    body = _object(answer)
    names: list[str] = data("answers")["job"]["key"]
    return next((str(body[name]) for name in names if body.get(name)), None)


def _state(answer: Answer) -> str:
    """``pending``, ``done``, ``failed``, or ``unknown`` when its word is not in the registry."""
    words = data("answers")["job"]
    body = _object(answer)
    said = next((str(body[name]).lower() for name in words["state"] if name in body), None)
    if said is None:
        lists = data("answers")["errors"]["lists"]
        # No word at all: rows are a result, and an empty answer means that there is none yet.
        return "done" if any(isinstance(body.get(name), list) for name in lists) else "pending"
    return next(
        (state for state in ("pending", "done", "failed") if said in words[state]), "unknown"
    )
