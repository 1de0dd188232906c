"""KING OF TIME's errors in the words of our taxonomy (contract, partners.md 6).

There are two shapes, ``{"errors": [{"message", "code"}]}`` and ``{"code", "message"}``, and codes
come as numbers or as text. A code decides before a status does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from connectors.kingoftime._facts import CLOSED_CODE, CLOSED_FOR, PERIOD
from connectors.kit import Answer, AppConnectError, Classifier, ClosedHours, Failure, closed_until
from connectors.kit.error_table import WORDS, ErrorTable, Rule, Said, text
from connectors.kit.errors import closed_error

_RIGHTS = "トークンの参照権限、または許可IPアドレスの設定を確かめてください"
# The period has to pass; asking again within seconds would only prolong it.
_WAIT = PERIOD.total_seconds()


def _said(body: dict[str, Any]) -> Said:
    """The first error, in either shape."""
    match body.get("errors"):
        case [dict() as first, *_]:
            pass
        case _:
            first = body
    return Said(text(first.get("code")), text(first.get("message")))


ERRORS = ErrorTable(
    read=_said,
    rules=(
        Rule("AC-503", Failure.THROTTLED, said=("303",), retry_after=_WAIT),  # [3rd]
        Rule("AC-503", Failure.THROTTLED, status=(429,), retry_after=_WAIT),
        Rule("AC-102", said=("111",)),
        Rule("AC-203", status=(403,), subject=_RIGHTS),
        Rule("AC-205", status=(400,), subject=WORDS),
    ),
)


def classifier(hours: Iterable[ClosedHours], clock: Callable[[], datetime]) -> Classifier:
    """The classifier of one client: a 403 may mean that the service is closed at this hour.

    Args:
        hours: When the service is closed.
        clock: Aware time, where an answer does not say the server's own.
    """

    def classify(answer: Answer) -> AppConnectError | None:
        error = ERRORS.classify(answer)
        if error is None or answer.status != 403 or error.detail.vendor_code != CLOSED_CODE:
            return error
        moment = answer.date or clock()
        until = closed_until(hours, moment) or moment + CLOSED_FOR
        return closed_error(error.detail, until, moment)

    return classify
