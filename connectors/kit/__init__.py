"""What every connector is made of: HTTP, errors, paging, text, emulator base. No Prefect here."""

from connectors.kit._http import Answer, ApiClient, Authorizer, Classifier, Kind, StaticHeaders
from connectors.kit._masking import MASK, Masker
from connectors.kit._retry import (
    NEVER,
    POST,
    READ,
    Failure,
    RateLimit,
    RetryPolicy,
    ServiceProfile,
    Timeouts,
    parse_retry_after,
)
from connectors.kit.errors import (
    AppConnectError,
    CatalogueEntry,
    DataError,
    ErrorDetail,
    FaultError,
    ReauthorizeError,
    SettingsError,
    UnknownOutcomeError,
    WaitError,
    catalogue,
    error_for,
)

__all__ = [
    "MASK",
    "NEVER",
    "POST",
    "READ",
    "Answer",
    "ApiClient",
    "AppConnectError",
    "Authorizer",
    "CatalogueEntry",
    "Classifier",
    "DataError",
    "ErrorDetail",
    "Failure",
    "FaultError",
    "Kind",
    "Masker",
    "RateLimit",
    "ReauthorizeError",
    "RetryPolicy",
    "ServiceProfile",
    "SettingsError",
    "StaticHeaders",
    "Timeouts",
    "UnknownOutcomeError",
    "WaitError",
    "catalogue",
    "error_for",
    "parse_retry_after",
]
