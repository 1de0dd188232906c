"""kintone: client, models, query conditions, ways to log in. The emulator is imported by itself."""

from connectors.kintone._host import PROFILE
from connectors.kintone.auth import SCOPES, OAuthClient, api_token
from connectors.kintone.client import KintoneClient
from connectors.kintone.models import RecordPage
from connectors.kintone.query import and_, any_of, compare, literal

__all__ = [
    "PROFILE",
    "SCOPES",
    "KintoneClient",
    "OAuthClient",
    "RecordPage",
    "and_",
    "any_of",
    "api_token",
    "compare",
    "literal",
]
