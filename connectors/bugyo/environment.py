"""Which 奉行クラウド: OBC's production, its verification environment, or an emulator."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from connectors.bugyo.registry import data
from connectors.kit import SettingsError
from connectors.kit.hosts import HostRefusedError, is_loopback, origin_of

SERVICE = "奉行クラウド"

HOSTS: tuple[str, ...] = tuple(data("environments")["hosts"])
"""The only hosts that requests go to, emulators on loopback apart (`connectors.kit.hosts`)."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Two hosts that belong together; keys and client credentials are issued for one of them.

    Attributes:
        name: ``production``, ``sandbox`` or any other name for one's own.
        api_base: Scheme and host of the API gateway.
        id_base: Scheme and host of the login and consent pages.

    Raises:
        SettingsError: ``AC-205``, a base that is not https (loopback apart: an emulator), or that
            carries more than scheme, host and port; ``AC-207``, a host that is not OBC's.
    """

    name: str
    api_base: str
    id_base: str

    def __post_init__(self) -> None:
        for base in (self.api_base, self.id_base):
            if not _acceptable(base):
                raise SettingsError("AC-205", f"接続先URL: {base}", service=SERVICE)
            try:
                origin_of(base, HOSTS)
            except ValueError:
                raise SettingsError("AC-205", f"接続先URL: {base}", service=SERVICE) from None
            except HostRefusedError as error:
                raise SettingsError("AC-207", str(error), service=SERVICE) from None


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
    if not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
