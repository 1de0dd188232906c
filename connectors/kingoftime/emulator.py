"""KING OF TIME on loopback: the part of its API that we read, strict and stateful.

Facts and quirks are the contract's (partners.md 6 and 13): null is left out, two shapes of errors,
62 days a call, three years back and one ahead, closed hours by its own clock. Routes below
``/__emulator__/`` change its state from another process.
"""

from __future__ import annotations

import calendar
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connectors.kingoftime import emulator_errors as wrong
from connectors.kingoftime._facts import (
    CLOSED_HOURS,
    DAYS_PER_CALL,
    FUTURE_YEARS,
    PAST_YEARS,
    REQUESTS,
    ROOT,
)
from connectors.kingoftime.emulator_gate import Gate
from connectors.kit import ClosedHours
from connectors.kit.emulator import CONTROL, Emulator

TOKYO = ZoneInfo("Asia/Tokyo")
RESOURCES = frozenset({"employees", "divisions", "company", "daily-workings", "monthly-workings"})
"""Resources that a token can have the right to read."""

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
_EXTRA = {
    "employees": {
        *("lastNamePhonetics", "firstNamePhonetics", "hiredDate", "birthDate", "resignationDate"),
        *("emailAddresses", "allDayRegardingWorkInMinute"),
    },
    "daily-workings": {"currentDateEmployee"},
    "monthly-workings": {
        *("weeklyWork", "variationalWork", "isConfirmation", "currentDateEmployee"),
    },
}
_OF_EMPLOYEE = (
    *("divisionCode", "divisionName", "gender", "typeCode", "typeName", "code"),
    *("lastName", "firstName", "employeeGroups"),
)


class KingOfTimeEmulator(Emulator):
    """One company.

    Args:
        clock: The service's own clock, aware.
        closed: When it is closed.

    Attributes:
        tokens: Token -> the resources that it may read.
        employees: By key, as the API shows them; ``None`` = null, which is left out.
        monthly: ``YYYY-MM`` -> 月別勤怠 by employee key.
        daily: Day -> 日別勤怠 by employee key.
        shape: Which of the two shapes errors have.
        closed_code: The code that is answered in the closed hours.
        allowed_ips: Addresses that may ask; empty = all.
        limit: Requests in five minutes.
        asked: When the requests of the last five minutes came, in seconds.
        employee_member: What ``currentDateEmployee`` is called in answers.
    """

    name = "kingoftime"

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        closed: Iterable[ClosedHours] = CLOSED_HOURS,
    ) -> None:
        super().__init__()
        self.clock = clock
        self.closed = tuple(closed)
        self.tokens: dict[str, frozenset[str]] = {}
        self.company: dict[str, Any] = {"code": "sample", "name": "サンプル株式会社"}
        self.divisions: list[dict[str, Any]] = []
        self.employees: dict[str, dict[str, Any]] = {}
        self.monthly: dict[str, dict[str, dict[str, Any]]] = {}
        self.daily: dict[date, dict[str, dict[str, Any]]] = {}
        self.shape: wrong.Shape = "list"
        self.closed_code = 105
        self.allowed_ips: frozenset[str] = frozenset()
        self.limit = REQUESTS
        self.asked: deque[float] = deque()
        self.employee_member = "currentDateEmployee"
        self.api.add_middleware(Gate, emulator=self)
        one_day = f"{ROOT}/daily-workings/{{day}}"
        self.api.router.routes += [
            Route(f"{ROOT}/tokens/{{token}}/available", self._route(self._available)),
            Route(f"{ROOT}/company", self._route(self._company)),
            Route(f"{ROOT}/divisions", self._route(self._divisions)),
            Route(f"{ROOT}/employees", self._route(self._employees)),
            Route(f"{ROOT}/employees/{{code}}", self._route(self._employee)),
            Route(f"{ROOT}/monthly-workings/{{month}}", self._route(self._monthly)),
            Route(f"{ROOT}/daily-workings", self._route(self._daily)),
            Route(one_day, self._route(self._one_day)),
            Route(f"{CONTROL}/clock", self._set_clock, methods=["POST"]),
            Route(f"{CONTROL}/settings", self._set, methods=["POST"]),
            Route(f"{CONTROL}/monthly/{{month}}", self._change_month, methods=["POST"]),
            Route("/{path:path}", self._route(_nothing)),
        ]

    # -- for tests and the stack ---------------------------------------------------------------

    def add_token(self, token: str, rights: Collection[str] = RESOURCES) -> None:
        """Issue a token that may read these resources."""
        self.tokens[token] = frozenset(rights)

    def add_employee(self, key: str, code: str, **values: Any) -> None:
        """Add an employee, or replace one with this key; ``values`` as the API names them."""
        self.employees[key] = {"code": code, "key": key, **values}

    def add_monthly(self, month: str, key: str, **values: Any) -> None:
        """Set the 月別勤怠 of one employee; what is not given is null, the period a whole month."""
        year, number = int(month[:4]), int(month[5:])
        following = date(year + number // 12, number % 12 + 1, 1)
        known = {
            "year": year,
            "month": number,
            "employeeKey": key,
            "startDate": f"{month}-01",
            "endDate": (following - timedelta(days=1)).isoformat(),
            "isClosing": False,
        }
        self.monthly.setdefault(month, {})[key] = {**known, **values}

    def add_daily(self, day: date, key: str, **values: Any) -> None:
        """Set the 日別勤怠 of one employee on one day."""
        known = {"date": day.isoformat(), "employeeKey": key, "isClosing": False, "isError": False}
        self.daily.setdefault(day, {})[key] = {**known, **values}

    def at(self, moment: datetime) -> None:
        """Stop the service's clock at ``moment``."""
        self.clock = lambda: moment

    def books(self) -> dict[str, Any]:
        """Counts: employees, 月別勤怠 and closed ones by month, 日別勤怠."""
        return {
            "employees": len(self.employees),
            "monthly": {
                month: {
                    "records": len(found),
                    "closed": sum(bool(each.get("isClosing")) for each in found.values()),
                }
                for month, found in self.monthly.items()
            },
            "daily": sum(map(len, self.daily.values())),
        }

    # -- the API -------------------------------------------------------------------------------

    def _route(self, call: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def serve(request: Request) -> Response:
            try:
                return JSONResponse(_without_null(call(request)))
            except wrong.KingOfTimeError as error:
                return error.response(self.shape)

        return serve

    def _available(self, request: Request) -> Any:
        _allow(request)
        return {"available": request.path_params["token"] in self.tokens}

    def _company(self, request: Request) -> Any:
        _allow(request)
        return self.company

    def _divisions(self, request: Request) -> Any:
        _allow(request)
        return self.divisions

    def _employees(self, request: Request) -> Any:
        params = _allow(request, "date", "includeResigner", "additionalFields")
        extra = _additional(params, "employees")
        day = self._day(params["date"]) if "date" in params else self._today()
        gone = params.get("includeResigner", "false")
        if gone not in ("true", "false"):
            raise wrong.bad_request("includeResigner must be true or false.")
        return [
            _shown(each, {*_OF_EMPLOYEE, "key", *extra})
            for each in self.employees.values()
            if gone == "true" or (each.get("resignationDate") or "9999") >= day.isoformat()
        ]

    def _employee(self, request: Request) -> Any:
        extra = _additional(_allow(request, "date", "additionalFields"), "employees")
        for each in self.employees.values():
            if each["code"] == request.path_params["code"]:
                return _shown(each, {*_OF_EMPLOYEE, "key", *extra})
        raise wrong.not_found()

    def _monthly(self, request: Request) -> Any:
        params = _allow(request, "division", "additionalFields")
        month = request.path_params["month"]
        if not _MONTH.fullmatch(month):
            raise wrong.bad_request("The month must be YYYY-MM.")
        self._day(f"{month}-01")
        return self._workings(self.monthly.get(month, {}), params, "monthly-workings")

    def _daily(self, request: Request) -> Any:
        names = ("division", "ondivision", "start", "end", "additionalFields")
        params = _allow(request, *names)
        if ("start" in params) != ("end" in params):
            raise wrong.bad_request("start and end must be given together.")
        start = self._day(params["start"]) if "start" in params else self._today()
        end = self._day(params["end"]) if "end" in params else start
        if not 0 <= (end - start).days < DAYS_PER_CALL:
            raise wrong.bad_request(f"The period must be 1 to {DAYS_PER_CALL} days.")
        return [
            {"date": day.isoformat(), "dailyWorkings": self._of_day(day, params)}
            for day in (start + timedelta(days=n) for n in range((end - start).days + 1))
        ]

    def _one_day(self, request: Request) -> Any:
        params = _allow(request, "division", "ondivision", "additionalFields")
        day = self._day(request.path_params["day"])
        return {"date": day.isoformat(), "dailyWorkings": self._of_day(day, params)}

    def _of_day(self, day: date, params: Mapping[str, str]) -> list[dict[str, Any]]:
        return self._workings(self.daily.get(day, {}), params, "daily-workings")

    def _workings(
        self, found: Mapping[str, Mapping[str, Any]], params: Mapping[str, str], resource: str
    ) -> list[dict[str, Any]]:
        extra = _additional(params, resource)
        shown = []
        for key, values in found.items():
            employee = self.employees.get(key, {})
            if params.get("division") not in (None, employee.get("divisionCode")):
                continue
            said = {k: v for k, v in values.items() if k not in _EXTRA[resource] or k in extra}
            if "currentDateEmployee" in extra and employee:
                said[self.employee_member] = _shown(employee, _OF_EMPLOYEE)
            shown.append(said)
        return shown

    def _today(self) -> date:
        return self.clock().astimezone(TOKYO).date()

    def _day(self, text: str) -> date:
        """A date of a request, within what the service keeps."""
        try:
            day = date.fromisoformat(text)
        except ValueError:
            raise wrong.bad_request("A date must be YYYY-MM-DD.") from None
        today = self._today()
        if not _years(today, -PAST_YEARS) <= day <= _years(today, FUTURE_YEARS):
            raise wrong.bad_request("The date is out of range.")
        return day

    # -- control -------------------------------------------------------------------------------

    async def _set_clock(self, request: Request) -> Response:
        """``{"time": "09:00"}`` stops the clock at this time of today, ``{}`` lets it go on."""
        said = (await request.json()).get("time")
        now = datetime.now(UTC)
        if said is None:
            self.clock = lambda: datetime.now(UTC)
        else:
            day = now.astimezone(TOKYO).date()
            self.at(datetime.combine(day, time.fromisoformat(said), TOKYO))
        return JSONResponse({"now": self.clock().isoformat()})

    async def _set(self, request: Request) -> Response:
        """Any of ``shape``, ``closed_code``, ``limit``, ``allowed_ips``, ``closed`` (yes or no)."""
        for name, value in (await request.json()).items():
            if name == "closed":
                self.closed = CLOSED_HOURS if value else ()
            elif name == "allowed_ips":
                self.allowed_ips = frozenset(value)
            elif name in ("shape", "closed_code", "limit"):
                setattr(self, name, value)
            else:
                return JSONResponse({"unknown": name}, 400)
        return JSONResponse({})

    async def _change_month(self, request: Request) -> Response:
        """``{"code": …, "values": {…}}`` changes the 月別勤怠 of one; without ``code``, of all."""
        said = await request.json()
        found = self.monthly.get(request.path_params["month"], {})
        for key, values in found.items():
            if said.get("code") in (None, self.employees.get(key, {}).get("code")):
                values.update(said["values"])
        return JSONResponse({"records": len(found)})


def _nothing(_: Request) -> Any:
    raise wrong.not_found()


def _allow(request: Request, *names: str) -> dict[str, str]:
    """The query, of which only ``names`` may be there."""
    for name in request.query_params:
        if name not in names:
            raise wrong.bad_request(f"Unknown parameter: {name}")
    return dict(request.query_params)


def _additional(params: Mapping[str, str], resource: str) -> set[str]:
    """``additionalFields``: a list with commas, of names that this resource knows."""
    asked = {name for name in params.get("additionalFields", "").split(",") if name}
    if unknown := sorted(asked - _EXTRA[resource]):
        raise wrong.bad_request(f"Unknown additionalFields: {','.join(unknown)}")
    return asked


def _shown(employee: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in employee.items() if name in names}


def _years(day: date, years: int) -> date:
    """The same day of another year; 29 February becomes the 28th."""
    last = calendar.monthrange(day.year + years, day.month)[1]
    return day.replace(year=day.year + years, day=min(day.day, last))


def _without_null(value: Any) -> Any:
    """A property whose value is null is not sent."""
    if isinstance(value, Mapping):
        return {k: _without_null(v) for k, v in value.items() if v is not None}
    return [_without_null(each) for each in value] if isinstance(value, list) else value
