"""Row 18: the licence of one connection has ended; it says so, and the others run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pytest
from company import Company
from invariants import holds

from flows.customers_from_kintone import PIPELINE as CUSTOMERS
from flows.engine import licences
from flows.engine.clock import business_date, now
from flows.engine.store import LicenceRow

PHONE = "03-0000-0000"


@dataclass
class Licensed(Company):
    """A company with a registration number of its own."""

    number: str = "AC-0018-0001"

    def block(self) -> Any:
        """The connection."""
        block = super().block()
        block.registration_number, block.phone = self.number, PHONE
        return block

    def issue(self, *, expires_on: date | None = None, connector: str = "") -> None:
        """Issue the number, or another term of it."""
        row = LicenceRow(
            registration_number=self.number,
            connector=connector or self.pipeline.connector,
            phone="０３（００００）００００",
            company="株式会社ためし",
            valid_from=date(2026, 1, 1),
            expires_on=expires_on,
            issued_at=now(),
        )
        with self.store.begin() as db:
            licences.issue(db, row, replace=True)


@pytest.mark.parametrize("how", ["expired", "revoked"])
def test_row_18_a_licence_that_ended_stops_its_connection_only(
    new_company: Callable[..., Licensed], how: str
) -> None:
    ended = new_company(kind=Licensed, number="AC-0018-0001")
    other = new_company(kind=Licensed, number="AC-0018-0002")
    for firm in (ended, other):
        firm.issue()
        firm.fill(2)
    assert ended.run().result == "SUCCESS"
    ended.fill(3)
    yesterday = business_date(now()) - timedelta(days=1)
    if how == "expired":
        ended.issue(expires_on=yesterday)
    else:
        with ended.store.begin() as db:
            licences.revoke(db, ended.number, now())
    before = len(ended.slips)

    stopped, fine = ended.run(), other.run()

    assert stopped.result == "ERROR"
    assert stopped.error is not None
    assert stopped.error.code == {"expired": "AC-110", "revoked": "AC-111"}[how]
    if how == "expired":
        assert f"{yesterday:%Y/%m/%d} まで" in stopped.message
    assert "［対処］1. " in stopped.message
    assert stopped.error.next_steps
    assert len(ended.slips) == before
    assert fine.result == "SUCCESS"
    assert len(other.slips) == 2
    # The contract is renewed: the next run brings what came meanwhile, once.
    ended.issue()
    assert ended.run().result == "SUCCESS"
    assert len(ended.slips) == 5
    for firm in (ended, other):
        holds(firm)


def test_row_18_a_number_that_was_never_issued_and_one_of_another_connector(
    new_company: Callable[..., Licensed],
) -> None:
    firm = new_company(kind=Licensed, number="AC-0018-0003")
    firm.fill(1)
    for code in ("AC-107", "AC-109", "AC-108"):
        if code == "AC-109":
            firm.issue(connector=CUSTOMERS.connector)
        if code == "AC-108":
            firm.number = "none"
        ending = firm.run()
        assert ending.error is not None
        assert ending.error.code == code
        assert ("「得意先 kintone→商奉行」用" in ending.message) is (code == "AC-109")
        assert PHONE not in ending.message
    assert firm.slips == []
