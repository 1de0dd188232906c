"""Consents (許可) by way of the gateway: begun here, ended by whoever gets the browser's answer.

A flow or a command begins a consent and shows its address; the browser comes back to the callback
of the gateway, which is another process, perhaps on another machine. What both need to know lies

- in the store: the hash of ``state``, which block it is for, until when, whether it is over;
- in the credentials block, where every secret lives: PKCE's verifier. A block knows one passage;
  whoever begins another one ends the first.

Each passage is good for one answer, whatever that is: it is claimed in one statement before
anything is looked at, so a second callback, at the same moment or an hour later, finds it used.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlmodel import select

from blocks import OAuthBlock
from connectors.kit import (
    AppConnectError,
    Consent,
    FaultError,
    Masker,
    ReauthorizeError,
    SettingsError,
    error_for,
)
from connectors.kit.consent import CALLBACK
from flows.engine.clock import now
from flows.engine.opening import secrets_of
from flows.engine.pipeline import Tools
from flows.engine.store import Store
from flows.engine.store.gateway_tables import ConsentRow
from flows.engine.tokens import Vault, save_pair, service_of, write_fields
from flows.parts.oauth import oauth_blocks, oauth_client

LIFE = timedelta(minutes=10)
"""How long a person has from the address to 許可する."""

SAVED = "saved"
_POLL_SECONDS = 0.5
_KEPT = timedelta(days=1)

_CLAIM = text(
    "UPDATE consent SET used_at = :at WHERE state_hash = :hash AND used_at IS NULL RETURNING *"
)
_KNOWN = text("SELECT 1 FROM consent WHERE state_hash = :hash")
_ONLY = text(
    "UPDATE consent SET used_at = :at WHERE id = (SELECT min(id::text)::uuid FROM consent "
    "WHERE NOT state_returns AND used_at IS NULL AND expires_at > :at HAVING count(*) = 1) "
    "AND used_at IS NULL RETURNING *"
)
_END = text("UPDATE consent SET outcome = :outcome, subject = :subject WHERE id = :id")
_FORGET = text("DELETE FROM consent WHERE expires_at < :before")


@dataclass(frozen=True, slots=True)
class Begun:
    """A passage that was begun.

    Attributes:
        id: To wait for it; no secret.
        url: Where a person presses 許可する.
        service: Whose page that is.
        expires_at: Until when.
    """

    id: UUID
    url: str
    service: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of an answer: ``error`` is ``None`` when the tokens were saved."""

    service: str
    name: str
    error: AppConnectError | None = None


async def begin(store: Store, block: OAuthBlock, at: datetime | None = None) -> Begun:
    """Begin a passage for a saved credentials block.

    Raises:
        SettingsError: ``AC-205``, the callback URL is not the gateway's, or the block lacks what a
            consent needs; ``AC-206``, it was never saved.
    """
    kind, service, moment = type(block), service_of(type(block)), at or now()
    redirect_uri = str(getattr(block, "redirect_uri", None) or "")
    if not redirect_uri.endswith(CALLBACK):
        why = (
            f"コールバックURLがゲートウェイのもの（…{CALLBACK}）ではないため、画面では許可できません。"
            "システム管理者が app-connect login 接続情報の名前 を実行します"
        )
        raise SettingsError("AC-205", why, service=service)
    app = oauth_client(block, Tools(Masker(secrets_of(block)), Vault(store)))
    consent = app.begin_consent()
    row = ConsentRow(
        state_hash=_hash(consent.state),
        state_returns=consent.state_returns,
        block_type=str(kind.get_block_type_slug()),
        block_name=str(block._block_document_name or ""),
        redirect_uri=redirect_uri,
        created_at=moment,
        expires_at=moment + LIFE,
    )
    # With the schema of this version: it knows that the verifier is a secret.
    await kind.aregister_type_and_schema()
    fields = {"consent_of": str(row.id), "consent_verifier": consent.verifier}
    await write_fields(block, fields, schema=kind._block_schema_id)
    with store.session() as session:
        session.connection().execute(_FORGET, {"before": moment - _KEPT})
        session.add(row)
    return Begun(row.id, app.authorization_url(consent), service, row.expires_at)


async def wait(store: Store, begun: Begun, seconds: float | None = None) -> None:
    """Wait until the tokens of a passage are saved.

    Args:
        store: The books.
        begun: Of `begin`.
        seconds: How long; ``None`` = as long as the passage lives.

    Raises:
        AppConnectError: what the person was told, too; ``AC-114``, nobody came back in time.
    """
    limit = (begun.expires_at - now()).total_seconds() if seconds is None else seconds
    until = time.monotonic() + limit
    while True:
        row = await asyncio.to_thread(_row, store, begun.id)
        if row is not None and row.outcome == SAVED:
            return
        if row is not None and row.outcome is not None:
            raise error_for(row.outcome, row.subject, service=begun.service)
        if row is None or time.monotonic() >= until:
            raise ReauthorizeError("AC-114", service=begun.service)
        await asyncio.sleep(_POLL_SECONDS)


async def finish(
    store: Store, answer: Iterable[tuple[str, str]], at: datetime | None = None
) -> Ended:
    """Take the answer that a browser brought: exchange its code, save the pair.

    Args:
        store: The books.
        answer: The query, in its order.
        at: The moment; now, when left out.

    Returns:
        What became of it, for the page that the person sees.
    """
    moment, pairs = at or now(), list(answer)
    query = dict(pairs)
    if len(query) != len(pairs):
        return Ended("", "", ReauthorizeError("AC-106", "同じ項目が2回あります"))
    claimed = await store.do(_claim, query.get("state"), moment)
    if not isinstance(claimed, ConsentRow):
        return Ended("", "", ReauthorizeError("AC-106", claimed))
    kind = next((k for k in oauth_blocks() if k.get_block_type_slug() == claimed.block_type), None)
    service = service_of(kind) if kind is not None else ""
    problem: AppConnectError | None = None
    masker = Masker([query.get("code", ""), query.get("state", "")])
    try:
        if moment >= claimed.expires_at:
            raise ReauthorizeError("AC-114")
        if kind is None:
            raise SettingsError("AC-206", claimed.block_name)
        await _exchange(store, kind, claimed, query, masker)
    except AppConnectError as error:
        problem = error
    except Exception as error:  # noqa: BLE001 (nobody reads a traceback in a browser)
        problem = FaultError("AC-901", type(error).__name__)
    if problem is not None:
        problem.service = problem.service or service
        problem.mask(masker.mask)
    outcome = SAVED if problem is None else problem.code
    subject = "" if problem is None else problem.subject
    await store.do(_ended, claimed.id, outcome, subject)
    return Ended(service, claimed.block_name, problem)


async def _exchange(
    store: Store, kind: Any, claimed: ConsentRow, query: Mapping[str, str], masker: Masker
) -> None:
    try:
        block: OAuthBlock = await kind.aload(claimed.block_name)
    except ValueError:
        raise SettingsError("AC-206", claimed.block_name) from None
    masker.add(*secrets_of(block))
    verifier = block.consent_verifier
    if block.consent_of != str(claimed.id) or verifier is None:
        raise ReauthorizeError("AC-106", "あとから別の許可の操作が始まりました")
    if getattr(block, "redirect_uri", None) != claimed.redirect_uri:
        raise ReauthorizeError("AC-106", "コールバックURLが途中で変わりました")
    app = oauth_client(block, Tools(masker, Vault(store)))
    known = app.begin_consent()  # for what the service is known to do
    consent = Consent(
        known.service,
        pkce=known.pkce,
        state_returns=known.state_returns,
        issuer=known.issuer,
        # It was found by the hash of its own state, or it is the only one.
        state=query.get("state", ""),
        verifier=verifier.get_secret_value(),
    )
    try:
        tokens = await app.exchange_code(consent.code(query), consent)
    except AppConnectError:
        await write_fields(block, {"consent_of": None, "consent_verifier": None})
        raise
    await save_pair(block, tokens)


def _claim(db: Connection, state: str | None, at: datetime) -> ConsentRow | str:
    """The passage that an answer belongs to, which is over now; or why there is none."""
    if not state:
        # Some services may not send it back. Safe with PKCE, and only while there is one passage.
        found = db.execute(_ONLY, {"at": at}).mappings().first()
        return "state がありません" if found is None else ConsentRow(**found)
    found = db.execute(_CLAIM, {"at": at, "hash": _hash(state)}).mappings().first()
    if found is not None:
        return ConsentRow(**found)
    used = db.execute(_KNOWN, {"hash": _hash(state)}).first() is not None
    return "2回目の応答です" if used else "state が一致しません"


def _ended(db: Connection, consent: UUID, outcome: str, subject: str) -> None:
    db.execute(_END, {"id": consent, "outcome": outcome, "subject": subject[:200]})


def _row(store: Store, consent: UUID) -> ConsentRow | None:
    with store.session() as session:
        return session.exec(select(ConsentRow).where(ConsentRow.id == consent)).first()


def _hash(state: str) -> bytes:
    return hashlib.sha256(state.encode("utf-8", "surrogatepass")).digest()
