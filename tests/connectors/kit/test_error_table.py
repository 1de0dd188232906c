"""A table of errors: what each answer of a service becomes."""

from __future__ import annotations

from typing import Any

import httpx
import orjson
import pytest

from connectors.kit import Answer, ErrorDetail, Failure
from connectors.kit.error_table import (
    ARRAY,
    NOTHING,
    OBJECT,
    PLACE,
    WORDS,
    ErrorTable,
    Rule,
    Said,
    text,
)
from connectors.kit.oauth import TOKEN_ERRORS

TABLE = ErrorTable(
    good=(OBJECT,),
    read=lambda body: Said(
        text(body.get("code")),
        text(body.get("message")),
        shown=f"No. {body['code']}" if "shown" in body else "",
        request_id=text(body.get("id")),
    ),
    rules=(
        Rule("AC-503", Failure.THROTTLED, said=("BUSY",), retry_after=300.0),
        Rule("AC-101", said=("OAUTH_*",), status=(401,)),
        Rule("AC-205", said=("QUERY_*", "7"), subject=WORDS),
        Rule("AC-203", status=(403,), subject=f"参照権限（{PLACE}）"),
        Rule("AC-205", status=(400, 422), subject=WORDS),
        Rule("AC-201", said=NOTHING, status=(404,), subject=PLACE),
    ),
)
HOST = "example.cybozu.com"
PAGE = "<html>Service Unavailable: ただいまメンテナンス中です</html>"


def answer(status: int, body: Any) -> Answer:
    raw = body.encode() if isinstance(body, str) else orjson.dumps(body)
    detail = ErrorDetail("サービス", "GET /v1/records", status, request_id="from-a-header")
    return Answer(status, httpx.Headers(), raw, detail)


@pytest.mark.parametrize(
    ("status", "body", "code", "failure", "subject"),
    [
        # By the service's own code, which decides before the status does.
        (400, {"code": "BUSY"}, "AC-503", Failure.THROTTLED, ""),
        (520, {"code": "BUSY"}, "AC-503", Failure.THROTTLED, ""),
        (401, {"code": "OAUTH_01"}, "AC-101", Failure.REFUSED, ""),
        (400, {"code": "QUERY_02", "message": "文法の誤り。"}, "AC-205", "refused", "文法の誤り"),
        (400, {"code": 7, "message": "No."}, "AC-205", Failure.REFUSED, "No"),
        # Both conditions of a line must hold, and a code is not only the beginning of another.
        (403, {"code": "OAUTH_01"}, "AC-203", Failure.REFUSED, f"参照権限（{HOST}）"),
        (409, {"code": "BUSYBODY"}, "AC-301", Failure.REFUSED, ""),
        # By status.
        (422, {"message": "{place} がない"}, "AC-205", Failure.REFUSED, "{place} がない"),
        (422, PAGE, "AC-205", Failure.REFUSED, "HTTP 422"),
        (404, "<html>no such host</html>", "AC-201", Failure.REFUSED, HOST),
        (404, {"code": "GONE"}, "AC-301", Failure.REFUSED, ""),
        # What every service means.
        (429, {}, "AC-503", Failure.THROTTLED, ""),
        (503, PAGE, "AC-502", Failure.UNAVAILABLE, ""),
        (500, {"code": "BROKEN"}, "AC-301", Failure.SERVER, ""),
        (401, "", "AC-102", Failure.REFUSED, ""),
        (407, "<html>proxy</html>", "AC-303", Failure.REFUSED, ""),
        (418, {"code": "TEAPOT"}, "AC-301", Failure.REFUSED, ""),
        # A success that is none.
        (200, PAGE, "AC-502", Failure.UNAVAILABLE, ""),
        (200, "<html>log in</html>", "AC-303", Failure.UNREADABLE, ""),
        (200, "", "AC-303", Failure.UNREADABLE, ""),
        (200, "{", "AC-303", Failure.UNREADABLE, ""),
        (200, [], "AC-303", Failure.UNREADABLE, ""),
    ],
)
def test_what_an_answer_is(
    status: int, body: Any, code: str, failure: Failure, subject: str
) -> None:
    error = TABLE.classifier(HOST)(answer(status, body))
    assert error is not None
    assert (error.code, error.failure, error.subject) == (code, failure, subject)
    assert error.detail.endpoint == "GET /v1/records"
    assert error.detail.status == status


def test_what_is_good() -> None:
    for body in ({}, {"code": "BUSY"}, '\n {"records": []} \n', "{cut at neither end}"):
        assert TABLE.classify(answer(200, body)) is None
    both = ErrorTable(rules=())
    for body in ({}, []):
        assert both.classify(answer(201, body)) is None
    assert ErrorTable(rules=(), good=(ARRAY,)).classify(answer(200, {})) is not None


def test_the_services_own_words_are_kept() -> None:
    body = {"code": "X1", "message": "いけません。", "id": "req-9", "shown": True}
    error = TABLE.classify(answer(409, body))
    assert error is not None
    detail = error.detail
    assert (detail.vendor_code, detail.vendor_message) == ("No. X1", "いけません。")
    assert detail.request_id == "req-9"
    silent = TABLE.classify(answer(500, "[1, 2]"))
    assert silent is not None
    assert (silent.detail.vendor_code, silent.detail.vendor_message) == (None, None)
    assert silent.detail.request_id == "from-a-header"
    throttled = TABLE.classify(answer(400, {"code": "BUSY"}))
    assert throttled is not None
    assert throttled.retry_after == 300


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"error": "invalid_grant"}, "AC-101"),
        (401, {"error": "invalid_client"}, "AC-102"),
        (403, {"error": "unauthorized_client"}, "AC-102"),
        (400, {"error": "invalid_scope"}, "AC-203"),
        (400, {"error": "invalid_request", "error_description": "redirect_uri"}, "AC-205"),
        (401, "", "AC-102"),  # of the client, not of the grant
        (500, {"error": "invalid_grant"}, "AC-301"),  # a broken server ends no grant
        (404, "", "AC-201"),
        (429, {"error": "slow_down"}, "AC-503"),
        (503, PAGE, "AC-502"),
        (200, {"access_token": "a"}, None),
    ],
)
def test_what_a_token_endpoint_says(status: int, body: Any, code: str | None) -> None:
    error = TOKEN_ERRORS.classifier(HOST)(answer(status, body))
    assert (None if error is None else error.code) == code
