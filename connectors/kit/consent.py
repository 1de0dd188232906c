"""One passage through a consent page: what is sent, and what must come back (RFC 9700).

Code flow only. ``state`` is unguessable, kept by who began the passage, and good for one answer;
PKCE (S256) binds the code to this passage even where a service does not send ``state`` back; an
``iss`` that comes (RFC 9207) must be the one that was asked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from connectors.kit.errors import ReauthorizeError

CALLBACK = "/oauth/callback"
"""Path of the gateway's callback; the redirect URI that is registered at a service ends with it."""

_ENTROPY = 32
"""Random bytes of ``state`` and of the verifier: 43 characters, RFC 7636's own recommendation."""


@dataclass
class Consent:
    """A passage that was begun and is not over.

    Attributes:
        service: Whose page it is, for messages.
        state: Sent along; must come back.
        verifier: PKCE's secret: leaves with the code, never with the browser. Not in the repr.
        pkce: Whether the service is sent PKCE at all.
        state_returns: Whether the service certainly sends ``state`` back. Where nobody knows,
            an answer without one is accepted; a wrong one never is.
        issuer: The ``iss`` that is expected when one comes; empty = any.
    """

    service: str
    pkce: bool = True
    state_returns: bool = True
    issuer: str = ""
    state: str = field(default_factory=lambda: secrets.token_urlsafe(_ENTROPY), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(_ENTROPY), repr=False)
    _over: bool = field(default=False, init=False, repr=False)

    def query(self) -> dict[str, str]:
        """The parameters of the authorization request that belong to this passage."""
        asked = {"state": self.state}
        if self.pkce:
            digest = hashlib.sha256(self.verifier.encode()).digest()
            challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            asked |= {"code_challenge": challenge, "code_challenge_method": "S256"}
        return asked

    def proof(self) -> dict[str, str]:
        """The parameters of the token request that belong to this passage."""
        return {"code_verifier": self.verifier} if self.pkce else {}

    def code(self, answer: Mapping[str, str]) -> str:
        """The code of an answer; the passage is over then, whatever the answer was.

        Args:
            answer: The query that the browser came back with.

        Raises:
            ReauthorizeError: ``AC-105``, the person did not press 許可する; ``AC-106``, the answer
                belongs to another passage, to another service, or is the second one.
        """
        first, self._over = not self._over, True
        returned = answer.get("state")
        if not first:
            raise ReauthorizeError("AC-106", "2回目の応答です", service=self.service)
        if returned is None and self.state_returns:
            raise ReauthorizeError("AC-106", "state がありません", service=self.service)
        if returned is not None and not hmac.compare_digest(returned.encode(), self.state.encode()):
            raise ReauthorizeError("AC-106", "state が一致しません", service=self.service)
        if self.issuer and answer.get("iss", self.issuer) != self.issuer:
            raise ReauthorizeError("AC-106", "iss が一致しません", service=self.service)
        if not answer.get("code"):
            # The service's own word, shortened: it came through the browser.
            raise ReauthorizeError("AC-105", answer.get("error", "")[:40], service=self.service)
        return answer["code"]
