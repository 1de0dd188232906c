"""Facts about KING OF TIME, in one place, with their evidence (contract, partners.md 6).

Unmarked: vendor documentation. [3rd]: read in third-party code. [I]: our reasoning.
"""

from __future__ import annotations

from datetime import time, timedelta

from connectors.kit import ClosedHours, Quota, RateLimit, ServiceProfile

HOST = "api.kingtime.jp"
ROOT = "/v1.0"

CLOSED_HOURS = (ClosedHours(time(8, 30), time(10)), ClosedHours(time(17, 30), time(18, 30)))
"""The vendor's help says so to partners that link to it; clocking in stays open [3rd]."""

CLOSED_CODE = "105"
"""``errors[].code`` of the 403 that is answered in these hours [3rd]."""

CLOSED_FOR = timedelta(minutes=10)
"""A 403 with this code outside of the known hours: after this long it is tried again [I]."""

REQUESTS, PERIOD = 500, timedelta(minutes=5)
"""Requests that one period allows [3rd], of all programs together."""

DAYS_PER_CALL = 62
PAST_YEARS, FUTURE_YEARS = 3, 1

PROFILE = ServiceProfile(
    name="KING OF TIME",
    limit=RateLimit(concurrency=1, quotas=(Quota(REQUESTS, PERIOD.total_seconds()),)),
    hosts=(HOST,),
    closed=CLOSED_HOURS,
)
"""What the HTTP client needs to know about KING OF TIME."""
