"""新しい接続, clicked as a clerk does: one page from the registration number to a first run."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from deployments.samples import PHONE

from .conftest import Screen

NAME = "from-the-browser"


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
    page.get_by_role("button", name="実行する").click()
    made = screen.finished_run(known)
    assert made["state_name"] == "SUCCESS", made["state"]["message"]

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
