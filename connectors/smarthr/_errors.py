"""SmartHR's errors in the words of our taxonomy.

Bodies are ``{code, type, message, errors}``; the types are the table "エラー" of the vendor's page
``developer.smarthr.jp/api/about_api``, but ``ip_not_permitted`` [3rd].
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
    ErrorDetail,
    Failure,
    Masker,
    error_for,
)

_MAINTENANCE = re.compile("maintenance|メンテナンス".encode(), re.IGNORECASE)


def classifier(host: str, masker: Masker) -> Classifier:
    """The classifier of one client.

    Args:
        host: The customer's own host name, the subject when it does not exist.
        masker: Removes secrets from what SmartHR says.
    """

    def classify(answer: Answer) -> AppConnectError | None:
        body = answer.body.strip()
        if answer.status == 200 and body.startswith(b"[") and body.endswith(b"]"):
            return None
        said = _said(body)
        detail = answer.detail
        if said:
            detail = dataclasses.replace(
                detail,
                vendor_code=f"{said.get('code')} {said.get('type')}",
                vendor_message=masker.mask(_message(said)),
            )
        return _error(answer.status, str(said.get("type", "")), detail, host, answer.body)

    return classify


def _error(status: int, kind: str, detail: ErrorDetail, host: str, body: bytes) -> AppConnectError:
    if status == 200:
        code = "AC-502" if _MAINTENANCE.search(body) else "AC-303"
        return error_for(code, detail=detail, failure=Failure.UNREADABLE)
    if kind == "service_maintenance" or status == 503:
        return error_for("AC-502", detail=detail, failure=Failure.UNAVAILABLE)
    if kind == "too_many_requests" or status == 429:
        return error_for("AC-503", detail=detail, failure=Failure.THROTTLED)
    if status >= 500:
        return error_for("AC-301", detail=detail, failure=Failure.SERVER)
    if kind == "ip_not_permitted":
        subject = "接続元のIPアドレスが許可されていません"
        return error_for("AC-203", subject, detail=detail, failure=Failure.REFUSED)
    if status == 404 and not kind:  # no page of the API: nobody has this sub-domain
        return error_for("AC-201", host, detail=detail, failure=Failure.REFUSED)
    if status in (400, 422):
        subject = (detail.vendor_message or "").rstrip("。")
        return error_for("AC-205", subject, detail=detail, failure=Failure.REFUSED)
    code = {401: "AC-102", 403: "AC-203"}.get(status, "AC-303")
    subject = "従業員情報" if code == "AC-203" else ""
    return error_for(code, subject, detail=detail, failure=Failure.REFUSED)


def _said(body: bytes) -> dict[str, Any]:
    """The error's members; empty when the body is something else, e.g. a page."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) and "type" in said else {}


def _message(said: dict[str, Any]) -> str:
    """The vendor's words, with those of the single attributes."""
    single = [each for each in said.get("errors") or [] if isinstance(each, dict)]
    words = [f"{each.get('field', '')}: {each.get('message', '')}" for each in single]
    return " / ".join(filter(None, [str(said.get("message") or ""), *words]))
