"""One emulator per test, served over real HTTP, with an app of customers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from connectors.kintone import PROFILE, KintoneClient, api_token
from connectors.kintone.emulator import KintoneEmulator
from connectors.kit import POST, READ
from tests.connectors.conftest import Stage

VIEW = "viewer-token-0001"
FULL = "writer-token-0002"
NONE = "nobody-token-0003"
OTHER = "other-app-token-4"

# The same policies with back-offs that a test can wait for.
QUICK = dataclasses.replace(
    PROFILE,
    read=dataclasses.replace(READ, base=0.002),
    post=dataclasses.replace(POST, base=0.002),
)

FIELDS: dict[str, dict[str, Any]] = {
    "得意先コード": {"type": "SINGLE_LINE_TEXT", "unique": True, "maxLength": "13"},
    "得意先名": {"type": "SINGLE_LINE_TEXT", "required": True},
    "備考": {"type": "MULTI_LINE_TEXT"},
    "金額": {"type": "NUMBER"},
    "契約日": {"type": "DATE"},
    "訪問": {"type": "DATETIME"},
    "区分": {"type": "DROP_DOWN", "options": {"A": {"label": "A"}, "B": {"label": "B"}}},
    "印": {"type": "CHECK_BOX", "options": {"重要": {"label": "重要"}, "新規": {"label": "新規"}}},
    "担当": {"type": "USER_SELECT"},
    "明細": {
        "type": "SUBTABLE",
        "fields": {"品名": {"type": "SINGLE_LINE_TEXT"}, "数量": {"type": "NUMBER"}},
    },
}


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 3, 4, 56, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def emulator(clock: Clock) -> KintoneEmulator:
    kintone = KintoneEmulator(clock=clock, concurrency=20)
    tokens = {VIEW: {"view"}, FULL: {"view", "add", "edit", "delete"}, NONE: set()}
    kintone.add_app("1", "顧客管理", FIELDS, tokens=tokens, users={"sato": {"view"}})
    kintone.add_app("2", "商品", {"型番": {"type": "SINGLE_LINE_TEXT"}}, tokens={OTHER: {"view"}})
    kintone.access.users |= {"sato": "sato-password", "suzuki": "suzuki-password"}
    return kintone


@pytest.fixture
def url(emulator: KintoneEmulator, stage: tuple[Stage, str]) -> str:
    shown, base = stage
    shown.current = emulator
    return base


@pytest.fixture
def client(url: str) -> Callable[..., KintoneClient]:
    def make(token: str = VIEW, **more: Any) -> KintoneClient:
        options: dict[str, Any] = {
            "authorizer": api_token(token),
            "endpoint": url,
            "profile": QUICK,
        }
        return KintoneClient(more.pop("subdomain", "example"), **(options | more))

    return make


@pytest.fixture
def api(url: str) -> Iterator[httpx.Client]:
    """A bare client with a token that may do everything: what the wire says."""
    with httpx.Client(base_url=f"{url}/k/v1", headers={"X-Cybozu-API-Token": FULL}) as bare:
        yield bare
