"""One emulator for the module, put back to its beginning before each test."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime

import pytest

from connectors.kingoftime import PROFILE, KingOfTimeClient
from connectors.kingoftime.emulator import TOKYO, KingOfTimeEmulator
from connectors.kit import READ, Masker
from connectors.kit.emulator import serve

TOKEN = "kot-access-token-0001"
POOR = "kot-access-token-0002"
QUICK = dataclasses.replace(PROFILE, read=dataclasses.replace(READ, base=0.002))
KEYS = {"0001": "a" * 64, "0002": "b" * 64, "12345": "c" * 64}


def jst(text: str) -> datetime:
    """``2026-11-24 05:00`` in Japan's time."""
    return datetime.fromisoformat(text).replace(tzinfo=TOKYO)


class Company:
    """An emulator that is served, and clients for it."""

    def __init__(self, emulator: KingOfTimeEmulator, url: str) -> None:
        self.emulator, self.url = emulator, url

    def client(self, token: str = TOKEN, *, masker: Masker | None = None) -> KingOfTimeClient:
        return KingOfTimeClient(token, endpoint=self.url, profile=QUICK, masker=masker)

    def reset(self) -> None:
        emulator = self.emulator
        emulator.faults.clear()
        emulator.faults.requests.clear()
        emulator.asked.clear()
        emulator.at(jst("2026-11-24 05:00"))
        emulator.shape, emulator.closed_code, emulator.limit = "list", 105, 500
        emulator.allowed_ips, emulator.employee_member = frozenset(), "currentDateEmployee"
        for held in (emulator.tokens, emulator.employees, emulator.monthly, emulator.daily):
            held.clear()
        emulator.add_token(TOKEN)
        emulator.add_token(POOR, {"employees"})
        emulator.divisions[:] = [{"code": "1000", "name": "本社", "dayBorderTime": "04:00"}]
        for code, key in KEYS.items():
            emulator.add_employee(
                key,
                code,
                lastName="勤怠",
                firstName=f"花子{code}",
                divisionCode="1000" if code != "12345" else "2000",
                divisionName="本社",
                resignationDate="2026-10-31" if code == "0002" else None,
            )


@pytest.fixture(scope="session")
def served() -> Iterator[Company]:
    emulator = KingOfTimeEmulator()
    with serve(emulator) as url:
        yield Company(emulator, url)


@pytest.fixture
def company(served: Company) -> Company:
    served.reset()
    return served
