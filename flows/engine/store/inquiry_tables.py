"""The tables of お問い合わせ: what was asked, and the mails that have to leave because of it.

inquiry       one row an inquiry, kept whether or not a mail server answers
inquiry_mail  two rows an inquiry: the mail to the support desk, the answer to who asked
"""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Column, Index, Integer, text
from sqlmodel import Field, SQLModel

from flows.engine.store.tables import _moment


class InquiryRow(SQLModel, table=True):
    """One inquiry, as a person typed it.

    Attributes:
        id: Of the flow run that took it in: one run is one inquiry, however often it is retried.
        answer_by: Business date on which an answer may be expected.
        run_id: The run that it is about.
        run_facts: What was known of that run then; no data of customers, no secrets.
    """

    __tablename__ = "inquiry"

    id: UUID = Field(primary_key=True)
    received_at: datetime = Field(sa_column=_moment())
    answer_by: date
    company: str
    person: str
    email: str
    registration_number: str
    connector: str
    body: str
    run_id: UUID | None = None
    run_facts: str = ""


class InquiryMailRow(SQLModel, table=True):
    """A mail that has to leave.

    Attributes:
        kind: ``support`` or ``answer``.
        attempts: How often it was tried.
        next_at: When it is tried next.
        claim: Who is sending it now; until ``claimed_until`` nobody else does.
        sent_at: The mail server took it.
        refused_at: There is no such address; it is not tried again.
        problem: Why the last try did not work, masked.
    """

    __tablename__ = "inquiry_mail"
    __table_args__ = (
        Index(
            "ix_inquiry_mail_due",
            "next_at",
            postgresql_where=text("sent_at IS NULL AND refused_at IS NULL"),
        ),
    )

    inquiry_id: UUID = Field(primary_key=True, foreign_key="inquiry.id")
    kind: str = Field(primary_key=True)
    attempts: int = Field(
        default=0, sa_column=Column(Integer, nullable=False, server_default=text("0"))
    )
    next_at: datetime = Field(sa_column=_moment())
    claim: UUID | None = None
    claimed_until: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    sent_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    refused_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    problem: str = ""
