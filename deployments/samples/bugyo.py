"""奉行クラウド of the local stack: every sample writes into its first 法人."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.bugyo.emulator import (
    DEMO_FIXED_TOKEN,
    DEMO_SUBSCRIPTION_KEY,
    DEMO_TENANTS,
    BugyoEmulator,
)
from deployments.samples import Sample, people
from deployments.stack.settings import StackUrls

if TYPE_CHECKING:
    from blocks import BugyoCredentials


def bugyo_credentials(urls: StackUrls) -> BugyoCredentials:
    """Credentials for the emulator."""
    from pydantic import SecretStr

    from blocks import BugyoCredentials

    return BugyoCredentials(
        environment="URLを指定",
        api_url=urls.emulators["bugyo"],
        id_url=urls.emulators["bugyo"],
        subscription_key=SecretStr(DEMO_SUBSCRIPTION_KEY),
        fixed_token=SecretStr(DEMO_FIXED_TOKEN),
        tenant_id=DEMO_TENANTS[0].id,
    )


def bugyo_emulator() -> BugyoEmulator:
    """A 奉行クラウド whose 法人 has the people that KING OF TIME's sample is about."""
    emulator = BugyoEmulator()
    emulator.seed(DEMO_TENANTS[0].id, people.employees(), "employee")
    return emulator


SAMPLE = Sample(bugyo_emulator)
