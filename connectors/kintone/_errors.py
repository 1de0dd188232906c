"""kintone's errors in the words of our taxonomy (contract, partners.md 4 "Errors").

A code decides before a status does, and a body that is not kintone's JSON is never decoded: during
maintenance kintone answers with a page, and decoding it would hide the 503 (quirk 11).
"""

from __future__ import annotations

from typing import Any

from connectors.kit import AppConnectError, Failure, FaultError, UnknownOutcomeError
from connectors.kit.error_table import NOTHING, OBJECT, PLACE, WORDS, ErrorTable, Rule, Said, text


def _said(body: dict[str, Any]) -> Said:
    # bulkRequest.json puts the error of the failed request among the results of the others.
    for result in body.get("results") or []:
        if isinstance(result, dict) and "code" in result:
            body = result
    return Said(text(body.get("code")), _words(body), request_id=text(body.get("id")))


def _words(body: dict[str, Any]) -> str:
    """The vendor's words; for a validation error also where it is, e.g. ``query``."""
    words, errors = text(body.get("message")), body.get("errors")
    if not isinstance(errors, dict):
        return words
    places = [
        f"{key}: {' '.join(map(str, entry.get('messages', [])))}"
        for key, entry in errors.items()
        if isinstance(entry, dict)
    ]
    return f"{words}（{' / '.join(places)}）" if places else words


ERRORS = ErrorTable(
    good=(OBJECT,),
    read=_said,
    rules=(
        Rule("AC-503", Failure.THROTTLED, said=("GAIA_TO04", "GAIA_TM12")),
        Rule("AC-301", Failure.UNAVAILABLE, said=("GAIA_DA02", "GAIA_RE18", "GAIA_LT01")),
        # The consent is gone. With 403 it is a missing scope, a question of rights.
        Rule("AC-101", said=("CB_OA*",), status=(401,)),
        # GAIA_IA02 is what an API token that belongs to no app gets, with status 400 (vendor's
        # cli tests).
        Rule("AC-102", said=("CB_AU01", "CB_WA01", "GAIA_IA02", "GAIA_DA03")),
        Rule("AC-202", said=("GAIA_AP01",)),
        Rule("AC-203", said=("CB_NO02", "GAIA_NO01")),
        Rule("AC-205", said=("GAIA_IQ*", "GAIA_QU*", "GAIA_IL*", "CB_VA01"), subject=WORDS),
        Rule(
            "AC-302",
            said=("GAIA_CN01",),
            subject="読み取りの途中でカーソルの期限が切れました",
        ),
        Rule("AC-201", said=NOTHING, status=(404,), subject=PLACE),
    ),
)


def reworded(error: AppConnectError) -> AppConnectError:
    """A request of ours that posts nothing (a cursor, a token) is a failed read, not a post."""
    if isinstance(error, UnknownOutcomeError):
        return FaultError(
            "AC-301", detail=error.detail, failure=error.failure, retry_after=error.retry_after
        )
    return error
