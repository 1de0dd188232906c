"""Which 奉行クラウド: OBC's production, its verification environment, or an emulator."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from connectors.bugyo.registry import data
from connectors.kit import SettingsError

SERVICE = "奉行クラウド"


@dataclass(frozen=True, slots=True)
class Environment:
    """Two hosts that belong together; keys and client credentials are issued for one of them.

    Attributes:
        name: ``production``, ``sandbox`` or any other name for one's own.
        api_base: Scheme and host of the API gateway.
        id_base: Scheme and host of the login and consent pages.

    Raises:
        SettingsError: ``AC-205``, a base that is not https (loopback apart: an emulator), or that
            carries more than scheme, host and port.
    """

    name: str
    api_base: str
    id_base: str

    def __post_init__(self) -> None:
        for base in (self.api_base, self.id_base):
            if not _acceptable(base):
                raise SettingsError("AC-205", f"接続先URL: {base}", service=SERVICE)


def environment(name: str) -> Environment:
    """One of OBC's own environments.

    Args:
        name: ``production`` (製品版) or ``sandbox`` (検証環境).

    Raises:
        SettingsError: ``AC-205``, there is no such environment.
    """
    entry = data("environments")["environments"].get(name)
    if entry is None:
        raise SettingsError("AC-205", f"環境: {name}", service=SERVICE)
    return Environment(name, entry["api_base"], entry["id_base"])


def _acceptable(base: str) -> bool:
    try:
        parts = urlsplit(base)
    except ValueError:
        return False
    if parts.username or parts.query or parts.fragment or parts.path not in ("", "/"):
        return False
    if parts.scheme == "https":
        return bool(parts.hostname)
    if parts.scheme != "http" or not parts.hostname:
        return False
    if parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return False
