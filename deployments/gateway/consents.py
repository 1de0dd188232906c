"""``/oauth/callback``: the browser comes back from 許可する; see `flows.parts.consents`."""

from __future__ import annotations

from functools import cache
from importlib import resources

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FunctionLoader, select_autoescape

from connectors.kit.consent import CALLBACK
from flows.engine.store import Store
from flows.parts import consents

router = APIRouter(include_in_schema=False)


@cache
def templates() -> Environment:
    """The pages of this package; whatever is filled in is text, never markup."""
    folder = resources.files("deployments.gateway") / "pages"
    return Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text("utf-8")),
        autoescape=select_autoescape(default=True),
    )


@router.get("/style.css")
async def style() -> Response:
    """What the pages look like."""
    sheet = resources.files("deployments.gateway").joinpath("pages/style.css").read_text("utf-8")
    return Response(sheet, media_type="text/css")


@router.get(CALLBACK)
async def callback(request: Request) -> HTMLResponse:
    """Take the code, save the tokens, and say what to do next. The query is written nowhere."""
    store: Store = request.app.state.store
    ended = await consents.finish(store, request.query_params.multi_items())
    page = templates().get_template("consent.html").render(ended=ended)
    return HTMLResponse(page, 200 if ended.error is None else 400)
