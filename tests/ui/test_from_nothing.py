"""From an empty state to five entries of history, clicked as a clerk does; README.ja's first path.

Only three things happen outside the browser: the operator issues a registration number, the
outside world changes a customer at kintone, and it takes the consent back at 奉行クラウド.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from connectors.bugyo.emulator import (
    DEMO_CLIENT_ID,
    DEMO_CLIENT_SECRET,
    DEMO_OBCID,
    DEMO_PASSWORD,
    DEMO_PORTAL_URL,
    DEMO_SUBSCRIPTION_KEY,
    DEMO_TENANTS,
)
from connectors.kit.consent import CALLBACK
from deployments.samples import customers
from deployments.samples.kintone import DEMO_API_TOKEN
from deployments.stack.settings import child_environment

from .conftest import APP_CONNECT, Screen, browser, stack
from .test_japanese_frame import english, settled

PICTURES = os.environ.get("SCREENSHOTS", "")
"""Folder for the pictures of README.ja and the manual; empty = none are taken."""

NUMBER, PHONE = "AC-2026-0001", "03-1234-5678"
BUGYO, NAME = "obc", "tokuisaki"
SERVICE = "得意先 kintone→商奉行"
# The first forty of the sample customers have nothing wrong with them.
CONDITION = '請求先コード = "" and レコード番号 <= 40'


@pytest.fixture(scope="module")
def empty(session_dir: Path) -> Iterator[Screen]:
    """A stack without any connection, and a registration number that the operator issued."""
    folder = session_dir / "empty"
    folder.mkdir()
    with stack(folder, "--empty") as started:
        command = ["licence", "issue", NUMBER, "--phone", PHONE, "--company", "株式会社みほん"]
        subprocess.run(
            [*APP_CONNECT, *command, "--connector", "customers-from-kintone"],
            env=child_environment(started.environment),
            check=True,
            timeout=480,
        )
        yield started


class Clerk:
    """What a clerk does, in their words."""

    def __init__(self, screen: Screen, page: Page) -> None:
        self.screen, self.page = screen, page
        self.english: dict[str, list[str]] = {}
        self._known: set[str] = set()
        self._taken: list[str] = []

    def look(self, name: str = "", part: Locator | None = None) -> None:
        """Note what is English on the page; keep a picture of it, or of ``part``, as ``name``."""
        settled(self.page)
        if words := english(self.page, BUGYO, NAME):
            self.english[self.page.url] = words
        if name:
            self.keep(name, part)

    def keep(self, name: str, part: Locator | None = None) -> None:
        """Take a picture, when pictures are wanted; the first one of a name."""
        if PICTURES and name not in self._taken:
            self._taken.append(name)
            picture = Path(PICTURES) / f"first-{len(self._taken):02}-{name}.png"
            (part or self.page).screenshot(path=picture)

    def menu(self, name: str) -> None:
        """Open an entry of the menu on the left."""
        self.page.get_by_role("link", name=name, exact=True).first.click()

    def open_deployment(self, name: str) -> None:
        """連携一覧 → the connection or operation of this name."""
        self.menu("連携一覧")
        self.page.get_by_placeholder("連携を検索").fill(name)
        self.page.get_by_role("link", name=name, exact=True).first.click()
        expect(self.page.get_by_role("button", name="実行", exact=True)).to_be_visible()

    def press_run(self, how: str) -> None:
        """「実行」→「今すぐ実行」 or 「条件を指定して実行」."""
        self.page.get_by_role("button", name="実行", exact=True).click()
        self.page.get_by_role("menuitem", name=how).click()

    def ended(self) -> dict[str, Any]:
        """The run that was started last, when it has ended."""
        run = self.screen.finished_run(self._known)
        self._known.add(run["id"])
        return run

    def begun(self) -> dict[str, Any]:
        """The run that was started last, when it is at work."""
        return self.screen.begun_run(self._known)

    def open_run(self, run: dict[str, Any]) -> None:
        """処理履歴 → the run."""
        self.menu("処理履歴")
        self.page.locator(f"a[href*='{run['id']}']").first.click()
        expect(self.page.get_by_role("tab", name="結果・明細")).to_be_visible()

    def open_result(self, title: str) -> None:
        """結果・明細 of the run → the page of this title."""
        card = self.page.get_by_role("tabpanel").get_by_role("link", name=title).first
        for _ in range(20):
            self.page.get_by_role("tab", name="結果・明細").click()
            settled(self.page)
            if card.is_visible():
                break
            # The run has not come so far, and the page does not look again by itself.
            self.page.wait_for_timeout(1_000)
            self.page.reload()
        card.click()
        self.page.get_by_role("link", name="内容を開く").first.click()
        expect(self.page.get_by_role("tab", name="元のデータ")).to_be_visible()

    def fill(self, fields: dict[str, str], within: Any = None) -> None:
        """Put values into fields by their titles."""
        for title, value in fields.items():
            (within or self.page).get_by_label(title, exact=True).fill(value)

    def add(self, which: int, fields: dict[str, str], environment: str = "") -> None:
        """Press 「追加」 of a picker, fill in the dialog, 「作成」."""
        pickers = self.page.get_by_role("button").filter(has_text=re.compile("^追加$"))
        pickers.nth(which).click()
        dialog = self.page.get_by_role("dialog")
        expect(dialog.get_by_label("名前", exact=True)).to_be_visible()
        if environment:
            dialog.get_by_role("button", name="環境を選ぶ").click()
            self.page.get_by_role("option", name=environment).click()
        self.fill(fields, dialog)
        self.look(f"add-{which + 1}", dialog)
        dialog.get_by_role("button", name="作成").click()
        expect(dialog).to_have_count(0)
        chosen = self.page.get_by_role("button", name="接続情報を選ぶ").nth(which)
        expect(chosen).to_have_text(fields["名前"])
        # 「作成」 is not 「実行する」: the form behind says nothing about what is still empty.
        expect(self.page.get_by_text("入力してください")).to_have_count(0)

    def submit(self) -> None:
        """「実行する」, once; the page goes on to the run, or to the list."""
        form = self.page.url
        self.page.get_by_role("button", name="実行する").click()
        self.page.wait_for_url(lambda url: url != form)

    def permit(self) -> None:
        """The page of 許可のお願い → 奉行クラウド → OBCiD → 許可する."""
        self.page.get_by_role("link", name="奉行クラウド の画面を開く").click()
        self.fill({"奉行クラウドURL": DEMO_PORTAL_URL})
        self.page.get_by_role("button", name="次へ").click()
        self.fill({"OBCiD": DEMO_OBCID, "パスワード": DEMO_PASSWORD})
        self.page.get_by_role("button", name="ログイン").click()
        self.keep("permit")
        self.page.get_by_role("button", name="許可する", exact=True).click()
        expect(self.page.get_by_role("heading", name="許可を受け取りました")).to_be_visible()
        self.page.goto(f"{self.screen.url}/v2/runs")

    def run_now(self) -> dict[str, Any]:
        """連携一覧 → the connection → 今すぐ実行; the run, when it has ended."""
        self.open_deployment(f"{SERVICE} {NAME}")
        self.press_run("今すぐ実行")
        return self.ended()


@pytest.fixture
def clerk(empty: Screen, tmp_path: Path) -> Iterator[Clerk]:
    """A clerk who has logged in."""
    with browser(empty.url, tmp_path / "last.png") as page:
        yield Clerk(empty, page)


def change_a_customer(screen: Screen, number: int) -> None:
    """Somebody edits a customer at kintone."""
    values = {"備考": f"担当が変わりました（{number}）"}
    address = f"{screen.address('kintone')}/__emulator__/apps/{customers.APP_ID}/records/{number}"
    httpx.put(address, json={"values": values}, trust_env=False).raise_for_status()


def test_from_an_empty_state_to_five_entries_of_history(empty: Screen, clerk: Clerk) -> None:
    page = clerk.page
    clerk.menu("連携サービス")
    page.get_by_role("link", name="内容を開く").first.click()
    text = page.get_by_test_id("markdown-display")
    expect(text.get_by_text("接続はまだありません")).to_be_visible()

    # 新しい接続: both log-ins are made in dialogs of the same page.
    clerk.open_deployment(f"新しい接続: {SERVICE}")
    clerk.look("entrance")
    clerk.press_run("条件を指定して実行")
    clerk.add(
        0,
        {
            "名前": BUGYO,
            "サブスクリプションキー": DEMO_SUBSCRIPTION_KEY,
            "クライアントID（任意）": DEMO_CLIENT_ID,
            "クライアント秘密キー（任意）": DEMO_CLIENT_SECRET,
            "コールバックURL（任意）": empty.address("gateway") + CALLBACK,
            "APIのURL（任意）": empty.address("bugyo"),
            "ログイン画面のURL（任意）": empty.address("bugyo"),
        },
        environment="URLを指定",
    )
    clerk.add(
        1,
        {
            "名前": "kintone",
            "サブドメイン": "example",
            "APIトークン（任意）": DEMO_API_TOKEN,
            "接続先URL（試験用）（任意）": empty.address("kintone"),
        },
    )
    clerk.fill(
        {
            "登録番号": NUMBER,
            "電話番号": PHONE,
            "アプリID": customers.APP_ID,
            "絞り込み条件（任意）": CONDITION,
            "法人（任意）": DEMO_TENANTS[0].name,
            "接続の名前（任意）": NAME,
        }
    )
    page.get_by_label("登録番号", exact=True).scroll_into_view_if_needed()
    clerk.look("form")
    clerk.submit()

    # 許可する, and the run goes on by itself.
    clerk.open_run(clerk.begun())
    clerk.open_result("許可のお願い")
    clerk.look("consent")
    clerk.permit()
    made = clerk.ended()
    assert made["state_name"] == "SUCCESS", made["state"]["message"]
    clerk.open_run(made)
    clerk.look()
    clerk.open_result("新しい接続")
    clerk.look("made")
    page.get_by_role("link", name=f"{SERVICE} {NAME}", exact=True).click()
    expect(page.get_by_role("button", name="実行", exact=True)).to_be_visible()
    clerk.look("deployment")
    clerk.press_run("今すぐ実行")
    first = clerk.ended()
    assert (first["state_name"], "登録 3" in first["state"]["message"]) == ("SUCCESS", True), first
    clerk.open_run(first)
    clerk.look("run")

    # The consent is taken back: the error says what to do, and that can be done right here.
    change_a_customer(empty, 1)
    revoked = httpx.post(f"{empty.address('bugyo')}/__emulator__/revoke", json={}, trust_env=False)
    revoked.raise_for_status()
    failed = clerk.run_now()
    assert failed["state_name"] == "ERROR", failed["state"]["message"]
    clerk.open_run(failed)
    clerk.look()
    clerk.open_result(f"結果: {NAME}")
    expect(text.get_by_text("AC-101 連携トークンの失効")).to_be_visible()
    steps = text.locator("ol li")
    expect(steps).to_have_count(4)
    expect(steps.nth(0)).to_contain_text("「連携トークンの更新」を開き、「実行」→「今すぐ実行」")
    expect(steps.nth(1)).to_contain_text("「許可のお願い」を開き")
    expect(steps.nth(3)).to_contain_text("この接続を開き、「今すぐ実行」")
    clerk.look("error", text)

    clerk.open_deployment("連携トークンの更新")
    clerk.press_run("今すぐ実行")
    clerk.open_run(clerk.begun())
    clerk.open_result("許可のお願い")
    clerk.permit()
    renewed = clerk.ended()
    assert renewed["state_name"] == "SUCCESS", renewed["state"]["message"]
    clerk.open_run(renewed)
    told = re.compile(rf"有効期限: 「{BUGYO}」（奉行クラウド）は アクセストークン 2\d{{3}}-")
    expect(page.get_by_text(told).first).to_be_visible()
    clerk.look()

    again = clerk.run_now()
    assert again["state_name"] == "SUCCESS", again["state"]["message"]
    assert "更新 1" in again["state"]["message"]
    for _ in range(2):
        assert clerk.run_now()["state_name"] == "SUCCESS"

    # Kept current by the runs: nobody has started 連携サービス.
    clerk.menu("連携サービス")
    page.get_by_role("link", name="内容を開く").first.click()
    expect(page.get_by_role("heading", name="処理履歴（最近5件）")).to_be_visible()
    tables = page.get_by_role("table").all()
    services, history = ([row.inner_text() for row in t.get_by_role("row").all()] for t in tables)
    assert NAME in services[1]
    assert "毎日 5:00" in services[1]
    assert NUMBER in services[1]
    lines = [line.split("\t") for line in history[1:]]
    assert [line[0].strip() for line in lines] == [SERVICE] * 5
    assert [line[2].strip() for line in lines] == ["手動"] * 5
    assert [line[3].strip() for line in lines] == [*["SUCCESS"] * 3, "ERROR", "SUCCESS"]
    assert "AC-101 連携トークンの失効" in lines[3][5]
    expect(text.get_by_text("「連携トークンの更新」を開き").first).to_be_visible()
    clerk.look("services")
    assert clerk.english == {}
