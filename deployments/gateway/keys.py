"""API keys: issued once, kept as a hash, for some connections and some kinds of request."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, text

from connectors.kit import SettingsError
from flows.engine.clock import now
from flows.engine.store import Store
from flows.engine.store.gateway_tables import ApiKeyRow

Scope = Literal["read", "run"]
SCOPES: tuple[Scope, ...] = ("read", "run")
PER_MINUTE = 60

_PREFIX = "ack"
_ONE = text("SELECT * FROM api_key WHERE id = :id")
_ALL = text("SELECT * FROM api_key ORDER BY created_at")
_REVOKE = text("UPDATE api_key SET revoked_at = coalesce(revoked_at, :at) WHERE id = :id")
_USED = text(
    "UPDATE api_key SET last_used_at = :at WHERE id = :id "
    "AND (last_used_at IS NULL OR last_used_at < :at - interval '1 minute')"
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what they may."""

    id: str
    name: str
    scopes: frozenset[str]
    connections: frozenset[str]
    per_minute: int

    def may(self, scope: Scope, connection: str | None = None) -> bool:
        """Whether a request is within the key."""
        mine = connection is None or not self.connections or connection in self.connections
        return scope in self.scopes and mine

    def sees(self, connection: str) -> bool:
        """Whether the key is for a connection."""
        return not self.connections or connection in self.connections


def issue(
    store: Store,
    name: str,
    *,
    scopes: Iterable[Scope] = SCOPES,
    connections: Iterable[str] = (),
    per_minute: int = PER_MINUTE,
    expires_at: datetime | None = None,
) -> str:
    """A new key; this is the only time that it can be seen.

    Raises:
        SettingsError: ``AC-205``, it has no name or no scope.
    """
    allowed = sorted(set(scopes))
    if not name.strip() or not allowed or set(allowed) - set(SCOPES) or per_minute < 1:
        raise SettingsError("AC-205", "APIキーの名前・権限・回数のどれかが正しくありません")
    public, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    row = ApiKeyRow(
        id=public,
        name=name.strip(),
        hash=_hash(secret),
        scopes=allowed,
        connections=sorted(set(connections)),
        per_minute=per_minute,
        created_at=now(),
        expires_at=expires_at,
    )
    with store.session() as session:
        session.add(row)
    return f"{_PREFIX}_{public}_{secret}"


def listed(store: Store) -> list[ApiKeyRow]:
    """Every key, oldest first."""
    with store.begin() as db:
        return [ApiKeyRow(**row) for row in db.execute(_ALL).mappings()]


def revoke(store: Store, public: str) -> None:
    """End a key now.

    Raises:
        SettingsError: ``AC-215``, there is none.
    """
    with store.begin() as db:
        if not db.execute(_REVOKE, {"id": public, "at": now()}).rowcount:
            raise SettingsError("AC-215", f"APIキー {public}")


def caller_of(db: Connection, key: str, at: datetime) -> Caller:
    """Whose key it is.

    Raises:
        SettingsError: ``AC-209``, nobody's: unknown, revoked and expired look the same.
    """
    prefix, _, rest = key.partition("_")
    public, _, secret = rest.partition("_")
    row = db.execute(_ONE, {"id": public.replace("\0", "")}).mappings().first()
    known = row["hash"] if row is not None else b"\0" * 32
    right = hmac.compare_digest(_hash(secret), known)
    if row is None or not right or prefix != _PREFIX or not is_alive(ApiKeyRow(**row), at):
        raise SettingsError("AC-209")
    db.execute(_USED, {"id": public, "at": at})
    return Caller(
        public,
        row["name"],
        frozenset(row["scopes"]),
        frozenset(row["connections"]),
        row["per_minute"],
    )


def is_alive(row: ApiKeyRow, at: datetime) -> bool:
    """Neither revoked nor expired."""
    return row.revoked_at is None and (row.expires_at is None or at < row.expires_at)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
