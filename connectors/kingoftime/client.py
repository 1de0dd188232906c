"""Reading KING OF TIME: employees, months, days. Nothing is paged: an answer holds everything."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any, Unpack

from pydantic import TypeAdapter, ValidationError

from connectors.kingoftime._errors import classifier
from connectors.kingoftime._facts import DAYS_PER_CALL, HOST, PROFILE, ROOT
from connectors.kingoftime.models import Employee
from connectors.kit import Answer, ServiceClient, Wiring, access_token, utc_now
from connectors.kit.days import portions

_EMPLOYEES = TypeAdapter(list[Employee])
_WITH_EMPLOYEE = {"additionalFields": "currentDateEmployee"}


class KingOfTimeClient(ServiceClient):
    """One company's KING OF TIME. An async context manager.

    Args:
        token: アクセストークン of the administration screen.
        wiring: See `connectors.kit.Wiring`. Another address (``endpoint``) has hours of its own:
            our clock says nothing about them, its answers do.

    Raises:
        SettingsError: ``AC-102``, the token is empty; ``AC-205``/``AC-207``, the address.
    """

    def __init__(self, token: str, **wiring: Unpack[Wiring]) -> None:
        profile = wiring.get("profile", PROFILE)
        classify = classifier(profile.closed, wiring.get("clock", utc_now))
        if wiring.get("endpoint"):
            wiring["profile"] = dataclasses.replace(profile, closed=())
        super().__init__(PROFILE, HOST, classify, access_token(token, PROFILE), **wiring)

    async def employees(self) -> dict[str, Employee]:
        """The employees as of today by their stable key, those who have left included.

        Raises:
            AppConnectError: as `monthly_workings`.
        """
        answer = await self._get("employees", {"includeResigner": "true"})
        with contextlib.suppress(ValidationError):
            found = _EMPLOYEES.validate_json(answer.body)
            return {each.key: each for each in found if each.key}
        raise answer.unreadable()

    async def monthly_workings(self, month: date) -> list[dict[str, Any]]:
        """月別勤怠 of every employee, as `MonthlyWorking` understands them.

        Args:
            month: Any day of the 年月. Which period that is, each record says (``startDate``).

        Returns:
            The records as they came, with ``currentDateEmployee``.

        Raises:
            SettingsError: ``AC-102`` the token, ``AC-203`` its rights or the address that may use
                it, ``AC-205`` a parameter.
            WaitError: ``AC-507`` closed at this hour (``until`` says when it opens), ``AC-502``
                maintenance, ``AC-503`` too many requests.
            FaultError: ``AC-301``/``AC-303``/``AC-501``.
        """
        return _list(await self._get(f"monthly-workings/{month:%Y-%m}", _WITH_EMPLOYEE))

    async def daily_workings(self, start: date, end: date) -> list[dict[str, Any]]:
        """日別勤怠 of every employee on the days from ``start`` to ``end``, both included.

        Args:
            start: First day.
            end: Last day; at most 62 days in all (see `slices`).

        Returns:
            The records as they came, day by day, with ``currentDateEmployee``.

        Raises:
            ValueError: more days than one call takes.
            AppConnectError: as `monthly_workings`.
        """
        if not 0 <= (end - start).days < DAYS_PER_CALL:
            raise ValueError(f"1 to {DAYS_PER_CALL} days, not {start} to {end}")
        span = {"start": start.isoformat(), "end": end.isoformat()}
        answer = await self._get("daily-workings", {**span, **_WITH_EMPLOYEE})
        found: list[dict[str, Any]] = []
        for day in _list(answer):
            workings = day.get("dailyWorkings", [])
            if not (isinstance(workings, list) and isinstance(day.get("date"), str)):
                raise answer.unreadable()
            found += [{**each, "date": day["date"]} for each in workings]
        return found

    async def _get(self, path: str, params: Mapping[str, str] | None = None) -> Answer:
        return await self._http.request("GET", f"{ROOT}/{path}", kind="read", params=params)


def slices(first: date, last: date) -> Iterator[tuple[date, date]]:
    """``first`` to ``last`` in pieces that one call takes, in order; none when there is no day."""
    return portions(first, last, lambda day: day + timedelta(days=DAYS_PER_CALL - 1))


def employee_of(record: Mapping[str, Any], known: Mapping[str, Employee]) -> Employee | None:
    """Whose record it is: as the record says, else by key among ``known``; ``None`` = unknown."""
    for name in ("currentDateEmployee", "currentEmployee"):
        with contextlib.suppress(ValidationError):
            if isinstance(record.get(name), Mapping):
                said = Employee.model_validate(record[name])
                if said.code:
                    return said
    return known.get(str(record.get("employeeKey", "")))


def _list(answer: Answer) -> list[dict[str, Any]]:
    said = answer.json()
    if not isinstance(said, list) or not all(isinstance(each, dict) for each in said):
        raise answer.unreadable()
    return said
