"""The sample connections of the local stack: what a stranger sees working after one command."""

from __future__ import annotations

from pydantic import SecretStr

from blocks import BugyoCredentials, Connection, KintoneCredentials
from connectors.bugyo.emulator import DEMO_FIXED_TOKEN, DEMO_SUBSCRIPTION_KEY, DEMO_TENANTS
from deployments import sample
from deployments.emulators import DEMO_API_TOKEN
from deployments.stack.settings import StackUrls
from flows.customers_from_kintone import CustomerSettings, CustomersFromKintoneConnection

SAMPLE = "sample"
"""Name of the sample's blocks and of its connection."""


def sample_credentials(urls: StackUrls) -> tuple[BugyoCredentials, KintoneCredentials]:
    """Credentials for the emulators."""
    bugyo = BugyoCredentials(
        environment="URLを指定",
        api_url=urls.bugyo,
        id_url=urls.bugyo,
        subscription_key=SecretStr(DEMO_SUBSCRIPTION_KEY),
        fixed_token=SecretStr(DEMO_FIXED_TOKEN),
        tenant_id=DEMO_TENANTS[0].id,
    )
    kintone = KintoneCredentials(
        subdomain="example", api_token=SecretStr(DEMO_API_TOKEN), endpoint=urls.kintone
    )
    return bugyo, kintone


def sample_settings() -> CustomerSettings:
    """The sample app, with the provisional items moved too: the emulator knows them."""
    return CustomerSettings(
        app=sample.APP_ID,
        kana="フリガナ",
        postal_code="郵便番号",
        address1="住所1",
        address2="住所2",
        phone="電話番号",
    )


async def sample_connection(urls: StackUrls) -> Connection:
    """Save the sample's blocks, unless a person changed them: theirs are kept.

    Only the addresses follow the stack, because its ports may differ from last time.
    """
    bugyo, kintone = sample_credentials(urls)
    try:
        kept = await CustomersFromKintoneConnection.aload(SAMPLE)
    except ValueError:
        await bugyo.save(SAMPLE, overwrite=True)
        await kintone.save(SAMPLE, overwrite=True)
        connection = CustomersFromKintoneConnection(
            registration_number="AC-0000-0001",
            phone="03-0000-0000",
            bugyo=await BugyoCredentials.aload(SAMPLE),
            kintone=await KintoneCredentials.aload(SAMPLE),
            settings=sample_settings(),
        )
        await connection.save(SAMPLE, overwrite=True)
        return connection
    if kept.bugyo.api_url != urls.bugyo or kept.kintone.endpoint != urls.kintone:
        kept.bugyo.api_url = kept.bugyo.id_url = urls.bugyo
        kept.kintone.endpoint = urls.kintone
        await kept.bugyo.save(SAMPLE, overwrite=True)
        await kept.kintone.save(SAMPLE, overwrite=True)
    return kept
