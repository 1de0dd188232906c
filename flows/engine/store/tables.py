"""The tables of the store (SQLModel). Alembic migrations create them; this is what they hold.

    connection   one row a connection: watermark, lease and fencing number
    run          one row a run: the 処理履歴, kept longer than Prefect keeps its own
    staged_page  pages between two stages, compressed; gone when the run has succeeded
    ledger       what was sent, record by record (design 6)
    reject       records that could not be posted, with the remedy and the source record
    correction   what a person changed in a rejected record
    code_mapping   コード変換表: partner code -> 奉行 code
    unmapped_code  which codes of a rejected record have no counterpart
    licence      registration numbers that were issued; licence_attempt: wrong tries

Times are ``timestamptz``. Text columns never hold NUL: PostgreSQL refuses it, so bodies that come
from a partner are stored as compressed bytes.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel


def _moment(*, nullable: bool = False) -> Column[datetime]:
    return Column(DateTime(timezone=True), nullable=nullable)


class ConnectionRow(SQLModel, table=True):
    """What the engine knows about a connection.

    Attributes:
        name: Name of the connection block.
        watermark: Source time up to which every record was seen and handled.
        lease_owner: Flow run that may load, ``None`` when nobody does.
        lease_expires: Database time at which the lease lapses.
        fence: Grows with each lease; a writer with an older number writes nothing.
        destination: Which 法人 its books are about; ``None`` before the first run.
        licence: The registration number that it was opened with last.
        licence_grace: It was at work before licences were kept: until then it runs without one.
    """

    __tablename__ = "connection"

    name: str = Field(primary_key=True)
    connector: str
    watermark: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    lease_owner: UUID | None = None
    lease_expires: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    fence: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, default=0))
    destination: str | None = None
    licence: str | None = None
    licence_grace: datetime | None = Field(default=None, sa_column=_moment(nullable=True))


class RunRow(SQLModel, table=True):
    """One run; ``id`` is Prefect's flow run id. ``result`` is ``None`` while it is at work.

    Attributes:
        scheduled_for: The time that a scheduled run was meant for; ``None`` for all others.
    """

    __tablename__ = "run"
    __table_args__ = (
        Index("ix_run_connection_started", "connection", "started_at"),
        Index(
            "ix_run_connection_scheduled",
            "connection",
            "scheduled_for",
            postgresql_where=text("scheduled_for IS NOT NULL"),
        ),
        Index("ix_run_open", "connection", postgresql_where=text("result IS NULL")),
    )

    id: UUID = Field(primary_key=True)
    connection: str
    connector: str
    service: str
    trigger: str
    mode: str
    dry_run: bool = False
    business_date: date
    scheduled_for: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    started_at: datetime = Field(sa_column=_moment())
    ended_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    result: str | None = None
    stage: str = "open"
    position: dict[str, Any] = Field(
        default_factory=dict, sa_column=Column(JSONB, nullable=False, server_default=text("'{}'"))
    )
    extracted: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    pending: int = 0
    vanished: int = Field(
        default=0, sa_column=Column(Integer, nullable=False, server_default=text("0"))
    )
    message: str = ""
    error: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB, nullable=True))


class StagedPage(SQLModel, table=True):
    """One page between two stages: ``body`` is zstd-compressed, ``records`` its count."""

    __tablename__ = "staged_page"

    run_id: UUID = Field(primary_key=True)
    stage: str = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    records: int
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class LedgerRow(SQLModel, table=True):
    """What was sent for one source record.

    Attributes:
        source_key: Key of the record at the partner (kintone: the record id).
        external_key: Key at 奉行クラウド (masters: the code; slips: the 証憑番号 we write).
        content_hash: 16 bytes over what was sent; equal = nothing to send.
        state: ``pending``, ``posted``, ``rejected``, ``unsent``, ``unclear`` or ``reversed``; see
            `flows.engine.ledger`.
        action: ``created`` | ``updated``: what the last request did; ``found``: it was there.
        revision: Of a document; grows when it is reversed and posted again.
        amount: Yen of a document.
        document_date: Date of a document.
        accepted_key: Under which 奉行クラウド tells the result of an asynchronous import.
        observed_hash: Of a posted document: the source as it was seen last, changed since; empty =
            the source record is gone.
        acknowledged_hash: The one of these that a person has dealt with.
    """

    __tablename__ = "ledger"
    __table_args__ = (Index("ix_ledger_external_key", "connection", "entity", "external_key"),)

    connection: str = Field(primary_key=True)
    entity: str = Field(primary_key=True)
    source_key: str = Field(primary_key=True)
    external_key: str
    content_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    state: str = Field(sa_column=Column(String, nullable=False))
    action: str
    batch_id: UUID
    run_id: UUID
    document_ref: str | None = None
    error: str | None = None
    updated_at: datetime = Field(sa_column=_moment())
    revision: int = Field(
        default=1, sa_column=Column(Integer, nullable=False, server_default=text("1"))
    )
    amount: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    document_date: date | None = None
    accepted_key: str | None = None
    observed_hash: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    acknowledged_hash: bytes | None = Field(
        default=None, sa_column=Column(LargeBinary, nullable=True)
    )


class CorrectionRow(SQLModel, table=True):
    """What a person changed in a rejected record, applied while the source record is the same.

    Attributes:
        source_hash: 16 bytes over the source record that was corrected; another record, no
            correction.
        changes: Field of the source -> the value that is used in its place.
    """

    __tablename__ = "correction"

    connection: str = Field(primary_key=True)
    entity: str = Field(primary_key=True)
    source_key: str = Field(primary_key=True)
    source_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    changes: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    made_at: datetime = Field(sa_column=_moment())


class RejectRow(SQLModel, table=True):
    """A source record that could not be posted; the row goes when the record went through.

    Attributes:
        holder: Source key of the record that holds the same code (duplicates only).
        label: How a person recognises the record (code and name).
        source: The source record, zstd-compressed JSON.
    """

    __tablename__ = "reject"

    connection: str = Field(primary_key=True)
    entity: str = Field(primary_key=True)
    source_key: str = Field(primary_key=True)
    run_id: UUID
    code: str
    item: str = ""
    label: str = ""
    reason: str = ""
    remedy: str = ""
    holder: str | None = None
    source: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    first_seen: datetime = Field(sa_column=_moment())
    last_seen: datetime = Field(sa_column=_moment())


class CodeMapping(SQLModel, table=True):
    """An entry of コード変換表.

    Attributes:
        kind: What the code becomes: ``勘定科目`` …, see `flows.engine.codes.CodeKind`.
        source: What the partner's code is: ``経費科目``.
        partner_code: The partner's code.
        name: What it is called, for a person.
        bugyo_code: Code at 奉行クラウド; of a 補助科目 ``勘定科目/補助科目``.
    """

    __tablename__ = "code_mapping"

    connection: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    source: str = Field(primary_key=True)
    partner_code: str = Field(primary_key=True)
    name: str = ""
    bugyo_code: str
    updated_at: datetime = Field(sa_column=_moment())


class UnmappedCode(SQLModel, table=True):
    """A code that keeps a record from being posted; it goes with the record's reject.

    Attributes:
        bugyo_code: What コード変換表 says, which 奉行クラウド does not have; empty = no entry.
    """

    __tablename__ = "unmapped_code"
    __table_args__ = (
        ForeignKeyConstraint(
            ["connection", "entity", "source_key"],
            ["reject.connection", "reject.entity", "reject.source_key"],
            ondelete="CASCADE",
        ),
    )

    connection: str = Field(primary_key=True)
    entity: str = Field(primary_key=True)
    source_key: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    source: str = Field(primary_key=True)
    partner_code: str = Field(primary_key=True)
    name: str = ""
    bugyo_code: str = ""


class LicenceRow(SQLModel, table=True):
    """A registration number (登録番号) and whom it belongs to; see `flows.engine.licences`.

    Attributes:
        connector: Which connector may be used with it; empty = every one.
        phone: E.164.
        valid_from: First business date.
        expires_on: Last business date; ``None`` = no end.
        note: Whatever the operator wants to remember.
    """

    __tablename__ = "licence"

    registration_number: str = Field(primary_key=True)
    connector: str = ""
    phone: str
    company: str
    valid_from: date
    expires_on: date | None = None
    issued_at: datetime = Field(sa_column=_moment())
    revoked_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    note: str = ""


class LicenceAttemptRow(SQLModel, table=True):
    """Wrong tries of one registration number, whether or not there is such a number."""

    __tablename__ = "licence_attempt"

    registration_number: str = Field(primary_key=True)
    failures: int
    last_at: datetime = Field(sa_column=_moment())
    locked_until: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
