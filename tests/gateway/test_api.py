"""Keys, runs and results over HTTP, as another system asks for them; and what every answer says."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.exceptions import ObjectAlreadyExists
from typer.testing import CliRunner

from deployments.cli.keys import key as command
from deployments.gateway import keys
from flows.engine.clock import now
from flows.engine.store import Store
from tests.flows.conftest import World
from tests.gateway.conftest import code

POOL = "gateway-tests"
"""A pool on which nobody works: what was asked for can be looked at."""


async def ready(client: PrefectClient, world: World) -> World:
    """A world whose connection is saved and deployed."""
    await world.save()
    with contextlib.suppress(ObjectAlreadyExists):
        await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    await world.deploy(POOL)
    return world


async def runs_of(client: PrefectClient, world: World) -> list[Any]:
    """What Prefect was asked to run, without what the schedule asks for."""
    assert world.deployment is not None
    mine = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[world.deployment]))
    found = await client.read_flow_runs(flow_run_filter=mine)
    return [run for run in found if not run.auto_scheduled]


class Asker:
    """Another system with a key."""

    def __init__(self, http: httpx.Client, key: str) -> None:
        self._http, self._headers = http, {"Authorization": f"Bearer {key}"}

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self._http.get(f"/api/v1{path}", headers=self._headers, **more)

    def start(self, name: str, body: Any = None, key: str = "", **more: Any) -> httpx.Response:
        headers = {**self._headers, **({"Idempotency-Key": key} if key else {})}
        path = f"/api/v1/connections/{name}/runs"
        return self._http.post(path, headers=headers, json=body, **more)


async def test_a_run_from_the_request_to_its_result(
    http: httpx.Client, store: Store, new_world: Callable[..., World], client: PrefectClient
) -> None:
    mine, other = new_world(), await ready(client, new_world())
    mine.fill(3)
    await ready(client, mine)
    asker = Asker(http, keys.issue(store, "基幹システム", connections=[mine.name]))

    # Twice is once; another key is another run; nothing at all is what the Run button does.
    answers = [asker.start(mine.name, {"mode": "全件", "dry_run": True}, "req-1") for _ in range(2)]
    assert [a.status_code for a in answers] == [202, 202]
    first, again = (a.json() for a in answers)
    assert first == again
    assert answers[0].headers["location"] == first["status_url"]
    assert asker.start(mine.name).status_code == 202
    asked = await runs_of(client, mine)
    assert len(asked) == 2
    run = next(r for r in asked if str(r.id) == first["run_id"])
    assert "api" in run.tags
    assert (run.parameters["mode"], run.parameters["dry_run"]) == ("全件", True)
    waiting = asker.get(f"/runs/{first['run_id']}").json()
    assert (waiting["finished"], waiting["result"]) == (False, None)

    ran = await mine.run()
    told = asker.get(f"/runs/{ran.row.id}").json()
    assert (told["finished"], told["result"]) == (True, "SUCCESS")
    assert (told["extracted"], told["created"], told["connection"]) == (3, 3, mine.name)
    assert told["flow_run_id"] == told["run_id"] == str(ran.row.id)
    rows = asker.get("/history", params={"limit": 5}).json()
    assert [row["id"] for row in rows] == [str(ran.row.id)]
    assert [each["name"] for each in asker.get("/connections").json()] == [mine.name]
    # All of it, page by page, however old: Prefect's own retention does not matter.
    newer = await mine.run()
    everything = [str(newer.row.id), str(ran.row.id)]
    paged: list[str] = []
    while page := asker.get(
        "/history", params={"limit": 1, **({"before": paged[-1]} if paged else {})}
    ).json():
        paged += [row["id"] for row in page]
    assert paged == everything
    day = str(ran.row.business_date)
    for chosen, ids in (
        ({"from": day, "to": day, "result": "SUCCESS"}, everything),
        ({"to": "2026-01-01"}, []),
        ({"from": "2099-01-01"}, []),
        ({"result": "ERROR"}, []),
    ):
        found = asker.get("/history", params={"limit": 1000, **chosen}).json()
        assert [row["id"] for row in found] == ids, chosen
    for bad in ({"from": "昨日"}, {"result": "だめ"}, {"limit": 1001}, {"form": day}):
        assert code(asker.get("/history", params=bad)) == "AC-212", bad

    # Nothing of others: not to be started, not to be read, not even to be known of.
    theirs = await other.run()
    assert asker.start(other.name).status_code == 403
    assert asker.get("/history", params={"connection": other.name}).status_code == 403
    hidden = asker.get("/history", params={"before": str(theirs.row.id)})
    assert code(hidden) == "AC-215"
    unknown, foreign = asker.get(f"/runs/{uuid4()}"), asker.get(f"/runs/{theirs.row.id}")
    assert unknown.status_code == foreign.status_code == 404
    assert code(unknown) == code(foreign) == "AC-215"
    assert await runs_of(client, other) == []

    november = {"from": "2026-11-01", "to": "2026-11-30"}
    asked_for = asker.start(mine.name, {"mode": "期間", "period": november})
    assert asked_for.status_code == 202, asked_for.text
    month = next(
        r for r in await runs_of(client, mine) if str(r.id) == asked_for.json()["run_id"]
    ).parameters
    assert {k: v for k, v in month.items() if k not in ("connection", "mode")} == {
        "period_from": "2026-11-01",
        "period_to": "2026-11-30",
    }
    assert month["mode"] == "期間"
    # A deployment that was made before there were periods: it is told now, not by a run that fails.
    assert mine.deployment is not None
    form = (await client.read_deployment(mine.deployment)).parameter_openapi_schema
    older = {**form["properties"]}
    del older["period_from"], older["period_to"]
    before = DeploymentUpdate(parameter_openapi_schema={**form, "properties": older})
    await client.update_deployment(mine.deployment, before)
    told = asker.start(mine.name, {"mode": "期間", "period": november})
    assert (told.status_code, code(told)) == (422, "AC-212")
    assert "この接続では period を指定できません" in told.json()["error"]["happened"]
    again_now = DeploymentUpdate(parameter_openapi_schema=form)
    await client.update_deployment(mine.deployment, again_now)

    wrong: list[tuple[Any, str]] = [
        ({"mood": "全件"}, "「mood」は使えない項目です"),
        ({"mode": "ぜんぶ"}, "「mode」の値が正しくありません"),
        ({"connection": other.name}, "「connection」は使えない項目です"),
        ({"period": {"from": "2026-11-01"}}, "「period.to」がありません"),
        ({"period": november}, "処理の範囲が「差分」のときは、期間の日付を使いません"),
        ({"mode": "期間"}, "開始日と終了日の両方を指定します"),
        ({"mode": "期間", "period": {**november, "to": "2026-10-31"}}, "開始日より前です"),
        ([], "の値が正しくありません"),
    ]
    for body, words in wrong:
        refused = asker.start(mine.name, body)
        assert (refused.status_code, code(refused)) == (422, "AC-212"), refused.text
        assert words in refused.json()["error"]["happened"]
    refused = asker.start(mine.name, {}, params={"dryrun": "1"})
    assert "知らない項目 dryrun" in refused.json()["error"]["happened"]
    assert asker.start("nobody-s").status_code == 403
    assert len(await runs_of(client, mine)) == 3
    all_of_them = Asker(http, keys.issue(store, "すべて"))
    assert code(all_of_them.start("nobody-s")) == "AC-206"


def test_keys_are_scoped_limited_and_end(http: httpx.Client, store: Store) -> None:
    reader = Asker(http, keys.issue(store, "読むだけ", scopes=["read"]))
    starter = Asker(http, keys.issue(store, "始めるだけ", scopes=["run"]))
    assert reader.get("/history").status_code == 200
    assert code(reader.start("any")) == "AC-210"
    assert code(starter.get("/history")) == "AC-210"

    full = keys.issue(store, "回数", per_minute=3)
    answers = [Asker(http, full).get("/history") for _ in range(5)]
    assert [a.status_code for a in answers] == [200] * 3 + [429] * 2
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert code(answers[-1]) == "AC-211"

    late = keys.issue(store, "期限切れ", expires_at=now() - timedelta(seconds=1))
    gone = keys.issue(store, "取り消し")
    keys.revoke(store, gone.split("_")[1])
    public = full.split("_")[1]
    for bad in (late, gone, f"ack_{public}_{'x' * 43}", "ack_", "x", full[4:]):
        refused = Asker(http, bad).get("/history")
        assert (refused.status_code, code(refused)) == (401, "AC-209")
    refused = http.get("/api/v1/history")
    assert refused.headers["www-authenticate"] == "Bearer"
    # Kept as a hash, shown once.
    stored = [row for row in keys.listed(store) if row.id == public]
    assert full.split("_", 2)[2] not in str(stored)
    with pytest.raises(Exception, match="AC-205"):
        keys.issue(store, " ")
    # Guessing ends by itself; good keys from the same address go on.
    codes = {code(Asker(http, f"ack_{public}_{n}").get("/history")) for n in range(40)}
    assert codes == {"AC-209", "AC-211"}
    assert reader.get("/history").status_code == 200


def test_every_answer_is_safe_to_show(store: Store) -> None:
    from tests.gateway.conftest import serving

    with serving(store) as http:
        for path in ("/live", "/api/docs", "/style.css", "/api/v1/history", "/nothing", "/"):
            answer = http.get(path)
            assert answer.headers["x-content-type-options"] == "nosniff", path
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert "server" not in answer.headers or "uvicorn" in answer.headers["server"]
        assert code(http.get("/nothing")) == "AC-215"
        assert http.get("/openapi.json").status_code == 404
        for page in ("/api/docs", "/style.css"):
            text = http.get(page).text
            assert re.findall(r"(?:src|href)=\"([^\"]+)\"", text) in (
                ["/style.css", "/api/v1/openapi.json"],
                [],
            )
            assert "://" not in text, "a browser asks nobody else"
            assert "<script" not in text
        docs = http.get("/api/docs").text
        for word in ("処理を始める", "Idempotency-Key", "dry_run", "/api/v1/runs/{run_id}"):
            assert word.lower() in docs.lower()
        paths = http.get("/api/v1/openapi.json").json()["paths"]
        assert set(paths) == {
            "/api/v1/connections",
            "/api/v1/connections/{name}/runs",
            "/api/v1/runs/{run_id}",
            "/api/v1/history",
        }
        # A page that leads its own name here gets nowhere.
        for host, status in (("evil.example", 400), ("connect.example.co.jp", 200)):
            assert http.get("/live", headers={"Host": host}).status_code == status
        big = b"{" + b" " * 1_000_001
        for more in ({"content": big}, {"content": iter([big[:600_000], big[:600_000]])}):
            refused = http.post("/webhooks/any", **more)
            assert (refused.status_code, code(refused)) == (413, "AC-214")


def test_health_names_what_is_missing(store: Store) -> None:
    from tests.gateway.conftest import serving

    with serving(store) as http:
        # A busy machine may need longer than the patience of one look.
        deadline = time.monotonic() + 240
        while (found := http.get("/health")) and not found.json()["prefect"]:
            assert time.monotonic() < deadline, found.text
            time.sleep(1)
        told = found.json()
        assert told["database"] is True
        assert (found.status_code == 200) is (told["status"] == "ok") is told["worker"]
    away = Store("postgresql://nobody@127.0.0.1:9/nothing")
    with serving(away) as http:
        found = http.get("/health")
        assert found.status_code == 503
        assert found.json()["database"] is False
        asker = Asker(http, "ack_0_0").get("/history")
        assert asker.status_code == 503
        assert code(asker).startswith("AC-70")


def test_the_command_shows_a_key_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*arguments: str) -> str:
        done = CliRunner().invoke(command, list(arguments), env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        return done.stdout

    name = f"system-{uuid4().hex[:6]}"
    made = call("issue", name, "--scope", "read", "-c", "sample", "--until", "2099-03-31")
    made = made.splitlines()[0].strip()
    with store.begin() as db:
        caller = keys.caller_of(db, made, now())
    assert (caller.scopes, caller.connections) == ({"read"}, {"sample"})
    public = made.split("_")[1]
    listed = call("list", "--json")
    assert public in listed
    assert made.split("_", 2)[2] not in listed
    assert public in call("revoke", public)
    assert f'"{name}", "権限": "read"' in call("list", "--json")
    with store.begin() as db, pytest.raises(Exception, match="AC-209"):
        keys.caller_of(db, made, now())
