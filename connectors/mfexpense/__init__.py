"""マネーフォワード クラウド経費: client, models, OAuth. The emulator is imported by itself."""

from connectors.mfexpense._host import HOST, PROFILE, SERVICE
from connectors.mfexpense.auth import GRANT_LIFE, SCOPES, OAuthClient
from connectors.mfexpense.client import (
    ExpenseClient,
    JournalPage,
    Unit,
    months_later,
    windows,
)
from connectors.mfexpense.models import CREDIT, DEBIT, Entry, Journal, Masters, Office, Side

__all__ = [
    "CREDIT",
    "DEBIT",
    "GRANT_LIFE",
    "HOST",
    "PROFILE",
    "SCOPES",
    "SERVICE",
    "Entry",
    "ExpenseClient",
    "Journal",
    "JournalPage",
    "Masters",
    "OAuthClient",
    "Office",
    "Side",
    "Unit",
    "months_later",
    "windows",
]
