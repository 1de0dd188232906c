"""kintone: client, models, query conditions, ways to log in. The emulator is imported by itself."""

from connectors.kintone._host import PROFILE, host_of
from connectors.kintone.auth import (
    MAX_TOKENS,
    SCOPES,
    OAuthClient,
    api_token,
    password,
)
from connectors.kintone.client import MAX_SIZE, KintoneClient
from connectors.kintone.models import FieldProperty, RecordPage
from connectors.kintone.query import and_, any_of, compare, field_code, literal

__all__ = [
    "MAX_SIZE",
    "MAX_TOKENS",
    "PROFILE",
    "SCOPES",
    "FieldProperty",
    "KintoneClient",
    "OAuthClient",
    "RecordPage",
    "and_",
    "any_of",
    "api_token",
    "compare",
    "field_code",
    "host_of",
    "literal",
    "password",
]
