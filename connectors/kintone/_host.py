"""Which host is kintone, and nothing else: credentials are sent to these names only."""

from __future__ import annotations

from connectors.kit import RateLimit, ServiceProfile
from connectors.kit.hosts import customer_host

PROFILE = ServiceProfile(
    name="kintone",
    # 100 requests at once are allowed to the whole domain, people included (contract, "Limits");
    # the 101st fails for everybody, so one connection takes a small share.
    limit=RateLimit(concurrency=5),
    # Of Japan, Japan with client certificates (Secure Access), abroad, and China.
    hosts=("*.cybozu.com", "*.s.cybozu.com", "*.kintone.com", "*.cybozu.cn"),
    headers={"accept-language": "ja"},
)
"""What the HTTP client needs to know about kintone."""


def host_of(subdomain: str) -> str:
    """The host name of a customer.

    Args:
        subdomain: ``example``, or what people paste: ``https://example.cybozu.com/k/``.
            A name without a dot is below ``cybozu.com``.

    Raises:
        SettingsError: ``AC-201``, it cannot be a kintone host.
    """
    return customer_host(PROFILE, subdomain)
