"""スマレジ: client and models. The emulator is imported by itself."""

from connectors.smaregi._facts import SERVICE, Environment, environment
from connectors.smaregi.client import SmaregiClient, windows
from connectors.smaregi.models import Closing, Detail, Store, Transaction

__all__ = [
    "SERVICE",
    "Closing",
    "Detail",
    "Environment",
    "SmaregiClient",
    "Store",
    "Transaction",
    "environment",
    "windows",
]
