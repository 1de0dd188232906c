"""How the answers of one service become errors of ours: a table per connector, read here.

    ERRORS = ErrorTable(
        good=(OBJECT,),
        read=lambda body: Said(text(body.get("code")), text(body.get("message"))),
        rules=(
            Rule("AC-503", Failure.THROTTLED, said=("E_BUSY",)),
            Rule("AC-102", said=("E_TOKEN_*",)),
            Rule("AC-205", status=(400, 422), subject=WORDS),
            Rule("AC-201", status=(404,), said=NOTHING, subject=PLACE),
        ),
    )
    http = ApiClient(PROFILE, url, classify=ERRORS.classifier(host))

The first rule that matches wins: the connector's own, then `HTTP_RULES`. A refusal that no rule
knows is ``AC-301`` when the service gives it a code, and ``AC-303`` when it does not (the page of a
proxy). A success without a good body is a maintenance page, or no answer at all.

Secrets that a service echoes are no matter of a table: `ApiClient` masks every error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import orjson

from connectors.kit._http import Answer, Classifier
from connectors.kit._retry import Failure
from connectors.kit.errors import AppConnectError, error_for

OBJECT, ARRAY = b"{}", b"[]"
"""First and last byte of a good body."""

NOTHING = ("",)
"""``said`` of a rule for answers in which the service says no code: somebody else's page."""

WORDS, PLACE = "{words}", "{place}"
"""In a subject: what the service says of it (``HTTP 422`` if nothing); whom the client talks to."""

_MAINTENANCE = re.compile(
    b"maintenance|service unavailable|" + "メンテナンス".encode(), re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Said:
    """What the body of an error says.

    Attributes:
        code: The service's own code, which rules are written in.
        words: Its message.
        shown: The code as a person is told it, where that is more than `code`.
        request_id: Its name for the request.
    """

    code: str = ""
    words: str = ""
    shown: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a table: every condition that is given must hold.

    Attributes:
        code: Of the catalogue.
        failure: For the retry policy.
        said: Codes of the service, ``GAIA_QU*`` for all that begin so; `NOTHING` = it says none.
        status: HTTP statuses.
        subject: What the message names; may hold `WORDS` or `PLACE`.
        retry_after: Seconds to wait, where the answer does not say it.
    """

    code: str
    failure: Failure = Failure.REFUSED
    said: tuple[str, ...] | None = None
    status: Container[int] | None = None
    subject: str = ""
    retry_after: float | None = None

    def matches(self, said: Said, status: int) -> bool:
        """Whether this is the line for an answer."""
        if self.status is not None and status not in self.status:
            return False
        return self.said is None or any(fnmatchcase(said.code, each) for each in self.said)


HTTP_RULES = (
    Rule("AC-503", Failure.THROTTLED, status=(429,)),
    Rule("AC-502", Failure.UNAVAILABLE, status=(503,)),
    Rule("AC-301", Failure.SERVER, status=range(500, 600)),
    Rule("AC-102", status=(401,)),
    Rule("AC-203", status=(403,)),
    Rule("AC-303", said=NOTHING),
    Rule("AC-301"),
)
"""What every service means, unless its table says otherwise."""

_PAGE = Rule("AC-502", Failure.UNAVAILABLE)
_UNREADABLE = Rule("AC-303", Failure.UNREADABLE)


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """The errors of one service.

    Attributes:
        rules: In the order in which they are tried.
        read: What the JSON object of an error says.
        good: How a good body begins and ends. Only both ends are looked at: parsing a large
            answer twice would double its cost.
    """

    rules: tuple[Rule, ...]
    read: Callable[[dict[str, Any]], Said] = field(default=lambda _: Said())
    good: tuple[bytes, ...] = (OBJECT, ARRAY)

    def classifier(self, place: str = "") -> Classifier:
        """The classifier of one client.

        Args:
            place: Whom it talks to: the customer's host, a contract.
        """
        return lambda answer: self.classify(answer, place)

    def classify(self, answer: Answer, place: str = "") -> AppConnectError | None:
        """The error that an answer is, or ``None`` for success."""
        body, status = answer.body.strip(), answer.status
        succeeded = 200 <= status < 300
        if succeeded and body[:1] + body[-1:] in self.good:
            return None
        said = self._said(body)
        if succeeded:
            rule = _PAGE if _MAINTENANCE.search(body) else _UNREADABLE
        else:
            rule = next(r for r in (*self.rules, *HTTP_RULES) if r.matches(said, status))
        words = said.words.rstrip("。.") or f"HTTP {status}"
        return error_for(
            rule.code,
            rule.subject.replace(PLACE, place).replace(WORDS, words),
            detail=replace(
                answer.detail,
                vendor_code=said.shown or said.code or None,
                vendor_message=said.words or None,
                request_id=said.request_id or answer.detail.request_id,
            ),
            failure=rule.failure,
            retry_after=rule.retry_after,
        )

    def _said(self, body: bytes) -> Said:
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError:  # a page; decoding it some other way would hide its status
            return Said()
        return self.read(content) if isinstance(content, dict) else Said()


def text(value: object) -> str:
    """A member of an error as text; ``""`` where there is none."""
    return "" if value is None else str(value)
