"""KING OF TIME of the local stack: forty people, two months that are closed and one that is not."""

from __future__ import annotations

from connectors.kingoftime.emulator import KingOfTimeEmulator
from deployments.samples import Sample, SampleConnection, people
from deployments.stack.settings import StackUrls

NAME = "sample-kingoftime"
DEMO_TOKEN = "demo-kingoftime-access-token-4Vd8Rk2m"  # noqa: S105 (an emulator's)


def kingoftime_emulator() -> KingOfTimeEmulator:
    """A KING OF TIME with the sample's people; open all day, so that the sample runs at any hour.

    ``POST /__emulator__/settings {"closed": true}`` closes it at the real service's hours.
    """
    emulator = KingOfTimeEmulator(closed=())
    emulator.add_token(DEMO_TOKEN)
    emulator.divisions += people.divisions()
    for person in people.staff():
        emulator.add_employee(**person)
    for month, key, values in people.months():
        emulator.add_monthly(month, key, **values)
    for day, key, values in people.days("2026-10"):
        emulator.add_daily(day, key, **values)
    return emulator


def connections(urls: StackUrls) -> list[SampleConnection]:
    """勤怠 by month."""
    from pydantic import SecretStr

    from blocks import KingOfTimeCredentials
    from deployments.samples.bugyo import bugyo_credentials
    from flows.attendance_from_kingoftime import (
        AttendanceFromKingOfTimeConnection,
        AttendanceSettings,
    )

    kingoftime = KingOfTimeCredentials(
        access_token=SecretStr(DEMO_TOKEN), endpoint=urls.emulators["kingoftime"]
    )
    return [
        SampleConnection(
            name=NAME,
            kind=AttendanceFromKingOfTimeConnection,
            registration_number="AC-0000-0005",
            credentials={"bugyo": bugyo_credentials(urls), "kingoftime": kingoftime},
            settings=AttendanceSettings(start=people.MONTHS[0], code_width=6),
        )
    ]


SAMPLE = Sample(kingoftime_emulator, connections)
