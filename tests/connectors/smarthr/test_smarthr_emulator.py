"""The emulator's quirks, as the contract names them (partners.md 5)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from starlette.requests import Request

from connectors.kit.emulator import Emulator, serve
from connectors.smarthr.emulator_store import ATTRIBUTES


def test_a_page_has_ten_and_the_rest_is_in_headers(emulator, api):
    emulator.seed([{"emp_code": str(n)} for n in range(25)])
    answer = api.get("/crews", params={"page": 2, "emp_status": "employed"})
    assert isinstance(answer.json(), list)
    assert len(answer.json()) == 10
    assert answer.headers["x-total-count"] == "25"
    assert {rel: httpx.URL(link["url"]).params["page"] for rel, link in answer.links.items()} == {
        "first": "1",
        "last": "3",
        "next": "3",
        "prev": "1",
    }
    assert all("emp_status=employed" in link["url"] for link in answer.links.values())
    for wrong in ({"per_page": 101}, {"page": 0}, {"sort": "-secret"}, {"fields": "password"}):
        assert api.get("/crews", params=wrong).status_code == 400


def test_there_is_no_filter_on_updated_at(emulator, api):
    emulator.seed([{}, {}])
    asked = {"updated_at_from": "2099-01-01", "updated_since": "2099-01-01"}
    assert len(api.get("/crews", params=asked).json()) == 2


def test_a_change_moves_a_crew_to_the_front(emulator, api, hands):
    ids = []
    for number in range(3):
        hands.passed += 1
        ids += emulator.seed([{"emp_code": str(number)}])
    newest_first = {"sort": "-updated_at,emp_code", "per_page": 2}
    assert [c["id"] for c in api.get("/crews", params=newest_first).json()] == ids[:0:-1]
    hands.passed += 1
    emulator.update(ids[0], {"emp_status": "absent"})
    assert [c["id"] for c in api.get("/crews", params=newest_first).json()] == [ids[0], ids[2]]


def test_every_attribute_comes_unless_fields_says_otherwise(emulator, api):
    sales = emulator.add_department("営業1課", "110", "営業部/営業1課")
    regular = emulator.add_employment_type("正社員", None, "full_timer")
    crew = emulator.seed([{"departments": [sales], "employment_type": regular}])[0]
    whole = api.get(f"/crews/{crew}").json()
    assert list(whole) == list(ATTRIBUTES)
    # The deprecated duplicates stay.
    assert (whole["department"], whole["emp_type"]) == ("営業部/営業1課", "full_timer")
    assert "biz_establishment" not in whole
    asked = {"fields": "emp_code,updated_at"}
    assert set(api.get("/crews", params=asked).json()[0]) == {"emp_code", "updated_at"}


def test_a_role_hides_attributes(emulator, url):
    emulator.seed([{"birth_at": "1990-01-01"}])
    blind = httpx.get(f"{url}/api/v1/crews", headers={"authorization": "Bearer shr_blind_0002"})
    assert "birth_at" not in blind.json()[0]
    assert "emp_code" in blind.json()[0]


def test_the_token_as_user_name_is_accepted(url):
    secret = base64.b64encode(b"shr_reader_0001:").decode()
    for value, status in ((f"Basic {secret}", 200), ("Basic !", 401), ("", 401)):
        assert httpx.get(f"{url}/api/v1/crews", headers={"authorization": value}).status_code == (
            status
        )


def test_errors_have_four_members(api, url):
    wrong = httpx.get(f"{url}/api/v1/crews", headers={"authorization": "Bearer x"})
    assert wrong.json() == {
        "code": 2,
        "type": "unauthorized_token",
        "message": "無効なアクセストークンです",
        "errors": None,
    }
    assert api.get("/crews/gone").json()["type"] == "not_found"
    assert api.get("/salaries").status_code == 404


def test_the_second_and_the_hour_have_headers_of_their_own(emulator, api, hands):
    first = api.get("/crews").headers
    assert first["x-rate-limit-remaining"] == "4999"
    assert first["x-intensive-rate-limit-remaining"] == "9"
    assert (first["x-rate-limit-reset"], first["x-intensive-rate-limit-reset"]) == ("3600", "1")
    for _ in range(9):
        assert api.get("/crews").status_code == 200
    eleventh = api.get("/crews")
    assert (eleventh.status_code, eleventh.json()["type"]) == (429, "too_many_requests")
    assert "x-rate-limit-limit" in eleventh.headers
    hands.passed += 1
    assert api.get("/crews").status_code == 200
    emulator.limits.use("shr_reader_0001", 5000)
    hands.passed += 1
    assert api.get("/crews").status_code == 429
    hands.passed += 3600
    assert api.get("/crews").status_code == 200


def test_masters_are_pages_too(emulator, api):
    emulator.add_department("営業部", "100")
    emulator.add_employment_type("パート", "P", "part_timer")
    assert [d["code"] for d in api.get("/departments", params={"code": "100"}).json()] == ["100"]
    assert [t["name"] for t in api.get("/employment_types").json()] == ["パート"]


# -- webhooks ----------------------------------------------------------------------------------


class Ear(Emulator):
    """Who receives webhooks."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str | None, dict]] = []

        @self.api.post("/hook")
        async def hook(request: Request) -> None:
            self.heard.append((request.headers.get("x-smarthr-token"), await request.json()))


@pytest.fixture
def ear() -> Iterator[tuple[Ear, str]]:
    listener = Ear()
    with serve(listener) as base:
        yield listener, f"{base}/hook"


def test_a_webhook_carries_the_secret_as_it_was_typed(emulator, api, url, ear):
    listener, address = ear
    wanted = {"url": address, "secret_token": "s3cret", "crew_updated": True}
    made = api.post("/webhooks", json=wanted)
    assert (made.status_code, "secret_token" in made.json()) == (201, False)
    crew = emulator.seed([{"emp_code": "7"}])[0]

    def send(event: str, tries: int = 1) -> list[int]:
        body = {"event": event, "crew": crew, "tries": tries}
        answer = httpx.post(f"{url}/__emulator__/webhooks/send", json=body)
        return answer.json()["statuses"]

    assert send("crew_updated") == [200]
    assert send("crew_created") == []  # not asked for
    token, body = listener.heard[0]
    assert (token, body["event"], body["crew"]["emp_code"]) == ("s3cret", "crew_updated", "7")
    assert set(body) == {"event", "triggered_at", "sender", "crew"}

    api.patch(f"/webhooks/{made.json()['id']}", json={"expose_only_id": True})
    send("crew_updated")
    assert listener.heard[1][1]["crew"] == {"id": crew}

    api.patch(f"/webhooks/{made.json()['id']}", json={"url": address.replace("hook", "gone")})
    assert send("crew_updated", 17) == [404] * 17
    assert api.get(f"/webhooks/{made.json()['id']}").json()["disabled_at"]
    assert send("crew_updated") == []
    assert api.delete(f"/webhooks/{made.json()['id']}").status_code == 204
    assert api.get("/webhooks").json() == []


def test_a_registration_that_cannot_be_used_is_422(api):
    answer = api.post("/webhooks", json={"url": "ftp://x", "nonsense": 1})
    assert answer.status_code == 422
    assert {e["field"] for e in answer.json()["errors"]} == {"url", "nonsense"}
    assert api.post("/webhooks", content=b"[").status_code == 400
    assert api.patch("/webhooks/none", json={}).status_code == 404


def test_another_process_seeds_and_changes_crews(emulator, url, hands):
    control = f"{url}/__emulator__/crews"
    at = (hands.clock() - timedelta(days=1)).isoformat()
    ids = httpx.post(control, json={"crews": [{"emp_code": "1"}], "updated_at": at}).json()["ids"]
    assert emulator.crews.rows[ids[0]]["updated_at"] == "2026-11-21T03:04:05.000Z"
    httpx.patch(f"{control}/{ids[0]}", json={"values": {"emp_status": "retired"}})
    assert emulator.crews.rows[ids[0]]["updated_at"] == "2026-11-22T03:04:05.000Z"
    assert httpx.patch(f"{control}/gone", json={"values": {}}).status_code == 404
    assert httpx.post(control, json={"crews": [{"nonsense": 1}]}).status_code == 404
    assert httpx.delete(f"{control}/{ids[0]}").status_code == 200
    assert httpx.get(f"{url}/__emulator__/books").json()["crews"] == 0
