"""Functions of the query language, such as ``TODAY()``, ``LAST_WEEK(MONDAY)``, ``LOGINUSER()``.

A day is a day in the *caller's* time zone; only ``NOW()`` is absolute (contract).
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from connectors.kintone.emulator_errors import KintoneError, bad_query
from connectors.kintone.emulator_query import Call

# kintone's weeks begin on Sunday.
_DAYS = ("SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY")
_STEP = {"THIS": 0, "LAST": -1, "NEXT": 1}
_ONE_DAY = {"YESTERDAY": -1, "TODAY": 0, "TOMORROW": 1}
USERS = ("LOGINUSER", "PRIMARY_ORGANIZATION")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, where and when: what functions depend on."""

    login: str
    organization: str
    zone: tzinfo
    now: datetime


def iso(moment: datetime) -> str:
    """A moment as kintone writes it: UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def user(call: Call, caller: Caller) -> str:
    """The code that a function about users stands for.

    Raises:
        KintoneError: ``GAIA_IQ25``, arguments where none belong.
    """
    if call.arguments:
        raise KintoneError("GAIA_IQ25", name=call.name)
    return caller.login if call.name == "LOGINUSER" else caller.organization


def span(call: Call, caller: Caller, *, dates: bool) -> tuple[str, str]:
    """First and last value that a function about time stands for.

    Args:
        call: The function.
        caller: Who asks.
        dates: Values of a DATE field are wanted, not those of a DATETIME field.

    Raises:
        KintoneError: ``GAIA_IQ23``, ``GAIA_IQ25`` or ``GAIA_IL08`` for bad arguments,
            ``CB_VA01`` for a function that does not exist.
    """
    if call.name == "NOW":
        if call.arguments:
            raise KintoneError("GAIA_IQ25", name=call.name)
        if dates:
            raise KintoneError("GAIA_IQ23", name=call.name)
        return iso(caller.now), iso(caller.now)
    first, last = _days(call, caller.now.astimezone(caller.zone).date())
    if dates:
        return first.isoformat(), last.isoformat()
    begin = datetime.combine(first, time.min, caller.zone)
    end = datetime.combine(last + timedelta(days=1), time.min, caller.zone)
    return iso(begin), iso(end - timedelta(seconds=1))


def _days(call: Call, today: date) -> tuple[date, date]:
    name, arguments = call.name, call.arguments
    if name in _ONE_DAY:
        if arguments:
            raise KintoneError("GAIA_IQ25", name=name)
        day = today + timedelta(days=_ONE_DAY[name])
        return day, day
    if name == "FROM_TODAY":
        day = _from_today(call, today)
        return day, day
    prefix, _, unit = name.partition("_")
    if prefix not in _STEP or unit not in ("WEEK", "MONTH", "YEAR"):
        raise bad_query()
    if len(arguments) > (0 if unit == "YEAR" else 1):
        raise KintoneError("GAIA_IQ25", name=name)
    step = _STEP[prefix]
    if unit == "YEAR":
        return date(today.year + step, 1, 1), date(today.year + step, 12, 31)
    return _week(call, today, step) if unit == "WEEK" else _month(call, today, step)


def _week(call: Call, today: date, step: int) -> tuple[date, date]:
    sunday = today - timedelta(days=today.isoweekday() % 7) + timedelta(weeks=step)
    if not call.arguments:
        return sunday, sunday + timedelta(days=6)
    if call.arguments[0] not in _DAYS:
        raise KintoneError("GAIA_IQ23", name=call.name)
    day = sunday + timedelta(days=_DAYS.index(call.arguments[0]))
    return day, day


def _month(call: Call, today: date, step: int) -> tuple[date, date]:
    first = _add_months(today.replace(day=1), step)
    last = first.replace(day=calendar.monthrange(first.year, first.month)[1])
    if not call.arguments:
        return first, last
    wanted = call.arguments[0]
    if wanted == "LAST":
        return last, last
    if not wanted.lstrip("-").isdigit():
        raise KintoneError("GAIA_IQ23", name=call.name)
    if not 1 <= int(wanted) <= 31:
        raise KintoneError("GAIA_IL08", name=call.name)
    day = first.replace(day=min(int(wanted), last.day))
    return day, day


def _from_today(call: Call, today: date) -> date:
    if len(call.arguments) != 2:
        raise KintoneError("GAIA_IQ25", name=call.name)
    amount, unit = call.arguments
    if not amount.lstrip("-").isdigit():
        raise KintoneError("GAIA_IQ23", name=call.name)
    count = int(amount)
    try:
        match unit:
            case "DAYS":
                return today + timedelta(days=count)
            case "WEEKS":
                return today + timedelta(weeks=count)
            case "MONTHS":
                return _add_months(today, count)
            case "YEARS":
                return _add_months(today, 12 * count)
            case _:
                raise KintoneError("GAIA_IQ23", name=call.name)
    except (OverflowError, ValueError):
        raise KintoneError("GAIA_IL08", name=call.name) from None


def _add_months(day: date, count: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + count, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))
