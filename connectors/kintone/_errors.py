"""kintone's errors in the words of our taxonomy (contract, partners.md 4 "Errors").

A code decides before a status does, and a body that is not kintone's JSON is never decoded: during
maintenance kintone answers with a page, and decoding it would hide the 503 (quirk 11).
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import orjson

from connectors.kit import (
    Answer,
    AppConnectError,
    Classifier,
    Failure,
    FaultError,
    Masker,
    UnknownOutcomeError,
    error_for,
)

# 401 with an OAuth code: the consent is gone. With 403 it is a missing scope, a question of rights.
_OAUTH = "CB_OA"
# GAIA_IA02 is what an API token that belongs to no app gets, with status 400 (vendor's cli tests).
_LOGIN = ("CB_AU01", "CB_WA01", "GAIA_IA02", "GAIA_DA03")
_FORBIDDEN = ("CB_NO02", "GAIA_NO01")
_SETTING = ("GAIA_IQ", "GAIA_QU", "GAIA_IL", "CB_VA01")
_LOCKED = ("GAIA_DA02", "GAIA_RE18", "GAIA_LT01")
_THROTTLED = ("GAIA_TO04", "GAIA_TM12")
_CURSOR_GONE = "GAIA_CN01"

# Words that maintenance pages use, in either language; kintone's own says Service Unavailable.
_MAINTENANCE = re.compile(
    b"maintenance|service unavailable|" + "メンテナンス".encode(), re.IGNORECASE
)


def classifier(host: str, masker: Masker) -> Classifier:
    """The classifier of one client.

    Args:
        host: The customer's own host name, the subject when it does not exist.
        masker: Removes secrets from what kintone says.
    """

    def classify(answer: Answer) -> AppConnectError | None:
        body = answer.body.strip()
        is_json = body.startswith(b"{") and body.endswith(b"}")
        if answer.status == 200 and is_json:
            return None
        said = _fault_body(body) if is_json else {}
        if "code" not in said:
            return _by_status(answer, host, is_json=is_json)
        return _by_code(answer, said, masker)

    return classify


def reworded(error: AppConnectError) -> AppConnectError:
    """A request of ours that posts nothing (a cursor, a token) is a failed read, not a post."""
    if isinstance(error, UnknownOutcomeError):
        return FaultError(
            "AC-301", detail=error.detail, failure=error.failure, retry_after=error.retry_after
        )
    return error


def _fault_body(body: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    # bulkRequest.json puts the error of the failed request among the results of the others.
    for result in said.get("results") or []:
        if isinstance(result, dict) and "code" in result:
            return result
    return dict(said)


def _by_status(answer: Answer, host: str, *, is_json: bool) -> AppConnectError:
    status, detail = answer.status, answer.detail
    if status == 200:
        code = "AC-502" if _MAINTENANCE.search(answer.body) else "AC-303"
        return error_for(code, detail=detail, failure=Failure.UNREADABLE)
    if status == 503:
        return error_for("AC-502", detail=detail, failure=Failure.UNAVAILABLE)
    if status == 429:
        return error_for("AC-503", detail=detail, failure=Failure.THROTTLED)
    if status >= 500:
        return error_for("AC-301", detail=detail, failure=Failure.SERVER)
    if status == 404 and not is_json:
        return error_for("AC-201", host, detail=detail, failure=Failure.REFUSED)
    code = {401: "AC-102", 403: "AC-203"}.get(status, "AC-303")
    return error_for(code, detail=detail, failure=Failure.REFUSED)


def _by_code(answer: Answer, said: dict[str, Any], masker: Masker) -> AppConnectError:
    vendor, status = str(said["code"]), answer.status
    message = masker.mask(_message(said))
    detail = dataclasses.replace(
        answer.detail,
        vendor_code=vendor,
        vendor_message=message,
        request_id=str(said["id"]) if said.get("id") else answer.detail.request_id,
    )
    code, subject, failure = "AC-301", "", Failure.REFUSED
    if vendor.startswith(_THROTTLED) or status == 429:
        code, failure = "AC-503", Failure.THROTTLED
    elif vendor.startswith(_LOCKED):
        failure = Failure.UNAVAILABLE
    elif vendor.startswith(_OAUTH) and status == 401:
        code = "AC-101"
    elif vendor.startswith(_LOGIN) or status == 401:
        code = "AC-102"
    elif vendor == "GAIA_AP01":
        code = "AC-202"
    elif vendor.startswith(_FORBIDDEN) or status == 403:
        code = "AC-203"
    elif vendor.startswith(_SETTING):
        code, subject = "AC-205", message.rstrip("。.")
    elif vendor == _CURSOR_GONE:
        code, subject = "AC-302", "読み取りの途中でカーソルの期限が切れました"
    elif status == 503:
        code, failure = "AC-502", Failure.UNAVAILABLE
    elif status >= 500:
        failure = Failure.SERVER
    return error_for(code, subject, detail=detail, failure=failure)


def _message(said: dict[str, Any]) -> str:
    """The vendor's words; for a validation error also where it is, e.g. ``query``."""
    text = str(said.get("message", ""))
    errors = said.get("errors")
    if not isinstance(errors, dict):
        return text
    places = [
        f"{key}: {' '.join(map(str, entry.get('messages', [])))}"
        for key, entry in errors.items()
        if isinstance(entry, dict)
    ]
    return f"{text}（{' / '.join(places)}）" if places else text
