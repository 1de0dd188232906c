"""奉行クラウド: client, OAuth, item registry, validation. The emulator is ``.emulator``."""

from connectors.bugyo.client import IMPORT_BATCH, PROFILE, BugyoClient
from connectors.bugyo.environment import SERVICE, Environment, environment
from connectors.bugyo.filters import Filter, any_of, where
from connectors.bugyo.models import (
    OTHER_CUSTOMER_CODE,
    Customer,
    ImportOutcome,
    RowError,
    Tenant,
)
from connectors.bugyo.oauth import (
    GRANT_LIFE,
    OAuthApp,
    authorization_url,
    begin_consent,
    fixed_token,
)
from connectors.bugyo.registry import (
    Assumption,
    Item,
    Operation,
    Resource,
    assumptions,
    operation,
    resource,
)
from connectors.bugyo.validation import Validator, Violation, customer_validator

__all__ = [
    "GRANT_LIFE",
    "IMPORT_BATCH",
    "OTHER_CUSTOMER_CODE",
    "PROFILE",
    "SERVICE",
    "Assumption",
    "BugyoClient",
    "Customer",
    "Environment",
    "Filter",
    "ImportOutcome",
    "Item",
    "OAuthApp",
    "Operation",
    "Resource",
    "RowError",
    "Tenant",
    "Validator",
    "Violation",
    "any_of",
    "assumptions",
    "authorization_url",
    "begin_consent",
    "customer_validator",
    "environment",
    "fixed_token",
    "operation",
    "resource",
    "where",
]
