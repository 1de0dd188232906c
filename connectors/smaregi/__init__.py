"""スマレジ: client and models. The emulator is imported by itself."""

from connectors.smaregi._facts import SERVICE, Environment, environment
from connectors.smaregi.client import SmaregiClient, windows
from connectors.smaregi.models import Closing, Store, Transaction
from connectors.smaregi.store_day import CASH, CREDIT, StoreDay, Taxed, Till, key_of, parse_key

__all__ = [
    "CASH",
    "CREDIT",
    "SERVICE",
    "Closing",
    "Environment",
    "SmaregiClient",
    "Store",
    "StoreDay",
    "Taxed",
    "Till",
    "Transaction",
    "environment",
    "key_of",
    "parse_key",
    "windows",
]
