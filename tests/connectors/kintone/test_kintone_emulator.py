"""The emulator's API on the wire: shapes, limits, writes, cursors, bulk, rights, speed paths."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest

from connectors.kintone.emulator import KintoneEmulator


def codes(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def customers(count: int, start: int = 0) -> list[dict[str, str]]:
    return [{"得意先コード": f"{n:06}", "得意先名": f"社{n}"} for n in range(start, start + count)]


def wire(count: int, start: int = 0) -> list[dict[str, dict[str, str]]]:
    return [{k: {"value": v} for k, v in c.items()} for c in customers(count, start)]


# -- reading -----------------------------------------------------------------------------------


def test_every_scalar_is_a_string(emulator: KintoneEmulator, api: httpx.Client):
    emulator.seed("1", [{"得意先コード": "1", "金額": "12.50", "明細": [{"数量": "3"}]}])
    said = api.get("/records.json", params={"app": 1, "totalCount": "true"}).json()
    assert said["totalCount"] == "1"
    record = said["records"][0]
    assert record["$id"] == {"type": "__ID__", "value": "1"}
    assert record["$revision"] == {"type": "__REVISION__", "value": "1"}
    assert record["レコード番号"] == {"type": "RECORD_NUMBER", "value": "1"}
    assert record["金額"] == {"type": "NUMBER", "value": "12.50"}
    assert record["更新日時"] == {"type": "UPDATED_TIME", "value": "2026-11-22T03:04:00Z"}
    assert record["契約日"]["value"] is None
    assert record["印"] == {"type": "CHECK_BOX", "value": []}
    assert record["作成者"]["value"]["code"]
    row = record["明細"]["value"][0]
    assert row["id"] == "1"
    assert row["value"]["数量"] == {"type": "NUMBER", "value": "3"}
    assert row["value"]["品名"] == {"type": "SINGLE_LINE_TEXT", "value": ""}


def test_defaults_of_a_list(emulator: KintoneEmulator, api: httpx.Client):
    emulator.seed("1", customers(150))
    said = api.get("/records.json", params={"app": 1}).json()
    assert said["totalCount"] is None
    assert [int(r["$id"]["value"]) for r in said["records"]] == list(range(150, 50, -1))
    last = api.get("/records.json", params={"app": 1, "query": "limit 5 offset 148"}).json()
    assert [r["$id"]["value"] for r in last["records"]] == ["2", "1"]
    total = {"app": 1, "query": '得意先名 like "社1" limit 1', "totalCount": "true"}
    assert api.get("/records.json", params=total).json()["totalCount"] == "61"


def test_a_get_may_travel_as_a_post(emulator: KintoneEmulator, api: httpx.Client):
    emulator.seed("1", customers(3))
    body = {"app": 1, "query": "order by $id asc", "fields": ["得意先コード"]}
    answer = api.post("/records.json", json=body, headers={"X-HTTP-Method-Override": "GET"})
    assert answer.json()["records"][0] == {
        "得意先コード": {"type": "SINGLE_LINE_TEXT", "value": "000000"}
    }


def test_a_changed_record_is_encoded_anew(emulator: KintoneEmulator, api: httpx.Client):
    emulator.seed("1", customers(2))
    ask = {"app": 1, "query": "$id = 1", "fields[0]": "得意先名", "fields[1]": "$revision"}
    before = api.get("/records.json", params=ask).json()["records"][0]
    emulator.update("1", 1, {"得意先名": "新社名"})
    after = api.get("/records.json", params=ask).json()["records"][0]
    assert (before["得意先名"]["value"], before["$revision"]["value"]) == ("社0", "1")
    assert (after["得意先名"]["value"], after["$revision"]["value"]) == ("新社名", "2")


def test_every_answer_says_how_near_the_limit_is(api: httpx.Client):
    for answer in (api.get("/records.json", params={"app": 1}), api.get("/records.json")):
        assert answer.headers["X-ConcurrencyLimit-Limit"] == "20"
        assert answer.headers["X-ConcurrencyLimit-Running"] == "1"


def test_order_by_fields(emulator: KintoneEmulator, api: httpx.Client):
    emulator.seed("1", [{"金額": "10"}, {"金額": "9"}, {}, {"金額": "10"}])
    ask = {"app": 1, "query": "order by 金額 desc, $id asc"}
    said = api.get("/records.json", params=ask).json()
    assert [r["$id"]["value"] for r in said["records"]] == ["1", "4", "2", "3"]


# -- rights ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (401, "CB_AU01")),
        ({"X-Cybozu-Authorization": "c2F0bzp3cm9uZw=="}, (401, "CB_WA01")),  # sato:wrong
        ({"X-Cybozu-Authorization": "%%%"}, (401, "CB_WA01")),
        ({"X-Cybozu-Authorization": "c3V6dWtpOnN1enVraS1wYXNzd29yZA=="}, (403, "CB_NO02")),
        ({"Authorization": "Bearer nonsense"}, (401, "CB_OA01")),
        ({"X-Cybozu-API-Token": "wrong"}, (400, "GAIA_IA02")),
        ({"X-Cybozu-API-Token": "viewer-token-0001,wrong"}, (400, "GAIA_IA02")),
        ({"X-Cybozu-API-Token": "viewer-token-0001,writer-token-0002"}, (400, "GAIA_DA03")),
        ({"X-Cybozu-API-Token": "nobody-token-0003"}, (403, "CB_NO02")),
        ({"X-Cybozu-API-Token": "other-app-token-4"}, (403, "GAIA_NO01")),
    ],
)
def test_who_may_not(url: str, headers: dict[str, str], expected: tuple[int, str]):
    assert codes(httpx.get(f"{url}/k/v1/records.json?app=1", headers=headers)) == expected


def test_who_may(url: str):
    for headers in (
        {"X-Cybozu-API-Token": "other-app-token-4, viewer-token-0001"},
        {"X-Cybozu-Authorization": "c2F0bzpzYXRvLXBhc3N3b3Jk"},  # sato:sato-password
        # a right password wins over a wrong token
        {"X-Cybozu-Authorization": "c2F0bzpzYXRvLXBhc3N3b3Jk", "X-Cybozu-API-Token": "wrong"},
    ):
        assert httpx.get(f"{url}/k/v1/records.json?app=1", headers=headers).status_code == 200
    viewer = {"X-Cybozu-API-Token": "viewer-token-0001"}
    denied = httpx.post(
        f"{url}/k/v1/records.json", json={"app": 1, "records": wire(1)}, headers=viewer
    )
    assert codes(denied) == (403, "CB_NO02")


def test_guest_spaces_have_paths_of_their_own(emulator: KintoneEmulator, url: str):
    emulator.add_app("3", "ゲスト", {}, tokens={"guest-token": {"view"}}, guest_space=5)
    headers = {"X-Cybozu-API-Token": "guest-token"}

    def get(path: str) -> httpx.Response:
        return httpx.get(f"{url}/k{path}/v1/records.json?app=3", headers=headers)

    assert get("/guest/5").status_code == 200
    assert codes(get("/guest/6")) == (403, "CB_NO02")
    assert codes(get("")) == (403, "CB_NO02")


def test_an_unknown_subdomain_is_a_page(url: str):
    answer = httpx.get(f"{url}/k/v1/records.json?app=1", headers={"Host": "nobody.cybozu.com"})
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")


# -- writing -----------------------------------------------------------------------------------


def test_add_change_delete(emulator: KintoneEmulator, api: httpx.Client):
    added = api.post("/records.json", json={"app": 1, "records": wire(2)}).json()
    assert added == {"ids": ["1", "2"], "revisions": ["1", "1"]}
    put = {"app": 1, "records": [{"id": "1", "record": {"金額": {"value": 5}}}]}
    assert api.put("/records.json", json=put).json() == {"records": [{"id": "1", "revision": "2"}]}
    record = api.get("/record.json", params={"app": 1, "id": 1}).json()["record"]
    assert (record["金額"]["value"], record["得意先名"]["value"]) == ("5", "社0")
    assert api.delete("/records.json?app=1&ids[0]=1&ids[1]=2").json() == {}
    assert codes(api.get("/record.json", params={"app": 1, "id": 1})) == (404, "GAIA_RE01")
    assert emulator.books()["apps"]["1"] == {"name": "顧客管理", "records": 0, "last_id": 2}


def test_upsert_by_a_unique_field(emulator: KintoneEmulator, api: httpx.Client):
    emulator.seed("1", customers(1))

    def entry(code: str) -> dict[str, object]:
        key = {"field": "得意先コード", "value": code}
        return {"updateKey": key, "record": {"得意先名": {"value": "新"}}}

    put = {"app": 1, "upsert": True, "records": [entry("000000"), entry("000001")]}
    assert api.put("/records.json", json=put).json()["records"] == [
        {"id": "1", "revision": "2", "operation": "UPDATE"},
        {"id": "2", "revision": "1", "operation": "INSERT"},
    ]
    found = api.get("/records.json", params={"app": 1, "query": '得意先コード = "000001"'}).json()
    assert found["records"][0]["得意先名"]["value"] == "新"
    missing = api.put("/records.json", json={"app": 1, "records": [entry("000002")]})
    assert codes(missing) == (404, "GAIA_RE01")
    wrong = {"updateKey": {"field": "得意先名", "value": "新"}, "record": {}}
    assert codes(api.put("/records.json", json={"app": 1, "records": [wrong]})) == (400, "CB_VA01")


@pytest.mark.parametrize(
    ("cells", "place"),
    [
        ({"得意先名": ""}, "records[1].得意先名.value"),
        ({"得意先コード": "0" * 14}, "records[1].得意先コード.value"),
        ({"得意先コード": "000000"}, "records[1].得意先コード.value"),
        ({"得意先コード": "taken"}, "records[1].得意先コード.value"),
        ({"金額": "たくさん"}, "records[1][金額].value"),
        ({"区分": "C"}, "records[1].区分.value"),
        ({"印": ["C"]}, "records[1].印.values.value"),
        ({"契約日": "きのう"}, "records[1].契約日.value"),
        (
            {"明細": [{"value": {"数量": {"value": "x"}}}]},
            "records[1].明細.value[0].value.数量.value",
        ),
    ],
)
def test_one_wrong_record_stops_all(
    emulator: KintoneEmulator, api: httpx.Client, cells: dict[str, object], place: str
):
    emulator.seed("1", [{"得意先コード": "taken", "得意先名": "先"}])
    good, bad = wire(2)
    bad |= {code: {"value": value} for code, value in cells.items()}
    answer = api.post("/records.json", json={"app": 1, "records": [good, bad]})
    assert codes(answer) == (400, "CB_VA01")
    assert list(answer.json()["errors"]) == [place]
    assert emulator.books()["apps"]["1"]["records"] == 1


def test_limits_of_writes(emulator: KintoneEmulator, api: httpx.Client):
    emulator.seed("1", customers(1))
    post = {"app": 1, "records": wire(101, start=500)}
    assert codes(api.post("/records.json", json=post)) == (400, "CB_VA01")
    assert codes(api.delete("/records.json?app=1")) == (400, "CB_VA01")
    assert codes(api.delete("/records.json?app=1&ids[0]=1&ids[1]=9")) == (404, "GAIA_RE01")
    stale = {"app": 1, "records": [{"id": 1, "revision": 7, "record": {}}]}
    assert codes(api.put("/records.json", json=stale)) == (409, "GAIA_CO02")
    assert codes(api.post("/records.json", content=b"{")) == (400, "CB_IJ01")
    assert emulator.books()["apps"]["1"]["records"] == 1


def test_look_ups_copy_or_fail(emulator: KintoneEmulator, url: str):
    emulator.add_app(
        "4",
        "受注",
        {
            "コード": {
                "type": "SINGLE_LINE_TEXT",
                "lookup": {
                    "relatedApp": {"app": "1"},
                    "relatedKeyField": "得意先コード",
                    "fieldMappings": [{"field": "名前", "relatedField": "得意先名"}],
                },
            },
            "名前": {"type": "SINGLE_LINE_TEXT"},
        },
        tokens={"order-token": {"view", "add"}},
    )
    emulator.seed("1", customers(1))

    def add(code: str, tokens: str) -> httpx.Response:
        body = {"app": 4, "record": {"コード": {"value": code}}}
        headers = {"X-Cybozu-API-Token": tokens}
        return httpx.post(f"{url}/k/v1/record.json", json=body, headers=headers)

    both = "order-token,viewer-token-0001"
    assert add("000000", both).json() == {"id": "1", "revision": "1"}
    assert emulator.apps["4"].records[1].values["名前"] == "社0"
    assert codes(add("999999", both)) == (400, "GAIA_LO04")
    # the token of the app that is looked into is needed too
    assert codes(add("000000", "order-token")) == (403, "GAIA_NO01")


def test_bulk_requests_are_one_transaction(emulator: KintoneEmulator, api: httpx.Client):
    emulator.seed("1", customers(1))

    def add(records: list[dict[str, dict[str, str]]]) -> dict[str, object]:
        payload = {"app": 1, "records": records}
        return {"method": "POST", "api": "/k/v1/records.json", "payload": payload}

    change = {
        "method": "PUT",
        "api": "/k/v1/record.json",
        "payload": {"app": 1, "id": 1, "record": {"得意先名": {"value": "変"}}},
    }
    failed = api.post("/bulkRequest.json", json={"requests": [change, add([{}]), change]})
    assert failed.status_code == 400
    results = failed.json()["results"]
    assert (results[0], results[1]["code"], results[2]) == ({}, "CB_VA01", {})
    assert emulator.apps["1"].records[1].values["得意先名"] == "社0"
    fine = api.post("/bulkRequest.json", json={"requests": [change, add(wire(2, start=5))]})
    assert fine.json()["results"] == [
        {"revision": "2"},
        {"ids": ["2", "3"], "revisions": ["1", "1"]},
    ]
    many = {"requests": [change] * 21}
    assert codes(api.post("/bulkRequest.json", json=many)) == (400, "CB_VA01")


# -- cursors -----------------------------------------------------------------------------------


def test_cursors_live_ten_minutes_from_the_last_fetch(
    emulator: KintoneEmulator, api: httpx.Client, clock
):
    emulator.seed("1", customers(30))
    made = api.post("/records/cursor.json", json={"app": 1, "size": 10}).json()
    assert made["totalCount"] == "30"
    cursor = {"id": made["id"]}
    clock.now += timedelta(minutes=9)
    first = api.get("/records/cursor.json", params=cursor).json()
    assert (len(first["records"]), first["next"]) == (10, True)
    clock.now += timedelta(minutes=9)
    assert api.get("/records/cursor.json", params=cursor).status_code == 200
    clock.now += timedelta(minutes=11)
    assert codes(api.get("/records/cursor.json", params=cursor)) == (404, "GAIA_CN01")
    assert emulator.books()["cursors"] == 0


def test_cursor_limits(api: httpx.Client):
    for body in ({"app": 1, "query": "limit 5"}, {"app": 1, "size": 501}, {"app": 1, "size": 0}):
        assert codes(api.post("/records/cursor.json", json=body)) == (400, "CB_VA01")
    ids = [api.post("/records/cursor.json", json={"app": 1}).json()["id"] for _ in range(10)]
    assert codes(api.post("/records/cursor.json", json={"app": 1})) == (429, "GAIA_TM12")
    gone = {"method": "DELETE", "url": "/records/cursor.json", "json": {"id": ids[0]}}
    assert api.request(**gone).json() == {}
    assert codes(api.request(**gone)) == (404, "GAIA_CN01")
    assert api.post("/records/cursor.json", json={"app": 1}).status_code == 200


# -- other processes ---------------------------------------------------------------------------


def test_records_can_be_steered_over_http(emulator: KintoneEmulator, url: str):
    base = f"{url}/__emulator__/apps/1/records"
    body = {"records": customers(2), "updated_at": "2026-01-02T03:04:05+09:00"}
    assert httpx.post(base, json=body).json() == {"ids": [1, 2]}
    values = emulator.apps["1"].records[1].values
    assert values["更新日時"] == "2026-01-01T18:04:00Z"
    assert httpx.put(f"{base}/1", json={"values": {"得意先名": "新"}}).json() == {"revision": 2}
    assert httpx.delete(f"{base}/2").status_code == 200
    assert httpx.delete(f"{base}/2").status_code == 404
    assert httpx.put(f"{base}/1", json={"values": {"ない": "1"}}).status_code == 404
    assert httpx.get(f"{url}/__emulator__/books").json()["apps"]["1"]["records"] == 1


def test_paging_does_not_look_at_earlier_records(emulator: KintoneEmulator, api: httpx.Client):
    emulator.seed("1", customers(2_000))
    looked_at = 0

    class Counting(dict[int, object]):
        def __getitem__(self, key: int) -> object:
            nonlocal looked_at
            looked_at += 1
            return super().__getitem__(key)

    emulator.apps["1"].records = Counting(emulator.apps["1"].records)  # type: ignore[assignment]
    query = '(得意先名 like "社") and $id > 1500 order by $id asc limit 10'
    said = api.get("/records.json", params={"app": 1, "query": query}).json()
    assert [int(r["$id"]["value"]) for r in said["records"]] == list(range(1501, 1511))
    assert looked_at < 20
