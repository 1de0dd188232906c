"""Outgoing requests: which hosts, which addresses, through which proxy."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.bugyo import BugyoClient, Environment, environment, fixed_token
from connectors.bugyo.environment import HOSTS
from connectors.kintone import PROFILE, KintoneClient, api_token
from connectors.kit import ApiClient, AppConnectError, SettingsError, StaticHeaders, hosts
from connectors.kit.emulator import Emulator, serve
from connectors.kit.hosts import is_public, listed, origin_of
from tests.security.certificates import certificate

NAME = "example.cybozu.com"


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://example.cybozu.com",
        "https://example.kintone.com",
        "https://example.cybozu.cn",
        "https://example.s.cybozu.com",
        "https://EXAMPLE.cybozu.com.",
        "http://127.0.0.1:8701",
        "http://localhost:8701",
        "https://localhost",
        "http://[::1]:8701",
        "http://127.9.9.9",
    ],
)
def test_a_service_is_reached_at_its_own_hosts_and_at_emulators(url: str) -> None:
    KintoneClient("example", authorizer=api_token("t"), endpoint=url)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.cybozu.com",  # not https
        "https://cybozu.com",  # the domain itself is nobody's kintone
        "https://evilcybozu.com",
        "https://example.cybozu.com.evil.example",
        "https://evil.example",
        "https://169.254.169.254",
        "http://169.254.169.254",
        "https://10.0.0.1",
        "https://8.8.8.8",
        "http://127.0.0.1.nip.io",
        "http://localhost.evil.example",
        "http://0.0.0.0:8701",
        "http://2130706433",  # 127.0.0.1 to some parsers
        "http://0x7f.1",
        "https://metadata.google.internal",
    ],
)
def test_no_other_host_gets_credentials(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        KintoneClient("example", authorizer=api_token("t"), endpoint=url)
    assert caught.value.code == "AC-207"
    if not url.startswith("http://"):
        with pytest.raises(SettingsError) as caught:
            Environment("custom", url, "https://id.obc.jp")
        assert caught.value.code == "AC-207"


@pytest.mark.parametrize(
    "url",
    ["https://user:pass@example.cybozu.com", "ftp://127.0.0.1", "https://", "file:///etc", "x"],
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        KintoneClient("example", authorizer=api_token("t"), endpoint=url)
    assert caught.value.code == "AC-205"


def test_the_environments_are_on_their_own_list() -> None:
    for name in ("production", "sandbox"):
        known = environment(name)
        for base in (known.api_base, known.id_base):
            assert not origin_of(base, HOSTS).loopback


@pytest.mark.parametrize("pattern", ["*", "*.", "*.*.com", "a*.example.com", ""])
def test_a_list_that_lets_everything_through_is_none(pattern: str) -> None:
    with pytest.raises(ValueError, match="not a host pattern"):
        listed("evil.example", [pattern])


async def test_a_path_cannot_name_another_host() -> None:
    """A "next page" link is the other side's word: credentials stay with their own host."""
    seen: list[str] = []
    client = ApiClient(
        PROFILE,
        "http://127.0.0.1:9",
        classify=lambda answer: None,
        authorizer=StaticHeaders({"authorization": "Bearer secret-token"}),
    )
    async with client:
        for path in ("http://127.0.0.1:8080/x", "https://evil.example/x"):
            with pytest.raises(AppConnectError) as caught:
                await client.request("GET", path, kind="post")
            seen.append(caught.value.code)
    assert seen == ["AC-207"] * 2


# --- addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_the_public_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


class Desk(Emulator):
    """Says who it was taken for."""

    name = "desk"

    def __init__(self) -> None:
        super().__init__()

        @self.api.get("/who")
        async def who() -> dict[str, str]:
            return {}


class _Tls:
    """An HTTPS server on loopback that says under which name it was reached."""

    def __init__(self, folder: Path) -> None:
        made = certificate(folder, NAME)
        self.pem = made.pem
        self.context = made.server_context()
        self.context.sni_callback = lambda _sock, name, _context: self.names.append(name)
        self.names: list[str] = []
        self.heads: list[str] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head.decode())
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[tuple[_Tls, int]]:
    made = _Tls(tmp_path)
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0, ssl=made.context)
    async with server:
        yield made, server.sockets[0].getsockname()[1]


async def test_the_checked_address_is_connected_to_and_tls_still_checks_the_name(
    tls: tuple[_Tls, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, port = tls
    answers = [["127.0.0.1"], ["192.0.2.1"]]  # a name that means something else the second time
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers.pop(0)

    # The only address that a test can listen on counts as public here.
    monkeypatch.setattr(hosts, "is_public", lambda address: str(address) == "127.0.0.1")
    trusted = ssl.create_default_context(cafile=str(made.pem))
    quick = replace(PROFILE, read=replace(PROFILE.read, attempts=1))
    client = ApiClient(
        quick,
        f"https://{NAME}:{port}",
        classify=lambda answer: None,
        verify=trusted,
        resolver=rebinding,
    )
    async with client:
        for _ in range(3):  # one connection: asked once, checked once
            assert (await client.request("GET", "/k", kind="read")).status == 200
    assert asked == [NAME]
    assert made.names == [NAME]
    assert all(f"host: {NAME}:{port}" in head.lower() for head in made.heads)
    async with ApiClient(
        quick,
        f"https://other.cybozu.com:{port}",
        classify=lambda answer: None,
        verify=trusted,
        resolver=lambda host, port: asyncio.sleep(0, ["127.0.0.1"]),
    ) as wrong:
        with pytest.raises(AppConnectError) as caught:
            await wrong.request("GET", "/k", kind="read")
    assert caught.value.code == "AC-501"
    assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value.__cause__)
    assert len(made.heads) == 3


async def test_a_dead_address_does_not_use_up_the_time_of_a_living_one(
    tls: tuple[_Tls, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, port = tls
    monkeypatch.setattr(hosts, "is_public", lambda address: True)

    async def two(host: str, port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]  # nobody listens on the first

    async with ApiClient(
        PROFILE,
        f"https://{NAME}:{port}",
        classify=lambda answer: None,
        verify=ssl.create_default_context(cafile=str(made.pem)),
        resolver=two,
    ) as client:
        assert (await client.request("GET", "/k", kind="post")).status == 200


async def test_localhost_that_leads_elsewhere_is_refused() -> None:
    """An emulator's name is believed only as far as it is loopback."""

    async def elsewhere(host: str, port: int) -> list[str]:
        return ["8.8.8.8"]

    async with ApiClient(
        PROFILE, "http://localhost:1", classify=lambda answer: None, resolver=elsewhere
    ) as client:
        with pytest.raises(AppConnectError) as caught:
            await client.request("GET", "/", kind="read")
    assert caught.value.code == "AC-504"


def test_the_seam_is_where_it_was() -> None:
    """httpx has no argument for the network backend; it is put in, and this says that it is."""
    transport = hosts.GuardedTransport(origin_of(f"https://{NAME}", PROFILE.hosts))
    assert isinstance(transport._pool, hosts.httpcore.AsyncConnectionPool)
    assert isinstance(transport._pool._network_backend, hosts.PinnedBackend)


# --- a corporate proxy --------------------------------------------------------------------------


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy that notes what it is asked for, and refuses."""
    heads: list[str] = []
    started = threading.Event()
    port: list[int] = []
    loop = asyncio.new_event_loop()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async def serve_proxy() -> None:
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        port.append(server.sockets[0].getsockname()[1])
        started.set()
        with contextlib.suppress(asyncio.CancelledError):
            await server.serve_forever()

    task: list[asyncio.Task[None]] = []

    def run() -> None:
        task.append(loop.create_task(serve_proxy()))
        loop.run_until_complete(task[0])
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(5)
    yield f"127.0.0.1:{port[0]}", heads
    loop.call_soon_threadsafe(task[0].cancel)
    thread.join(5)


async def test_a_documented_proxy_is_used_and_its_password_is_not_shown(
    proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    where, heads = proxy
    monkeypatch.setenv(hosts.PROXY_VARIABLE, f"http://clerk:pr0xy-pass@{where}")

    async def never(host: str, port: int) -> list[str]:
        raise AssertionError("the proxy resolves names")

    client = ApiClient(
        replace(PROFILE, read=replace(PROFILE.read, attempts=1)),
        f"https://{NAME}",
        classify=lambda answer: None,
        resolver=never,
    )
    async with client:
        with pytest.raises(AppConnectError) as caught:
            await client.request("GET", "/k", kind="read")
    assert caught.value.code == "AC-501"
    assert heads[0].startswith(f"CONNECT {NAME}:443 ")
    assert "authorization: basic" in heads[0].lower()
    assert "pr0xy-pass" not in f"{caught.value}{caught.value.__cause__}"
    assert "pr0xy-pass" not in client.masker.mask(f"http://clerk:pr0xy-pass@{where}")
    # Emulators are on this machine: no proxy stands in between.
    with serve(Desk()) as url:
        async with ApiClient(PROFILE, url, classify=lambda answer: None) as near:
            assert (await near.request("GET", "/who", kind="read")).status == 200
    assert len(heads) == 1
    # The list of hosts holds behind a proxy as well.
    with pytest.raises(SettingsError) as refused:
        ApiClient(PROFILE, "https://evil.example", classify=lambda answer: None)
    assert refused.value.code == "AC-207"


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serve(Desk()) as url:
        async with ApiClient(PROFILE, url, classify=lambda answer: None) as client:
            assert (await client.request("GET", "/who", kind="read")).status == 200


async def test_a_certificate_of_ones_own_is_trusted_by_setting(
    tls: tuple[_Tls, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, port = tls
    monkeypatch.setattr(hosts, "is_public", lambda address: True)
    quick = replace(PROFILE, read=replace(PROFILE.read, attempts=1))

    async def status() -> Any:
        async with ApiClient(
            quick,
            f"https://{NAME}:{port}",
            classify=lambda answer: None,
            resolver=lambda host, port: asyncio.sleep(0, ["127.0.0.1"]),
        ) as client:
            return (await client.request("GET", "/k", kind="read")).status

    with pytest.raises(AppConnectError):
        await status()
    monkeypatch.setenv(hosts.CA_VARIABLE, str(made.pem))
    assert await status() == 200


# --- the clients themselves ---------------------------------------------------------------------


async def test_both_real_clients_are_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are allowed and lead inside: neither client says a word to them."""
    import socket

    def inside(*_args: Any, **_more: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 443))]

    monkeypatch.setattr(socket, "getaddrinfo", inside)
    async with KintoneClient("example", authorizer=api_token("t")) as kintone:
        with pytest.raises(AppConnectError) as caught:
            await kintone.count("1")
    assert (caught.value.code, caught.value.subject) == ("AC-504", NAME)
    async with BugyoClient(
        environment("production"),
        subscription_key="key-0001",
        authorizer=fixed_token("token-0001"),
        tenant_id="t",
    ) as bugyo:
        with pytest.raises(AppConnectError) as caught:
            await bugyo.search_tenants()
    assert (caught.value.code, caught.value.subject) == ("AC-504", "api.obc.jp")


def test_redirects_are_off_in_every_client() -> None:
    client = ApiClient(PROFILE, "http://127.0.0.1:9", classify=lambda answer: None)
    assert isinstance(client._http, httpx.AsyncClient)
    assert client._http.follow_redirects is False
    assert client._http.trust_env is False
