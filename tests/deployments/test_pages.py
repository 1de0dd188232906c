"""Logos, manuals and forms: what the Prefect UI shows that is ours."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from prefect.client.orchestration import get_client
from pydantic import SecretStr

from blocks import BugyoCredentials, KintoneCredentials
from connectors.bugyo.registry import resource
from connectors.kit import SettingsError
from deployments.catalog import connectors, register_blocks, run_form
from deployments.samples.customers import AWKWARD
from deployments.stack.pages import publish, render
from flows.customers_from_kintone import CustomerSettings, CustomersFromKintoneConnection
from tests.conftest import PrefectServer

ROOT = Path(__file__).parents[2]
MANUAL = ROOT / "connectors" / "kintone" / "MANUAL.ja.md"
KINDS = {"char": "{}文字", "half": "半角{}"}
FATES = {"kept": "そのまま登録", "repaired": "直して登録", "rejected": "エラー"}


def rows(heading: str) -> list[list[str]]:
    """The first table of the manual whose first column is headed ``heading``."""
    text = MANUAL.read_text("utf-8")
    table = re.search(rf"^ *\| {re.escape(heading)}.*\n.*\n((?: *\|.*\n)+)", text, re.MULTILINE)
    assert table, heading
    return [
        [c.strip() for c in line.strip().strip("|").split("|")] for line in table[1].splitlines()
    ]


def test_the_manuals_table_is_the_settings_model() -> None:
    items = {item.field: item for item in resource("customer").items}
    wanted = []
    for name in CustomerSettings(app="1").model_fields:
        field = CustomerSettings.model_fields[name]
        title = str(field.title)
        if title.endswith(" ←"):
            item = items[name]
            length = KINDS[item.unit].format(item.length)
            wanted.append([title.removesuffix(" ←"), field.default or "（空欄）", length])
    assert [row[:3] for row in rows("得意先の項目")] == wanted
    others = [
        str(field.title)
        for field in CustomerSettings.model_fields.values()
        if not str(field.title).endswith(" ←")
    ]
    assert [row[0] for row in rows("設定 |")] == others


def test_the_manual_says_what_becomes_of_every_awkward_record() -> None:
    assert rows("データ |") == [[one.kind, FATES[one.fate]] for one in AWKWARD]


def test_a_manual_becomes_a_page_that_asks_for_nothing_outside(tmp_path: Path) -> None:
    manual = tmp_path / "MANUAL.ja.md"
    (tmp_path / "there.png").write_bytes(b"png")
    manual.write_text(
        "# 題 & <b>名\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n"
        "![ある](there.png) ![ない](missing.png)\n\n<script>alert(1)</script>\n",
        "utf-8",
    )
    page = render(manual, tmp_path / "images")
    assert "<title>題 &amp; &lt;b&gt;名</title>" in page
    assert "<td>2</td>" in page
    assert "<script>" not in page
    assert 'src="images/there.png"' in page
    assert (tmp_path / "images" / "there.png").read_bytes() == b"png"
    assert "（図: ない）" in page
    assert not re.search(r"(?:src|href)=\"https?:", page)


def test_links_of_manuals_lead_somewhere_in_the_folder_and_on_the_page(tmp_path: Path) -> None:
    publish(tmp_path)
    folder = tmp_path / "v2" / "app-connect"
    pages = {path.name: path.read_text("utf-8") for path in folder.glob("*.html")}
    ids = {name: set(re.findall(r'id="([^"]+)"', page)) for name, page in pages.items()}
    led = set()
    for name, page in pages.items():
        for target, part in re.findall(r'href="([^"#]*)#?([^"]*)"', page):
            assert target in pages, (name, target)
            assert not part or unquote(part) in ids[target], (name, target, unquote(part))
            led.add((name, target))
    manuals = set(pages) - {"errors.html", "kit.html"}
    assert {(each, "kit.html") for each in manuals} <= led, "each leads to what all have in common"
    for manual in (ROOT / "connectors").glob("*/MANUAL*.ja.md"):
        for link in re.findall(r"\]\(([^)#]+)", manual.read_text("utf-8")):
            assert (manual.parent / link).is_file(), (manual, link)


def test_publishing_again_is_fine(tmp_path: Path) -> None:
    publish(tmp_path)
    publish(tmp_path)
    published = {path.name for path in (tmp_path / "v2" / "app-connect").iterdir()}
    assert {"bugyo.svg", "kintone.svg", "kintone.html", "kit.svg"} <= published


async def test_every_block_has_a_logo_that_the_server_serves(prefect_server: PrefectServer) -> None:
    await register_blocks()
    async with get_client() as client, httpx.AsyncClient(trust_env=False) as browser:
        for block in (BugyoCredentials, KintoneCredentials, CustomersFromKintoneConnection):
            kind = await client.read_block_type_by_slug(block.get_block_type_slug())
            assert str(kind.logo_url).startswith(prefect_server.url)
            logo = await browser.get(str(kind.logo_url))
            assert logo.headers["content-type"].startswith("image/svg+xml")
        manual = await browser.get(str(kind.documentation_url))
        assert ">kintone → 得意先" in manual.text


def test_without_a_place_for_them_there_are_no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APP_CONNECT_PAGES_URL", raising=False)
    kind = KintoneCredentials._to_block_type()
    assert (kind.logo_url, kind.documentation_url) == (None, None)


def test_forms_have_an_order_no_empty_tabs_and_nothing_automatic() -> None:
    schema = CustomersFromKintoneConnection.model_json_schema()
    top = sorted(schema["properties"], key=lambda name: schema["properties"][name]["position"])
    assert top == [
        *("registration_number", "phone", "bugyo", "kintone", "settings"),
        *("schedule", "days", "closing_day", "company_holidays"),
    ]
    settings = schema["definitions"]["CustomerSettings"]["properties"]
    by_position = sorted(settings, key=lambda name: settings[name]["position"])
    assert by_position == list(CustomerSettings.model_fields)
    for part in (schema, *schema["definitions"].values()):
        assert not any("anyOf" in field for field in part["properties"].values())
        assert "access_token" not in part["properties"]
    # What the form hides is secret and stored all the same.
    assert "bugyo.refresh_token" in schema["secret_fields"]
    assert "refresh_token" in BugyoCredentials.model_json_schema(by_alias=False)["properties"]


def test_quick_run_asks_nothing() -> None:
    form = run_form(connectors()["customers-from-kintone"].flow, "sample")
    assert form.required == []  # the UI opens a dialog otherwise
    assert [field["title"] for field in form.properties.values()] == [
        *("接続", "処理の範囲", "1件の場合のコード", "期間の場合の開始日", "期間の場合の終了日"),
        *("確認のみ（送信しない）", "エラー明細のみの場合のレコードの番号"),
    ]
    assert not any("anyOf" in field for field in form.properties.values())


async def saved_connection(name: str, *, remember: bool) -> CustomersFromKintoneConnection:
    bugyo = BugyoCredentials(
        subscription_key=SecretStr("key-of-the-original"), tenant_id="t-1", client_id="c"
    )
    bugyo.refresh_token = SecretStr("hidden-refresh")
    kintone = KintoneCredentials(subdomain="example", api_token=SecretStr("token-of-the-original"))
    for block in (bugyo, kintone):
        await block.save(name, overwrite=True)
    connection = CustomersFromKintoneConnection(
        registration_number="AC-0000-0009",
        phone="03-0000-0000",
        bugyo=await BugyoCredentials.aload(name),
        kintone=await KintoneCredentials.aload(name),
        settings=CustomerSettings(app="1"),
    )
    if remember:
        connection.remember()
    await connection.save(name, overwrite=True)
    return connection


async def edit_as_the_form_does(server: PrefectServer, name: str) -> None:
    """Send back what the API shows, as the edit form of Prefect 3.8.8 does."""
    async with httpx.AsyncClient(base_url=server.api, trust_env=False) as api:
        path = f"/block_types/slug/customers-from-kintone/block_documents/name/{name}"
        document = (await api.get(path)).raise_for_status().json()
        assert document["data"]["kintone"]["api_token"] == "********"
        await api.patch(
            f"/block_documents/{document['id']}",
            json={"data": document["data"], "merge_existing_data": False},
        )


async def test_a_connection_survives_the_edit_form(prefect_server: PrefectServer) -> None:
    await saved_connection("edited", remember=True)
    await edit_as_the_form_does(prefect_server, "edited")
    loaded = await CustomersFromKintoneConnection.aload("edited")
    assert loaded.bugyo.subscription_key.get_secret_value() == "key-of-the-original"
    assert loaded.bugyo.refresh_token is not None
    assert loaded.bugyo.refresh_token.get_secret_value() == "hidden-refresh"
    assert loaded.kintone.api_token is not None
    assert loaded.kintone.api_token.get_secret_value() == "token-of-the-original"
    # Saving puts the references back: from then on a changed token is seen again.
    await loaded.save("edited", overwrite=True)
    loaded.kintone.api_token = SecretStr("changed")
    await loaded.kintone.save("edited", overwrite=True)
    again = await CustomersFromKintoneConnection.aload("edited")
    assert again.kintone.api_token is not None
    assert again.kintone.api_token.get_secret_value() == "changed"


@pytest.mark.parametrize("why", ["nobody knows of which block", "the block says something else"])
async def test_a_copy_that_is_not_certain_is_refused(
    prefect_server: PrefectServer, why: str
) -> None:
    known = why != "nobody knows of which block"
    connection = await saved_connection("uncertain", remember=known)
    await edit_as_the_form_does(prefect_server, "uncertain")
    if known:
        connection.bugyo.tenant_id = "another-tenant"
        await connection.bugyo.save("uncertain", overwrite=True)
    with pytest.raises(SettingsError, match="「奉行クラウド」を選び直してください") as caught:
        await CustomersFromKintoneConnection.aload("uncertain")
    assert caught.value.code == "AC-205"
