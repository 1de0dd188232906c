"""新しい接続: what a person puts in, what is checked, what is there afterwards."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.exceptions import PrefectHTTPStatusError
from pydantic import SecretStr
from typer.testing import CliRunner

from blocks import BugyoCredentials, KintoneCredentials
from connectors.bugyo.emulator import (
    DEMO_CLIENT_ID,
    DEMO_CLIENT_SECRET,
    DEMO_SUBSCRIPTION_KEY,
    DEMO_TENANTS,
    BugyoEmulator,
)
from connectors.kit import AppConnectError
from connectors.kit.emulator import serve
from deployments import catalog
from deployments.cli.app import app
from flows.customers_from_kintone import PIPELINE
from flows.engine import licences
from flows.engine.clock import business_date, now
from flows.engine.store import LicenceRow, Store
from flows.operations import doctor
from flows.operations.change_connection import change_connection
from flows.operations.new_connection import entrance_form
from flows.operations.onboarding import Wish, connect
from flows.operations.services import services
from flows.parts import consents
from tests.flows.conftest import World, client, known_blocks, new_world, store, world
from tests.gateway.conftest import serving
from tests.gateway.test_consents import REDIRECT, browse, come_back

__all__ = ["client", "known_blocks", "new_world", "store", "world"]

PHONE = "03-1234-5678"


@pytest.fixture(scope="module")
def number(store: Store) -> str:
    """A registration number of this connector."""
    made = licences.new_number()
    at = now()
    row = LicenceRow(
        registration_number=made,
        connector=PIPELINE.connector,
        phone=PHONE,
        company="ためし商事",
        valid_from=business_date(at),
        issued_at=at,
    )
    with store.begin() as db:
        licences.issue(db, row)
    return made


@pytest.fixture(scope="module")
def permitting() -> Iterator[str]:
    """Address of a 奉行クラウド that knows the gateway's callback."""
    with serve(BugyoEmulator(redirect_uris=[REDIRECT])) as url:
        yield url


async def nobody(begun: Any) -> None:
    raise AssertionError("no consent is needed")


async def wish_of(world: World, number: str, **more: Any) -> Wish:
    return Wish(
        PIPELINE,
        **{
            "registration_number": number,
            "phone": "（03）１２３４ー５６７８",
            "bugyo": await BugyoCredentials.aload(world.name),
            "partner": await KintoneCredentials.aload(world.name),
            "settings": {"app": world.app},
            **more,
        },
    )


async def refused(store: Store, wish: Wish) -> str:
    async def never(*_: Any) -> Any:
        raise AssertionError("nothing may be deployed")

    with pytest.raises(AppConnectError) as caught:
        await connect(store, wish, nobody, never)
    return str(caught.value)


async def test_connected_checked_and_run_and_the_same_again_changes_nothing(
    world: World, store: Store, number: str, client: PrefectClient
) -> None:
    world.fill(3)
    await catalog.ensure_work_pool()
    name = f"shop-{uuid4().hex[:6]}"
    wish = await wish_of(world, number, name=name, schedule=" ５：００ ", days="毎日")
    made = await connect(store, wish, nobody, catalog.deploy)
    assert (made.name, made.seen.records) == (name, 3)
    assert made.seen.tenant.name == DEMO_TENANTS[0].name
    deployment = await client.read_deployment(made.deployment)
    assert deployment.parameters == {"connection": name}
    (schedule,) = deployment.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 5 * * *", "Asia/Tokyo")
    world.name = name
    ran = await world.run()
    assert ran.counts[1] == 3

    # 設定変更: the block was edited; both sides are asked again.
    block = await PIPELINE.connection_type.aload(name)
    block.schedule, block.days, block.closing_day = "６：３０", "締め日の翌営業日", 20
    block.company_holidays = "12-29〜1-3\n2026年8月14日"
    await block.save(name, overwrite=True)
    changed: Any = await change_connection(f" {name} ", return_state=True)
    assert (changed.name, "対象 3 件" in changed.message) == ("SUCCESS", True), changed.message
    deployment = await client.read_deployment(made.deployment)
    (schedule,) = deployment.schedules
    assert (schedule.schedule.cron, schedule.schedule.day_or) == ("30 6 21-27 * 1-5", False)
    words = "締め日（20日）の翌営業日 6:30"
    assert f"- **いつ**: {words}（日本時間）に自動で処理します。" in deployment.description
    page = await artifact(client, changed.state_details.flow_run_id, "connection")
    assert f"| 連携タイミング | {words} |" in page
    (line,) = [each for each in await services() if each.connection == name]
    assert line.timing == words
    assert [each.mark for each in doctor._schedules([deployment])] == ["正常"]
    # What cannot be read is told, and the deployment stays as it is.
    block.company_holidays = "2026-08-14、お盆"
    await block.save(name, overwrite=True)
    refused_: Any = await change_connection(name, return_state=True)
    assert "AC-205" in refused_.message
    assert "「会社の休業日」の「お盆」を読めません" in refused_.message
    assert (await client.read_deployment(made.deployment)).schedules == deployment.schedules
    block.company_holidays = ""
    await block.save(name, overwrite=True)

    # The same once more goes on with it; without a name another one is proposed.
    names: list[str] = []

    async def noted(_: Any, name: str) -> UUID:
        names.append(name)
        return uuid4()

    await connect(store, wish, nobody, noted)
    await connect(store, replace(wish, name=""), nobody, noted)
    assert names[0] == name
    assert names[1].startswith(PIPELINE.connector)
    # The command line does the same.
    options = ["--number", number, "--phone", PHONE, "--set", f"app={world.app}", "--json"]
    saved = str(wish.bugyo._block_document_name)
    credentials = ["--bugyo", saved, "--partner", saved]

    async def by_command(*arguments: str) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, app, ["connect", *arguments])

    days = ("--at", "6:15", "--days", "営業日のみ", "--closing-day", "20", "--holidays", "8-14")
    done = await by_command(PIPELINE.connector, *options, *credentials, "--name", name, *days)
    assert done.exit_code == 0, (done.output, done.exception)
    assert json.loads(done.stdout) == {
        "name": name,
        "tenant": DEMO_TENANTS[0].name,
        "records": 3,
        "deployment": str(made.deployment),
    }
    (schedule,) = (await client.read_deployment(made.deployment)).schedules
    assert schedule.schedule.cron == "15 6 * * 1-5"
    block = await PIPELINE.connection_type.aload(name)
    assert (block.closing_day, block.company_holidays) == (20, "8-14")
    for arguments, words in (
        ([PIPELINE.connector, *options, *credentials, "--days", "日曜"], "「処理する日」の値"),
        (["nothing", *options, *credentials], PIPELINE.connector),
        (
            [PIPELINE.connector, *options, "--bugyo", saved, "--partner", "no"],
            "「no」がありません",
        ),
        ([PIPELINE.connector, *options, *credentials, "--set", "app"], "名前=値"),
        (
            [PIPELINE.connector, *options, *credentials, "--settings", "no.toml"],
            "no.toml を読めません",
        ),
    ):
        failed = await by_command(*arguments)
        assert isinstance(failed.exception, AppConnectError), failed.output
        assert words in str(failed.exception)
    # The name belongs to a connection with other credentials.
    await wish.partner.model_copy().save(f"{name}-other")
    partner = await KintoneCredentials.aload(f"{name}-other")
    assert "AC-216" in await refused(store, replace(wish, partner=partner))


async def wrong(world: World, number: str) -> dict[str, tuple[Wish, str]]:
    """Input with one thing wrong -> what is said about it."""
    good = await wish_of(world, number)
    bad_token = good.partner.model_copy(update={"api_token": SecretStr("wr0ng-token")})
    bad_token._block_document_name = good.partner._block_document_name
    return {
        "name": (replace(good, name="得意先"), "AC-216"),
        "form": (replace(good, registration_number="12"), "AC-108"),
        "settings": (replace(good, settings={}), "「設定 → アプリID」が空です"),
        "field": (replace(good, settings={"app": world.app, "name": "なし"}), "なし"),
        "schedule": (replace(good, schedule="朝5時"), "「処理する時刻」の「朝5時」"),
        "holidays": (replace(good, company_holidays="盆"), "「会社の休業日」の「盆」"),
        "closing": (replace(good, closing_day=32), "「締め日」の値"),
        "picked": (replace(good, partner={"subdomain": "x"}), "kintone 接続情報"),
        "tenant": (replace(good, tenant="よその会社"), "AC-217"),
        "token": (replace(good, partner=bad_token), "AC-102"),
    }


async def test_wrong_input_is_named_and_nothing_is_made(
    world: World, store: Store, number: str
) -> None:
    for what, (wish, words) in (await wrong(world, number)).items():
        said = await refused(store, wish)
        assert words in said, what
        assert "［対処］" in said, what
        assert "wr0ng-token" not in said


async def test_the_sixth_wrong_telephone_number_locks(
    world: World, store: Store, number: str
) -> None:
    made = licences.new_number()
    at = now()
    row = LicenceRow(
        registration_number=made,
        phone=PHONE,
        company="ためし商事",
        valid_from=business_date(at),
        issued_at=at,
    )
    with store.begin() as db:
        licences.issue(db, row)
    wish = await wish_of(world, made, phone="03-9999-9999")
    said = [await refused(store, wish) for _ in range(6)]
    assert [each[:6] for each in said] == ["AC-107"] * 5 + ["AC-112"]
    assert (await refused(store, replace(wish, phone=PHONE))).startswith("AC-112")


async def test_on_one_page_with_the_consent_through_the_gateway(
    world: World,
    store: Store,
    number: str,
    client: PrefectClient,
    permitting: str,
    warm_worker: Any,
) -> None:
    world.fill(2)
    name = f"page-{uuid4().hex[:6]}"
    await BugyoCredentials(
        environment="URLを指定",
        api_url=permitting,
        id_url=permitting,
        subscription_key=SecretStr(DEMO_SUBSCRIPTION_KEY),
        client_id=DEMO_CLIENT_ID,
        client_secret=SecretStr(DEMO_CLIENT_SECRET),
        redirect_uri=REDIRECT,
    ).save(name)
    await catalog.ensure_work_pool()
    title, pipeline = f"新しい接続: {PIPELINE.service}", PIPELINE
    assert catalog.entrances()[title] is pipeline
    entrance = await catalog._deploy_entrance(title, pipeline)
    bugyo = await BugyoCredentials.aload(name)
    kintone = await KintoneCredentials.aload(world.name)
    typed: dict[str, Any] = {
        "registration_number": number,
        "phone": "+81 3 1234 5678",
        "bugyo": {"$ref": {"block_document_id": str(bugyo._block_document_id)}},
        "partner": {"$ref": {"block_document_id": str(kintone._block_document_id)}},
        "settings": {"app": world.app},
        "name": name,
    }
    # What the form can check is said beside the field, before anything starts.
    late = {**typed, "days": "日曜日のみ"}
    with pytest.raises(PrefectHTTPStatusError, match="days"):
        await client.create_flow_run_from_deployment(entrance, parameters=late)
    bad = {**typed, "settings": {"app": "アプリ"}}
    with pytest.raises(PrefectHTTPStatusError, match=r"settings\.app"):
        await client.create_flow_run_from_deployment(entrance, parameters=bad)

    first = await client.create_flow_run_from_deployment(entrance, parameters=typed)
    page = await artifact(client, first.id, "consent")
    url = re.findall(r"\]\((\S+)\)", page)[0]
    begun = consents.Begun(uuid4(), url, "奉行クラウド", now())
    with serving(store) as http:
        query = await asyncio.to_thread(browse, begun, permitting)
        answer: httpx.Response = await asyncio.to_thread(come_back, http, query)
        assert answer.status_code == 200
    state = await ended(client, first.id)
    # Several 法人: they are listed, and one is put in; 許可する is not pressed again.
    assert state.name == "ERROR"
    assert "AC-217" in state.message
    for each in DEMO_TENANTS[:2]:
        assert each.name in state.message

    chosen = {**typed, "tenant": DEMO_TENANTS[1].name, "days": "平日のみ"}
    second = await client.create_flow_run_from_deployment(entrance, parameters=chosen)
    state = await ended(client, second.id)
    assert (state.name, "対象 2 件" in state.message) == ("SUCCESS", True), state.message
    assert (await BugyoCredentials.aload(name)).tenant_id == DEMO_TENANTS[1].id
    made = await client.read_deployment_by_name(
        f"{pipeline.connector}/{catalog.deployment_name(pipeline, name)}"
    )
    assert (made.work_pool_name, made.parameters) == ("app-connect", {"connection": name})
    text = await artifact(client, second.id, "connection")
    assert all(word in text for word in (name, DEMO_TENANTS[1].name, "平日 5:00"))


async def artifact(client: PrefectClient, run: Any, key: str) -> str:
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
    deadline = time.monotonic() + 360
    while True:
        found = await client.read_artifacts(artifact_filter=of_run)
        if hits := [each for each in found if each.key == key]:
            return str(hits[0].data)
        state = (await client.read_flow_run(run)).state
        assert time.monotonic() < deadline, state
        assert state is None or not state.is_final(), state.message
        await asyncio.sleep(0.2)


async def ended(client: PrefectClient, run: Any) -> Any:
    deadline = time.monotonic() + 360
    while True:
        state = (await client.read_flow_run(run)).state
        if state is not None and state.is_final():
            return state
        assert time.monotonic() < deadline, state
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("title", catalog.entrances())
def test_every_connector_has_a_form_of_its_own(title: str) -> None:
    """Two pickers and the settings, drawn as the connection block draws them; no secret field."""
    pipeline = catalog.entrances()[title]
    form = entrance_form(pipeline)
    for picker in ("bugyo", "partner"):
        block = form.definitions[form.properties[picker]["$ref"].rpartition("/")[2]]
        assert block["block_type_slug"].endswith("-credentials")
    settings = form.definitions[form.properties["settings"]["$ref"].rpartition("/")[2]]
    assert settings["properties"]
    assert all("default" not in settings["properties"][each] for each in settings["required"])
    assert form.properties["connector"]["enum"] == [pipeline.connector]
    assert not any("writeOnly" in field for field in form.properties.values())
    assert not any(
        field["title"].isascii() for name, field in form.properties.items() if name != "partner"
    )
