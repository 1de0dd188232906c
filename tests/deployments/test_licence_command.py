"""``app-connect licence``, as an operator types it, against a real store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from connectors.kit import AppConnectError
from deployments.cli.licence import licence
from flows.engine.store import Store, migrate
from flows.engine.store.database import URL_VARIABLE

ISSUE = ("issue", "ac-7777-0001", "--phone", "03-1234-5678", "--company", "株式会社ためし")


@pytest.fixture
def call(
    fresh_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    url = fresh_database()
    migrate(url)
    monkeypatch.setenv(URL_VARIABLE, url)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # nobody is asked

    def run(*arguments: str, status: int = 0) -> str:
        done = CliRunner().invoke(licence, list(arguments), env={"COLUMNS": "200"})
        if isinstance(done.exception, AppConnectError):
            assert status == 1
            return str(done.exception)
        assert done.exit_code == status, done.output
        return done.output

    yield run
    Store(url).close()


def test_issue_list_check_revoke(call: Callable[..., str]) -> None:
    assert "発行しました: AC-7777-0001" in call(*ISSUE)
    assert "発行済みです: AC-7777-0001" in call(*ISSUE), "again and again is fine"
    assert "AC-113" in call(*ISSUE, "--until", "2099-03-31", status=1)
    assert "発行しました" in call(*ISSUE, "--until", "2099-03-31", "--replace")
    assert "AC-205" in call(*ISSUE, "--connector", "nobody", status=1)
    made = json.loads(call("issue", *ISSUE[2:], "--connector", "customers-from-kintone", "--json"))
    assert made["コネクタ"] == "customers-from-kintone"

    listed = json.loads(call("list", "--json"))
    assert {"登録番号": "AC-7777-0001", "終了日": "2099-03-31", "状態": "有効"}.items() <= next(
        each for each in listed if each["登録番号"] == "AC-7777-0001"
    ).items()
    assert "登録番号（2 件）" in call("list")
    assert {each["電話番号"] for each in listed} == {"03-1234-5678"}

    assert "確認できました" in call("check", "AC-7777-0001", "--phone", "+81 3 1234 5678")
    said = json.loads(call("check", "AC-7777-0001", "--phone", "1", "--json", status=1))
    assert said["ok"] is False
    assert said["error"]["code"] == "AC-107"

    # Locked by wrong ones: the operator sees it, and lets it be tried at once.
    right = ("check", "AC-7777-0001", "--phone", "０３（１２３４）５６７８")
    for _ in range(6):
        call("check", "AC-7777-0001", "--phone", "1", status=1)
    locked = call(*right, status=1)
    assert "AC-112" in locked
    assert "app-connect licence unlock" in locked
    states = [each["状態"] for each in json.loads(call("list", "--json"))]
    assert sum("まで確認を停止" in state for state in states) == 1
    assert "解除しました: AC-7777-0001（電話番号 03-1234-5678）" in call("unlock", "ac-7777-0001")
    assert "確認できました" in call(*right)
    assert "AC-113" in call("unlock", "AC-0000-9999", status=1)
    for _ in range(6):
        call("check", "AC-7777-0001", "--phone", "1", status=1)
    call(*ISSUE, "--until", "2099-03-31", "--replace")
    assert "確認できました" in call(*right), "issued anew, it is tried anew"

    with Store().begin() as db:
        db.execute(
            text(
                "INSERT INTO connection (name, connector, fence, licence) "
                "VALUES ('shop', 'customers-from-kintone', 0, 'AC-7777-0001')"
            )
        )
    assert "次の処理から止まる接続: shop" in call("revoke", "AC-7777-0001")
    assert json.loads(call("revoke", "AC-7777-0001", "--json"))["状態"] == "契約の取り消し"
    assert "AC-111" in call("check", "AC-7777-0001", "--phone", "03-1234-5678", status=1)
    assert "AC-113" in call("revoke", "AC-0000-9999", status=1)
