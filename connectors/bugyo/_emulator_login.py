"""The emulator's browser pages (奉行クラウドURL → OBCiD → 許可する) and its token endpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

import orjson
from fastapi import Request, Response
from jinja2 import Environment as Templates
from jinja2 import PackageLoader

from connectors.bugyo._emulator_accounts import Accounts, TokenRefusal
from connectors.bugyo._emulator_settings import EmulatorSettings

_PAGES = Templates(loader=PackageLoader("connectors.bugyo", "pages"), autoescape=True)


class Login:
    """Login, consent and tokens.

    Args:
        accounts: Who exists.
        settings: Read at each request: they may change.
        tenants: Names of the 法人 that the consent page lists.
    """

    def __init__(
        self,
        accounts: Accounts,
        settings: Callable[[], EmulatorSettings],
        tenants: Sequence[str],
    ) -> None:
        self._accounts = accounts
        self._settings = settings
        self._tenants = tenants

    async def token(self, request: Request) -> Response:
        """The token endpoint: JSON as the public client sends it, or a form."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind == "application/x-www-form-urlencoded":
            form: Any = dict(await request.form())
        else:
            form = json_body(await request.body())
        if not isinstance(form, dict):
            form = {}
        options = self._settings()
        try:
            answer = self._accounts.token(
                form,
                access=options.access_lifetime,
                refresh=options.refresh_lifetime,
                rotate=options.rotate,
                grace=options.reuse_grace,
            )
        except TokenRefusal as refused:
            return json_answer(
                {"error": refused.error, "error_description": refused.description}, refused.status
            )
        if not options.send_expires_in:
            del answer["expires_in"]
        return json_answer(answer, headers={"cache-control": "no-store"})

    async def authorize(self, request: Request) -> Response:
        """The pages, one after the other; the last one sends the browser back."""
        if request.method == "GET":
            try:
                verifies = self._settings().pkce == "verify"
                name = self._accounts.begin(request.query_params, pkce=verifies)
            except ValueError as reason:
                return _page("refused", 400, error=str(reason))
            return _page("portal", request=name, portal_url="")
        form = {key: str(value) for key, value in (await request.form()).items()}
        name = form.get("request", "")
        consent = self._accounts.consents.get(name)
        if consent is None:
            return _page("refused", 400, error="画面の有効期限が切れました。")
        match consent.step:
            case "portal":
                url = form.get("portal_url", "").strip()
                if url.rstrip("/") not in self._accounts.portal_urls:
                    wrong = "奉行クラウドURLが正しくありません。"
                    return _page("portal", request=name, portal_url=url, error=wrong)
                consent.step = "login"
                return _page("login", request=name)
            case "login":
                password = self._accounts.users.get(form.get("obcid", ""))
                if password is None or password != form.get("password"):
                    wrong = "OBCiDまたはパスワードが正しくありません。"
                    return _page("login", request=name, error=wrong)
                consent.step = "consent"
        if "decision" not in form:
            return _page(
                "consent", request=name, client_id=consent.client_id, tenants=self._tenants
            )
        del self._accounts.consents[name]
        query = {"error": "access_denied"}
        if form["decision"] == "allow":
            query = {"code": self._accounts.code_for(consent, self._settings().code_lifetime)}
        if self._settings().echo_state and consent.state is not None:
            query["state"] = consent.state
        if self._settings().send_iss:
            query["iss"] = str(request.base_url).rstrip("/")
        return Response(
            status_code=302, headers={"location": f"{consent.redirect_uri}?{urlencode(query)}"}
        )


def json_answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer with a JSON body."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def _page(template: str, status: int = 200, **values: Any) -> Response:
    content = _PAGES.get_template(f"{template}.html").render(**values)
    return Response(content, status, media_type="text/html; charset=utf-8")


def json_body(body: bytes) -> Any:
    """The parsed body, ``None`` when it is not JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
