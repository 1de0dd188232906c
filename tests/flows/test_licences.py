"""Registration numbers: how they are typed, who may use them, and how often one may be wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import text

from connectors.kit import AppConnectError, SettingsError
from flows.engine import licences
from flows.engine.phone import e164
from flows.engine.store import LicenceRow, Store, migrate

NUMBER, PHONE, CONNECTOR = "AC-1234-0001", "03-1234-5678", "customers-from-kintone"
CONNECTION = text(
    "INSERT INTO connection (name, connector, fence, licence_grace) VALUES (:n, :c, 0, :g)"
)
AT = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def shared(postgres: Callable[..., str]) -> Iterator[Store]:
    url = postgres.fresh_database()  # type: ignore[attr-defined]
    migrate(url)
    opened = Store(url)
    yield opened
    opened.close()


@pytest.fixture
def store(shared: Store) -> Store:
    with shared.begin() as db:
        db.execute(text("TRUNCATE licence, licence_attempt, connection"))
    issue(shared)
    return shared


def issue(store: Store, number: str = NUMBER, *, replace: bool = False, **more: object) -> bool:
    values = {"connector": CONNECTOR, "phone": PHONE, "company": "株式会社ためし"}
    values |= {"valid_from": date(2026, 4, 1), "issued_at": AT, **more}
    with store.begin() as db:
        row = LicenceRow(registration_number=number, **values)
        return licences.issue(db, row, replace=replace)


def told(
    store: Store,
    number: str = NUMBER,
    phone: str = PHONE,
    connector: str = CONNECTOR,
    at: datetime = AT,
) -> str:
    """Code of what is wrong; empty = nothing."""
    try:
        licences.check(store, number, phone, connector, at)
    except AppConnectError as error:
        return error.code
    return ""


@pytest.mark.parametrize(
    "typed",
    [
        "0312345678",
        "０３－１２３４－５６７８",
        "03（1234）5678",
        "(03) 1234 5678",
        "03ー1234ー5678",
        "+81 3-1234-5678",
        "+81(0)3-1234-5678",
        "0081-3-1234-5678",
        "010-81-3-1234-5678",
        "tel:+81-3-1234-5678",
        "03-1234-5678（内線12）",
        "03-1234-5678 ext. 99",
        "03-1234-5678（代表）",
        " 03 1234 5678　",
    ],
)
def test_a_telephone_number_in_any_notation(store: Store, typed: str) -> None:
    assert e164(typed) == "+81312345678"
    assert told(store, phone=typed) == ""


@pytest.mark.parametrize("typed", ["", "12", "なし", "03-12", "内線12"])
def test_what_is_no_telephone_number(store: Store, typed: str) -> None:
    assert e164(typed) is None
    assert told(store, phone=typed) == "AC-107"


def test_a_number_is_normalised_and_its_format_is_checked(store: Store) -> None:
    for typed in ("ＡＣ－１２３４－０００１", " ac‐1234‐0001 ", "AC−1234−0001"):
        assert told(store, typed) == ""
    for typed in ("AC-1234-001", "1234", "", "AC-1234-0001-1", "\x00"):
        assert told(store, typed) == "AC-108"
    assert licences.is_well_formed(licences.new_number())
    assert licences.is_well_formed(licences.rules().example)


def test_who_guesses_learns_nothing(store: Store) -> None:
    """Number or telephone number wrong: the same words; more only for who knows both."""
    said = []
    for number, phone in ((NUMBER, "03-0000-0000"), ("AC-9999-9999", PHONE)):
        with pytest.raises(SettingsError) as caught:
            licences.check(store, number, phone, "nobody-s-connector", AT)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "AC-107" in said[0]
    assert "登録番号のお知らせと見比べる" in said[0]
    assert told(store, connector="slips-from-kintone") == "AC-109"
    assert told(store, connector=licences.EVERY) == ""


def test_the_term_is_counted_in_days_of_japan(store: Store) -> None:
    issue(store, replace=True, valid_from=date(2026, 11, 1), expires_on=date(2026, 11, 30))
    last = datetime(2026, 11, 30, 14, 59, tzinfo=UTC)  # 23:59 in Japan
    assert told(store, at=last) == ""
    assert told(store, at=last + timedelta(minutes=1)) == "AC-110"
    first = datetime(2026, 10, 31, 15, 0, tzinfo=UTC)  # midnight in Japan
    assert told(store, at=first) == ""
    assert told(store, at=first - timedelta(minutes=1)) == "AC-110"
    with pytest.raises(SettingsError, match="AC-205"):
        issue(store, "AC-1234-0002", expires_on=date(2026, 3, 31))


def test_revoked_stays_revoked_until_it_is_issued_again(store: Store) -> None:
    with store.begin() as db:
        first = licences.revoke(db, "ＡＣ－１２３４－０００１", AT)
        again = licences.revoke(db, NUMBER, AT + timedelta(days=1))
        with pytest.raises(SettingsError, match="AC-113"):
            licences.revoke(db, "AC-0000-9999", AT)
    assert first.revoked_at == again.revoked_at == AT
    assert told(store) == "AC-111"
    assert told(store, phone="03-0000-0000") == "AC-107", "only who knows both learns it"
    assert issue(store) is False
    assert told(store) == "AC-111"
    assert issue(store, replace=True) is True
    assert told(store) == ""


def test_six_wrong_tries_lock_the_number_for_a_time(store: Store) -> None:
    wrong = "03-0000-0000"
    assert [told(store, phone=wrong) for _ in range(5)] == ["AC-107"] * 5
    assert told(store) == "", "the right one ends the count"
    assert [told(store, phone=wrong) for _ in range(6)] == ["AC-107"] * 5 + ["AC-112"]
    with pytest.raises(AppConnectError) as caught:
        licences.check(store, NUMBER, "+81-3-1234-5678", CONNECTOR, AT)
    assert caught.value.code == "AC-112"
    assert "2026/11/25 12:30 まで" in str(caught.value)
    over = AT + licences.rules().lock
    assert told(store, at=over - timedelta(seconds=1)) == "AC-112"
    assert told(store, phone="０３（１２３４）５６７８", at=over) == ""
    # A number that nobody has is locked in the same way: the lock tells nothing either.
    unknown = [told(store, "AC-9999-9999") for _ in range(7)]
    assert unknown == ["AC-107"] * 5 + ["AC-112"] * 2
    # Wrong ones of long ago do not count.
    for day in range(8):
        assert told(store, "AC-8888-8888", at=AT + timedelta(hours=25 * day)) == "AC-107"


def test_guesses_at_the_same_moment_are_all_counted(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda n: told(store, phone=f"03-0000-{n:04}"), range(24)))
    assert said.count("AC-107") == 5
    assert said.count("AC-112") == 19


# --- a run opens --------------------------------------------------------------------------------


def connection(store: Store, name: str, *, grace: datetime | None = None) -> None:
    with store.begin() as db:
        db.execute(CONNECTION, {"n": name, "c": CONNECTOR, "g": grace})


def opened(
    store: Store, name: str, number: str = NUMBER, phone: str = PHONE, at: datetime = AT
) -> str:
    """What a run of the connection is told: a code, ``warned``, or nothing."""
    try:
        word = asyncio.run(licences.admit(store, name, CONNECTOR, number, phone, at))
    except AppConnectError as error:
        return error.code
    return "warned" if word else ""


def test_guessing_does_not_stop_the_runs_of_others(store: Store) -> None:
    for name in ("old", "new"):
        connection(store, name)
    assert opened(store, "old") == ""
    for _ in range(6):
        told(store, phone="03-0000-0000")
    assert opened(store, "old") == ""
    assert opened(store, "new") == "AC-112"
    assert opened(store, "old", phone="03-0000-0000") == "AC-112"
    assert opened(store, "new", "AC-9999-9999") == "AC-107"


def test_connections_of_before_go_on_and_are_told(store: Store) -> None:
    """An upgrade stops nobody at 05:00: numbers are issued by the first runs."""
    grace = AT + timedelta(days=60)
    for name in ("a", "b", "c"):
        connection(store, name, grace=grace)
    assert opened(store, "a", "ABC 1", "no phone") == "", "whatever stood in the form"
    with store.begin() as db:
        found = licences.find(db, "abc1")
    assert found is not None
    assert "「a」" in found.note
    # The same number with another telephone number: somebody has to look at it, in time.
    assert [opened(store, "b", "ABC 1") for _ in range(9)] == ["warned"] * 9
    assert opened(store, "b", "ABC 1", at=grace) == "AC-107"
    assert opened(store, "a", "ABC 1", "no phone", at=grace) == ""
    # What an operator ended has ended.
    with store.begin() as db:
        licences.revoke(db, NUMBER, AT)
    assert opened(store, "c") == "AC-111"


def test_an_upgrade_gives_connections_of_before_their_time(
    fresh_database: Callable[..., str],
) -> None:
    from alembic import command

    from flows.engine.store import database

    url = fresh_database()
    store = Store(url)
    with store._engine.begin() as db:
        config = database._alembic()
        config.attributes["connection"] = db
        command.upgrade(config, "0005")
        db.execute(text("INSERT INTO connection (name, connector, fence) VALUES ('shop', 'x', 0)"))
    migrate(url)
    with store.begin() as db:
        days = db.scalar(text("SELECT licence_grace - now() FROM connection"))
    store.close()
    assert timedelta(days=59) < days <= timedelta(days=60)
