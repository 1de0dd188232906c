"""The store: our own books in PostgreSQL, beside Prefect's. See `tables` for what it holds."""

from flows.engine.store.database import Store, migrate, to_its_end
from flows.engine.store.relaxed import relax
from flows.engine.store.tables import (
    CodeMapping,
    ConnectionRow,
    CorrectionRow,
    LedgerRow,
    LicenceAttemptRow,
    LicenceRow,
    RejectRow,
    RunRow,
    StagedPage,
    UnmappedCode,
)

__all__ = [
    "CodeMapping",
    "ConnectionRow",
    "CorrectionRow",
    "LedgerRow",
    "LicenceAttemptRow",
    "LicenceRow",
    "RejectRow",
    "RunRow",
    "StagedPage",
    "Store",
    "UnmappedCode",
    "migrate",
    "relax",
    "to_its_end",
]
