"""新しい接続, clicked as a clerk does: one page from the registration number to a first run."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from deployments.samples import PHONE
from deployments.samples.kintone import DEMO_API_TOKEN

from .conftest import Screen

NAME, OTHER = "from-the-browser", "another-log-in"


def pick(page: Page, name: str) -> None:
    """Choose a block in the first picker that is still empty, and see it chosen."""
    # By what is read on it: its label for screen readers stays the same when one is chosen.
    empty = page.get_by_role("button").filter(has_text="接続情報を選ぶ")
    left = empty.count()
    empty.first.click()
    page.get_by_role("option", name=name, exact=True).click()
    expect(empty).to_have_count(left - 1)


def test_a_connection_is_made_on_one_page_and_runs(screen: Screen, page: Page) -> None:
    known = {run["id"] for run in screen.runs()}
    (entrance,) = [
        d for d in screen.find("deployments") if d["name"] == "新しい接続: 得意先 kintone→商奉行"
    ]
    page.goto(f"{screen.url}/v2/deployments/deployment/{entrance['id']}/run")
    page.get_by_label("登録番号", exact=True).fill("ＡＣ－００００－０００１")
    page.get_by_label("電話番号", exact=True).fill("+81 " + PHONE.removeprefix("0"))
    expect(page.get_by_role("button", name="接続情報を選ぶ")).to_have_count(2)
    for _ in range(2):
        pick(page, "sample")
    page.get_by_label("アプリID", exact=True).fill("1")
    page.get_by_label("接続の名前（任意）").fill(NAME)
    # Everything is there, and then another log-in is added: its 「作成」 creates it and no more.
    page.get_by_role("button").filter(has_text=re.compile("^追加$")).nth(1).click()
    dialog = page.get_by_role("dialog")
    for title, value in {
        "名前": OTHER,
        "サブドメイン": "example",
        "APIトークン（任意）": DEMO_API_TOKEN,
        "接続先URL（試験用）（任意）": screen.address("kintone"),
    }.items():
        dialog.get_by_label(title, exact=True).fill(value)
    dialog.get_by_role("button", name="作成").click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button").filter(has_text=OTHER)).to_be_visible()
    page.get_by_role("button", name="実行する").click()
    made = screen.finished_run(known)
    assert made["state_name"] == "SUCCESS", made["state"]["message"]
    assert len({run["id"] for run in screen.runs()} - known) == 1, "one 「実行する」, one run"
    (other,) = [d for d in screen.find("block_documents") if d["name"] == OTHER]
    chosen = made["parameters"]["partner"]["$ref"]["block_document_id"]
    assert chosen == other["id"], "the one that was added last"

    (deployment,) = [d for d in screen.find("deployments") if d["name"].endswith(f" {NAME}")]
    (schedule,) = deployment["schedules"]
    assert schedule["schedule"]["cron"] == "0 5 * * *"
    page.goto(f"{screen.url}/v2/deployments/deployment/{deployment['id']}")
    page.get_by_role("button", name="実行", exact=True).click()
    page.get_by_role("menuitem", name="今すぐ実行").click()
    run = screen.finished_run(known | {made["id"]})
    assert run["state_name"] == "一部エラー"
    page.goto(f"{screen.url}/v2/runs")
    expect(page.get_by_role("link", name=run["name"]).first).to_be_visible()
