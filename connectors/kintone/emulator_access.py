"""Who may do what in the emulator: API tokens, login names, OAuth with its consent page."""

from __future__ import annotations

import base64
import binascii
import hashlib
import html
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib import resources
from string import Template
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from connectors.kintone.emulator_errors import KintoneError
from connectors.kintone.emulator_store import PERMISSIONS, App

_SCOPE = {"view": "k:app_record:read", "form": "k:app_settings:read"}
_WRITE_SCOPE = "k:app_record:write"
CODE_LIFE = timedelta(minutes=10)
SYSTEM_LOGIN = "Administrator"
"""Whose name records carry that an API token wrote."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sent a request, as far as it could be proved."""

    login: str
    tokens: tuple[str, ...] = ()
    scopes: frozenset[str] | None = None

    def require(self, app: App, permission: str) -> None:
        """Let only those pass who may do it.

        Args:
            app: The app that is meant.
            permission: ``view``, ``add``, ``edit``, ``delete`` or ``form``.

        Raises:
            KintoneError: ``CB_NO02``, ``GAIA_NO01`` or ``CB_OA01``, all with 403.
        """
        needed = "view" if permission == "form" else permission
        if self.tokens:
            own = [app.tokens[token] for token in self.tokens if token in app.tokens]
            if not own:
                raise KintoneError("GAIA_NO01")
            allowed = own[0]
        else:
            if self.scopes is not None and _SCOPE.get(permission, _WRITE_SCOPE) not in self.scopes:
                raise KintoneError("CB_OA01", status=403)
            allowed = PERMISSIONS if app.users is None else frozenset(app.users.get(self.login, ()))
        if needed not in allowed:
            raise KintoneError("CB_NO02")


@dataclass(slots=True)
class _Grant:
    client_id: str
    login: str
    scopes: frozenset[str]
    redirect_uri: str
    until: datetime
    challenge: str | None = None

    def proven_by(self, verifier: str) -> bool:
        """Whether ``verifier`` is what the code challenge was made of (RFC 7636, S256)."""
        digest = hashlib.sha256(verifier.encode()).digest()
        made = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return self.challenge is None or secrets.compare_digest(made, self.challenge)


@dataclass(slots=True)
class Access:
    """The domain's users, OAuth clients and everything that was issued.

    Attributes:
        clock: Aware time.
        users: Passwords by login name.
        clients: Secret and redirect endpoint by OAuth client id.
        life: How long an access token is good.
    """

    clock: Callable[[], datetime]
    users: dict[str, str] = field(default_factory=dict)
    clients: dict[str, tuple[str, str]] = field(default_factory=dict)
    life: timedelta = timedelta(hours=1)
    _codes: dict[str, _Grant] = field(default_factory=dict)
    _refresh: dict[str, _Grant] = field(default_factory=dict)
    _access: dict[str, _Grant] = field(default_factory=dict)

    def visitor(self, headers: Headers, apps: Mapping[str, App]) -> Visitor:
        """Who is asking. A password wins over a token, as at kintone.

        Raises:
            KintoneError: ``CB_AU01``, ``CB_WA01``, ``CB_OA01`` (401), ``GAIA_IA02``, ``GAIA_DA03``.
        """
        if pair := headers.get("x-cybozu-authorization"):
            return self._by_password(pair)
        if texts := headers.getlist("x-cybozu-api-token"):
            tokens = tuple(t for text in texts for token in text.split(",") if (t := token.strip()))
            return self._by_tokens(tokens, apps)
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            raise KintoneError("CB_AU01")
        grant = self._access.get(bearer)
        if grant is None or grant.until <= self.clock():
            raise KintoneError("CB_OA01")
        return Visitor(grant.login, scopes=grant.scopes)

    def _by_password(self, pair: str) -> Visitor:
        try:
            login, _, secret = base64.b64decode(pair, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise KintoneError("CB_WA01") from None
        if not login or self.users.get(login) != secret:
            raise KintoneError("CB_WA01")
        return Visitor(login)

    @staticmethod
    def _by_tokens(tokens: tuple[str, ...], apps: Mapping[str, App]) -> Visitor:
        owners = [next((a.id for a in apps.values() if t in a.tokens), None) for t in tokens]
        if not owners or None in owners:
            raise KintoneError("GAIA_IA02")
        if len(set(owners)) < len(owners):
            raise KintoneError("GAIA_DA03")
        return Visitor(SYSTEM_LOGIN, tokens=tokens)

    # -- OAuth ---------------------------------------------------------------------------------

    async def authorization(self, request: Request) -> Response:
        """The consent page, and what its buttons do."""
        said = dict(parse_qsl((await request.body()).decode())) if request.method == "POST" else {}
        asked = {**request.query_params, **said}
        known = self.clients.get(asked.get("client_id", ""))
        # A wrong redirect endpoint is told to the person, never redirected to.
        if known is None or asked.get("redirect_uri") != known[1]:
            return _page(
                "error", 400, message="クライアントIDまたはリダイレクト先が登録と異なります。"
            )
        wrong_method = "code_challenge" in asked and asked.get("code_challenge_method") != "S256"
        if asked.get("response_type") != "code" or not asked.get("state") or wrong_method:
            return _page("error", 400, message="リクエストのパラメーターが正しくありません。")
        if request.method == "GET":
            wanted = asked.get("scope", "").split()
            return _page("consent", client=asked["client_id"], scopes="、".join(wanted))
        answer = {"state": asked["state"]}
        if asked.get("decision") == "allow":
            code = secrets.token_urlsafe(24)
            self._codes[code] = _Grant(
                asked["client_id"],
                next(iter(self.users), SYSTEM_LOGIN),
                frozenset(asked.get("scope", "").split()),
                asked["redirect_uri"],
                self.clock() + CODE_LIFE,
                asked.get("code_challenge"),
            )
            answer["code"] = code
        else:
            answer["error"] = "access_denied"
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", 302)

    async def token(self, request: Request) -> Response:
        """The token endpoint: a code once, a refresh token as often as one likes."""
        form = dict(parse_qsl((await request.body()).decode()))
        client_id, secret = _basic(request.headers.get("authorization", ""))
        known = self.clients.get(client_id)
        if known is None or not secrets.compare_digest(known[0].encode(), secret.encode()):
            return _oauth_error("invalid_client", 401)
        match form.get("grant_type"):
            case "authorization_code":
                grant = self._codes.pop(form.get("code", ""), None)
                if (
                    grant is None
                    or grant.until <= self.clock()
                    or grant.redirect_uri != form.get("redirect_uri")
                    or not grant.proven_by(form.get("code_verifier", ""))
                ):
                    return _oauth_error("invalid_grant")
                refresh = secrets.token_urlsafe(24)
                self._refresh[refresh] = grant
                return self._issue(grant, client_id, {"refresh_token": refresh})
            case "refresh_token":
                grant = self._refresh.get(form.get("refresh_token", ""))
                return self._issue(grant, client_id, {})
            case _:
                return _oauth_error("unsupported_grant_type")

    def _issue(self, grant: _Grant | None, client_id: str, more: dict[str, str]) -> Response:
        if grant is None or grant.client_id != client_id:
            return _oauth_error("invalid_grant")
        access = secrets.token_urlsafe(24)
        until = self.clock() + self.life
        self._access[access] = _Grant(client_id, grant.login, grant.scopes, "", until)
        body = {
            "access_token": access,
            **more,
            "token_type": "bearer",
            "expires_in": int(self.life.total_seconds()),
            "scope": " ".join(sorted(grant.scopes)),
        }
        return _json(body)

    def pair(self, client_id: str, redirect_uri: str, scopes: str) -> dict[str, str]:
        """An access and a refresh token, as if a person had pressed 許可, for tests."""
        until = self.clock() + self.life
        login = next(iter(self.users), SYSTEM_LOGIN)
        grant = _Grant(client_id, login, frozenset(scopes.split()), redirect_uri, until)
        access, refresh = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self._access[access], self._refresh[refresh] = grant, grant
        return {"access_token": access, "refresh_token": refresh}

    def expire(self) -> None:
        """Every access token has expired; refreshing works."""
        self._access.clear()

    def revoke(self) -> None:
        """Every user withdrew the consent: nothing that was issued works any more."""
        for issued in (self._codes, self._refresh, self._access):
            issued.clear()


def _basic(header: str) -> tuple[str, str]:
    kind, _, pair = header.partition(" ")
    try:
        client_id, _, secret = base64.b64decode(pair, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return (client_id, secret) if kind.lower() == "basic" else ("", "")


def _json(body: dict[str, Any], status: int = 200) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


def _oauth_error(error: str, status: int = 400) -> Response:
    return _json({"error": error}, status)


def _page(name: str, status: int = 200, **values: str) -> HTMLResponse:
    file = resources.files("connectors.kintone").joinpath("pages", f"{name}.html")
    filled = {key: html.escape(value) for key, value in values.items()}
    return HTMLResponse(Template(file.read_text("utf-8")).substitute(filled), status)
