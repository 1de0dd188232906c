"""Connections and log-ins from a terminal."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import typer
from rich.console import Console

from blocks import Connection, OAuthBlock
from connectors.bugyo.reception import reception_assumptions
from connectors.bugyo.registry import assumptions, resource
from connectors.kit import AppConnectError, Consent, Masker, SettingsError
from connectors.kit.consent import CALLBACK
from deployments.catalog import (
    Connector,
    deploy,
    deploy_operations,
    ensure_work_pool,
    register_blocks,
)
from deployments.cli.books import table
from deployments.stack.settings import StackSettings
from flows.engine.codes import EMPTY_BOOK
from flows.engine.opening import load_connection
from flows.engine.pipeline import Tools
from flows.engine.store import Store
from flows.engine.timing import timing_of
from flows.engine.tokens import Vault, save_pair, service_of
from flows.engine.updates import lines
from flows.operations.delete_connection import kept, sentence
from flows.operations.deploying import saved_connections
from flows.operations.removing import Removed, remove
from flows.operations.services import rebuild_quietly
from flows.operations.tokens import saved_credentials
from flows.operations.updates import notice_update
from flows.parts import consents
from flows.parts.bugyo_codes import code_operations
from flows.parts.oauth import OAuthClient, oauth_client
from flows.parts.reception_file import delivery_of

COLUMNS = ("接続", "サービス名", "連携タイミング", "登録番号")


async def _load(name: str, connector: Connector) -> Connection:
    return cast("Connection", await load_connection(connector.pipeline, name))


async def _find(name: str) -> tuple[Connector, Connection]:
    for found, connector in await saved_connections():
        if found == name:
            return connector, await _load(name, connector)
    raise SettingsError("AC-206", name)


def print_connections(*, as_json: bool) -> None:
    """Print every connection; what is wrong with one goes to stderr and hides no other."""

    async def work() -> list[list[str]]:
        lines = []
        for name, connector in await saved_connections():
            try:
                connection = await _load(name, connector)
                known = [timing_of(connection).words(), connection.registration_number]
            except AppConnectError as error:
                typer.echo(str(error), err=True)
                known = [error.code, ""]
            lines.append([name, connector.pipeline.service, *known])
        return lines

    lines = asyncio.run(work())
    if as_json:
        entries = [dict(zip(COLUMNS, line, strict=True)) for line in lines]
        typer.echo(json.dumps(entries, ensure_ascii=False))
        return
    Console().print(table("接続", COLUMNS, lines))


def delete_and_print(name: str, again: str, *, with_pending: bool, as_json: bool) -> None:
    """Delete a connection, and print what is kept of it."""

    async def work() -> Removed:
        store = Store()
        gone = await remove(store, name, again, with_pending=with_pending)
        await rebuild_quietly(store)
        return gone

    gone = asyncio.run(work())
    if as_json:
        typer.echo(json.dumps(asdict(gone), ensure_ascii=False))
        return
    typer.echo(sentence(gone))
    lines = [list(line) for line in kept(gone).items()]
    Console().print(table("残したもの", ("残したもの", "内容"), lines))


def deploy_connections(names: list[str]) -> int:
    """Deploy the named connections, or all of them; returns the exit status.

    One that cannot be loaded is told and left out; the others are deployed, the status is 1.
    """

    async def work() -> int:
        await ensure_work_pool()
        await register_blocks()
        wanted = [entry for entry in await saved_connections() if not names or entry[0] in names]
        for missing in set(names) - {entry[0] for entry in wanted}:
            raise SettingsError("AC-206", missing)
        status = 0
        for name, connector in wanted:
            try:
                await deploy(await _load(name, connector), name)
            except AppConnectError as error:
                typer.echo(str(error), err=True)
                status = 1
            else:
                typer.echo(f"登録しました: {name}")
        await deploy_operations()
        await rebuild_quietly(Store())
        for line in lines(await notice_update()):
            typer.echo(line, err=True)
        return status

    return asyncio.run(work())


def print_assumptions(name: str, *, as_json: bool) -> None:
    """Print what a connection depends on that nobody has proven yet."""
    connector, connection = asyncio.run(_find(name))
    pipeline = connector.pipeline
    fields = pipeline.transformer(connection, EMPTY_BOOK).fields
    if pipeline.changed is not None:
        # A slip's row holds the slip whole: whatever the registry lets through may be sent.
        fields = tuple(item.field for item in resource(pipeline.entity).items)
    delivery = delivery_of(connection)
    if delivery is not None and delivery.by_file:
        found = reception_assumptions(pipeline.entity, fields)
    else:
        asked = code_operations(use.kind for use in pipeline.codes)
        operations = dict.fromkeys((*pipeline.operations, *asked))
        found = assumptions(operations, fields, of=pipeline.entity)
    lines = [[a.evidence, a.subject, a.statement] for a in found]
    columns = ("確度", "対象", "前提")
    if as_json:
        entries = [dict(zip(columns, line, strict=True)) for line in lines]
        typer.echo(json.dumps(entries, ensure_ascii=False))
        return
    Console().print(table(f"まだ確認されていない前提（{len(lines)} 件）", columns, lines))


class _Callback(HTTPServer):
    """Waits on loopback for the browser to come back from 許可する, at one address."""

    path: str
    answer: dict[str, str]


class _Handler(BaseHTTPRequestHandler):
    server: _Callback

    def do_GET(self) -> None:
        """The redirect: take code and state, and tell the person that they may go on."""
        where = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(where.query).items()}
        if where.path != self.server.path or not query.keys() & {"code", "error"}:
            self.send_error(404)  # the browser's own wishes, a favicon for one
            return
        page = "許可を受け取りました。この画面を閉じてください。"
        if "code" not in query:
            page = "許可されませんでした。もう一度やり直してください。"
        self.server.answer = query
        body = f'<!doctype html><meta charset="utf-8"><p>{page}</p>'.encode()
        self.send_response(200)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        # The code is in the address: it must not leave with a Referer, nor stay in a cache.
        self.send_header("referrer-policy", "no-referrer")
        self.send_header("cache-control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Silent: the request line holds the code."""


async def _credentials_of(name: str) -> OAuthBlock:
    """The credentials block of this name that is meant for 許可する.

    Raises:
        SettingsError: ``AC-206``, there is none.
    """
    found = [await kind.aload(n) for kind, n in await saved_credentials() if n == name]
    if not found:
        raise SettingsError("AC-206", name)
    # The same name may stand for several services: the one with a callback URL is meant.
    return next((block for block in found if getattr(block, "redirect_uri", None)), found[0])


def log_in(name: str) -> int:
    """The code flow: show the address, wait for the browser, save the tokens in the block.

    The gateway takes the browser's answer where the callback URL is its own; otherwise this process
    does, on loopback. A service that registers https addresses only may send the browser to a page
    that does not open: the person pastes its address then.

    Returns:
        The exit status: 0 saved.

    Raises:
        ReauthorizeError: ``AC-105``, not permitted; ``AC-106``, not our answer; ``AC-101``;
            ``AC-114``, nobody pressed 許可する in time.
        SettingsError: ``AC-206``, there is no such block; ``AC-205``, its callback URL is not here.
    """
    credentials = asyncio.run(_credentials_of(name))
    service = service_of(type(credentials))
    where = urlsplit(getattr(credentials, "redirect_uri", None) or "")
    here = where.hostname in ("127.0.0.1", "localhost")
    if where.path == CALLBACK and (not here or where.port == StackSettings().gateway_port):
        asyncio.run(_by_gateway(credentials))
    elif where.scheme == "https":
        _paste(credentials)
    elif here:
        _listen(credentials, where.hostname or "", where.port or 80, where.path or "/")
    else:
        own = f"ゲートウェイ（{CALLBACK}）"
        why = f"コールバックURLがこのPC（127.0.0.1）でも{own}でもありません"
        raise SettingsError("AC-205", why, service=service)
    typer.echo("連携トークンを保存しました。")
    return 0


def show_consent_page(service: str, url: str, *, err: bool = False) -> None:
    """Tell a person where to press 許可する; with ``err`` apart from a result that may be piped."""
    account = "OBCiD で" if service == "奉行クラウド" else ""
    words = f"次のURLをブラウザーで開き、{account}ログインして「許可する」を押してください。"
    typer.echo(f"{words}\n{url}", err=err)


async def _by_gateway(credentials: OAuthBlock) -> None:
    store = Store()
    begun = await consents.begin(store, credentials)
    show_consent_page(begun.service, begun.url)
    await consents.wait(store, begun)


def _listen(credentials: OAuthBlock, host: str, port: int, path: str) -> None:
    app = oauth_client(credentials, Tools(Masker(), Vault(Store())))
    consent = app.begin_consent()
    show_consent_page(consent.service, app.authorization_url(consent))
    with _Callback((host, port), _Handler) as server:
        server.path, server.answer = path, {}
        while not server.answer:
            server.handle_request()
        answer = server.answer
    asyncio.run(_exchange_and_save(app, consent.code(answer), consent, credentials))


def _paste(credentials: OAuthBlock) -> None:
    app = oauth_client(credentials, Tools(Masker(), Vault(Store())))
    consent = app.begin_consent()
    show_consent_page(consent.service, app.authorization_url(consent))
    typer.echo("許可すると、コールバックURLのページに移ります（開けなくても構いません）。")
    # Not shown: the code is in it.
    address = typer.prompt("そのページのアドレス欄のURLを貼り付けてください", hide_input=True)
    answer = {k: v[0] for k, v in parse_qs(urlsplit(address.strip()).query).items()}
    asyncio.run(_exchange_and_save(app, consent.code(answer), consent, credentials))


async def _exchange_and_save(
    app: OAuthClient, code: str, consent: Consent, credentials: OAuthBlock
) -> None:
    await save_pair(credentials, await app.exchange_code(code, consent))
