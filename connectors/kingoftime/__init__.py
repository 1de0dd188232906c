"""KING OF TIME: client, models, closed hours. The emulator is imported by itself."""

from connectors.kingoftime._facts import CLOSED_HOURS, DAYS_PER_CALL, PAST_YEARS, PROFILE
from connectors.kingoftime.client import KingOfTimeClient, employee_of, keyed, slices
from connectors.kingoftime.models import (
    CustomWorking,
    DailyWorking,
    Employee,
    HolidayWork,
    MonthlyWorking,
)

__all__ = [
    "CLOSED_HOURS",
    "DAYS_PER_CALL",
    "PAST_YEARS",
    "PROFILE",
    "CustomWorking",
    "DailyWorking",
    "Employee",
    "HolidayWork",
    "KingOfTimeClient",
    "MonthlyWorking",
    "employee_of",
    "keyed",
    "slices",
]
