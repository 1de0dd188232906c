"""KING OF TIME's errors in the words of our taxonomy (contract, partners.md 6).

There are two shapes, ``{"errors": [{"message", "code"}]}`` and ``{"code", "message"}``, and codes
come as numbers or as text. A code decides before a status does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import orjson

from connectors.kingoftime._facts import (
    CLOSED_CODES,
    CLOSED_FOR,
    LOGIN_CODES,
    PERIOD,
    THROTTLED_CODES,
)
from connectors.kit import (
    Answer,
    AppConnectError,
    Classifier,
    ClosedHours,
    ErrorDetail,
    Failure,
    closed_until,
    error_for,
)
from connectors.kit.errors import closed_error

_RIGHTS = "トークンの参照権限、または許可IPアドレスの設定を確かめてください"


def classifier(hours: Iterable[ClosedHours], clock: Callable[[], datetime]) -> Classifier:
    """The classifier of one client.

    Args:
        hours: When the service is closed.
        clock: Aware time, where an answer does not say the server's own.
    """

    def closed(answer: Answer, detail: ErrorDetail) -> AppConnectError:
        moment = answer.date or clock()
        until = closed_until(hours, moment) or moment + CLOSED_FOR
        return closed_error(detail, until, moment)

    def classify(answer: Answer) -> AppConnectError | None:
        said = _decoded(answer.body)
        if answer.status < 300:
            if isinstance(said, list | dict):
                return None
            page = b"maintenance" in answer.body.lower() or "メンテナンス".encode() in answer.body
            code = "AC-502" if page else "AC-303"
            return error_for(code, detail=answer.detail, failure=Failure.UNREADABLE)
        vendor, message = first_error(said)
        detail = dataclasses.replace(
            answer.detail, vendor_code=vendor or None, vendor_message=message or None
        )
        if answer.status == 403 and vendor in CLOSED_CODES:
            return closed(answer, detail)
        return _by_status(answer.status, vendor, message, detail)

    return classify


def first_error(said: Any) -> tuple[str, str]:
    """Code and message of the first error in either shape; ``""`` where there is none."""
    if isinstance(said, dict) and isinstance(said.get("errors"), list) and said["errors"]:
        said = said["errors"][0]
    if not isinstance(said, dict):
        return "", ""
    return str(said.get("code", "")), str(said.get("message", ""))


def _by_status(status: int, vendor: str, message: str, detail: ErrorDetail) -> AppConnectError:
    if vendor in THROTTLED_CODES or status == 429:
        # The period has to pass; asking again within seconds would only prolong it.
        wait = PERIOD.total_seconds()
        return error_for("AC-503", detail=detail, failure=Failure.THROTTLED, retry_after=wait)
    if vendor in LOGIN_CODES or status == 401:
        return error_for("AC-102", detail=detail, failure=Failure.REFUSED)
    if status == 403:
        return error_for("AC-203", _RIGHTS, detail=detail, failure=Failure.REFUSED)
    if status == 400:
        return error_for("AC-205", message.rstrip("。."), detail=detail, failure=Failure.REFUSED)
    if status == 503:
        return error_for("AC-502", detail=detail, failure=Failure.UNAVAILABLE)
    if status >= 500:
        return error_for("AC-301", detail=detail, failure=Failure.SERVER)
    return error_for("AC-303", detail=detail, failure=Failure.REFUSED)


def _decoded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
