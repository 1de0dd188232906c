"""マネーフォワード クラウド経費: client, models, OAuth. The emulator is imported by itself."""

from connectors.mfexpense._host import PROFILE, SERVICE
from connectors.mfexpense.auth import OAuthClient
from connectors.mfexpense.client import (
    ExpenseClient,
    Unit,
    windows,
)
from connectors.mfexpense.models import CREDIT, DEBIT, Entry, Journal, Masters, Side

__all__ = [
    "CREDIT",
    "DEBIT",
    "PROFILE",
    "SERVICE",
    "Entry",
    "ExpenseClient",
    "Journal",
    "Masters",
    "OAuthClient",
    "Side",
    "Unit",
    "windows",
]
