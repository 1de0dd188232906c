"""What the client of every service is: somebody who holds connections and closes them."""

from __future__ import annotations

import ssl
from typing import Self, TypedDict, Unpack

from connectors.kit._http import ApiClient, Authorizer, Classifier, StaticHeaders
from connectors.kit._masking import Masker
from connectors.kit._pace import Timer
from connectors.kit._retry import ServiceProfile
from connectors.kit.errors import SettingsError
from connectors.kit.hosts import base_url, host_header
from connectors.kit.tokens import Clock, bearer, utc_now


class Wiring(TypedDict, total=False):
    """What any client of a service can be told besides whom it asks, and as whom.

    Attributes:
        endpoint: Another address that stands for the service (emulator, proxy), e.g.
            ``http://127.0.0.1:8701``; empty = the service itself.
        masker: Secrets that must not show in errors; the client adds its own.
        verify: TLS verification, as httpx takes it.
        profile: Other time-outs, limits and retry policies than the service's own.
        timer: The time that is waited by.
        clock: Aware time: closed hours, the expiry of tokens.
    """

    endpoint: str | None
    masker: Masker
    verify: ssl.SSLContext | bool
    profile: ServiceProfile
    timer: Timer
    clock: Clock


def access_token(token: str, profile: ServiceProfile) -> StaticHeaders:
    """Proof by a token that a person copied from a screen of the service (RFC 6750).

    Raises:
        SettingsError: ``AC-102``, it is empty.
    """
    if not (token := token.strip()):
        raise SettingsError("AC-102", service=profile.name)
    return StaticHeaders(bearer(token))


def open_api(
    profile: ServiceProfile,
    host: str,
    classify: Classifier,
    authorizer: Authorizer | None = None,
    /,
    **wiring: Unpack[Wiring],
) -> ApiClient:
    """The connections to one host of a service.

    Args:
        profile: The service's facts.
        host: Name of the host, also where another address stands for it.
        classify: The vendor's errors.
        authorizer: Who we are.
        wiring: See `Wiring`.

    Raises:
        SettingsError: ``AC-205``/``AC-207``, the address.
    """
    endpoint = wiring.get("endpoint")
    customer = host not in profile.hosts  # an emulator has to be told whose host it stands for
    return ApiClient(
        wiring.get("profile", profile),
        base_url(host, endpoint),
        classify=classify,
        authorizer=authorizer,
        headers=host_header(host, endpoint) if customer else None,
        secrets=wiring.get("masker"),
        verify=wiring.get("verify", True),
        clock=wiring.get("clock", utc_now),
        timer=wiring.get("timer", Timer()),
    )


class ServiceClient:
    """A client that talks through one `ApiClient`. An async context manager.

    Args:
        profile: The service's facts.
        host: Name of the host.
        classify: The vendor's errors.
        authorizer: Who we are.
        wiring: See `Wiring`.

    Attributes:
        host: As given.
        service: The name that a person reads.

    Raises:
        SettingsError: ``AC-205``/``AC-207``, the address.
    """

    def __init__(
        self,
        profile: ServiceProfile,
        host: str,
        classify: Classifier,
        authorizer: Authorizer,
        /,
        **wiring: Unpack[Wiring],
    ) -> None:
        self.host, self.service = host, profile.name
        self._http = open_api(profile, host, classify, authorizer, **wiring)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()
