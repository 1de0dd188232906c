"""スマレジ's errors in the words of our taxonomy: problem-like bodies, and OAuth's own."""

from __future__ import annotations

import dataclasses

import orjson

from connectors.kit import Answer, AppConnectError, Failure, error_for

_BY_STATUS = {
    400: ("AC-301", Failure.REFUSED),
    401: ("AC-102", Failure.REFUSED),
    403: ("AC-203", Failure.REFUSED),
    404: ("AC-201", Failure.REFUSED),
    429: ("AC-503", Failure.THROTTLED),
    503: ("AC-502", Failure.UNAVAILABLE),
}
# RFC 6749, 5.2, at the token endpoint.
_BY_OAUTH = {
    "invalid_client": "AC-102",
    "unauthorized_client": "AC-102",
    "invalid_scope": "AC-203",
}


def classify(answer: Answer, subject: str) -> AppConnectError | None:
    """The error that an answer is, or ``None`` for success.

    Args:
        answer: The complete answer.
        subject: What the message names where the place or the right is missing.
    """
    try:
        said = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        said = None
    if answer.status == 200:
        if said is None:  # a page of a proxy, or of a maintenance, that pretends to be an answer
            return error_for("AC-303", detail=answer.detail, failure=Failure.UNREADABLE)
        return None
    fault = said if isinstance(said, dict) else {}
    kind = str(fault.get("error") or fault.get("type") or "")
    words = str(fault.get("error_description") or fault.get("detail") or fault.get("title") or "")
    detail = dataclasses.replace(
        answer.detail, vendor_code=kind or None, vendor_message=words or None
    )
    unknown = ("AC-301", Failure.SERVER if answer.status >= 500 else Failure.REFUSED)
    code, failure = _BY_STATUS.get(answer.status, unknown)
    if kind in _BY_OAUTH:
        code = _BY_OAUTH[kind]
    return error_for(code, subject, detail=detail, failure=failure)
