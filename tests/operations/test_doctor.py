"""診断: a clock that is wrong is named with its remedy, and nothing secret leaves."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from blocks import BugyoCredentials, KintoneCredentials
from connectors.bugyo.emulator import (
    DEMO_FIXED_TOKEN,
    DEMO_SUBSCRIPTION_KEY,
    DEMO_TENANTS,
    BugyoEmulator,
)
from connectors.kintone.emulator import KintoneEmulator
from connectors.kit import Masker
from connectors.kit.clocks import Heard
from connectors.kit.emulator import Fault, serve
from deployments.cli.doctor import write_bundle
from deployments.samples import customers as sample
from deployments.samples.kintone import DEMO_API_TOKEN
from flows.customers_from_kintone import (
    PIPELINE,
    CustomerSettings,
    CustomersFromKintoneConnection,
)
from flows.engine import licences
from flows.engine.clock import business_date, now
from flows.engine.store import LicenceRow, Store, migrate
from flows.operations import checks
from flows.operations.doctor import summary


@pytest.fixture
def store(fresh_database: Callable[..., str]) -> Iterator[Store]:
    def prepare(url: str) -> None:
        migrate(url)
        Store(url).close()

    opened = Store(fresh_database("app-connect-store", prepare))
    yield opened
    opened.close()


class Ends:
    """A connection and the two emulators that it is about."""

    def __init__(self, stack: ExitStack) -> None:
        self.kintone, self.bugyo = KintoneEmulator(), BugyoEmulator()
        kintone_url = stack.enter_context(serve(self.kintone))
        bugyo_url = stack.enter_context(serve(self.bugyo))
        self.app = "1"
        self.kintone.add_app(self.app, "顧客管理", sample.FIELDS, tokens={DEMO_API_TOKEN: {"view"}})
        self.block = CustomersFromKintoneConnection(
            registration_number="AC-0000-0001",
            phone="03-0000-0000",
            bugyo=BugyoCredentials(
                environment="URLを指定",
                api_url=bugyo_url,
                id_url=bugyo_url,
                subscription_key=SecretStr(DEMO_SUBSCRIPTION_KEY),
                fixed_token=SecretStr(DEMO_FIXED_TOKEN),
                tenant_id=DEMO_TENANTS[0].id,
            ),
            kintone=KintoneCredentials(
                subdomain="example", api_token=SecretStr(DEMO_API_TOKEN), endpoint=kintone_url
            ),
            settings=CustomerSettings(app=self.app),
        )


@pytest.fixture
def ends() -> Iterator[Ends]:
    with ExitStack() as stack:
        yield Ends(stack)


async def look(ends: Ends, store: Store, masker: Masker) -> list[checks.Finding]:
    found, heard = await checks.apis(store, PIPELINE, "shop", ends.block, masker)
    return [*found, *checks.clocks(heard)]


async def test_both_ends_are_asked_and_a_clock_ten_minutes_off_is_named_with_its_remedy(
    store: Store, ends: Ends, tmp_path: Path
) -> None:
    masker = Masker()
    fine = await look(ends, store, masker)
    assert [each.mark for each in fine] == ["正常"] * 4, fine
    ends.bugyo.faults.add(Fault(kind="clock_skew", seconds=600, times=20))
    found = await look(ends, store, masker)
    (off,) = [each for each in found if each.mark == "異常"]
    assert off.item == "時計（奉行クラウド）"
    assert "AC-228" in off.words
    assert "奉行クラウド の時計より 10分遅れています" in off.words
    assert "kintone とは合っている" in off.words
    assert "今すぐ同期" in off.remedy
    result, words = summary(found)
    assert (result, "今すぐ同期" in words) == ("一部エラー", True)
    ends.bugyo.faults.clear()
    # A secret that a service repeats, and the bundle.
    ends.block.bugyo.subscription_key = SecretStr("cAnArY-subscription")
    ends.block.kintone.api_token = SecretStr("cAnArY-api-token-of-kintone")
    refused = await look(ends, store, masker)
    codes = [each.words[:6] for each in refused if each.mark == "異常"]
    assert codes == ["AC-103", "AC-102"]
    leaked = checks.Finding("接続", "異常", "cAnArY-subscription と cAnArY-api-token-of-kintone")
    file = tmp_path / "bundle.zip"
    write_bundle(file, store, masker, [*refused, leaked])
    assert file.stat().st_mode & 0o077 == 0
    with zipfile.ZipFile(file) as made:
        assert made.namelist() == ["doctor.json", "runs.json", "system.json"]
        for name in made.namelist():
            assert "cAnArY" not in made.read(name).decode()
        assert "時計（奉行クラウド）" in made.read("doctor.json").decode()


def test_when_every_service_disagrees_it_is_our_clock() -> None:
    here = datetime(2026, 11, 25, 6, 10, tzinfo=UTC)
    there = here - timedelta(minutes=10)
    found = checks.clocks([Heard("奉行クラウド", there, here), Heard("kintone", there, here)])
    assert [each.mark for each in found] == ["異常", "異常"]
    assert all("10分進んでいます" in each.words for each in found)
    assert not any("側の時計" in each.words for each in found)
    seconds = checks.clocks([Heard("kintone", here - timedelta(seconds=90), here)])
    assert [each.mark for each in seconds] == ["正常"]


async def test_the_licence_the_database_and_the_disk(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    block: Any = SimpleNamespace(registration_number="ＡＣ－００００－０００１")
    assert (await checks.licence(store, "shop", block)).words.startswith("AC-107")
    today = business_date(now())
    for until, mark in ((None, "正常"), (today + timedelta(days=3), "注意"), (today, "注意")):
        _issue(store, until)
        assert (await checks.licence(store, "shop", block)).mark == mark
    _issue(store, today - timedelta(days=1))
    lapsed = await checks.licence(store, "shop", block)
    assert (lapsed.mark, lapsed.words[:6]) == ("異常", "AC-110")
    assert (await checks.database(store)).mark == "正常"
    full = SimpleNamespace(free=1 << 20)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: full)
    assert checks.disk().mark == "異常"


def _issue(store: Store, until: date | None) -> None:
    at = now()
    row = LicenceRow(
        registration_number="AC-0000-0001",
        phone="03-0000-0000",
        company="株式会社ためし",
        valid_from=business_date(at) - timedelta(days=30),
        expires_on=until,
        issued_at=at,
    )
    with store.begin() as db:
        licences.issue(db, row, replace=True)
