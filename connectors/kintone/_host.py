"""Which host is kintone, and nothing else: credentials are sent to these names only."""

from __future__ import annotations

from connectors.kit import RateLimit, ServiceProfile, SettingsError
from connectors.kit.hosts import tenant_host

_DOMAINS = ("cybozu.com", "s.cybozu.com", "kintone.com", "cybozu.cn")
"""Of Japan, Japan with client certificates (Secure Access), abroad, and China."""

PROFILE = ServiceProfile(
    name="kintone",
    # 100 requests at once are allowed to the whole domain, people included (contract, "Limits");
    # the 101st fails for everybody, so one connection takes a small share.
    limit=RateLimit(concurrency=5),
    hosts=tuple(f"*.{domain}" for domain in _DOMAINS),
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
    try:
        return tenant_host(subdomain, _DOMAINS)
    except ValueError:
        text = subdomain.strip().lower() or "（空）"
        raise SettingsError("AC-201", text, service=PROFILE.name) from None


def base_url(host: str, endpoint: str | None) -> str:
    """Where requests for ``host`` go: there, or to another address that stands for it."""
    return endpoint.rstrip("/") if endpoint else f"https://{host}"


def host_headers(host: str, endpoint: str | None) -> dict[str, str]:
    """Headers of every request. An emulator or proxy learns the customer from ``Host``."""
    headers = {"accept-language": "ja"}
    return {**headers, "host": host} if endpoint else headers
