"""Row 34: events of services: forged, old, replayed, out of order, in a crowd, and a crash."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from pydantic import SecretStr
from sqlalchemy import text

from blocks import WebhookSettings
from deployments.gateway import sweeper
from deployments.gateway.sweeper import Sweeper
from flows.engine.clock import now
from flows.engine.store import Store
from tests.flows.conftest import World, client, known_blocks, new_world, store
from tests.gateway.conftest import code, serving
from tests.gateway.test_api import ready, runs_of

__all__ = ["client", "known_blocks", "new_world", "store"]

SECRET = "wh-secret-0123456789-abcdef"


@pytest.fixture(scope="module")
def http(store: Store) -> Iterator[httpx.Client]:
    """A gateway that writes events down; the tests themselves look for those without a run."""
    with serving(store) as opened:
        yield opened


class Service:
    """奉行クラウド, telling of events."""

    def __init__(self, http: httpx.Client, name: str) -> None:
        self._http, self._path = http, f"/webhooks/{name}"

    def tell(
        self, number: int, *, age: float = 0, secret: str = SECRET, spoil: bool = False
    ) -> httpx.Response:
        body = json.dumps({"eventKey": "SDMM_Customer_Updated", "n": number}).encode()
        stamp = str(int(time.time() - age))
        signed = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256)
        headers = {"X-Bugyo-Timestamp": stamp, "X-Bugyo-Signature": f"sha256={signed.hexdigest()}"}
        return self.send(body + b" " if spoil else body, headers)

    def send(self, body: bytes, headers: dict[str, str], path: str = "") -> httpx.Response:
        return self._http.post(f"{self._path}{path}", content=body, headers=headers)


async def webhooks(name: str, service: Any) -> None:
    settings = WebhookSettings(service=service, secret=SecretStr(SECRET))
    await settings.save(name, overwrite=True)


def kept(store: Store, name: str) -> list[Any]:
    with store.begin() as db:
        rows = text("SELECT batch, run_id FROM webhook_event WHERE connection = :c ORDER BY seq")
        return list(db.execute(rows, {"c": name}))


def ended(store: Store, run: Any, name: str) -> None:
    """The run has ended, as our books tell it."""
    with store.begin() as db:
        db.execute(
            text(
                "INSERT INTO run (id, connection, connector, service, trigger, mode, dry_run, "
                "business_date, started_at, ended_at, result, stage, extracted, created, updated, "
                "unchanged, rejected, pending, message) VALUES (:id, :c, 'x', 'x', 'API', '差分', "
                "false, now(), now(), now(), 'SUCCESS', 'x', 0, 0, 0, 0, 0, 0, '')"
            ),
            {"id": run, "c": name},
        )


def moment() -> Any:
    """When what came in so far is due."""
    return now() + sweeper.GATHER


async def test_row_34_ten_events_are_one_run_and_no_event_is_lost_or_counted_twice(
    http: httpx.Client, store: Store, new_world: Callable[..., World], client: PrefectClient
) -> None:
    world = await ready(client, new_world())
    await webhooks(world.name, "奉行クラウド")
    service, looking = Service(http, world.name), Sweeper(store)

    # Out of order: what they say is not believed, so their order does not matter.
    answers = [service.tell(n) for n in (3, 1, 2, 9, 8, 7, 6, 5, 4, 10)]
    assert [a.status_code for a in answers] == [202] * 10

    # Not before the others had time to come.
    await looking.sweep(now() - timedelta(seconds=1))
    assert await runs_of(client, world) == []
    await looking.sweep(moment())
    [run] = await runs_of(client, world)
    assert {row.run_id for row in kept(store, world.name)} == {run.id}
    assert "webhook" in run.tags
    for _ in range(3):
        await looking.sweep(moment())
    assert len(await runs_of(client, world)) == 1

    # What comes while that run is at work waits for its end, and is one run again.
    assert service.tell(11).status_code == 202
    await looking.sweep(moment())
    assert len(await runs_of(client, world)) == 1
    ended(store, run.id, world.name)
    await looking.sweep(moment())
    assert len(await runs_of(client, world)) == 2
    assert all(row.run_id for row in kept(store, world.name))
    assert len(kept(store, world.name)) == 11


async def test_row_34_forged_old_and_replayed_events_are_refused_or_ignored(
    http: httpx.Client, store: Store, known_blocks: None
) -> None:
    name = f"hooks-{time.time_ns()}"
    await webhooks(name, "奉行クラウド")
    service = Service(http, name)
    refused = [
        service.tell(1, secret="wh-secret-of-somebody-else"),
        service.tell(1, spoil=True),
        service.tell(1, age=301),
        service.tell(1, age=-301),
        service.send(b"{}", {}),
        service.send(b"{}", {"X-Bugyo-Timestamp": "", "X-Bugyo-Signature": ""}),
        service.send(b"{}", {"X-Bugyo-Timestamp": "now", "X-Bugyo-Signature": "sha256=00"}),
        Service(http, "no-such-connection").tell(1),
    ]
    assert [(a.status_code, code(a)) for a in refused] == [(401, "AC-213")] * len(refused)
    assert len({a.text for a in refused}) == 1, "what is wrong, and what exists, stays unsaid"
    assert kept(store, name) == []

    # The very same bytes again: taken once, however often they come.
    body, stamp = b'{"eventKey":"x"}', str(int(time.time()))
    signed = hmac.new(SECRET.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    headers = {"X-Bugyo-Timestamp": stamp, "X-Bugyo-Signature": signed}
    said = [service.send(body, {**headers, "X-Bugyo-Event-Id": str(n)}) for n in range(5)]
    assert [a.status_code for a in said] == [202] + [200] * 4
    assert len(kept(store, name)) == 1


async def test_row_34_each_service_proves_it_in_its_own_way(
    http: httpx.Client, store: Store, known_blocks: None
) -> None:
    def event(**more: Any) -> bytes:
        told = {"event": "crew_updated", "triggered_at": now().isoformat(), **more}
        return json.dumps(told).encode()

    smarthr, kintone = f"smarthr-{time.time_ns()}", f"kintone-{time.time_ns()}"
    await webhooks(smarthr, "SmartHR")
    await webhooks(kintone, "kintone")
    service = Service(http, smarthr)
    assert service.send(event(), {"X-SmartHR-Token": SECRET}).status_code == 202
    assert service.send(event(), {"X-SmartHR-Token": f"{SECRET}x"}).status_code == 401
    assert service.send(event(), {}).status_code == 401
    assert service.send(event(), {}, f"/{SECRET}").status_code == 401, "only where that is its way"
    # It repeats for three days: late is fine, older than that is not an event any more.
    late, old = (event(triggered_at=(now() - timedelta(days=d)).isoformat()) for d in (3, 5))
    token = {"X-SmartHR-Token": SECRET}
    assert service.send(late, token).status_code == 202
    assert service.send(late, token).json()["reason"] == "duplicate"
    assert service.send(old, token).json()["reason"] == "old"
    assert len(kept(store, smarthr)) == 2

    service = Service(http, kintone)
    update = b'{"id":"01234567-0123","type":"UPDATE_RECORD","app":{"id":"1"}}'
    assert service.send(update, {}, f"/{SECRET}").status_code == 202
    assert service.send(update + b" ", {}, f"/{SECRET}").json()["reason"] == "duplicate"
    assert service.send(b"[]", {"X-Webhook-Token": SECRET}).status_code == 202
    assert service.send(update, {}, "/wrong").status_code == 401
    assert service.send(update, {}).status_code == 401
    assert len(kept(store, kintone)) == 2
    with store.begin() as db:
        rows = db.execute(text("SELECT row_to_json(e)::text FROM webhook_event e")).scalars().all()
    assert SECRET not in "\n".join(rows)


@pytest.mark.parametrize("where", ["before", "after"])
async def test_row_34_killed_between_storing_and_starting_one_run_starts(
    http: httpx.Client,
    store: Store,
    new_world: Callable[..., World],
    client: PrefectClient,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    """The gateway dies when the events are taken up, or when the run was asked for."""
    world = await ready(client, new_world())
    await webhooks(world.name, "奉行クラウド")
    for n in range(3):
        assert Service(http, world.name).tell(n).status_code == 202
    real = sweeper._start

    class KilledError(BaseException):
        """No handler of the product sees it."""

    async def dies(connection: str, batch: Any) -> Any:
        if where == "after":
            await real(connection, batch)
        raise KilledError

    monkeypatch.setattr(sweeper, "_start", dies)
    with suppress(KilledError):
        await Sweeper(store).sweep(moment())
    assert len({row.batch for row in kept(store, world.name)}) == 1
    assert all(row.run_id is None for row in kept(store, world.name))
    monkeypatch.setattr(sweeper, "_start", real)

    # Two gateways come up at once: still one run, of the events of before.
    for _ in range(2):
        await Sweeper(store).sweep(moment())
    [run] = await runs_of(client, world)
    assert {row.run_id for row in kept(store, world.name)} == {run.id}


async def test_row_34_a_running_gateway_starts_the_run_by_itself(
    store: Store, new_world: Callable[..., World], client: PrefectClient
) -> None:
    world = await ready(client, new_world())
    await webhooks(world.name, "その他")
    with serving(store, sweeps=True) as http:
        body, stamp = b'{"id":"e-1"}', str(time.time_ns() // 1_000_000)
        signed = hmac.new(SECRET.encode(), stamp.encode() + b"." + body, hashlib.sha256)
        headers = {"X-Webhook-Timestamp": stamp, "X-Webhook-Signature": signed.hexdigest()}
        told = Service(http, world.name).send(body, headers)
        assert told.status_code == 202
        deadline = time.monotonic() + 120
        while not kept(store, world.name)[0].run_id:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
    assert len(await runs_of(client, world)) == 1
