"""Reads 奉行クラウド's answers: which error it is, and what an import says about its rows.

The shape of error bodies is not public, so nothing here depends on one: the status decides, words
of ``registry/answers.toml`` refine it, and the raw text is kept for the person whatever happens.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx
import orjson

from connectors.bugyo.models import ImportOutcome, RowError
from connectors.bugyo.registry import Resource, data
from connectors.kit import (
    Answer,
    AppConnectError,
    ErrorDetail,
    Failure,
    Masker,
    UnknownOutcomeError,
    error_for,
)

KEPT_CHARACTERS = 500
"""How much of the vendor's text is kept in an error."""

_NOTHING = (b"", b"null", b"[]", b"{}")
_REFUSALS = (400, 409, 413, 422)
_SECONDS = re.compile(r"try again in (\d+) second", re.IGNORECASE)
_MARKUP = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_QUOTA = re.compile(r"replenished in (\d+):(\d\d):(\d\d)", re.IGNORECASE)


def is_nothing(answer: Answer) -> bool:
    """Whether an answer carries no rows: empty, 204, ``null``, ``[]`` alike (contract 5.4)."""
    return answer.body.strip() in _NOTHING


@dataclass(frozen=True, slots=True)
class AnswerReader:
    """Classifier of one client.

    Attributes:
        masker: Knows the secrets that must not stay in a kept text.
        host: Named in errors about the address.
        imports: Endpoints (``POST /path``) whose refusals are an outcome, not an error.
    """

    masker: Masker
    host: str
    imports: frozenset[str] = frozenset()

    def text(self, answer: Answer) -> str:
        """The vendor's own words, without secrets; of a web page what a person would read."""
        raw = answer.body[: KEPT_CHARACTERS * 8].decode("utf-8", "replace").strip()
        if raw.startswith("<"):
            raw = " ".join(html.unescape(_MARKUP.sub(" ", raw)).split())
        return self.masker.mask(raw).strip()[:KEPT_CHARACTERS]

    def detail(self, answer: Answer) -> ErrorDetail:
        """Where it happened, with what the vendor said."""
        errors = list(_entries(_parsed(answer)))
        return replace(
            answer.detail,
            vendor_code=_first(errors[0], "code") or None if errors else None,
            vendor_message=self.text(answer) or None,
        )

    def classify(self, answer: Answer) -> AppConnectError | None:
        """The error that an answer is; `connectors.kit.Classifier`."""
        status = answer.status
        if httpx.codes.is_success(status):
            return self._unreadable(answer)
        text = self.text(answer)
        if status in _REFUSALS and answer.detail.endpoint in self.imports:
            about_tenant = _says("tenant", text) and not _row_errors(_parsed(answer))
            return self._error("AC-204", answer, Failure.REFUSED) if about_tenant else None
        match status:
            case 401 if _says("subscription_key", text):
                return self._error("AC-103", answer, Failure.REFUSED)
            case 401:
                return self._error("AC-101", answer, Failure.REFUSED)
            case 403 if _says("quota", text):
                # A quota lasts for hours: a definite no for now, never worth an immediate repeat.
                return self._error("AC-503", answer, Failure.REFUSED, wait=_wish(text))
            case 403:
                return self._error("AC-204", answer, Failure.REFUSED)
            case 404:
                return self._error("AC-201", answer, Failure.REFUSED, subject=self.host)
            case 429:
                return self._error("AC-503", answer, Failure.THROTTLED, wait=_wish(text))
            case 503:
                return self._error("AC-502", answer, Failure.UNAVAILABLE)
        if 400 <= status < 500:
            if _says("tenant", text):
                return self._error("AC-204", answer, Failure.REFUSED)
            errors = list(_entries(_parsed(answer)))
            said = self.masker.mask(_first(errors[0], "message")) if errors else text
            return self._error("AC-205", answer, Failure.REFUSED, subject=said[:100].rstrip("。"))
        if status >= 500:
            return self._error("AC-301", answer, Failure.SERVER)
        return self._error("AC-303", answer, Failure.UNREADABLE)

    def _unreadable(self, answer: Answer) -> AppConnectError | None:
        """A success that is none: a maintenance page with status 200, a proxy's page, a cut body.

        Looks at both ends of the body only: parsing a large export twice would double its cost.
        """
        body = answer.body.strip()
        if body in _NOTHING or (body[:1] in (b"[", b"{") and body[-1:] in (b"]", b"}")):
            return None
        if body[:1] == b"<" and _says("maintenance", self.text(answer)):
            return self._error("AC-502", answer, Failure.UNAVAILABLE)
        return self._error("AC-303", answer, Failure.UNREADABLE)

    def _error(
        self,
        code: str,
        answer: Answer,
        failure: Failure,
        *,
        subject: str = "",
        wait: float | None = None,
    ) -> AppConnectError:
        return error_for(
            code, subject, detail=self.detail(answer), failure=failure, retry_after=wait
        )

    def outcome(self, answer: Answer, sent: int, registry: Resource) -> ImportOutcome:
        """What an import call did.

        Args:
            answer: A 2xx, or a refusal that `classify` let pass.
            sent: Number of rows in the call.
            registry: Translates item codes of errors.

        Raises:
            UnknownOutcomeError: ``AC-402``, accepted, but with errors that name no row we sent, or
                with a result in words that nobody has told us.
        """
        stored = httpx.codes.is_success(answer.status)
        refused: dict[int, RowError] = {}
        strays: list[RowError] = []
        for row, entry in _row_errors(_parsed(answer)):
            error = self._row_error(entry, registry)
            if row is None or not 0 <= row < sent:
                strays.append(error)
            elif row in refused:
                first = refused[row]
                refused[row] = replace(first, message=f"{first.message} / {error.message}")
            else:
                refused[row] = error
        detail = self.detail(answer)
        if stored and (strays or _unclear(_parsed(answer))):
            raise UnknownOutcomeError("AC-402", detail=detail, failure=Failure.UNREADABLE)
        whole = None
        if not stored and not refused:
            whole = strays[0] if strays else RowError(message=self.text(answer))
        return ImportOutcome(refused=refused, others_stored=stored, whole=whole, detail=detail)

    def _row_error(self, entry: Mapping[str, Any], registry: Resource) -> RowError:
        item = registry.by_code.get(_first(entry, "item"))
        message = _first(entry, "message") or orjson.dumps(entry).decode()
        return RowError(
            message=self.masker.mask(message)[:KEPT_CHARACTERS],
            code=_first(entry, "code"),
            field=item.field if item else None,
            label=item.label if item else "",
        )


def _parsed(answer: Answer) -> Any:
    try:
        return orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None


def _entries(body: Any) -> Iterator[dict[str, Any]]:
    """The objects in which a body may speak of errors, a per-row list of errors opened up."""
    if isinstance(body, dict):
        for name in data("answers")["errors"]["lists"]:
            if isinstance(body.get(name), list):
                yield from _entries(body[name])
        return
    for entry in body if isinstance(body, list) else ():
        if not isinstance(entry, dict):
            continue
        nested = entry.get("errors")
        if isinstance(nested, list) and nested:
            outer = {name: value for name, value in entry.items() if name != "errors"}
            yield from ({**outer, **each} for each in nested if isinstance(each, dict))
        elif (accepted := _accepted(entry)) is False or (
            accepted is None and _first(entry, "message")
        ):
            yield entry


def _accepted(entry: Mapping[str, Any]) -> bool | None:
    """What the word in a result says; ``None`` = there is none, or it is not known."""
    answers = data("answers")
    word = next((entry[name] for name in answers["results"]["word"] if name in entry), None)
    lowered = str(word).lower()
    if lowered in answers["results"]["accepted"] or lowered in answers["job"]["done"]:
        return True
    refused = lowered in answers["results"]["refused"] or lowered in answers["job"]["failed"]
    return False if refused else None


def _unclear(body: Any) -> bool:
    """Whether a success says something beside its rows that is neither yes nor no.

    An error inside a 200, or a result word that is not in ``answers.toml``: what was stored is then
    for a look-up to say, never for a guess.
    """
    words = data("answers")["results"]["word"]
    if isinstance(body, dict):
        says = any(name in body for name in words) or bool(_first(body, "message"))
        lists = [body.get(name) for name in data("answers")["errors"]["lists"]]
        # Errors by row speak for themselves, whatever word stands above them.
        named = any(isinstance(each, list) and each for each in lists)
        if says and not named and _accepted(body) is not True:
            return True
        return any(_unclear(each) for each in lists if isinstance(each, list))
    return any(
        any(name in entry for name in words) and _accepted(entry) is None
        for entry in (body if isinstance(body, list) else ())
        if isinstance(entry, dict)
    )


def _row_errors(body: Any) -> list[tuple[int | None, dict[str, Any]]]:
    """Each error with the index of the row that it names, ``None`` when it names none."""
    names, first = data("answers")["errors"]["row"], data("answers")["errors"]["first_row"]
    found: list[tuple[int | None, dict[str, Any]]] = []
    for entry in _entries(body):
        number = next((entry[name] for name in names if name in entry), None)
        try:
            found.append((int(str(number)) - first, entry))
        except ValueError:
            found.append((None, entry))
    return found


def _first(entry: Mapping[str, Any], kind: str) -> str:
    names: list[str] = data("answers")["errors"][kind]
    return next((str(entry[name]) for name in names if entry.get(name) is not None), "")


def _says(sign: str, text: str) -> bool:
    lowered = text.lower()
    return any(word in lowered for word in data("answers")["signs"][sign])


def _wish(text: str) -> float | None:
    """Seconds that the gateway asks for in words; ``Retry-After`` is the kit's matter."""
    if match := _SECONDS.search(text):
        return float(match.group(1))
    if match := _QUOTA.search(text):
        hours, minutes, seconds = map(int, match.groups())
        return float(hours * 3600 + minutes * 60 + seconds)
    return None
