"""Licences of connections that nobody has to ask for: those of the sample."""

from __future__ import annotations

from blocks import Connection
from deployments.samples import PHONE
from flows.engine import licences
from flows.engine.clock import business_date, now
from flows.engine.store import LicenceRow, Store


def issue_sample(store: Store, number: str = "AC-0000-0001") -> None:
    """Issue a number for every connector, unless it is there: one that was revoked stays so."""
    at = now()
    licence = LicenceRow(
        registration_number=number,
        phone=PHONE,
        company="サンプル株式会社",
        valid_from=business_date(at),
        issued_at=at,
        note="ローカル環境のサンプル",
    )
    with store.begin() as db:
        licences.issue(db, licence)


def issue_for_sample(connection: Connection) -> None:
    """Issue the number of a sample connection, unless a person has put in one of their own."""
    number = licences.number_of(connection.registration_number)
    ours = licences.phone_of(connection.phone) == licences.phone_of(PHONE)
    if ours and licences.is_well_formed(number):
        issue_sample(Store(), number)
