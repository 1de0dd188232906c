"""The one error taxonomy, sorted by who has to act, used by HTTP layer, flows, CLI and docs.

    AppConnectError
    ├── ReauthorizeError      再認証: a person must log in and 許可する again
    ├── SettingsError         設定修正: a value in a block or a connection is wrong
    ├── DataError             データ修正: one source record cannot be posted; the others go on
    ├── WaitError             待って再試行: closed window, rate limit, another run is at work
    └── FaultError            障害: something is broken; trying again later may help
        └── UnknownOutcomeError    a post left and nobody knows whether it was processed (design 6)

The words a person reads live in ``catalogue.toml`` by stable code. The vendor's own message is
kept in `ErrorDetail`, never replaced. Nothing here may carry a secret: details are masked when an
error is built from a request (see `connectors.kit.Masker`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any, Literal

from connectors.kit._retry import Failure
from connectors.kit.closed import JST

Json = dict[str, Any]
Recovery = Literal["reauthorize", "settings", "data", "wait", "fault"]


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """What a person reads about one code. ``next`` is a numbered remedy, first step first."""

    code: str
    recovery: Recovery
    title: str
    happened: str
    safe: str
    next: tuple[str, ...]


@cache
def catalogue() -> dict[str, CatalogueEntry]:
    """Every code that exists, in the order of the data file."""
    raw = tomllib.loads(
        resources.files("connectors.kit").joinpath("catalogue.toml").read_text("utf-8")
    )
    return {
        code: CatalogueEntry(
            code=code,
            recovery=entry["recovery"],
            title=entry["title"],
            happened=entry["happened"],
            safe=entry["safe"],
            next=tuple(entry["next"]),
        )
        for code, entry in raw.items()
    }


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """Where it happened and what the vendor said, secrets removed.

    Attributes:
        service: Name of the service, as a person knows it.
        endpoint: ``METHOD /path``, without query and host.
        status: HTTP status, ``None`` when no answer came.
        vendor_code: The vendor's own error code, e.g. ``GAIA_AP01``.
        vendor_message: The vendor's own words.
        request_id: The vendor's name for the request.
    """

    service: str = ""
    endpoint: str = ""
    status: int | None = None
    vendor_code: str | None = None
    vendor_message: str | None = None
    request_id: str | None = None

    def as_dict(self) -> dict[str, str | int]:
        """The fields that are known, for JSON columns and artifacts."""
        pairs = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in pairs.items() if value not in (None, "")}

    def masked(self, mask: Callable[[str], str]) -> ErrorDetail:
        """The same with every text put through ``mask``."""
        texts: Json = {k: mask(v) for k, v in self.as_dict().items() if isinstance(v, str)}
        return replace(self, **texts)

    def __str__(self) -> str:
        labels = {
            "service": "サービス",
            "endpoint": "API",
            "status": "HTTP",
            "vendor_code": "エラーコード",
            "vendor_message": "メッセージ",
            "request_id": "リクエストID",
        }
        return " / ".join(f"{labels[k]}: {v}" for k, v in self.as_dict().items())


class AppConnectError(Exception):
    """Base of every error that is shown to a person.

    Args:
        code: A code of the catalogue, e.g. ``AC-301``.
        subject: What the error is about (an app id, a host, an item label). Never a secret.
        service: The service's name; taken from ``detail`` when left out.
        detail: Where it happened and what the vendor said.
        failure: The transport class, for the retry policy. ``None`` = not from a request.
        retry_after: Seconds that the server asked us to wait.
        until: When the service is known to be open again, by its own clock.
        safe: Replaces the catalogue's statement when more is known (counts of this run).

    Raises:
        KeyError: the code is not in the catalogue.
    """

    recovery: Recovery = "fault"

    def __init__(
        self,
        code: str,
        subject: str = "",
        *,
        service: str = "",
        detail: ErrorDetail | None = None,
        failure: Failure | None = None,
        retry_after: float | None = None,
        until: datetime | None = None,
        safe: str | None = None,
    ) -> None:
        self.code = code
        self.entry = catalogue()[code]
        self.subject = subject
        self.detail = detail or ErrorDetail(service=service)
        self.service = service or self.detail.service
        self.failure = failure
        self.retry_after = retry_after
        self.until = until
        self._safe = safe
        super().__init__(code, subject)

    def mask(self, mask: Callable[[str], str]) -> None:
        """Put everything that came from outside through ``mask``."""
        self.subject = mask(self.subject)
        self.detail = self.detail.masked(mask)
        self.args = (self.code, self.subject)

    def _fill(self, text: str) -> str:
        if not self.subject:
            text = text.replace("（{subject}）", "")
        return text.replace("{service}", self.service or "連携先").replace(
            "{subject}", self.subject or "-"
        )

    @property
    def title(self) -> str:
        """Short name of the error, e.g. データの取得に失敗."""
        return self.entry.title

    @property
    def happened(self) -> str:
        """What happened, in one or two sentences."""
        return self._fill(self.entry.happened)

    @property
    def safe(self) -> str:
        """What was and what was not posted."""
        return self._safe or self._fill(self.entry.safe)

    @safe.setter
    def safe(self, statement: str) -> None:
        self._safe = statement

    @property
    def next_steps(self) -> tuple[str, ...]:
        """The remedy, a step each."""
        return tuple(self._fill(step) for step in self.entry.next)

    @property
    def retryable(self) -> bool:
        """Whether the same run may succeed later without anybody changing anything."""
        return self.recovery in ("wait", "fault")

    def as_dict(self) -> Json:
        """Everything a person may read, for the history, artifacts and ``--json``."""
        return {
            "code": self.code,
            "title": self.title,
            "happened": self.happened,
            "safe": self.safe,
            "next": list(self.next_steps),
            "detail": self.detail.as_dict(),
            "retryable": self.retryable,
        }

    def __str__(self) -> str:
        steps = " ".join(f"{n}. {step}" for n, step in enumerate(self.next_steps, 1))
        where = f"［詳細］{self.detail}" if self.detail.as_dict() else ""
        return f"{self.code} {self.title}: {self.happened}{self.safe}［対処］{steps}{where}"


class ReauthorizeError(AppConnectError):
    """再認証: the consent is gone; a person must log in and 許可する again."""

    recovery: Recovery = "reauthorize"


class SettingsError(AppConnectError):
    """設定修正: a value that a person entered is wrong; nothing helps until it is changed."""

    recovery: Recovery = "settings"


class DataError(AppConnectError):
    """データ修正: this one record cannot be posted. It becomes a reject, the others go on."""

    recovery: Recovery = "data"


class WaitError(AppConnectError):
    """待って再試行: closed window, maintenance, rate limit, or another run at work."""

    recovery: Recovery = "wait"


class FaultError(AppConnectError):
    """障害: a service, the network or this program is broken."""

    recovery: Recovery = "fault"


class UnknownOutcomeError(FaultError):
    """A post left and no definite answer came: it may or may not have been processed.

    Attributes:
        accepted_key: The service took the post and will tell its result later, under this key;
            empty = it did not say so.
    """

    accepted_key: str = ""


_BY_RECOVERY: dict[Recovery, type[AppConnectError]] = {
    "reauthorize": ReauthorizeError,
    "settings": SettingsError,
    "data": DataError,
    "wait": WaitError,
    "fault": FaultError,
}


def error_for(code: str, subject: str = "", **more: Any) -> AppConnectError:
    """The error of the class that the catalogue gives ``code``; arguments as `AppConnectError`."""
    return _BY_RECOVERY[catalogue()[code].recovery](code, subject, **more)


def closed_error(detail: ErrorDetail, until: datetime, moment: datetime) -> AppConnectError:
    """The error of a service that is closed at this hour (``AC-507``).

    Args:
        detail: Who is closed, and what it said.
        until: When it is open again.
        moment: The present, by the clock that ``until`` was judged by. The wait is told as
            seconds, too: the clock of the service and ours need not agree.
    """
    return error_for(
        "AC-507",
        f"{until.astimezone(JST):%H:%M}",
        detail=detail,
        failure=Failure.REFUSED,
        retry_after=max(0.0, (until - moment).total_seconds()),
        until=until,
    )
