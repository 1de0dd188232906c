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
)
"""What the HTTP client needs to know."""


def base_url(endpoint: str | None) -> str:
    """Where requests go: to the service, or to another address that stands for it."""
    return endpoint.rstrip("/") if endpoint else f"https://{HOST}"
