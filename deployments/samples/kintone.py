"""kintone of the local stack: an app of customers and one of expenses, and their connections."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from connectors.kintone.emulator import KintoneEmulator
from deployments.samples import MAIN, Sample, SampleConnection, customers, expenses
from deployments.stack.settings import StackUrls

if TYPE_CHECKING:
    from blocks import KintoneCredentials
    from flows.customers_from_kintone import CustomerSettings

SAMPLE_EPOCH = datetime(2026, 10, 1, 0, 0, tzinfo=UTC)
"""更新日時 of the first sample record; the others follow, a minute each."""

DEMO_API_TOKEN = "demo-kintone-api-token-5tGb8Hn2"  # noqa: S105 (an emulator's)


def kintone_emulator(count: int = customers.COUNT) -> KintoneEmulator:
    """A kintone with the sample apps in it.

    Args:
        count: How many customers.
    """
    emulator = KintoneEmulator()
    for app in (customers, expenses):
        emulator.add_app(app.APP_ID, app.APP_NAME, app.FIELDS, tokens={DEMO_API_TOKEN: {"view"}})
    for number, record in enumerate(customers.customers(count)):
        emulator.seed(
            customers.APP_ID, [record], updated_at=SAMPLE_EPOCH + timedelta(minutes=number)
        )
    emulator.seed(expenses.APP_ID, expenses.slips(), updated_at=SAMPLE_EPOCH)
    return emulator


def kintone_credentials(urls: StackUrls) -> KintoneCredentials:
    """Credentials for the emulator."""
    from pydantic import SecretStr

    from blocks import KintoneCredentials

    return KintoneCredentials(
        subdomain="example",
        api_token=SecretStr(DEMO_API_TOKEN),
        endpoint=urls.emulators["kintone"],
    )


def customer_settings() -> CustomerSettings:
    """The customers' app, with the provisional items moved too: the emulator knows them."""
    from flows.customers_from_kintone import CustomerSettings

    return CustomerSettings(
        app=customers.APP_ID,
        kana="フリガナ",
        postal_code="郵便番号",
        address1="住所1",
        address2="住所2",
        phone="電話番号",
    )


def connections(urls: StackUrls) -> list[SampleConnection]:
    """得意先, the main sample, and 仕訳伝票."""
    from deployments.samples.bugyo import bugyo_credentials
    from flows.customers_from_kintone import CustomersFromKintoneConnection
    from flows.slips_from_kintone import KintoneSlipSettings, SlipsFromKintoneConnection

    credentials = {"bugyo": bugyo_credentials(urls), "kintone": kintone_credentials(urls)}
    return [
        SampleConnection(
            name=MAIN,
            kind=CustomersFromKintoneConnection,
            registration_number="AC-0000-0001",
            credentials=credentials,
            settings=customer_settings(),
        ),
        SampleConnection(
            name="sample-slips",
            kind=SlipsFromKintoneConnection,
            registration_number="AC-0000-0002",
            credentials=credentials,
            settings=KintoneSlipSettings(app=expenses.APP_ID),
        ),
    ]


SAMPLE = Sample(kintone_emulator, connections)
