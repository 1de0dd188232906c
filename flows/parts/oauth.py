"""The OAuth client behind a credentials block, whatever the service.

A service is found by looking: a module of ``flows.parts`` with ``OAUTH_BLOCK``, the block type that
may hold a consent, and ``oauth_app``, which makes the client of such a block.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Protocol

from blocks import OAuthBlock
from connectors.kit import Consent, Tokens
from flows import parts
from flows.engine.pipeline import Tools


class OAuthClient(Protocol):
    """What every service's OAuth client can do."""

    def begin_consent(self) -> Consent:
        """A new passage through the consent page."""
        ...

    def authorization_url(self, consent: Consent) -> str:
        """Where a person presses 許可する."""
        ...

    async def exchange_code(self, code: str, consent: Consent) -> Tokens:
        """The first pair."""
        ...

    async def refresh(self, tokens: Tokens) -> Tokens:
        """The next pair."""
        ...


@cache
def _clients() -> Mapping[type[OAuthBlock], Callable[[Any, Tools], OAuthClient]]:
    names = [info.name for info in pkgutil.iter_modules(parts.__path__, f"{parts.__name__}.")]
    modules = [importlib.import_module(name) for name in names]
    return {m.OAUTH_BLOCK: m.oauth_app for m in modules if hasattr(m, "OAUTH_BLOCK")}


def oauth_blocks() -> list[type[OAuthBlock]]:
    """Every block type that may hold a consent."""
    return list(_clients())


def oauth_client(credentials: OAuthBlock, tools: Tools) -> OAuthClient:
    """The OAuth client of a block.

    Raises:
        SettingsError: client id, secret, callback URL or address is missing or wrong.
    """
    return _clients()[type(credentials)](credentials, tools)
