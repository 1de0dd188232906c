"""What a clerk reads around our screens is Japanese, and the browser talks to nobody else."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from .conftest import AUTH, Screen

# Names of products, and abbreviations that Japanese screens use as they are.
KNOWN = (
    *("App Connect", "Prefect", "kintone", "SmartHR", "KING OF TIME", "OBCiD", "OAuth", "Excel"),
    *(
        "Webhook",
        "API",
        "CSV",
        "ID",
        "IDs",
        "URL",
        "JSON",
        "PC",
        "OK",
        "SUCCESS",
        "ERROR",
        "Shift_JIS",
    ),
    *(
        "app-connect login",
        "app-connect",
        "cron",
        "English",
        "alt",
        "localhost",
        "cybozu",
        "com",
        "https",
        "http",
    ),
)
_KNOWN = re.compile("|".join(rf"(?<![A-Za-z]){re.escape(word)}(?![A-Za-z])" for word in KNOWN))
# What is no word of the frame: what a service said itself, commands, addresses, file names, ids,
# error codes, names of connections.
_DATA = re.compile(
    r"サービス: .+ / .*|"
    r"https?://\S+|/\S+\.\w+|(?:/[a-z]+){2,}|[0-9a-f]{8,}(?:-[0-9a-f]+)*|AC-[0-9-]+|U\+[0-9A-F]+|"
    r"sample(?:-[a-z]+)*|[\w.]+\.[a-z_]+|[a-z0-9]+-[0-9]{4}|\b[a-z]\b|`[^`]*`"
)

VISIBLE = """() => {
  const found = [];
  const keep = "script, style, code, pre, textarea, .cm-editor, [role='log']," +
    " [data-app-connect-keep]";
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { nodeValue, parentElement } = walker.currentNode;
    if (!parentElement || parentElement.closest(keep)) continue;
    if (parentElement.getClientRects().length === 0) continue;
    found.push(nodeValue);
  }
  for (const field of document.querySelectorAll("[placeholder], [aria-label], [title]"))
    for (const name of ["placeholder", "aria-label", "title"])
      if (field.getAttribute(name)) found.push(field.getAttribute(name));
  return found;
}"""


def english(page: Page, *typed: str) -> list[str]:
    """English words that a person can read on the page, other than what they ``typed``."""
    left = {" ".join(text.split()) for text in page.evaluate(VISIBLE)}
    for name in typed:
        left = {text.replace(name, "") for text in left}
    return sorted(t for t in left if re.search("[A-Za-z]{2,}", _DATA.sub("", _KNOWN.sub("", t))))


def pages(screen: Screen) -> dict[str, str]:
    """Every page that a clerk reaches."""
    (deployment,) = [d for d in screen.find("deployments") if d["name"].endswith(" sample")]
    rejects = next(d for d in screen.find("deployments") if d["name"] == "エラー明細の処理")
    run = next(run for run in screen.runs() if run["end_time"])
    (block,) = screen.find(
        "block_documents", block_types={"slug": {"any_": ["customers-from-kintone"]}}
    )
    artifact = screen.find("artifacts", artifacts={"key": {"any_": ["history"]}})[0]
    return {
        "ダッシュボード": "/v2/dashboard",
        "処理履歴": "/v2/runs",
        "処理": f"/v2/runs/flow-run/{run['id']}",
        "連携一覧": "/v2/deployments",
        "連携": f"/v2/deployments/deployment/{deployment['id']}",
        "連携 説明": f"/v2/deployments/deployment/{deployment['id']}?tab=Description",
        "連携 構成": f"/v2/deployments/deployment/{deployment['id']}?tab=Configuration",
        "実行画面": f"/v2/deployments/deployment/{deployment['id']}/run",
        "操作の実行画面": f"/v2/deployments/deployment/{rejects['id']}/run",
        "結果・明細": "/v2/artifacts",
        "結果・明細 1件": f"/v2/artifacts/artifact/{artifact['id']}",
        "結果・明細 履歴": "/v2/artifacts/key/history",
        "接続情報": "/v2/blocks",
        "接続情報 種類": "/v2/blocks/catalog",
        "接続情報 作成": "/v2/blocks/catalog/bugyo-credentials/create",
        "接続 編集": f"/v2/blocks/block/{block['id']}/edit",
    }


def settled(page: Page) -> None:
    """Wait until the page has drawn itself and is not loading any more."""
    page.wait_for_load_state("networkidle")
    # Not `wait_for_function`: the page's own policy forbids it to evaluate text.
    expect(page.locator("[data-slot=skeleton]")).to_have_count(0)


def test_nothing_that_a_clerk_reads_is_english(screen: Screen, page: Page) -> None:
    left: dict[str, list[str]] = {}
    for name, address in pages(screen).items():
        page.goto(f"{screen.url}{address}")
        expect(page.locator("html")).to_have_attribute("lang", "ja")
        settled(page)
        if words := english(page):
            left[name] = words
        if name == "処理":
            # It has begun, and has its name; its tags are no names.
            expect(page.get_by_text("（開始前の処理）")).to_have_count(0)
    assert left == {}


def test_menus_and_dialogs_are_japanese_too(screen: Screen, page: Page) -> None:
    (deployment,) = [d for d in screen.find("deployments") if d["name"].endswith(" sample")]
    page.goto(f"{screen.url}/v2/deployments/deployment/{deployment['id']}")
    page.get_by_role("button", name="実行", exact=True).click()
    expect(page.get_by_role("menuitem", name="条件を指定して実行")).to_be_visible()
    assert english(page) == []
    page.get_by_role("menuitem", name="今すぐ実行").click()
    # It tells of a run that has no name yet but the one that Prefect made up.
    expect(page.locator("[data-sonner-toast]")).to_contain_text("（開始前の処理）")
    assert english(page) == []
    page.goto(f"{screen.url}/v2/runs")
    page.get_by_role("button", name="過去7日").click()
    settled(page)
    assert english(page) == []


def test_it_can_be_switched_off_and_on(screen: Screen, page: Page) -> None:
    page.goto(f"{screen.url}/v2/runs")
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("link", name="Deployments")).to_be_visible()
    page.get_by_role("button", name="日本語").click()
    expect(page.get_by_role("link", name="連携一覧")).to_be_visible()


def test_what_a_person_typed_is_left_alone(screen: Screen, page: Page) -> None:
    page.goto(f"{screen.url}/v2/blocks/catalog/kintone-credentials/create")
    name = page.get_by_label("名前", exact=True)
    name.fill("runs")
    page.get_by_label("サブドメイン").fill("Settings")
    expect(name).to_have_value("runs")
    expect(page.get_by_label("サブドメイン")).to_have_value("Settings")


def test_the_browser_talks_to_nobody_but_us(screen: Screen, page: Page) -> None:
    asked: list[str] = []
    refused: list[str] = []
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(error.message))
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: refused.append(message.text))
    for address in pages(screen).values():
        page.goto(f"{screen.url}{address}")
        settled(page)
    here = urlsplit(screen.url).netloc
    elsewhere = {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))}
    assert elsewhere <= {here}
    # The policy is what keeps it so, and it stops nothing that the pages need.
    stopped = [text for text in refused if "Content Security Policy" in text]
    assert all("amplitude" in text for text in stopped), stopped
    assert broken == []


def test_a_page_that_stays_blank_says_what_to_do(screen: Screen, page: Page) -> None:
    """As after an upgrade, when the browser has kept a page whose programs are gone."""
    page.clock.install()
    page.route("**/assets/index-*.js", lambda route: route.abort())
    page.goto(f"{screen.url}/v2/runs")
    link = page.get_by_role("link", name="画面に何も表示されないときの手引き")
    expect(link).to_have_count(0)
    page.clock.fast_forward(21_000)
    expect(page.get_by_text("Ctrl + F5 を押して")).to_be_visible()
    link.click()
    expect(page.get_by_role("heading", name="画面に何も表示されないとき")).to_be_in_viewport()


@pytest.fixture
def stranger(page: Page) -> Page:
    """A browser that nobody has logged in with."""
    page.context.clear_cookies()
    page.evaluate("localStorage.clear()")
    return page


def test_the_log_in_page(screen: Screen, stranger: Page) -> None:
    stranger.goto(f"{screen.url}/v2/runs")
    field = stranger.get_by_role("textbox")
    expect(field).to_be_visible()
    settled(stranger)
    assert english(stranger) == []
    field.fill("keiri:chigau")
    stranger.get_by_role("button", name="ログイン").click()
    expect(stranger.get_by_text("ログインできませんでした")).to_be_visible()
    field.fill(AUTH)
    stranger.get_by_role("button", name="ログイン").click()
    expect(stranger.get_by_role("link", name="連携一覧")).to_be_visible()


def test_the_dictionary_is_whole() -> None:
    from deployments.frame import dictionary

    words: dict[str, Any] = dictionary()
    assert all(value.strip() == value and value for value in words["words"].values())
    for rule in words["patterns"]:
        re.compile(rule["match"])
