"""Which host is マネーフォワード クラウド経費, and how it wants to be asked."""

from __future__ import annotations

from connectors.kit import RateLimit, ServiceProfile
from connectors.mfexpense.facts import fact

HOST = "expense.moneyforward.com"

ROOT = "/api/external/v1"

SERVICE = "マネーフォワード クラウド経費"

PROFILE = ServiceProfile(
    name=SERVICE,
    limit=RateLimit(concurrency=1 if fact("one_request_at_a_time") else None),
    hosts=(HOST,),
    headers={"accept-language": "ja"},
)
"""What the HTTP client needs to know."""
