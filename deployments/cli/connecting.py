"""Connections and log-ins from a terminal."""

from __future__ import annotations

import asyncio
import json
import secrets
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import typer
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr
from rich.console import Console

from blocks import BugyoCredentials, Connection
from connectors.bugyo import OAuthApp
from connectors.bugyo.registry import assumptions
from connectors.kit import AppConnectError, Masker, SettingsError
from deployments.catalog import Connector, connectors, deploy, ensure_work_pool, register_blocks
from deployments.cli.books import table
from flows.engine.opening import load_connection
from flows.engine.pipeline import Tools
from flows.engine.store import Store
from flows.engine.tokens import Vault
from flows.parts.bugyo import oauth_app

COLUMNS = ("接続", "サービス名", "スケジュール", "登録番号")


async def saved_connections() -> list[tuple[str, Connector]]:
    """Every saved connection: its name and its connector. None is loaded: one may be invalid."""
    found: list[tuple[str, Connector]] = []
    async with get_client() as client:
        for connector in connectors().values():
            block = connector.pipeline.connection_type
            try:
                kind = await client.read_block_type_by_slug(block.get_block_type_slug())
            except ObjectNotFound:
                continue
            documents = await client.read_block_documents_by_type(kind.slug, include_secrets=False)
            names = [document.name for document in documents if document.name]
            found += [(name, connector) for name in names]
    return found


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
            except AppConnectError as error:
                typer.echo(str(error), err=True)
                known = [error.code, ""]
            else:
                known = [connection.schedule, connection.registration_number]
            lines.append([name, connector.pipeline.service, *known])
        return lines

    lines = asyncio.run(work())
    if as_json:
        entries = [dict(zip(COLUMNS, line, strict=True)) for line in lines]
        typer.echo(json.dumps(entries, ensure_ascii=False))
        return
    Console().print(table("接続", COLUMNS, lines))


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
        return status

    return asyncio.run(work())


def print_assumptions(name: str, *, as_json: bool) -> None:
    """Print what a connection depends on that nobody has proven yet."""
    connector, connection = asyncio.run(_find(name))
    fields = connector.pipeline.transformer(connection).fields
    found = assumptions(("SearchTenant", "ExportCustomer", "ImportCustomer"), fields)
    lines = [[a.evidence, a.subject, a.statement] for a in found]
    columns = ("確度", "対象", "前提")
    if as_json:
        entries = [dict(zip(columns, line, strict=True)) for line in lines]
        typer.echo(json.dumps(entries, ensure_ascii=False))
        return
    Console().print(table(f"まだ確認されていない前提（{len(lines)} 件）", columns, lines))


class _Callback(HTTPServer):
    """Waits on loopback for the browser to come back from 許可する."""

    answer: dict[str, str]


class _Handler(BaseHTTPRequestHandler):
    server: _Callback

    def do_GET(self) -> None:
        """The redirect: take code and state, and tell the person that they may go on."""
        query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
        page = "許可を受け取りました。この画面を閉じてください。"
        if "code" not in query:
            page = "許可されませんでした。もう一度やり直してください。"
        self.server.answer = query
        body = f'<!doctype html><meta charset="utf-8"><p>{page}</p>'.encode()
        self.send_response(200)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Silent: the request line holds the code."""


def log_in(name: str) -> int:
    """The code flow: show the address, wait for the browser, save the tokens in the block.

    Returns:
        The exit status: 0 saved, 1 not permitted.
    """
    try:
        credentials = cast("BugyoCredentials", asyncio.run(BugyoCredentials.aload(name)))
    except ValueError:
        raise SettingsError("AC-206", name) from None
    masker = Masker()
    app = oauth_app(credentials, Tools(masker, Vault(Store())))
    where = urlsplit(app.redirect_uri)
    if where.hostname not in ("127.0.0.1", "localhost"):
        raise SettingsError(
            "AC-205", "コールバックURLがこのPC（127.0.0.1）ではありません", service="奉行クラウド"
        )
    state = secrets.token_urlsafe(32)
    typer.echo("次のURLをブラウザーで開き、OBCiD でログインして「許可する」を押してください。")
    typer.echo(app.authorization_url(state))
    with _Callback((where.hostname, where.port or 80), _Handler) as server:
        server.answer = {}
        while not server.answer:
            server.handle_request()
        answer = server.answer
    # Whether 奉行クラウド sends the state back is not known (contract 2.3): absent is tolerated.
    if "code" not in answer or answer.get("state", state) != state:
        typer.echo("許可されませんでした。何も保存していません。", err=True)
        return 1
    asyncio.run(_exchange_and_save(app, answer["code"], credentials, name))
    typer.echo("連携トークンを保存しました。")
    return 0


async def _exchange_and_save(
    app: OAuthApp, code: str, credentials: BugyoCredentials, name: str
) -> None:
    tokens = await app.exchange_code(code)
    credentials.access_token = SecretStr(tokens.access_token)
    credentials.refresh_token = SecretStr(tokens.refresh_token)
    credentials.token_expires_at = tokens.expires_at
    credentials.token_issued_at = tokens.issued_at
    await credentials.save(name, overwrite=True)
