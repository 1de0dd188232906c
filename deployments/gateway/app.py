"""The application: its parts, and how their errors are told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from connectors.kit import AppConnectError, FaultError, SettingsError
from deployments.gateway import api, consents, docs_page, health, webhooks
from deployments.gateway.door import Door
from deployments.gateway.sweeper import Sweeper
from deployments.stack.settings import StackSettings
from flows.engine.store import Store

STATUS = {
    "AC-209": 401,
    "AC-210": 403,
    "AC-211": 429,
    "AC-212": 422,
    "AC-213": 401,
    "AC-214": 413,
    "AC-215": 404,
    "AC-206": 404,
    "AC-501": 503,
    "AC-901": 500,
}
"""HTTP status by error code; databases (``AC-70x``) are 503, all others 400."""

_log = logging.getLogger(__name__)


def create_app(settings: StackSettings, store: Store | None = None) -> FastAPI:
    """The gateway.

    Args:
        settings: Its address, and the addresses by which browsers and services know it.
        store: The books; those of the environment when left out.
    """
    books = store or Store()
    sweeper = Sweeper(books)

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(sweeper.work())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    app = FastAPI(
        title="App Connect for 奉行クラウド",
        version="1",
        description=docs_page.ABOUT,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=life,
    )
    app.state.store, app.state.sweeper = books, sweeper
    app.state.webhooks, app.state.gate = webhooks.Secrets(), api.Gate()
    for part in (health, consents, webhooks, api, docs_page):
        app.include_router(part.router)
    app.add_exception_handler(AppConnectError, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    # Nobody else's name leads here: a page that rebinds its own name to 127.0.0.1 gets nowhere.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=_hosts(settings), www_redirect=False)
    app.add_middleware(Door, told=_unexpected)
    return app


def _hosts(settings: StackSettings) -> list[str]:
    own = {settings.host, "127.0.0.1", "localhost", "[::1]"}
    public = urlsplit(settings.gateway_url).hostname
    return sorted(own | {public} if public else own)


def answer(error: AppConnectError) -> JSONResponse:
    """An error as JSON, in the words of the catalogue."""
    status = STATUS.get(error.code, 503 if error.code.startswith("AC-70") else 400)
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    return JSONResponse({"error": error.as_dict()}, status, headers)


async def _told(_: Request, error: Exception) -> Response:
    if not isinstance(error, AppConnectError):
        raise error
    return answer(error)


def _unexpected(error: Exception) -> Response:
    if isinstance(error, AppConnectError):
        return answer(error)
    if isinstance(error, httpx.HTTPError):
        kind = type(error).__name__
        return answer(FaultError("AC-501", kind, service="Prefect サーバー"))
    # Its class only: a message may quote what was sent.
    _log.error("%s in a request", type(error).__name__)
    return answer(FaultError("AC-901", type(error).__name__))


async def _invalid(_: Request, error: Exception) -> Response:
    """Which field is wrong and how, in Japanese, without what was sent."""
    if not isinstance(error, RequestValidationError):
        raise error
    words = [api.wrong(each) for each in error.errors()]
    return answer(SettingsError("AC-212", "、".join(dict.fromkeys(words))))


async def _http(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code in (404, 405):
        problem = SettingsError("AC-215", "このURLはありません")
        return JSONResponse({"error": problem.as_dict()}, error.status_code)
    return JSONResponse({"error": {"title": "HTTP"}}, error.status_code)
