"""OAuth of the emulator: applications, the consent page, codes, pairs of tokens that rotate.

The shapes are those of the contract (partners.md 7): forms at the token endpoint, a refresh that
answers with a new pair and ends the old one, token/info.
"""

from __future__ import annotations

import base64
import hashlib
import html
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from importlib import resources
from string import Template
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

CODE_LIFE = timedelta(minutes=10)
ACCESS_LIFE = timedelta(seconds=2_764_800)  # 32 days, about what the vendor's sample shows
KNOWN_SCOPES = frozenset(
    {
        "office_setting:write",
        "user_setting:write",
        "transaction:write",
        "report:write",
        "account:write",
        "public_resource:read",
    }
)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a person permitted, and to whom."""

    client_id: str
    redirect_uri: str
    scopes: frozenset[str]
    until: datetime
    challenge: str | None = None

    def proven_by(self, verifier: str) -> bool:
        """Whether ``verifier`` is what the code challenge was made of (RFC 7636, S256)."""
        digest = hashlib.sha256(verifier.encode()).digest()
        made = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return self.challenge is None or secrets.compare_digest(made, self.challenge)


@dataclass(slots=True)
class Access:
    """Applications and everything that was issued to them.

    Attributes:
        clock: Aware time.
        clients: Secret and redirect URI by client id.
        life: How long an access token is good.
        demo: Prefix of tokens that the demonstration issues; empty = tokens have none. One with it
            is good although nobody remembers it: an earlier process of the emulator issued it.
    """

    clock: Callable[[], datetime]
    clients: dict[str, tuple[str, str]] = field(default_factory=dict)
    life: timedelta = ACCESS_LIFE
    demo: str = ""
    _codes: dict[str, Grant] = field(default_factory=dict)
    _access: dict[str, Grant] = field(default_factory=dict)
    _refresh: dict[str, tuple[Grant, str]] = field(default_factory=dict)

    def routes(self) -> list[Route]:
        """The vendor's paths."""
        return [
            Route("/oauth/authorize", self.authorize, methods=["GET", "POST"]),
            Route("/oauth/token", self.token, methods=["POST"]),
            Route("/oauth/revoke", self.revoke_token, methods=["POST"]),
            Route("/oauth/token/info", self.token_info),
        ]

    def grant_of(self, request: Request) -> Grant | None:
        """The grant behind a request's bearer token, while it is good."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        grant = None
        if kind.lower() == "bearer":
            grant = self._access.get(token) or self._from_before(token)
        return grant if grant is not None and grant.until > self.clock() else None

    # -- the vendor's endpoints -----------------------------------------------------------------

    async def authorize(self, request: Request) -> Response:
        """The consent page, and what its buttons do."""
        said = await _form(request) if request.method == "POST" else {}
        asked = {**request.query_params, **said}
        known = self.clients.get(asked.get("client_id", ""))
        # A wrong address is told to the person, never redirected to.
        if known is None or asked.get("redirect_uri") != known[1]:
            return _page("error", 400, message="Client ID または Redirect URI が登録と異なります。")
        wanted = asked.get("scope", "").split()
        wrong_method = "code_challenge" in asked and asked.get("code_challenge_method") != "S256"
        if asked.get("response_type") != "code" or not set(wanted) <= KNOWN_SCOPES or wrong_method:
            return _page("error", 400, message="リクエストのパラメーターが正しくありません。")
        if request.method == "GET":
            return _page("consent", client=asked["client_id"], scopes="、".join(wanted))
        answer = {"state": asked["state"]} if "state" in asked else {}
        if asked.get("decision") == "allow":
            code = secrets.token_urlsafe(24)
            self._codes[code] = Grant(
                asked["client_id"],
                asked["redirect_uri"],
                frozenset(wanted),
                self.clock() + CODE_LIFE,
                asked.get("code_challenge"),
            )
            answer["code"] = code
        else:
            answer["error"] = "access_denied"
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", 302)

    async def token(self, request: Request) -> Response:
        """The token endpoint: a code works once, and so does a refresh token."""
        if "application/x-www-form-urlencoded" not in request.headers.get("content-type", ""):
            return _oauth_error("invalid_request", 400)
        form = await _form(request)
        client = form.get("client_id", "")
        if not self._is_client(client, form.get("client_secret", "")):
            return _oauth_error("invalid_client", 401)
        grant: Grant | None = None
        match form.get("grant_type"):
            case "authorization_code":
                grant = self._codes.pop(form.get("code", ""), None)
                if grant is not None and (
                    grant.until <= self.clock()
                    or grant.redirect_uri != form.get("redirect_uri")
                    or not grant.proven_by(form.get("code_verifier", ""))
                ):
                    grant = None
            case "refresh_token":
                used = form.get("refresh_token", "")
                grant, access = self._refresh.pop(used, (self._from_before(used), ""))
                self._access.pop(access, None)
            case _:
                return _oauth_error("unsupported_grant_type", 400)
        if grant is None or grant.client_id != client:
            return _oauth_error("invalid_grant", 400)
        return _json(self._issue(grant))

    async def revoke_token(self, request: Request) -> Response:
        """Revoke a token and the pair that it belongs to; unknown ones are fine (RFC 7009)."""
        form = await _form(request)
        if not self._is_client(form.get("client_id", ""), form.get("client_secret", "")):
            return _oauth_error("invalid_client", 401)
        token = form.get("token", "")
        for refresh, (_, access) in list(self._refresh.items()):
            if token in (refresh, access):
                del self._refresh[refresh]
                self._access.pop(access, None)
        return _json({})

    async def token_info(self, request: Request) -> Response:
        """What a token may do."""
        grant = self.grant_of(request)
        if grant is None:
            return _oauth_error("invalid_token", 401)
        left = int((grant.until - self.clock()).total_seconds())
        created = int((grant.until - self.life).timestamp())
        return _json(
            {
                "resource_owner_id": 1,
                "scope": sorted(grant.scopes),
                "expires_in": left,
                "application": {"uid": grant.client_id},
                "created_at": created,
            }
        )

    # -- for tests and samples ------------------------------------------------------------------

    def add_client(self, client_id: str, client_secret: str, redirect_uri: str) -> None:
        """Register an application.

        Raises:
            ValueError: the redirect URI is not https: the service takes no other.
        """
        if not redirect_uri.startswith("https://"):
            raise ValueError(f"{redirect_uri} is not https")
        self.clients[client_id] = (client_secret, redirect_uri)

    def pair(self, client_id: str, scopes: frozenset[str] = KNOWN_SCOPES) -> dict[str, Any]:
        """A pair of tokens, as if a person had pressed 許可する: the token endpoint's answer."""
        return self._issue(Grant(client_id, self.clients[client_id][1], scopes, self.clock()))

    def expire(self) -> None:
        """Every access token has expired; refreshing works."""
        self._access.clear()

    def revoke(self) -> None:
        """The person withdrew the consent: nothing that was issued works any more."""
        self._codes.clear()
        self._access.clear()
        self._refresh.clear()

    def _from_before(self, token: str) -> Grant | None:
        if not self.demo or not token.startswith(self.demo) or not self.clients:
            return None
        client, (_, redirect_uri) = next(iter(self.clients.items()))
        return Grant(client, redirect_uri, KNOWN_SCOPES, self.clock() + self.life)

    def _is_client(self, client_id: str, secret: str) -> bool:
        known = self.clients.get(client_id)
        return known is not None and secrets.compare_digest(known[0].encode(), secret.encode())

    def _issue(self, grant: Grant) -> dict[str, Any]:
        access, refresh = (self.demo + secrets.token_urlsafe(32) for _ in range(2))
        now = self.clock()
        grant = replace(grant, until=now + self.life, challenge=None)
        self._access[access], self._refresh[refresh] = grant, (grant, access)
        return {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": int(self.life.total_seconds()),
            "refresh_token": refresh,
            "scope": " ".join(sorted(grant.scopes)),
            "created_at": int(now.timestamp()),
        }


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode()))


def _json(body: dict[str, Any], status: int = 200) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


def _oauth_error(error: str, status: int) -> Response:
    return _json({"error": error, "error_description": f"{error} (エミュレーター)"}, status)


def _page(name: str, status: int = 200, **values: str) -> HTMLResponse:
    file = resources.files("connectors.mfexpense").joinpath("pages", f"{name}.html")
    filled = {key: html.escape(value) for key, value in values.items()}
    return HTMLResponse(Template(file.read_text("utf-8")).substitute(filled), status)
