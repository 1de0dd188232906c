"""A company that moves 得意先 instead of vouchers: masters, upserted by code."""

from __future__ import annotations

from typing import Any, ClassVar

from company import APP, TOKEN, Company
from pydantic import SecretStr

from blocks import BugyoCredentials, KintoneCredentials
from connectors.bugyo.emulator import DEMO_FIXED_TOKEN, DEMO_SUBSCRIPTION_KEY
from flows.customers_from_kintone import (
    PIPELINE,
    CustomerSettings,
    CustomersFromKintoneConnection,
)
from flows.engine.pipeline import Pipeline

FIELDS: dict[str, Any] = {
    "得意先コード": {"type": "SINGLE_LINE_TEXT"},
    "得意先名": {"type": "SINGLE_LINE_TEXT"},
    "略称": {"type": "SINGLE_LINE_TEXT"},
    "請求先コード": {"type": "SINGLE_LINE_TEXT"},
    "備考": {"type": "MULTI_LINE_TEXT"},
}


class CustomerCompany(Company):
    """One connection of 得意先 with both its ends and its books."""

    pipeline: ClassVar[Pipeline[Any]] = PIPELINE
    operation: ClassVar[str] = "ImportCustomer"
    entity: ClassVar[str] = "customer"
    fields: ClassVar[dict[str, Any]] = FIELDS

    def customer(self, number: int, **more: str) -> int:
        """Add a customer to kintone; returns the record's id."""
        record = {
            "得意先コード": f"{number:06}",
            "得意先名": f"株式会社ためし{number}",
            "略称": f"ためし{number}",
            **more,
        }
        return self.kintone.seed(APP, [record])[0]

    @property
    def customers(self) -> dict[str, dict[str, str]]:
        """What 奉行クラウド holds, by code, without その他."""
        return {r["code"]: r for r in self.bugyo.rows(self.tenant) if r["code"] != "0"}

    def block(self) -> CustomersFromKintoneConnection:
        """The connection."""
        kintone_url, bugyo_url = self.urls
        return CustomersFromKintoneConnection(
            registration_number="AC-0000-0001",
            phone="03-0000-0000",
            bugyo=BugyoCredentials(
                environment="URLを指定",
                api_url=bugyo_url,
                id_url=bugyo_url,
                subscription_key=SecretStr(DEMO_SUBSCRIPTION_KEY),
                fixed_token=SecretStr(DEMO_FIXED_TOKEN),
                tenant_id=self.tenant,
            ),
            kintone=KintoneCredentials(
                subdomain="example", api_token=SecretStr(TOKEN), endpoint=kintone_url
            ),
            settings=CustomerSettings(app=APP),
        )
