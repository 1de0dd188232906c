"""The client: pages newest first, sparse attributes, both limits, errors in our words."""

from __future__ import annotations

from datetime import timedelta

import pytest

from connectors.kit import FaultError, SettingsError, WaitError
from connectors.kit.emulator import Fault
from connectors.smarthr import CREW_FIELDS, host_of
from connectors.smarthr.emulator_store import ATTRIBUTES

TOKEN, NOBODY = "shr_reader_0001", "shr_nobody_0003"

IP = '{"code": 15, "type": "ip_not_permitted", "message": "許可されていないIPアドレスです"}'
BAD = '{"code": 1, "type": "bad_request", "message": "不正", "errors": [{"field": "sort"}]}'
BROKEN = '{"code": 5, "type": "internal_server_error", "message": "", "errors": null}'
GONE = '{"code": 4, "type": "not_found", "message": "ありません"}'
FIELDS = ("emp_code", "last_name", "birth_at")


def seed(emulator, hands, many: int) -> list[str]:
    """Crews, each changed a second after the one before."""
    start = hands.clock() - timedelta(days=1)
    return [
        emulator.seed([{"emp_code": f"{n:05}"}], start + timedelta(seconds=n))[0]
        for n in range(many)
    ]


async def failure(awaitable):
    with pytest.raises((FaultError, SettingsError, WaitError)) as caught:
        await awaitable
    return caught.value


async def test_pages_come_newest_first_and_say_how_many_there_are(emulator, client, hands):
    ids = seed(emulator, hands, 205)
    async with client() as smarthr:
        pages = [await smarthr.crews(n, fields=FIELDS) for n in (1, 2, 3)]
        beyond = await smarthr.crews(4, fields=FIELDS)
    assert [c["id"] for page in pages for c in page.crews] == ids[::-1]
    assert [page.last for page in pages] == [False, False, True]
    assert {page.total for page in pages} == {205}
    assert (beyond.crews, beyond.last) == ([], True)
    assert pages[0].server_date is not None


async def test_only_what_is_asked_for_travels(emulator, client, hands):
    seed(emulator, hands, 1)
    emulator.update(next(iter(emulator.crews.rows)), {"bank_accounts": [{"account_number": "1"}]})
    async with client() as smarthr:
        page = await smarthr.crews(fields=FIELDS)
        for never in ("bank_accounts", "basic_pension_number", "resident_card_address"):
            with pytest.raises(ValueError, match=never):
                await smarthr.crews(fields=[never])
    assert set(page.crews[0]) == {"id", "updated_at", *FIELDS}
    assert emulator.asked == {"id,updated_at,emp_code,last_name,birth_at"}
    assert set(ATTRIBUTES) > CREW_FIELDS


async def test_single_crews_by_id_and_by_number(emulator, client, hands):
    ids = seed(emulator, hands, 12)
    async with client() as smarthr:
        some = await smarthr.crews(fields=FIELDS, ids=[ids[3], ids[7], "gone"])
        one = await smarthr.crews(fields=FIELDS, emp_code="00005")
    assert [c["id"] for c in some.crews] == [ids[7], ids[3]]
    assert [c["id"] for c in one.crews] == [ids[5]]


async def test_both_limits_are_kept_without_a_single_429(emulator, client, hands):
    async with client() as smarthr:
        for _ in range(60):
            await smarthr.crews(fields=FIELDS)
        assert 6 <= hands.passed <= 7  # nine a second
        hands.passed = 3500.0
        emulator.limits.use(TOKEN, 5000 - 60 - 1)  # another program with the same token
        hands.passed = 3501.0
        await smarthr.crews(fields=FIELDS)  # the last one of this hour
        assert hands.passed == 3501.0
        await smarthr.crews(fields=FIELDS)
        assert 3600 <= hands.passed <= 3601
    assert emulator.limits.refused == 0


async def test_an_hour_that_is_used_up_ends_the_request_before_it_leaves(emulator, client, hands):
    hands.passed = 600.0
    emulator.limits.use(TOKEN, 4999)
    hands.passed = 601.0
    async with client() as smarthr:
        await smarthr.crews(fields=FIELDS)
        error = await failure(smarthr.crews(fields=FIELDS))
    assert (error.code, round(error.retry_after)) == ("AC-503", 2999)
    assert hands.passed == 601.0
    assert emulator.faults.counts() == {"GET /api/v1/crews": 1}


async def test_a_429_by_the_second_is_waited_out(emulator, client, hands):
    emulator.limits.use(TOKEN, 10)  # nobody told us
    async with client() as smarthr:
        await smarthr.crews(fields=FIELDS)
    assert emulator.limits.refused == 1
    assert hands.passed == 1.0


@pytest.mark.parametrize(
    ("token", "subdomain", "code", "word"),
    [
        ("wrong", "example", "AC-102", "無効なアクセストークンです"),
        (NOBODY, "example", "AC-203", "アクセスが禁止されています"),
        (TOKEN, "another", "AC-201", "another.smarthr.jp"),
    ],
)
async def test_who_may_not_come_in_learns_why(client, token, subdomain, code, word):
    async with client(token, subdomain=subdomain) as smarthr:
        error = await failure(smarthr.crews(fields=FIELDS))
    assert error.code == code
    assert word in str(error)
    assert token not in str(error) + repr(error.as_dict())


@pytest.mark.parametrize(
    ("fault", "code", "requests"),
    [
        ({"kind": "maintenance"}, "AC-502", 5),
        ({"kind": "maintenance_200"}, "AC-502", 5),
        ({"kind": "replace_body", "body": "[{}]"}, "AC-303", 1),
        ({"kind": "replace_body", "body": '[{"id": "1", "updated_at": "x"}]'}, "AC-303", 1),
        (
            {"kind": "status", "status": 500, "body": '{"type": "internal_server_error"}'},
            "AC-301",
            5,
        ),
        ({"kind": "status", "status": 403, "body": IP}, "AC-203", 1),
        ({"kind": "status", "status": 422, "body": BAD}, "AC-205", 1),
        ({"kind": "status", "status": 404, "body": GONE}, "AC-301", 1),
        ({"kind": "drop_after"}, "AC-301", 5),
    ],
)
async def test_every_answer_has_a_word_of_ours(emulator, client, fault, code, requests):
    emulator.faults.add(Fault(path="crews", times=None, **fault))
    async with client() as smarthr:
        error = await failure(smarthr.crews(fields=FIELDS))
    assert error.code == code
    assert sum(emulator.faults.counts().values()) == requests


def test_hosts_are_smarthrs_own():
    assert host_of("example") == "example.smarthr.jp"
    assert host_of(" https://example.daruma.space/crews ") == "example.daruma.space"
    for wrong in ("", "example.com", "a.b", "smarthr.jp.evil.example"):
        with pytest.raises(SettingsError, match="AC-201"):
            host_of(wrong)


async def test_other_hosts_are_refused(client):
    with pytest.raises(SettingsError, match="AC-207"):
        client(endpoint="https://smarthr.example.com")
