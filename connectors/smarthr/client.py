"""Reading SmartHR: pages of crews, newest change first, only the attributes that are needed.

SmartHR has no filter on ``updated_at`` (contract, quirk 5), so whoever wants what changed reads
``sort=-updated_at,emp_code`` until it is older. What moves meanwhile is the reader's business
(`flows.parts.smarthr`); this client tells what it needs for that: the total of each answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Unpack

import httpx

from connectors.kit import (
    Answer,
    Quota,
    RateLimit,
    ServiceClient,
    ServiceProfile,
    Wiring,
    access_token,
)
from connectors.kit.hosts import customer_host
from connectors.smarthr._errors import ERRORS
from connectors.smarthr.models import CrewPage

PAGE_SIZE = 100
"""``per_page`` at most; SmartHR's default is 10."""

SORT = "-updated_at,emp_code"
"""Newest change first; emp_code puts crews that one import changed in the same second in order."""

PROFILE = ServiceProfile(
    name="SmartHR",
    limit=RateLimit(
        # Ten a second and 5,000 an hour, both of one token. Nine: on their way to SmartHR the
        # requests of two seconds can come closer together.
        quotas=(Quota(9, 1.0), Quota(5000, 3600.0)),
        # Which family counts which limit is not said [?]: whichever is full is waited for.
        headers=("x-rate-limit-", "x-intensive-rate-limit-"),
    ),
    hosts=("*.smarthr.jp", "*.daruma.space"),  # of customers, and of the sandbox
)
"""What the HTTP client needs to know about SmartHR."""

CREW_FIELDS = frozenset(
    {
        *("id", "emp_code", "emp_status", "updated_at", "entered_at", "resigned_at"),
        *("last_name", "first_name", "last_name_yomi", "first_name_yomi"),
        *("business_last_name", "business_first_name"),
        *("business_last_name_yomi", "business_first_name_yomi"),
        *("gender", "birth_at", "tel_number", "email", "address"),
        *("departments", "employment_type"),
    }
)
"""The attributes that this program can ask for at all. Bank accounts, dependents, insurance and
pension numbers are not among them; マイナンバー is on no such API."""


def host_of(subdomain: str) -> str:
    """The host name of a customer: of ``example``, or of what people paste.

    Raises:
        SettingsError: ``AC-201``, it cannot be a SmartHR host.
    """
    return customer_host(PROFILE, subdomain)


class SmartHRClient(ServiceClient):
    """One customer's SmartHR. An async context manager.

    Args:
        subdomain: ``example`` for ``https://example.smarthr.jp``; a pasted URL is understood.
        token: Access token that an administrator issued.
        wiring: See `connectors.kit.Wiring`.

    Raises:
        SettingsError: ``AC-102``, the token is empty; ``AC-201``, the subdomain cannot be one.
    """

    def __init__(self, subdomain: str, *, token: str, **wiring: Unpack[Wiring]) -> None:
        host, proof = host_of(subdomain), access_token(token, PROFILE)
        super().__init__(PROFILE, host, ERRORS.classifier(host), proof, **wiring)

    async def crews(
        self,
        page: int = 1,
        *,
        fields: Sequence[str],
        ids: Sequence[str] = (),
        emp_code: str | None = None,
        size: int = PAGE_SIZE,
    ) -> CrewPage:
        """One page of crews, newest change first.

        Args:
            page: From 1. Pages are counted anew with each request: a crew that is changed moves
                to the first page, and those that were before it move back.
            fields: Attributes wanted, of `CREW_FIELDS`; ``id`` and ``updated_at`` always come.
            ids: Only these crews.
            emp_code: Only the crew with exactly this 社員番号.
            size: Crews per page, 1 to 100.

        Raises:
            ValueError: an attribute that is not of `CREW_FIELDS`.
            SettingsError: ``AC-102`` token, ``AC-201`` sub-domain, ``AC-205`` parameters,
                ``AC-203`` permission, or our IP address is not allowed.
            WaitError: ``AC-502`` maintenance, ``AC-503`` one of the two limits is used up and its
                reset is too far away.
            FaultError: ``AC-301``/``AC-303``/``AC-501``.
        """
        wanted = [*dict.fromkeys(("id", "updated_at", *fields))]
        if unknown := set(wanted) - CREW_FIELDS:
            raise ValueError(f"not to be asked for: {sorted(unknown)}")
        params: dict[str, Any] = {
            "page": page,
            "per_page": size,
            "sort": SORT,
            "fields": ",".join(wanted),
        }
        if ids:
            params["id"] = ",".join(ids)
        if emp_code is not None:
            params["emp_code"] = emp_code
        answer = await self._http.request("GET", "/api/v1/crews", kind="read", params=params)
        return self._page(answer)

    def _page(self, answer: Answer) -> CrewPage:
        crews = answer.json()
        with contextlib.suppress(KeyError, ValueError):
            total = int(answer.headers["x-total-count"])
            links = httpx.Response(200, headers={"link": answer.headers.get("link", "")}).links
            if all(isinstance(c, dict) and c.get("id") and c.get("updated_at") for c in crews):
                return CrewPage(answer.body, crews, total, "next" not in links, answer.date)
        raise answer.unreadable()
