"""スマレジ: client and models. The emulator is imported by itself."""

from connectors.smaregi._facts import FACTS, SERVICE, Environment, environment
from connectors.smaregi.client import SmaregiClient, windows
from connectors.smaregi.models import Closing, Detail, Payment, Store, Transaction

__all__ = [
    "FACTS",
    "SERVICE",
    "Closing",
    "Detail",
    "Environment",
    "Payment",
    "SmaregiClient",
    "Store",
    "Transaction",
    "environment",
    "windows",
]
