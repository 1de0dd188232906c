"""The tables behind the gateway: consents under way, events that came in, keys of other systems.

    consent        one row for each time that a person was sent to a consent page
    webhook_event  which events a service told us, and which run they became
    api_key        keys of other systems, as hashes

No secret is in them: PKCE's verifier lies in the credentials block, ``state`` and keys are kept as
hashes, and the body of an event is not kept at all.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, Column, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from flows.engine.store.tables import _moment


class ConsentRow(SQLModel, table=True):
    """One passage through a consent page; see `flows.parts.consents`.

    Attributes:
        state_hash: SHA-256 of ``state``.
        block_type: Slug of the credentials block's type.
        redirect_uri: Where the browser comes back to, exactly.
        used_at: When the browser came back; the passage is over then, whatever it brought.
        outcome: ``saved`` or the code of an error; ``None`` = not known yet.
        subject: Of the error.
    """

    __tablename__ = "consent"

    id: UUID = Field(primary_key=True, default_factory=uuid4)
    state_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    state_returns: bool = True
    block_type: str
    block_name: str
    redirect_uri: str
    created_at: datetime = Field(sa_column=_moment())
    expires_at: datetime = Field(sa_column=_moment())
    used_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    outcome: str | None = None
    subject: str = ""


class WebhookEventRow(SQLModel, table=True):
    """An event that a service told us; what it was about is read by the run that it starts.

    Attributes:
        event_id: The service's name for it, or a hash of what it sent.
        event: What happened, in the service's words.
        batch: Events with one batch become one run; ``None`` = not taken up yet.
        run_id: That run, once Prefect knows of it.
    """

    __tablename__ = "webhook_event"
    __table_args__ = (
        UniqueConstraint("connection", "event_id", name="uq_webhook_event"),
        Index("ix_webhook_event_open", "connection", postgresql_where=text("run_id IS NULL")),
    )

    seq: int | None = Field(
        default=None, sa_column=Column(BigInteger, primary_key=True, autoincrement=True)
    )
    connection: str
    event_id: str
    event: str = ""
    received_at: datetime = Field(sa_column=_moment())
    batch: UUID | None = None
    run_id: UUID | None = None


class ApiKeyRow(SQLModel, table=True):
    """A key of another system; see `deployments.gateway.keys`.

    Attributes:
        id: Its public half.
        hash: SHA-256 of its secret half, which is 32 random bytes.
        scopes: ``read``, ``run``.
        connections: Which connections it is for; empty = all.
        per_minute: How many requests it may make.
    """

    __tablename__ = "api_key"

    id: str = Field(primary_key=True)
    name: str
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    scopes: list[Any] = Field(sa_column=Column(JSONB, nullable=False))
    connections: list[Any] = Field(sa_column=Column(JSONB, nullable=False))
    per_minute: int
    created_at: datetime = Field(sa_column=_moment())
    expires_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    revoked_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    last_used_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
