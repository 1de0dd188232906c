"""Reading KING OF TIME: employees, months, days. Nothing is paged: an answer holds everything."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from connectors.kingoftime._errors import classifier
from connectors.kingoftime._facts import BASE_URL, DAYS_PER_CALL, PROFILE, ROOT
from connectors.kingoftime.models import Division, Employee
from connectors.kit import (
    MASK,
    Answer,
    ApiClient,
    AppConnectError,
    Failure,
    FaultError,
    Masker,
    ServiceClient,
    ServiceProfile,
    SettingsError,
    StaticHeaders,
    utc_now,
)

_EMPLOYEES = TypeAdapter(list[Employee])
_DIVISIONS = TypeAdapter(list[Division])
_TOKEN = re.compile(r"/tokens/[^/?\s\"]+")
_T = TypeVar("_T")


class _NoTokenInPath(logging.Filter):
    """httpx logs every URL, and one path of this API holds the token."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "/tokens/" in message:
            record.msg, record.args = _TOKEN.sub(f"/tokens/{MASK}", message), ()
        return True


logging.getLogger("httpx").addFilter(_NoTokenInPath())


class KingOfTimeClient(ServiceClient):
    """One company's KING OF TIME. An async context manager.

    Args:
        token: アクセストークン of the administration screen.
        endpoint: Another address of the API (emulator), e.g. ``http://127.0.0.1:8703``. It has
            hours of its own: our clock says nothing about them, its answers do.
        masker: Secrets that must not show in errors; the token is added.
        verify: TLS verification, as httpx takes it.
        profile: Time-outs, limits, closed hours.
        clock: Aware time, for the closed hours.

    Raises:
        SettingsError: ``AC-102``, the token is empty; ``AC-205``/``AC-207``, the address.
    """

    def __init__(
        self,
        token: str,
        *,
        endpoint: str | None = None,
        masker: Masker | None = None,
        verify: ssl.SSLContext | bool = True,
        profile: ServiceProfile = PROFILE,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._token = token.strip()
        self._service = profile.name
        if not self._token:
            raise SettingsError("AC-102", service=profile.name)
        masker = masker or Masker()
        masker.add(self._token)
        hours = profile.closed
        if endpoint:
            profile = dataclasses.replace(profile, closed=())
        self._http = ApiClient(
            profile,
            endpoint.rstrip("/") if endpoint else BASE_URL,
            classify=classifier(hours, clock),
            authorizer=StaticHeaders({"authorization": f"Bearer {self._token}"}),
            secrets=masker,
            verify=verify,
            clock=clock,
        )

    async def available(self) -> bool:
        """Whether the token may be used; its rights are seen only when they are needed.

        Raises:
            AppConnectError: as `monthly_workings`.
        """
        try:
            answer = await self._http.request(
                "GET", f"{ROOT}/tokens/{self._token}/available", kind="read"
            )
        except AppConnectError as error:
            # What broke on the way is not masked yet, and here the path itself is a secret.
            error.mask(self._http.masker.mask)
            raise
        return self._object(answer).get("available") is True

    async def company(self) -> Mapping[str, Any]:
        """The company: ``code``, ``name``, ``halfDayWorkingCount`` …

        Raises:
            AppConnectError: as `monthly_workings`.
        """
        return self._object(await self._get("company"))

    async def employees(self, day: date | None = None, *, resigned: bool = True) -> list[Employee]:
        """The employees as of ``day`` (today when left out).

        Args:
            day: From three years ago to a year ahead.
            resigned: Those who have left, too.

        Raises:
            AppConnectError: as `monthly_workings`.
        """
        params: dict[str, str] = {"includeResigner": str(resigned).lower()}
        if day is not None:
            params["date"] = day.isoformat()
        return self._valid(await self._get("employees", params), _EMPLOYEES)

    async def divisions(self) -> list[Division]:
        """The 所属.

        Raises:
            AppConnectError: as `monthly_workings`.
        """
        return self._valid(await self._get("divisions"), _DIVISIONS)

    async def monthly_workings(self, month: date, *, division: str = "") -> list[dict[str, Any]]:
        """月別勤怠 of every employee, as `MonthlyWorking` understands them.

        Args:
            month: Any day of the 年月. Which period that is, each record says (``startDate``).
            division: Code of one 所属; empty = all.

        Returns:
            The records as they came, with ``currentDateEmployee``.

        Raises:
            SettingsError: ``AC-102`` the token, ``AC-203`` its rights or the address that may use
                it, ``AC-205`` a parameter.
            WaitError: ``AC-507`` closed at this hour (``until`` says when it opens), ``AC-502``
                maintenance, ``AC-503`` too many requests.
            FaultError: ``AC-301``/``AC-303``/``AC-501``.
        """
        path = f"monthly-workings/{month:%Y-%m}"
        return self._list(await self._get(path, _working_params(division)))

    async def daily_workings(
        self, start: date, end: date, *, division: str = ""
    ) -> list[dict[str, Any]]:
        """日別勤怠 of every employee on the days from ``start`` to ``end``, both included.

        Args:
            start: First day.
            end: Last day; at most 62 days in all (see `slices`).
            division: Code of one 所属; empty = all.

        Returns:
            The records as they came, day by day, with ``currentDateEmployee``.

        Raises:
            ValueError: more days than one call takes.
            AppConnectError: as `monthly_workings`.
        """
        if not 0 <= (end - start).days < DAYS_PER_CALL:
            raise ValueError(f"1 to {DAYS_PER_CALL} days, not {start} to {end}")
        span = {"start": start.isoformat(), "end": end.isoformat()}
        answer = await self._get("daily-workings", {**span, **_working_params(division)})
        found: list[dict[str, Any]] = []
        for day in self._list(answer):
            workings = day.get("dailyWorkings", [])
            if not (isinstance(workings, list) and isinstance(day.get("date"), str)):
                raise self._unreadable(answer)
            found += [{**each, "date": day["date"]} for each in workings]
        return found

    async def _get(self, path: str, params: Mapping[str, str] | None = None) -> Answer:
        return await self._http.request("GET", f"{ROOT}/{path}", kind="read", params=params)

    def _object(self, answer: Answer) -> dict[str, Any]:
        said = answer.json()
        if not isinstance(said, dict):
            raise self._unreadable(answer)
        return said

    def _list(self, answer: Answer) -> list[dict[str, Any]]:
        said = answer.json()
        if not isinstance(said, list) or not all(isinstance(each, dict) for each in said):
            raise self._unreadable(answer)
        return said

    def _valid(self, answer: Answer, adapter: TypeAdapter[_T]) -> _T:
        with contextlib.suppress(ValidationError):
            return adapter.validate_json(answer.body)
        raise self._unreadable(answer)

    def _unreadable(self, answer: Answer) -> FaultError:
        return FaultError(
            "AC-303", service=self._service, detail=answer.detail, failure=Failure.UNREADABLE
        )


def slices(first: date, last: date, days: int = DAYS_PER_CALL) -> Iterator[tuple[date, date]]:
    """``first`` to ``last`` in pieces that one call takes, in order; none when there is no day."""
    while first <= last:
        end = min(last, first + timedelta(days=days - 1))
        yield first, end
        first = end + timedelta(days=1)


def _working_params(division: str) -> dict[str, str]:
    params = {"additionalFields": "currentDateEmployee"}
    return {**params, "division": division} if division else params


def employee_of(record: Mapping[str, Any], known: Mapping[str, Employee]) -> Employee | None:
    """Whose record it is: as the record says, else by key among ``known``; ``None`` = unknown."""
    for name in ("currentDateEmployee", "currentEmployee"):
        with contextlib.suppress(ValidationError):
            if isinstance(record.get(name), Mapping):
                said = Employee.model_validate(record[name])
                if said.code:
                    return said
    return known.get(str(record.get("employeeKey", "")))


def keyed(employees: Sequence[Employee]) -> dict[str, Employee]:
    """Employees by their stable key."""
    return {each.key: each for each in employees if each.key}
