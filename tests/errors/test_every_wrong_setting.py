"""Whatever is set wrong or is out of order ends in one error that a clerk can act on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr

from connectors.bugyo.emulator import DEMO_FOREIGN_TENANT
from connectors.kit import catalogue
from connectors.kit.emulator import Fault
from tests.errors.conftest import put_off

CLOSED = "http://127.0.0.1:9"
"""Nobody listens there (discard), and no emulator is ever given so low a port."""
FOR_EVER = {"path": "^/(?!__)", "times": None}
HTML = "<html><head><style>p{}</style></head><body><p>Hotel Wi-Fi &amp; more</p></body></html>"
NO_STORE = "postgresql://user:pass-9f2c-word@127.0.0.1:9/none"


@dataclass
class Wrong:
    """What is wrong, and what the person is told: the code, and words that have to be there."""

    code: str
    says: tuple[str, ...] = ()
    case: Mapping[str, Any] = field(default_factory=dict)
    in_history: bool = True


def wrong_secret(name: str) -> SecretStr:
    return SecretStr(f"cAnArY-wrong-{name}-9f+/=7")


def revoked(world: Any) -> Callable[[Any, dict[str, Any]], None]:
    def prepare(bugyo: Any, values: dict[str, Any]) -> None:
        world.oauth(bugyo, values)
        bugyo.accounts.revoke()

    return prepare


def not_our_client(world: Any) -> Callable[[Any, dict[str, Any]], None]:
    def prepare(bugyo: Any, values: dict[str, Any]) -> None:
        world.oauth(bugyo, values)
        values["client_secret"] = wrong_secret("client-secret")
        bugyo.accounts.expire_access()

    return prepare


def rewritten(settings: dict[str, Any]) -> Callable[[Any, Any], Awaitable[None]]:
    """The document as another version of the program left it: it no longer fits the block."""

    async def spoil(world: Any, case: Any) -> None:
        await world.rewrite(case.name, settings)

    return spoil


WRONG: dict[str, Wrong] = {
    # --- kintone ---
    "kintone-token": Wrong(
        "AC-102", ("GAIA_IA02",), {"kintone": {"api_token": wrong_secret("api-token")}}
    ),
    "kintone-subdomain": Wrong(
        "AC-201", ("nobody-here.cybozu.com",), {"kintone": {"subdomain": "nobody-here"}}
    ),
    "kintone-app": Wrong("AC-202", ("アプリID 99", "GAIA_AP01"), {"settings": {"app": "99"}}),
    "kintone-permission": Wrong(
        "AC-203",
        ("レコード閲覧", "CB_NO02"),
        {"kintone": {"api_token": SecretStr("cAnArY-no-view-token-9f+/=7")}},
    ),
    "kintone-field": Wrong(
        "AC-205", ("フィールド「ないコード」がありません",), {"settings": {"code": "ないコード"}}
    ),
    "kintone-condition": Wrong("AC-205", ("CB_VA01",), {"settings": {"condition": "得意先名 =="}}),
    "kintone-down": Wrong(
        "AC-501", ("kintone に接続", "127.0.0.1:9"), {"kintone": {"endpoint": CLOSED}}
    ),
    "kintone-maintenance": Wrong(
        "AC-502",
        ("kintone がメンテナンス中",),
        {"kintone_faults": (Fault(kind="maintenance", **FOR_EVER),)},
    ),
    "kintone-maintenance-200": Wrong(
        "AC-502",
        ("kintone がメンテナンス中",),
        {"kintone_faults": (Fault(kind="maintenance_200", **FOR_EVER),)},
    ),
    "kintone-429": Wrong(
        "AC-503", ("利用制限",), {"kintone_faults": (Fault(kind="status", status=429, **FOR_EVER),)}
    ),
    "kintone-html": Wrong(
        "AC-303",
        ("kintone の応答",),
        {"kintone_faults": (Fault(kind="replace_body", body=HTML, **FOR_EVER),)},
    ),
    # --- 奉行クラウド ---
    "bugyo-key": Wrong(
        "AC-103",
        ("subscription key",),
        {"bugyo": {"subscription_key": wrong_secret("subscription-key")}},
    ),
    "bugyo-token": Wrong("AC-101", ("許可",), {"bugyo": {"fixed_token": wrong_secret("fixed")}}),
    "bugyo-revoked": Wrong("AC-101", ("invalid_grant", "許可する"), {"prepare": revoked}),
    "bugyo-client-secret": Wrong("AC-102", ("invalid_client",), {"prepare": not_our_client}),
    "bugyo-foreign-tenant": Wrong(
        "AC-204", ("ほかの法人には何も",), {"bugyo": {"tenant_id": DEMO_FOREIGN_TENANT.id}}
    ),
    "bugyo-unknown-tenant": Wrong("AC-204", ("テナントID",), {"bugyo": {"tenant_id": "nowhere"}}),
    "bugyo-no-tenant": Wrong("AC-204", ("テナントIDが空",), {"bugyo": {"tenant_id": None}}),
    "bugyo-down": Wrong("AC-501", ("奉行クラウド に接続",), {"bugyo": {"api_url": CLOSED}}),
    "bugyo-maintenance": Wrong(
        "AC-502",
        ("奉行クラウド がメンテナンス中",),
        {"bugyo_faults": (Fault(kind="maintenance_200", **FOR_EVER),)},
    ),
    "bugyo-html": Wrong(
        "AC-303",
        ("メッセージ: Hotel Wi-Fi & more",),
        {"bugyo_faults": (Fault(kind="replace_body", body=HTML, **FOR_EVER),)},
    ),
    "bugyo-echo": Wrong(
        "AC-204",
        ("********",),
        {
            "bugyo_faults": (
                Fault(
                    kind="status",
                    status=403,
                    body='{"errors":[{"message":"no access for cAnArY-fixed-token-9f+/=7"}]}',
                    **FOR_EVER,
                ),
            )
        },
    ),
    # --- the connection itself ---
    "nobody": Wrong("AC-206", ("接続「nobody」",), {"deleted": True}),
    "block-value": Wrong(
        "AC-205",
        ("接続「block-value」の「設定 → アプリID」の値が正しくありません",),
        {"spoil": rewritten({"app": "one"})},
    ),
    "store-down": Wrong(
        "AC-701",
        ("送る前の記録ができなかったデータは、送っていません",),
        {"environment": {"APP_CONNECT_DATABASE_URL": NO_STORE}},
        in_history=False,
    ),
}


@pytest.fixture(scope="session")
def outcomes(world: Any) -> dict[str, Any]:
    """Every case, played once."""
    cases = []
    for name, wrong in WRONG.items():
        how = dict(wrong.case)
        if how.get("prepare") in (revoked, not_our_client):
            how["prepare"] = how["prepare"](world)
        cases.append(world.new_case(name, **how))
    played: dict[str, Any] = asyncio.run(world.play_all(cases))
    return played


@pytest.mark.parametrize("name", WRONG)
def test_the_person_reads_one_error(outcomes: dict[str, Any], name: str) -> None:
    """State message, artifact and history: code, title, what is safe, numbered steps."""
    wrong, found = WRONG[name], outcomes[name]
    entry = catalogue()[wrong.code]
    result = "待機中" if wrong.code == "AC-502" else "ERROR"
    if result == "ERROR":
        assert found.state.is_failed()
        assert found.state.name == "ERROR", found.message
        assert "［対処］1. " in found.message
    else:
        assert put_off(found.state), found.message
        assert "この処理を自動で続けます。" in found.message
    assert found.message.startswith(f"{wrong.code} {entry.title}: "), found.message
    for words in wrong.says:
        assert words in found.message, found.message
    assert "（）" not in found.message
    assert "（-）" not in found.message
    assert found.message.count("AC-") == 1

    assert f"## {result}" in found.result
    assert f"### [{wrong.code} {entry.title}](" in found.result
    for heading in ("**何が起きたか**", "**データの状態**", "**対処**"):
        assert heading in found.result
    assert f"    {len(entry.next)}. " in found.result
    assert "<" not in found.result

    if not wrong.in_history:
        assert found.row is None
        assert "pass-9f2c-word" not in found.message + found.result + found.logs
        return
    assert "この処理では何も登録していません。" in found.message
    assert "この処理では何も登録していません。" in found.result
    assert found.row.result == result
    assert found.row.ended_at is not None
    # The history is read in a terminal, too: it has no address of this installation's pages.
    words, _, link = found.message.partition(" 詳しくは ")
    assert found.row.message == words
    assert result != "ERROR" or link.endswith(f"/errors.html#{wrong.code.lower()}")
    assert found.row.error["code"] == wrong.code
    assert found.row.error["safe"].startswith("この処理では何も登録していません。")
    assert len(found.row.error["next"]) == len(entry.next)
    assert any(key.startswith("history") for key in found.artifacts)


@pytest.mark.parametrize("name", WRONG)
def test_nothing_was_posted(outcomes: dict[str, Any], name: str) -> None:
    assert outcomes[name].posted == 0


@pytest.mark.parametrize("name", WRONG)
def test_an_expected_error_logs_no_traceback(outcomes: dict[str, Any], name: str) -> None:
    logs = outcomes[name].logs
    assert "Finished in state" in logs
    assert "Traceback" not in logs
    assert not re.search(r'File "|\.py", line', logs)


def test_the_worker_logs_no_traceback(outcomes: dict[str, Any], warm_worker: Any) -> None:
    """The process, too: what Prefect does with a run that failed must not end in one."""
    text = warm_worker.log.read_text("utf-8", "replace")
    about = [text[m.start() : m.start() + 2000] for m in re.finditer("Traceback", text)]
    assert not [part for part in about if "AppConnectError" in part or "FailedRun" in part], about
