"""SmartHR: client and models. The emulator is imported by itself."""

from connectors.smarthr.client import CREW_FIELDS, PAGE_SIZE, PROFILE, SmartHRClient, host_of
from connectors.smarthr.models import Crew, CrewPage

__all__ = [
    "CREW_FIELDS",
    "PAGE_SIZE",
    "PROFILE",
    "Crew",
    "CrewPage",
    "SmartHRClient",
    "host_of",
]
