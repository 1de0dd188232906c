"""KING OF TIME: client, models, closed hours. The emulator is imported by itself."""

from connectors.kingoftime._facts import CLOSED_HOURS, PAST_YEARS, PROFILE
from connectors.kingoftime.client import KingOfTimeClient, employee_of, slices
from connectors.kingoftime.models import (
    DailyWorking,
    Employee,
    MonthlyWorking,
)

__all__ = [
    "CLOSED_HOURS",
    "PAST_YEARS",
    "PROFILE",
    "DailyWorking",
    "Employee",
    "KingOfTimeClient",
    "MonthlyWorking",
    "employee_of",
    "slices",
]
