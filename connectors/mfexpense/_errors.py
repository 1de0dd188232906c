"""The service's errors in the words of our taxonomy: ``{"messages": […]}`` and a status.

OAuth errors have a body of their own, ``{"error": …, "error_description": …}``.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import orjson

from connectors.kit import Answer, AppConnectError, Classifier, Failure, Masker, error_for

_MAINTENANCE = re.compile(
    b"maintenance|service unavailable|" + "メンテナンス".encode(), re.IGNORECASE
)


def said_in(body: bytes) -> tuple[str, str]:
    """The vendor's code (of OAuth errors) and message in an answer; empty = it says nothing."""
    try:
        content: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "", ""
    if not isinstance(content, dict):
        return "", ""
    messages = content.get("messages")
    texts = [str(text) for text in messages] if isinstance(messages, list) else []
    if not texts and content.get("error_description"):
        texts = [str(content["error_description"])]
    return str(content.get("error") or ""), " ".join(texts)


def classifier(masker: Masker) -> Classifier:
    """The classifier of one client; ``masker`` removes secrets from what the vendor says."""

    def classify(answer: Answer) -> AppConnectError | None:
        status = answer.status
        body = answer.body.strip()
        if status == 200 and body.startswith(b"{") and body.endswith(b"}"):
            return None
        code, message = said_in(body)
        message = masker.mask(message)
        detail = dataclasses.replace(
            answer.detail, vendor_code=code or None, vendor_message=message or None
        )
        ours, failure, subject = _verdict(status, body, message)
        return error_for(ours, subject, detail=detail, failure=failure)

    return classify


def _verdict(status: int, body: bytes, message: str) -> tuple[str, Failure, str]:
    """Code of ours, class of failure and subject for a status."""
    if status == 200:
        code = "AC-502" if _MAINTENANCE.search(body) else "AC-303"
        return code, Failure.UNREADABLE, ""
    if status == 503:
        return "AC-502", Failure.UNAVAILABLE, ""
    if status == 429:
        return "AC-503", Failure.THROTTLED, ""
    if status >= 500:
        return "AC-301", Failure.SERVER, ""
    if status in (401, 403):
        return {401: "AC-101", 403: "AC-203"}[status], Failure.REFUSED, message.rstrip("。")
    if status in (400, 404, 422):
        return "AC-205", Failure.REFUSED, message.rstrip("。") or f"HTTP {status}"
    return "AC-303", Failure.REFUSED, ""
