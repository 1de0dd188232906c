"""The one HTTP client: httpx for the wire, tenacity for the repeats, our taxonomy for errors."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, Protocol, Self
from urllib.parse import urlsplit

import httpx
import orjson
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    stop_any,
    stop_before_delay,
)

from connectors.kit._masking import Masker
from connectors.kit._pace import FullError, Pace, Timer
from connectors.kit._retry import NEVER, Failure, RetryPolicy, ServiceProfile, parse_retry_after
from connectors.kit.clocks import hear
from connectors.kit.closed import closed_until
from connectors.kit.errors import (
    AppConnectError,
    ErrorDetail,
    FaultError,
    UnknownOutcomeError,
    closed_error,
    error_for,
)
from connectors.kit.hosts import (
    AddressRefusedError,
    GuardedTransport,
    HostRefusedError,
    Resolver,
    origin_of,
    proxy_secrets,
    resolve,
)

Kind = Literal["read", "post", "once"]
"""What a request does at the other side: nothing, something, or something that must leave once."""


class Authorizer(Protocol):
    """How requests prove who they are."""

    async def headers(self) -> Mapping[str, str]:
        """Headers for the next request."""
        ...

    async def renew(self, rejected: Mapping[str, str]) -> bool:
        """Called after a 401 to a request that carried ``rejected``; ``True`` = try again once."""
        ...


@dataclass(frozen=True, slots=True)
class StaticHeaders:
    """Credentials that do not change: an API token, a fixed access token."""

    values: Mapping[str, str] = field(repr=False)  # they are secrets

    @property
    def secrets(self) -> Iterator[str]:
        """What must never show in an error: the values, and what they are made of."""
        for value in self.values.values():
            secret = value.removeprefix("Bearer ")
            yield from (secret, *secret.split(","))

    async def headers(self) -> Mapping[str, str]:
        """The same headers every time."""
        return self.values

    async def renew(self, rejected: Mapping[str, str]) -> bool:  # noqa: ARG002
        """Nothing to renew."""
        return False


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer with its body in memory.

    Attributes:
        status: HTTP status.
        headers: Case-insensitive.
        body: Raw bytes, decoded from any content encoding.
        detail: Where it came from, for errors built later from its content.
    """

    status: int
    headers: httpx.Headers
    body: bytes
    detail: ErrorDetail

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            FaultError: ``AC-303``, the body is not JSON (a proxy's HTML page, a cut body).
        """
        with contextlib.suppress(orjson.JSONDecodeError):  # it would carry the body along
            return orjson.loads(self.body)
        raise self.unreadable()

    def unreadable(self) -> FaultError:
        """The error of an answer that does not say what it must (``AC-303``)."""
        return FaultError("AC-303", detail=self.detail, failure=Failure.UNREADABLE)

    @property
    def date(self) -> datetime | None:
        """The server's own clock, or ``None`` when it does not say."""
        with contextlib.suppress(KeyError, ValueError, TypeError):
            return parsedate_to_datetime(self.headers["date"]).astimezone(UTC)
        return None


_REDIRECTS = frozenset({301, 302, 303, 307, 308})

Classifier = Callable[[Answer], AppConnectError | None]
"""Looks at an answer in the vendor's terms: the error that it is, or ``None`` for success."""


class ApiClient:
    """Talks to one service: keep-alive, time-outs apart, retries by class, errors by taxonomy.

    Args:
        profile: The service's facts: name, time-outs, limits, policies.
        base_url: Scheme and host (and port); paths are appended to it.
        classify: The vendor's errors; called for every complete answer.
        authorizer: Who we are; asked before each attempt. What is fixed of it, ``secrets`` learns.
        headers: Sent with every request.
        secrets: Values that must never appear in an error; `Masker` knows them from here on.
        verify: TLS verification, as httpx takes it (``True``, or a context with one's own CA).
        clock: Aware time, for HTTP dates in ``Retry-After``.
        resolver: Who resolves names; the system, unless a test stands in for it.
        timer: The time that is waited by, between requests and between attempts.

    Raises:
        SettingsError: ``AC-205``, ``base_url`` is not a URL; ``AC-207``, it is no host of the
            service, or not https.
    """

    def __init__(
        self,
        profile: ServiceProfile,
        base_url: str,
        *,
        classify: Classifier,
        authorizer: Authorizer | None = None,
        headers: Mapping[str, str] | None = None,
        secrets: Masker | None = None,
        verify: ssl.SSLContext | bool = True,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        resolver: Resolver = resolve,
        timer: Timer = Timer(),  # noqa: B008 (frozen)
    ) -> None:
        self.profile = profile
        self.masker = secrets or Masker()
        self.masker.add(*proxy_secrets())
        if isinstance(authorizer, StaticHeaders):
            self.masker.add(*authorizer.secrets)
        self._classify = classify
        self._authorizer = authorizer
        self._clock = clock
        times = profile.timeouts
        self._pace = Pace(profile.limit, profile.read.patience, timer)
        self._sleep = timer.sleep
        self._headers = {"accept": "application/json", **profile.headers, **(headers or {})}
        try:
            origin = origin_of(base_url, profile.hosts)
            self._host = urlsplit(base_url).netloc
            # Redirects are never followed: credentials must not travel to another host (faults
            # E.2). Proxies and certificates of the environment are not used: see `hosts`.
            self._http = httpx.AsyncClient(
                base_url=base_url,
                timeout=httpx.Timeout(times.read, connect=times.connect, pool=times.total),
                follow_redirects=False,
                trust_env=False,
                transport=GuardedTransport(origin, verify=verify, resolver=resolver),
            )
        except HostRefusedError as error:
            raise error_for("AC-207", str(error), service=profile.name) from None
        except (httpx.InvalidURL, ValueError):
            wrong = f"接続先のURL「{base_url}」が正しくありません"
            raise error_for("AC-205", wrong, service=profile.name) from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        kind: Kind,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request, repeated as the policy of its kind allows.

        Args:
            method: HTTP method.
            path: Path below the base URL.
            kind: ``read`` may be repeated whatever happened; ``post`` only when it was certainly
                not processed; ``once`` never.
            params: Query parameters, as httpx takes them.
            json: A body to be encoded as JSON; or
            content: an encoded body (set ``content-type`` in ``headers``).
            headers: Added to the client's own.

        Returns:
            The answer that ``classify`` found no error in.

        Raises:
            UnknownOutcomeError: a post left and no definite answer came.
            WaitError: ``AC-507``, the service is closed at this hour; nothing was sent.
            AppConnectError: anything else, by its class.
        """
        policy = {"read": self.profile.read, "post": self.profile.post, "once": NEVER}[kind]
        self._ensure_open()
        if json is not None:
            content = orjson.dumps(json)
            headers = {"content-type": "application/json", **(headers or {})}
        async for attempt in _attempts(policy, self._sleep):
            with attempt:
                return await self._send(method, path, kind, params, content, headers or {})
        raise AssertionError("unreachable: tenacity re-raises")

    def _ensure_open(self) -> None:
        """The hours at which the service does not answer are known: it is not even asked."""
        moment = self._clock()
        until = closed_until(self.profile.closed, moment)
        if until is not None:
            raise closed_error(ErrorDetail(service=self.profile.name), until, moment)

    async def _send(
        self,
        method: str,
        path: str,
        kind: Kind,
        params: Mapping[str, Any] | None,
        content: bytes | None,
        headers: Mapping[str, str],
    ) -> Answer:
        for may_renew in (True, False):
            credentials = await self._authorizer.headers() if self._authorizer else {}
            answer = await self._exchange(
                method, path, kind, params, content, {**self._headers, **headers, **credentials}
            )
            error = self._judge(answer, kind)
            closed = self._pace.learn(answer.headers)
            if error is None:
                return answer
            # A 401 is a definite no, so even a post may be repeated once with a fresh token. One
            # that speaks of the subscription key is not about the token: renewing would burn it.
            if (
                answer.status == httpx.codes.UNAUTHORIZED
                and error.code != "AC-103"
                and may_renew
                and self._authorizer is not None
                and await self._authorizer.renew(credentials)
            ):
                continue
            if error.retry_after is None:
                error.retry_after = parse_retry_after(
                    answer.headers.get("retry-after"), now=self._clock
                )
            if error.retry_after is None and error.failure is Failure.THROTTLED:
                error.retry_after = closed
            raise self._as_outcome(error, kind)
        raise AssertionError("unreachable: the second round returns or raises")

    async def _exchange(
        self,
        method: str,
        path: str,
        kind: Kind,
        params: Mapping[str, Any] | None,
        content: bytes | None,
        headers: Mapping[str, str],
    ) -> Answer:
        where = ErrorDetail(service=self.profile.name, endpoint=f"{method} {path}")
        lost: AppConnectError | None = None
        cause: RuntimeError | None = None
        try:
            async with self._pace.turn(), asyncio.timeout(self.profile.timeouts.total):
                response = await self._http.request(
                    method, path, params=params, content=content, headers=headers
                )
        except FullError as full:
            lost = error_for(
                "AC-503", detail=where, failure=Failure.THROTTLED, retry_after=full.seconds
            )
        except (UnicodeEncodeError, httpx.LocalProtocolError) as error:
            # A header that HTTP cannot carry: a token pasted with a line break or in full width.
            lost = error_for("AC-102", detail=where, failure=Failure.REFUSED)
            cause = RuntimeError(type(error).__name__)  # its message quotes the header
        except HostRefusedError as error:
            lost = error_for("AC-207", str(error), detail=where, failure=Failure.REFUSED)
        except AddressRefusedError as error:
            lost = error_for("AC-504", str(error), detail=where, failure=Failure.REFUSED)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            lost = error_for(
                "AC-205", "接続先のURLが正しくありません", detail=where, failure=Failure.REFUSED
            )
            cause = self._masked(error)
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.ProxyError,  # the proxy did not let us through: nothing reached the service
        ) as error:
            lost = error_for("AC-501", self._host, detail=where, failure=Failure.CONNECT)
            cause = self._masked(error)
        except (httpx.TransportError, httpx.DecodingError, TimeoutError) as error:
            dropped = FaultError("AC-301", detail=where, failure=Failure.DROPPED)
            lost, cause = self._as_outcome(dropped, kind), self._masked(error)
        if lost is not None:
            # Raised out here, not in the handlers: there Python would hang httpx's own exception,
            # with the request and its credentials, into ``__context__``.
            raise lost from cause
        request_id = next(
            (response.headers[h] for h in self.profile.request_id_headers if h in response.headers),
            None,
        )
        answer = Answer(
            status=response.status_code,
            headers=response.headers,
            body=response.content,
            detail=ErrorDetail(
                service=where.service,
                endpoint=where.endpoint,
                status=response.status_code,
                request_id=request_id,
            ),
        )
        hear(self.profile.name, answer.date, self._clock())
        return answer

    def _judge(self, answer: Answer, kind: Kind) -> AppConnectError | None:
        """The classifier's verdict, raised or returned, without secrets that a server echoes."""
        if answer.status in _REDIRECTS:
            # A proxy's log-in page, or worse. Only its host is told: the rest may hold anything.
            with contextlib.suppress(httpx.InvalidURL, KeyError):
                target = httpx.URL(answer.headers["location"]).host or self._host
                # 303 means "done, look there": for a post this is no definite no.
                failure = Failure.REFUSED if kind == "read" else Failure.UNREADABLE
                redirect = error_for("AC-505", target, detail=answer.detail, failure=failure)
                redirect.mask(self.masker.mask)
                return redirect
        try:
            error = self._classify(answer)
        except AppConnectError as raised:
            error = raised
        if error is not None:
            error.mask(self.masker.mask)
        return error

    def _as_outcome(self, error: AppConnectError, kind: Kind) -> AppConnectError:
        """A post that failed without a definite no has an unknown outcome, whatever the status."""
        definite = (Failure.REFUSED, Failure.THROTTLED, Failure.CONNECT, None)
        if kind == "read" or error.failure in definite:
            return error
        return UnknownOutcomeError(
            "AC-402", detail=error.detail, failure=error.failure, retry_after=error.retry_after
        )

    def _masked(self, error: BaseException) -> RuntimeError:
        """The cause, as text without secrets: httpx puts requests and headers into its own."""
        return RuntimeError(self.masker.mask(f"{type(error).__name__}: {error}"))


def _attempts(policy: RetryPolicy, sleep: Callable[[float], Awaitable[None]]) -> AsyncRetrying:
    def worth_it(error: BaseException) -> bool:
        if not isinstance(error, AppConnectError) or error.failure not in policy.on:
            return False
        # A server that asks for more patience than we have ends the request now: the run is
        # postponed with the server's own time in the message.
        return error.retry_after is None or error.retry_after <= policy.patience

    return AsyncRetrying(
        sleep=sleep,
        stop=stop_any(stop_after_attempt(policy.attempts), stop_before_delay(policy.budget)),
        wait=policy.backoff,
        retry=retry_if_exception(worth_it),
        reraise=True,
    )
