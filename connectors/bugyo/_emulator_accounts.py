"""The emulator's identity side: keys, applications, consents, grants, tokens."""

from __future__ import annotations

import base64
import hashlib
import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(slots=True)
class Application:
    """A registered application of the vendor."""

    client_id: str
    client_secret: str
    redirect_uris: set[str]


@dataclass(slots=True)
class Grant:
    """One 許可: which tenants it opens, and whether it was taken back."""

    tenants: frozenset[str]
    revoked: bool = False


@dataclass(slots=True)
class Access:
    """An access token. ``expires`` in `time.monotonic` seconds; ``None`` = a fixed token."""

    grant: Grant
    expires: float | None


@dataclass(slots=True)
class _Issued:
    """A code or a refresh token: something that is exchanged."""

    grant: Grant
    client_id: str
    redirect_uri: str
    expires: float
    used: bool = False
    used_at: float = 0.0
    challenge: str | None = None


@dataclass(slots=True)
class Consent:
    """A browser on its way through the pages. ``step`` is the page that it is on."""

    client_id: str
    redirect_uri: str
    state: str | None
    challenge: str | None = None
    step: Literal["portal", "login", "consent"] = "portal"


class TokenRefusal(Exception):  # noqa: N818 (not a failure of the emulator)
    """The token endpoint says no (RFC 6749, 5.2)."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.description = description


@dataclass
class Accounts:
    """Everybody and everything that may identify itself.

    Attributes:
        subscription_keys: Primary and secondary; either works.
        applications: By client id.
        portal_urls: 奉行クラウドURL that exist, without the trailing slash.
        users: OBCiD -> password.
        user_tenants: Tenants that a user's 許可 opens.
    """

    subscription_keys: set[str]
    applications: dict[str, Application]
    portal_urls: set[str]
    users: dict[str, str]
    user_tenants: frozenset[str]
    consents: dict[str, Consent] = field(default_factory=dict)
    access: dict[str, Access] = field(default_factory=dict)
    refreshes: int = 0
    _codes: dict[str, _Issued] = field(default_factory=dict)
    _refresh: dict[str, _Issued] = field(default_factory=dict)

    # --- consent -------------------------------------------------------------------------------

    def begin(self, query: Mapping[str, str], *, pkce: bool = True) -> str:
        """Open the consent pages; returns the name of this passage.

        Args:
            query: What the browser came with.
            pkce: Whether a code challenge is kept and checked (RFC 7636).

        Raises:
            ValueError: a Japanese reason; the browser must not be redirected anywhere.
        """
        if query.get("response_type") != "code":
            raise ValueError("response_type は code を指定してください。")
        application = self.applications.get(query.get("client_id", ""))
        if application is None:
            raise ValueError("client_id が登録されていません。")
        if query.get("redirect_uri") not in application.redirect_uris:
            raise ValueError("redirect_uri が登録されたものと一致しません。")
        challenge = query.get("code_challenge") if pkce else None
        if challenge is not None and query.get("code_challenge_method") != "S256":
            raise ValueError("code_challenge_method は S256 を指定してください。")
        name = secrets.token_urlsafe(16)
        self.consents[name] = Consent(
            application.client_id, query["redirect_uri"], query.get("state"), challenge
        )
        return name

    def code_for(self, consent: Consent, lifetime: float) -> str:
        """A code after 許可する."""
        code = secrets.token_urlsafe(24)
        self._codes[code] = _Issued(
            Grant(self.user_tenants),
            consent.client_id,
            consent.redirect_uri,
            time.monotonic() + lifetime,
            challenge=consent.challenge,
        )
        return code

    # --- tokens --------------------------------------------------------------------------------

    def token(
        self,
        form: Mapping[str, Any],
        *,
        access: float,
        refresh: float,
        rotate: bool,
        grace: float = 0.0,
    ) -> dict[str, Any]:
        """The token endpoint's answer.

        Args:
            form: The body.
            access: Lifetime of the access token, seconds.
            refresh: Lifetime of the refresh token, seconds.
            rotate: Whether a refresh retires the old refresh token.
            grace: Seconds in which a retired refresh token works once more.

        Raises:
            TokenRefusal: no token.
        """
        application = self.applications.get(str(form.get("client_id", "")))
        if application is None or form.get("client_secret") != application.client_secret:
            raise TokenRefusal(401, "invalid_client", "クライアント認証に失敗しました。")
        match form.get("grant_type"):
            case "authorization_code":
                grant = self._redeem_code(form, application)
                return self._issue(grant, application, form, access, refresh)
            case "refresh_token":
                return self._redeem_refresh(form, application, access, refresh, rotate, grace)
        raise TokenRefusal(400, "unsupported_grant_type", "grant_type が正しくありません。")

    def _redeem_code(self, form: Mapping[str, Any], application: Application) -> Grant:
        issued = self._codes.get(str(form.get("code", "")))
        if issued is not None and issued.used:
            issued.grant.revoked = True  # RFC 6749, 4.1.2: a code seen twice ends its tokens
        self._exchangeable(issued, form, application, "認可コード")
        assert issued is not None  # noqa: S101 (checked above)
        if issued.challenge is not None:
            digest = hashlib.sha256(str(form.get("code_verifier", "")).encode()).digest()
            proven = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            if proven != issued.challenge:
                raise TokenRefusal(400, "invalid_grant", "code_verifier が一致しません。")
        issued.used = True
        return issued.grant

    def _redeem_refresh(
        self,
        form: Mapping[str, Any],
        application: Application,
        access: float,
        refresh: float,
        rotate: bool,
        grace: float,
    ) -> dict[str, Any]:
        old = str(form.get("refresh_token", ""))
        issued = self._refresh.get(old)
        if issued is not None and issued.used and time.monotonic() < issued.used_at + grace:
            issued.used, issued.used_at = False, -math.inf
        self._exchangeable(issued, form, application, "リフレッシュトークン")
        assert issued is not None  # noqa: S101 (checked above)
        self.refreshes += 1
        # Once more within the grace, and not again: the first use counts, or nothing any more.
        issued.used, issued.used_at = rotate, issued.used_at or time.monotonic()
        answer = self._issue(issued.grant, application, form, access, refresh)
        if not rotate:
            del self._refresh[answer["refresh_token"]]
            answer["refresh_token"] = old
        return answer

    @staticmethod
    def _exchangeable(
        issued: _Issued | None, form: Mapping[str, Any], application: Application, what: str
    ) -> None:
        wrong = (
            issued is None
            or issued.used
            or issued.grant.revoked
            or issued.client_id != application.client_id
            or time.monotonic() >= issued.expires
            or form.get("redirect_uri") != issued.redirect_uri
        )
        if wrong:
            raise TokenRefusal(400, "invalid_grant", f"{what}が無効です。")

    def _issue(
        self,
        grant: Grant,
        application: Application,
        form: Mapping[str, Any],
        access: float,
        refresh: float,
    ) -> dict[str, Any]:
        now = time.monotonic()
        access_token, refresh_token = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self.access[access_token] = Access(grant, now + access)
        self._refresh[refresh_token] = _Issued(
            grant, application.client_id, str(form["redirect_uri"]), now + refresh
        )
        return {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": int(access),
            "refresh_token": refresh_token,
        }

    def pair(
        self, application: Application, redirect_uri: str, access: float, refresh: float
    ) -> dict[str, Any]:
        """A pair as if a person had pressed 許可する, for tests and the demo."""
        form = {"redirect_uri": redirect_uri}
        return self._issue(Grant(self.user_tenants), application, form, access, refresh)

    def fixed(self, token: str, tenants: frozenset[str]) -> None:
        """Register a fixed access token (管理ポータル → アクセストークンの発行)."""
        self.access[token] = Access(Grant(tenants), expires=None)

    def grant_of(self, authorization: str | None) -> Grant | None:
        """The grant behind an ``Authorization`` header, ``None`` when it is worth nothing."""
        scheme, _, token = (authorization or "").partition(" ")
        access = self.access.get(token) if scheme.lower() == "bearer" else None
        if access is None or access.grant.revoked:
            return None
        if access.expires is not None and time.monotonic() >= access.expires:
            return None
        return access.grant

    def expire_access(self) -> None:
        """Every access token that can expire does so now."""
        for access in self.access.values():
            if access.expires is not None:
                access.expires = 0.0

    def revoke(self, *, token: str | None = None, tenant: str | None = None) -> int:
        """Take back the grants behind a token, or those that open a tenant; neither = all."""
        grants = [each.grant for each in self.access.values()]
        grants += [each.grant for each in self._refresh.values()]
        if token is not None:
            holder = self.access.get(token) or self._refresh.get(token)
            grants = [holder.grant] if holder else []
        elif tenant is not None:
            grants = [grant for grant in grants if tenant in grant.tenants]
        for grant in grants:
            grant.revoked = True
        return len({id(grant) for grant in grants})
