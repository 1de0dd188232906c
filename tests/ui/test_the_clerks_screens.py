"""What the clerk does in the Prefect UI, in a real browser."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from .conftest import Screen
from .test_japanese_frame import english


def quick_run(screen: Screen, page: Page) -> dict[str, str]:
    known = {run["id"] for run in screen.runs()}
    (deployment,) = [d for d in screen.find("deployments") if d["name"].endswith(" sample")]
    page.goto(f"{screen.url}/v2/deployments/deployment/{deployment['id']}")
    page.get_by_role("button", name="実行", exact=True).click()
    page.get_by_role("menuitem", name="今すぐ実行").click()
    return screen.finished_run(known)


def test_quick_run_works_and_is_in_the_history_as_manual(screen: Screen, page: Page) -> None:
    run = quick_run(screen, page)
    assert run["state_name"] == "一部エラー"
    page.goto(f"{screen.url}/v2/runs")
    entry = page.get_by_role("link", name=run["name"]).first
    expect(entry).to_be_visible()
    assert run["name"].endswith(" 手動")
    (history,) = screen.find(
        "artifacts",
        artifacts={"key": {"any_": ["history"]}, "flow_run_id": {"any_": [run["id"]]}},
    )
    page.goto(f"{screen.url}/v2/artifacts/artifact/{history['id']}")
    expect(page.get_by_role("cell", name="手動", exact=True).first).to_be_visible()
    expect(page.get_by_role("columnheader", name="処理時間（開始 - 終了）")).to_be_visible()


def test_a_period_is_picked_in_the_calendar_and_run(screen: Screen, page: Page) -> None:
    known = {run["id"] for run in screen.runs()}
    (deployment,) = [d for d in screen.find("deployments") if d["name"].endswith(" sample")]
    page.goto(f"{screen.url}/v2/deployments/deployment/{deployment['id']}/run")
    page.get_by_text("差分", exact=True).click()
    page.get_by_role("option", name="期間", exact=True).click()
    for day in ("2001-10-01", "2001-10-31"):
        page.get_by_text("日付を選ぶ", exact=True).first.click()
        page.get_by_label("日付（年-月-日）").fill(day)
        page.keyboard.press("Escape")
        expect(page.get_by_text(day.replace("-", "/"), exact=True)).to_be_visible()
    page.get_by_text("2001/10/31", exact=True).click()
    expect(page.get_by_role("grid")).to_be_visible()
    assert english(page) == []  # the calendar, too
    page.keyboard.press("Escape")
    page.get_by_role("button", name="実行する").click()
    run = screen.finished_run(known)
    chosen = {name: run["parameters"][name] for name in ("mode", "period_from", "period_to")}
    assert chosen == {"mode": "期間", "period_from": "2001-10-01", "period_to": "2001-10-31"}
    assert run["state"]["message"].startswith("期間 2001/10/01〜2001/10/31: 取得 0 / ")


def test_the_form_of_a_connection_can_be_edited_without_losing_its_credentials(
    screen: Screen, page: Page
) -> None:
    found = screen.find(
        "block_documents", block_types={"slug": {"any_": ["customers-from-kintone"]}}
    )
    (block,) = [each for each in found if each["name"] == "sample"]
    page.goto(f"{screen.url}/v2/blocks/block/{block['id']}/edit")
    minutes = page.get_by_label("重複して読む時間（分）")
    expect(minutes).to_have_value("1")
    minutes.fill("2")
    page.get_by_role("button", name="保存").click()
    page.wait_for_url(f"**/blocks/block/{block['id']}")
    saved = screen.api.get(f"block_documents/{block['id']}").raise_for_status().json()
    assert saved["data"]["settings"]["overlap_minutes"] == 2
    assert quick_run(screen, page)["state_name"] == "一部エラー"


def test_forms_are_in_order_with_logos_and_without_what_is_automatic(
    screen: Screen, page: Page
) -> None:
    page.goto(f"{screen.url}/v2/blocks/catalog/bugyo-credentials/create")
    expect(page.get_by_label("サブスクリプションキー")).to_be_visible()
    assert page.get_by_text("リフレッシュトークン").count() == 0
    assert page.get_by_text('Property is type "None"').count() == 0
    page.goto(f"{screen.url}/v2/blocks/catalog/customers-from-kintone/create")
    expect(page.get_by_label("アプリID")).to_be_visible()
    wanted = [
        "登録番号",
        "奉行クラウド",
        "アプリID",
        "得意先コード ←",
        "得意先名 ←",
        "処理する時刻",
    ]
    tops = [page.get_by_text(w).filter(visible=True).first.bounding_box() for w in wanted]
    heights = [box["y"] for box in tops if box]
    assert len(heights) == len(wanted)
    assert heights == sorted(heights)
    logo = page.locator("img[src$='/app-connect/kit.svg']").first
    expect(logo).to_be_visible()
    assert logo.evaluate("image => image.complete && image.naturalWidth > 0")
