"""Where a request may go: allow-listed names, https, addresses of the public Internet.

A connection's form names hosts, so a wrong or planted value must not turn this program into
somebody's hand inside the company's network (SSRF). Three checks, none of which trusts another:

1. *The name*, when a client is made: on the allow-list of its service, and https. Loopback is the
   one exception, for emulators, and only when it is written literally.
2. *The origin*, at each request: scheme, host and port of the client, whatever path was given.
   Redirects are not followed at all.
3. *The address*, at each connection: the name is resolved once, every address that it has must be
   public, and the connection goes to an address that was checked. A name cannot resolve to
   something else in between (DNS rebinding). TLS still verifies the name.

The seam is httpcore's network backend, where a name becomes a socket. Looked at instead of own
code: ``httpx-secure`` 2.0 opens a connection to the address before it judges it, keeps names for
10 minutes and refuses every proxy; ``ssrfguard`` 0.4 is young, and ten times as long.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import certifi
import httpcore
import httpx

from connectors.kit._retry import ServiceProfile
from connectors.kit.errors import SettingsError

PROXY_VARIABLE = "APP_CONNECT_HTTPS_PROXY"
"""``http://proxy.example.co.jp:8080``: every request to a service goes through it, and it is the
proxy that resolves names then: check 3 is its operator's."""

CA_VARIABLE = "APP_CONNECT_CA_FILE"
"""PEM file of certificates to trust besides the public ones: of a proxy that opens TLS."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Addresses of a host, as text; raises ``OSError`` like ``getaddrinfo``."""

# Public by the registries and all the same a cloud's inside: Azure's metadata and DNS service.
_INSIDE = frozenset({ipaddress.ip_address("168.63.129.16")})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_HOST = re.compile(r"[a-z0-9._:-]+")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PATTERN = re.compile(r"(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)+")


class HostRefusedError(Exception):
    """A name is not on the allow-list, or not reached by https; the message is the host."""


class AddressRefusedError(Exception):
    """A name leads to an address that is not public; the message is the host, not the address."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The one place that a client talks to.

    Attributes:
        scheme: ``https``, or ``http`` on loopback.
        host: Lower case, without the dot of the root.
        port: TCP port.
        loopback: Whether it was written as loopback: an emulator.
    """

    scheme: str
    host: str
    port: int
    loopback: bool


def origin_of(url: str, hosts: Iterable[str]) -> Origin:
    """Check 1: the place that a URL names.

    Args:
        url: Scheme, host and port; parsed by httpx, which will also send to it.
        hosts: The service's allow-list: ``api.obc.jp``, or ``*.cybozu.com`` for all below it.

    Raises:
        ValueError: it is no http or https URL, or it carries a user name or password.
        HostRefusedError: it is not on the list, or on it and not https.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from None
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo:
        raise ValueError("not a plain http(s) URL")
    host = parsed.host.lower().removesuffix(".")
    if not _HOST.fullmatch(host):
        raise ValueError("not a host name")
    loopback = is_loopback(host)
    if not loopback and (parsed.scheme != "https" or not listed(host, hosts)):
        raise HostRefusedError(host)
    port = parsed.port or {"http": 80, "https": 443}[parsed.scheme]
    return Origin(parsed.scheme, host, port, loopback)


def listed(host: str, hosts: Iterable[str]) -> bool:
    """Whether ``host`` is on an allow-list.

    Raises:
        ValueError: the list itself is wrong: ``*`` alone would let everything through.
    """
    for pattern in hosts:
        if not _PATTERN.fullmatch(pattern):
            raise ValueError(f"not a host pattern: {pattern!r}")
        if pattern.startswith("*."):
            if host.endswith(pattern[1:]) and len(host) > len(pattern) - 1:
                return True
        elif host == pattern:
            return True
    return False


def tenant_host(text: str, domains: Sequence[str]) -> str:
    """The host name of one customer of a service that gives each its own sub-domain.

    Args:
        text: ``example``, or what people paste: ``https://example.cybozu.com/k/``.
        domains: The service's domains; a name without a dot is below the first.

    Raises:
        ValueError: it cannot be a host of the service.
    """
    name = text.strip().lower().removeprefix("https://").split("/", 1)[0]
    first, _, domain = name.partition(".")
    if not _LABEL.fullmatch(first) or (domain or domains[0]) not in domains:
        raise ValueError("not a sub-domain of the service")
    return f"{first}.{domain or domains[0]}"


def customer_host(profile: ServiceProfile, text: str) -> str:
    """`tenant_host` of a service whose every host is ``*.domain``.

    Raises:
        SettingsError: ``AC-201``, it cannot be a host of the service.
    """
    try:
        return tenant_host(text, [host.removeprefix("*.") for host in profile.hosts])
    except ValueError:
        raise SettingsError("AC-201", text.strip() or "（空）", service=profile.name) from None


def base_url(host: str, endpoint: str | None = None) -> str:
    """Where requests for ``host`` go: there, or to another address that stands for it."""
    return endpoint.rstrip("/") if endpoint else f"https://{host}"


def host_header(host: str, endpoint: str | None = None) -> dict[str, str]:
    """Tells an emulator or proxy which customer is meant; a real service knows it by its name."""
    return {"host": host} if endpoint else {}


def is_loopback(host: str) -> bool:
    """Whether a host is literally loopback: ``localhost``, ``127.0.0.1``, ``::1``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_public(address: Address) -> bool:
    """Whether an address is a host of the public Internet, embedded IPv4 addresses included."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address.teredo is not None:
            return False
        if address in _NAT64:  # an IPv6-only network reaches IPv4 this way
            inner = ipaddress.IPv4Address(address.packed[-4:])
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast and address not in _INSIDE


async def resolve(host: str, port: int) -> Sequence[str]:
    """The system's resolver, asked in a thread."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Check 3: connects to addresses that were checked, never to a name.

    Args:
        loopback: Accept loopback addresses only (an emulator), instead of public ones only.
        resolver: Who resolves names.
    """

    def __init__(self, *, loopback: bool, resolver: Resolver = resolve) -> None:
        self._loopback = loopback
        self._resolve = resolver
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (as in the base class)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check every address, and connect to the first that answers.

        Raises:
            AddressRefusedError: one of the addresses is not acceptable; none was contacted.
            httpcore.ConnectError: the name cannot be resolved, or nobody answers.
            httpcore.ConnectTimeout: ``timeout`` seconds passed, resolving included.
        """
        clock = asyncio.get_running_loop().time
        deadline = None if timeout is None else clock() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                found = await self._resolve(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("the name was not resolved in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(str(error)) from error
        for address in found:
            # A scope (fe80::1%eth0) belongs to link-local addresses, which are refused anyway.
            if not self._acceptable(ipaddress.ip_address(address.partition("%")[0])):
                raise AddressRefusedError(host)
        problem: Exception = httpcore.ConnectError("the name has no address")
        for position, address in enumerate(found):
            # Each address gets a share of what is left: one that swallows packets (often IPv6)
            # does not use up the time of those that work.
            left = None if deadline is None else max(0.0, deadline - clock())
            share = None if left is None else left / (len(found) - position)
            try:
                return await self._inner.connect_tcp(
                    address, port, share, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
        raise problem

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 (as in the base class)
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """No service is behind a Unix socket."""
        del timeout, socket_options
        raise AddressRefusedError(path)

    async def sleep(self, seconds: float) -> None:
        """As the base class wants it."""
        await self._inner.sleep(seconds)

    def _acceptable(self, address: Address) -> bool:
        return address.is_loopback if self._loopback else is_public(address)


class GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport, bound to one origin and to checked addresses.

    Args:
        origin: From `origin_of`.
        verify: TLS verification, as httpx takes it.
        resolver: Who resolves names.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        verify: ssl.SSLContext | bool = True,
        resolver: Resolver = resolve,
    ) -> None:
        self._origin = origin
        proxy = None if origin.loopback else os.environ.get(PROXY_VARIABLE) or None
        trust = public_trust() if verify is True else verify
        super().__init__(verify=trust, trust_env=False, proxy=proxy)
        if proxy is None:
            # httpx has no argument for it. A test fails when this stops having an effect.
            self._pool._network_backend = PinnedBackend(loopback=origin.loopback, resolver=resolver)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Check 2, then send.

        Raises:
            HostRefusedError: the request is for another origin; nothing was sent.
        """
        url = request.url
        port = url.port or {"http": 80, "https": 443}.get(url.scheme)
        host = url.host.lower().removesuffix(".")
        if (url.scheme, host, port) != (self._origin.scheme, self._origin.host, self._origin.port):
            raise HostRefusedError(host)
        return await super().handle_async_request(request)


def proxy_secrets() -> tuple[str, ...]:
    """What of the proxy's address must not show: its password, and the pair as it is sent."""
    proxy = os.environ.get(PROXY_VARIABLE)
    if not proxy:
        return ()
    parsed = httpx.URL(proxy)
    return tuple(filter(None, (parsed.password, parsed.userinfo.decode("ascii", "replace"))))


def trust_own(context: ssl.SSLContext) -> ssl.SSLContext:
    """``context``, trusting the certificates of `CA_VARIABLE` as well.

    Raises:
        OSError: there is no such file, or no certificate in it.
    """
    if extra := os.environ.get(CA_VARIABLE):
        context.load_verify_locations(cafile=extra)
    return context


def public_trust() -> ssl.SSLContext:
    """The certificates that clients trust, public ones and those of `CA_VARIABLE`.

    Raises:
        OSError: there is no such file, or no certificate in it.
    """
    extra = os.environ.get(CA_VARIABLE, "")
    changed = 0
    if extra:
        with contextlib.suppress(OSError):
            changed = Path(extra).stat().st_mtime_ns
    return _trusted(extra, changed)


@lru_cache(maxsize=4)
def _trusted(extra: str, _changed: int) -> ssl.SSLContext:
    """The public certificates and those of the file ``extra``, read once for every client.

    OpenSSL takes some 20 ms for them, and a run opens several clients.
    """
    context = ssl.create_default_context(cafile=certifi.where())
    return trust_own(context) if extra else context
