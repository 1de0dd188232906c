"""Rows 19 to 22 of the fault matrix: pages that shift, share a minute, repeat, hold too little."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from company import APP, LONG_AGO, Company
from invariants import holds, none_doubled, safe

from connectors.kintone import KintoneClient, api_token
from connectors.kintone.client import MAX_SIZE
from connectors.kit import FaultError
from connectors.kit.emulator import Fault
from connectors.kit.paging import NoRepeat

RECORDS = "/records.json$"
TWO_PAGES = MAX_SIZE + 12
EMPTY = '{"records":[],"totalCount":null}'


def during_page(firm: Company, act: Callable[[], object], *, page: int = 1) -> None:
    """Let people work in kintone when a page was made up and before the next one is asked for."""
    seen = 0

    def answered(path: str) -> None:
        nonlocal seen
        if path.endswith("/records.json"):
            seen += 1
            if seen == page + 1:  # the first request only counts
                act()

    firm.kintone.faults.hook = answered


def fill(firm: Company, many: int, at: datetime = LONG_AGO) -> list[int]:
    """Good vouchers of one moment."""
    return [firm.add(1000 + n, at=at) for n in range(many)]


def page_of(firm: Company, numbers: list[int]) -> str:
    """A page with these records, as kintone would send it."""
    app = firm.kintone.apps[APP]
    records = [orjson.loads(app.records[n].encoded(app.types, None)) for n in numbers]
    return orjson.dumps({"records": records, "totalCount": None}).decode()


def answer(firm: Company, body: str, *, after: int, times: int | None = 1) -> None:
    """Answer a request for records with ``body``; request 0 counts, request 1 is the first page."""
    fault = Fault(kind="replace_body", path=RECORDS, body=body, after=after, times=times)
    firm.kintone.faults.add(fault)


# --- row 19: pages shift --------------------------------------------------------------------------


def test_row_19_a_record_inserted_between_pages_is_posted_once(firm: Company) -> None:
    fill(firm, TWO_PAGES)
    during_page(firm, lambda: fill(firm, 2, datetime.now(UTC)))
    first = firm.run()
    firm.kintone.faults.hook = None
    second = firm.run()
    assert str(second.result) == "SUCCESS"
    holds(firm, first, second)


def test_row_19_a_record_deleted_between_pages_hides_no_other(firm: Company) -> None:
    """An offset would skip one record for each one that is deleted before it."""
    numbers = fill(firm, TWO_PAGES)

    def act() -> None:
        firm.kintone.delete(APP, numbers[3])  # read already: posted, and gone at the source
        firm.delete(numbers[-1])  # not read yet

    during_page(firm, act)
    first = firm.run()
    firm.kintone.faults.hook = None
    assert (
        first.message
        == f"取得 {TWO_PAGES - 1} / 登録 {TWO_PAGES - 1} / 更新 0 / 変更なし 0 / エラー 0"
    )
    holds(firm, first)
    second = firm.run("全件")
    assert firm.rejects() == {str(numbers[3]): "AC-812"}
    safe(firm, second)


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(minutes=5)])
def test_row_19_a_change_behind_the_reader_is_seen_by_the_next_run(
    firm: Company, ahead: timedelta
) -> None:
    """Also when a later page moves the newest time past the change, by a clock that is ahead."""
    changed = firm.add(500, at=LONG_AGO)
    firm.run()
    fill(firm, TWO_PAGES, LONG_AGO + timedelta(hours=1))
    firm.add(900, at=datetime.now(UTC) + ahead)
    during_page(firm, lambda: firm.change(changed, 501))
    first = firm.run()
    firm.kintone.faults.hook = None
    assert first.error is None
    assert firm.ledger()[str(changed)]["amount"] == 500
    second = firm.run()
    assert firm.rejects() == {str(changed): "AC-811"}
    safe(firm, first, second)


def test_row_19_a_change_of_a_record_on_a_later_page_is_read_as_it_is_now(firm: Company) -> None:
    numbers = fill(firm, TWO_PAGES)
    during_page(firm, lambda: firm.change(numbers[-1], 31_415))
    ending = firm.run()
    firm.kintone.faults.hook = None
    assert str(ending.result) == "SUCCESS"
    holds(firm, ending)


# --- row 20: the cursor's minute ------------------------------------------------------------------


def test_row_20_more_than_a_page_shares_the_minute_of_the_watermark(firm: Company) -> None:
    fill(firm, TWO_PAGES)
    first = firm.run()
    assert firm.watermark() == LONG_AGO
    fill(firm, 5)  # the same minute, after the run
    second = firm.run()
    assert second.message == (
        f"取得 {TWO_PAGES + 5} / 登録 5 / 更新 0 / 変更なし {TWO_PAGES} / エラー 0"
    )
    holds(firm, first, second)


def test_row_20_a_row_committed_late_with_an_older_time_is_within_the_overlap(
    firm: Company,
) -> None:
    fill(firm, 10)
    first = firm.run()
    fill(firm, 3, LONG_AGO - timedelta(minutes=1))
    second = firm.run()
    assert second.message == "取得 13 / 登録 3 / 更新 0 / 変更なし 10 / エラー 0"
    assert firm.watermark() == LONG_AGO
    holds(firm, first, second)


def test_row_20_what_is_older_than_the_overlap_is_found_by_a_full_run(firm: Company) -> None:
    fill(firm, 10)
    firm.run()
    fill(firm, 2, LONG_AGO - timedelta(hours=1))
    assert firm.run().message.startswith("取得 10 ")
    ending = firm.run("全件")
    assert ending.message == "取得 12 / 登録 2 / 更新 0 / 変更なし 10 / エラー 0"
    holds(firm, ending)


# --- row 21: empty, short, repeated ---------------------------------------------------------------


def failed(firm: Company, code: str = "AC-302") -> None:
    """The run ends with an error, posts nothing and moves no watermark; the next one is whole."""
    ending = firm.run()
    assert ending.error is not None
    assert (str(ending.result), ending.error.code) == ("ERROR", code)
    assert firm.requests("ImportJournalSlip") == 0
    assert firm.watermark() is None  # I4
    safe(firm, ending)
    firm.kintone.faults.clear()
    again = firm.run()
    assert str(again.result) == "SUCCESS"
    holds(firm, ending, again)


@pytest.mark.parametrize("page", [1, 2])
def test_row_21_an_empty_page_is_not_taken_for_the_end(firm: Company, page: int) -> None:
    fill(firm, TWO_PAGES)
    answer(firm, EMPTY, after=page)
    failed(firm)


def test_row_21_a_short_page_is_not_the_last(firm: Company) -> None:
    numbers = fill(firm, 40)
    answer(firm, page_of(firm, numbers[:3]), after=1)
    ending = firm.run()
    assert ending.message == "取得 40 / 登録 40 / 更新 0 / 変更なし 0 / エラー 0"
    holds(firm, ending)


def test_row_21_a_page_with_a_hole_is_an_error(firm: Company) -> None:
    numbers = fill(firm, 40)
    answer(firm, page_of(firm, [*numbers[:10], *numbers[20:]]), after=1)
    failed(firm)


def test_row_21_a_page_repeated_for_ever_ends_the_run(firm: Company) -> None:
    numbers = fill(firm, 40)
    answer(firm, page_of(firm, numbers[:20]), after=1, times=None)
    failed(firm)


def test_row_21_pages_that_go_round_end_the_run(firm: Company) -> None:
    """1 to 10, 11 to 20, 1 to 10 again, for ever."""
    numbers = fill(firm, 40)
    answer(firm, page_of(firm, numbers[:10]), after=1)
    answer(firm, page_of(firm, numbers[10:20]), after=1)
    answer(firm, page_of(firm, numbers[:10]), after=1, times=None)
    failed(firm)


def test_row_21_a_next_link_to_itself_is_refused() -> None:
    links = NoRepeat("SmartHR")
    links.check("/v1/crews?page=2")
    links.check("/v1/crews?page=3")
    with pytest.raises(FaultError) as refused:
        links.check("/v1/crews?page=3")
    assert refused.value.code == "AC-302"


# --- row 22: fewer than announced -----------------------------------------------------------------


def test_row_22_fewer_records_than_announced_is_no_success(firm: Company) -> None:
    """kintone announces 1,000, before and after; its pages hold 998."""
    fill(firm, 998)
    announced = page_of(firm, [1]).replace("null", '"1000"')
    answer(firm, announced, after=0)
    answer(firm, announced, after=3)  # two pages and the empty one; then it counts again
    ending = firm.run()
    assert ending.error is not None
    assert (str(ending.result), ending.error.code) == ("ERROR", "AC-302")
    assert "1,000 件のはずが 998 件" in str(ending.error)
    assert firm.watermark() is None
    assert firm.requests("ImportJournalSlip") == 0
    safe(firm, ending)


def test_row_22_records_deleted_while_they_were_read_are_no_error(firm: Company) -> None:
    numbers = fill(firm, 30)
    during_page(firm, lambda: firm.delete(numbers[-1]), page=0)
    ending = firm.run()
    firm.kintone.faults.hook = None
    assert ending.message == "取得 29 / 登録 29 / 更新 0 / 変更なし 0 / エラー 0"
    holds(firm, ending)


async def test_row_22_a_cursor_that_holds_fewer_is_an_error(firm: Company) -> None:
    firm.fill(30)
    during: dict[str, Any] = {"kind": "replace_body", "path": "/cursor.json$", "method": "GET"}
    firm.kintone.faults.add(Fault(**during, body='{"records":[],"next":false}'))
    async with KintoneClient(
        "example", authorizer=api_token("demo-api-token"), endpoint=firm.urls[0]
    ) as client:
        with pytest.raises(FaultError) as wrong:
            async for _ in client.records_by_cursor(APP):
                pass
    assert wrong.value.code == "AC-302"
    none_doubled(firm)
