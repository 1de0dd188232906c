"""Rows 9 to 13: a run that is stopped, slept, doubled or frozen posts nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psutil
import pytest
from company import Company, Kill
from customers import CustomerCompany

from connectors.kit import FaultError
from connectors.kit.emulator import Fault
from flows.engine import clock, documents, history, lease
from flows.engine.brake import Brake, run_limit, stopped
from flows.engine.core import Ending

IMPORT = "(?i)/ImportJournalSlip$"
LEASE = 3.0
FIVE = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
"""05:00 in Japan."""


@pytest.fixture
def short(new_company: Callable[..., Company]) -> Company:
    """A company whose leases last seconds."""
    return new_company(lease=LEASE)


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def once_each(firm: Company, many: int) -> None:
    """Every voucher is there, once, and the ledger says so."""
    assert set(firm.copies.values()) == {1}
    assert len(firm.slips) == many
    assert firm.states() == {"posted": many}


def code(firm: Company, position: int) -> str:
    """Error code of a run, by its place in the history."""
    rows = firm.sql("SELECT error ->> 'code' FROM run WHERE connection = :c ORDER BY started_at")
    return rows[position][0] or ""


# --- row 9: SIGTERM ---------------------------------------------------------------------------


def test_row_09_sigterm_waits_for_the_answer_and_sends_nothing_more(firm: Company) -> None:
    firm.fill(250)  # several requests
    firm.bugyo.faults.add(Fault(kind="latency", path=IMPORT, seconds=60))
    child = firm.start()
    until(lambda: firm.requests("ImportJournalSlip") == 1)
    os.kill(child.pid, signal.SIGTERM)
    time.sleep(2)
    firm.bugyo.faults.release()
    child.join(240)
    assert child.exitcode == 1
    # One request left, its answer is in the books, and of nothing the outcome is unknown.
    assert firm.requests("ImportJournalSlip") == 1
    stored = len(firm.slips)
    assert 0 < stored < 250
    states = firm.states()
    assert states["posted"] == stored
    assert "pending" not in states
    (stopped,) = firm.history()
    assert (stopped["result"], code(firm, 0)) == ("ERROR", "AC-602")
    assert (stopped["created"], stopped["pending"]) == (stored, 0)
    assert f"この処理で {stored} 件を登録済みです。" in stopped["message"]
    # The next run goes on at once: the lease was given back, nothing has to be looked up.
    ending = firm.run()
    assert ending.error is None
    assert ending.counts is not None
    assert (ending.counts.created, ending.counts.unchanged) == (250 - stored, stored)
    once_each(firm, 250)


@pytest.mark.parametrize("how", ["refused", "stopped"])
def test_row_09_what_is_being_planned_when_the_run_ends_is_known_not_to_be_sent(
    firm: Company, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Its intents are written by a thread, which goes on when its coroutine is cancelled."""
    firm.fill(600)  # two batches
    plan, planned, brake = documents.plan, [], Brake()

    def slow(db: Any, run: Any, batch: Any, *, last: bool) -> None:
        if len(planned) == 1 and how == "refused":
            until(lambda: "unsent" in firm.states())  # the first batch is refused by now
        elif len(planned) == 1:
            until(lambda: firm.states().keys() == {"posted"})
            # No answer is due any more, so the work is cancelled at once.
            brake.pull(stopped("停止"))
            time.sleep(1)
        plan(db, run, batch, last=last)
        planned.append(len(batch.intents))

    monkeypatch.setattr(documents, "plan", slow)
    if how == "refused":
        firm.bugyo.faults.add(Fault(kind="status", status=403, path=IMPORT, body="{}"))
    ending = firm.run(brake=brake)
    assert ending.error is not None
    assert (len(planned), ending.error.code == "AC-602") == (2, how == "stopped")
    sent = len(firm.slips)
    assert firm.states() == ({"posted": sent, "unsent": 600 - sent} if sent else {"unsent": 600})
    assert firm.run().error is None
    once_each(firm, 600)


async def test_row_09_who_is_stopped_while_it_ends_says_why() -> None:
    """A group of tasks that failed before must not hide whose cancellation it is."""
    brake = Brake()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError

    async def body() -> None:
        async with brake.over(None):
            with contextlib.suppress(BaseExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail())
            brake.pull(stopped("停止"))
            await asyncio.sleep(30)

    with pytest.raises(FaultError, match="AC-602"):
        await body()


def test_row_09_sigterm_while_reading_ends_at_once(firm: Company) -> None:
    firm.fill(5)
    firm.kintone.faults.add(Fault(kind="latency", path=r"records", seconds=30))
    child = firm.start()
    until(lambda: bool(firm.sql("SELECT 1 FROM connection WHERE name = :c AND fence = 1")))
    time.sleep(0.5)
    began = time.monotonic()
    os.kill(child.pid, signal.SIGTERM)
    child.join(80)
    assert time.monotonic() - began < 10
    assert (child.exitcode, code(firm, 0)) == (1, "AC-602")
    firm.kintone.faults.clear()
    firm.run()
    once_each(firm, 5)


# --- I8: the deadline ---------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["kintone", "bugyo"])
def test_row_09_i8_a_run_against_a_service_that_hangs_ends_by_its_deadline(
    firm: Company, where: str
) -> None:
    firm.fill(30)
    firm.run("差分", deadline=timedelta(hours=1))
    more = firm.fill(5)
    emulator = firm.kintone if where == "kintone" else firm.bugyo
    emulator.faults.add(Fault(kind="latency", path="(?i)record|Export", seconds=60, times=None))
    began = time.monotonic()
    ending = firm.run("差分", deadline=timedelta(seconds=2))
    assert time.monotonic() - began < 10
    assert ending.error is not None
    assert ending.error.code == "AC-604"
    assert "途中で止めました" in ending.message
    assert firm.history()[-1]["ended_at"] is not None
    emulator.faults.clear()
    assert firm.run().error is None
    once_each(firm, 30 + len(more))


@pytest.mark.parametrize(
    ("value", "hours"),
    [("", 4), ("2", 2), ("0.5", 0.5), ("four", 4), ("0", 4), ("-1", 4), ("nan", 4), ("9999", 4)],
)
def test_row_09_i8_the_limit_is_a_setting(
    monkeypatch: pytest.MonkeyPatch, value: str, hours: float
) -> None:
    monkeypatch.setenv("APP_CONNECT_RUN_HOURS", value)
    assert run_limit() == timedelta(hours=hours)


# --- row 10: sleep and clocks -------------------------------------------------------------------


class Leap:
    """A wall clock that leaps while the run is at work."""

    def __init__(self, by: timedelta) -> None:
        self.by = by
        self.after = time.monotonic() + 0.3

    def now(self, zone: Any) -> datetime:
        moved = self.by if time.monotonic() > self.after else timedelta()
        return datetime.now(zone) + moved


@pytest.mark.parametrize("by", [timedelta(days=1), timedelta(hours=1), timedelta(hours=-1)])
def test_row_10_the_clock_leaps_and_the_business_date_stays(
    firm: Company, monkeypatch: pytest.MonkeyPatch, by: timedelta
) -> None:
    firm.fill(20)
    firm.bugyo.faults.add(Fault(kind="latency", path=IMPORT, seconds=1))
    monkeypatch.setattr(clock, "datetime", Leap(by))
    day = clock.business_date(datetime.now(UTC))
    assert firm.run().error is None
    monkeypatch.undo()
    ((business_date, started, ended),) = firm.sql(
        "SELECT business_date, started_at, ended_at FROM run WHERE connection = :c"
    )
    assert business_date == day
    assert ended >= started
    assert firm.run().message.endswith("変更なし 20 / エラー 0")
    once_each(firm, 20)


def test_row_10_a_machine_that_slept_ends_its_run_and_the_next_one_goes_on(short: Company) -> None:
    short.fill(250)
    child = short.start(Kill("after-answer", 1, freeze=True))
    until(lambda: frozen(child))
    posted = short.requests("ImportJournalSlip")
    time.sleep(LEASE + 1)
    os.kill(child.pid, signal.SIGCONT)
    child.join(120)
    assert child.exitcode == 1
    assert short.requests("ImportJournalSlip") == posted
    assert code(short, 0) == "AC-602"
    assert short.run().error is None
    once_each(short, 250)


def test_row_10_our_own_clock_counts_the_sleep_of_the_machine() -> None:
    if hasattr(time, "CLOCK_BOOTTIME"):
        assert abs(lease.elapsed() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1


def test_row_10_a_dead_holder_blocks_nobody_when_the_databases_clock_was_set_back(
    short: Company,
) -> None:
    short.fill(5)
    short.run_child(Kill("after-intent"))
    short.sql("UPDATE connection SET lease_expires = lease_expires + interval '5 h' WHERE name=:c")
    assert short.run().error is None
    once_each(short, 5)


# --- row 11: the scheduler fires twice ----------------------------------------------------------


async def two(firm: Company, *, apart: float, **more: Any) -> list[Ending]:
    async def later() -> Ending:
        await asyncio.sleep(apart)
        return await firm.arun(**more)

    both = [asyncio.ensure_future(each) for each in (firm.arun(**more), later())]
    _, working = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    while working:  # however slow the machine is, the first one works as long as the second looks
        firm.bugyo.faults.release()
        _, working = await asyncio.wait(working, timeout=0.1)
    return [each.result() for each in both]


@pytest.mark.parametrize("apart", [0.0, 0.5])
async def test_row_11_two_at_once(firm: Company, apart: float) -> None:
    firm.fill(20)
    firm.bugyo.faults.add(Fault(kind="latency", path=IMPORT, seconds=60))
    endings = await two(firm, apart=apart, scheduled_for=FIVE)
    assert sorted(str(each.result) for each in endings) == ["SUCCESS", "スキップ"]
    (skipped,) = [each for each in endings if each.error is not None]
    assert skipped.error is not None
    assert skipped.error.code == "AC-601"
    assert "に始まったスケジュールの処理" in skipped.message
    once_each(firm, 20)


def test_row_11_the_second_comes_when_the_first_has_ended(firm: Company) -> None:
    firm.fill(20)
    firm.run(scheduled_for=FIVE)
    firm.fill(3)
    second = firm.run(scheduled_for=FIVE)
    assert (str(second.result), second.error and second.error.code) == ("スキップ", "AC-606")
    assert len(firm.slips) == 20
    # Tomorrow's run and a person's run are others.
    assert str(firm.run(scheduled_for=FIVE + timedelta(days=1)).result) == "SUCCESS"
    assert str(firm.run().result) == "SUCCESS"
    once_each(firm, 23)


def test_row_11_the_second_does_the_work_when_the_first_was_killed(short: Company) -> None:
    short.fill(20)
    short.run_child(Kill("after-request"), scheduled_for=FIVE)
    assert str(short.run(scheduled_for=FIVE).result) == "SUCCESS"
    once_each(short, 20)


def test_row_11_a_missed_run_leaves_the_work_to_a_later_one_that_has_ended(firm: Company) -> None:
    firm.fill(5)
    firm.run(scheduled_for=FIVE + timedelta(days=3))
    missed = firm.run(scheduled_for=FIVE)
    assert (str(missed.result), missed.error and missed.error.code) == ("スキップ", "AC-605")
    assert "2026/11/25 05:00 の予定の処理" in missed.message
    assert missed.message.count("まとめ") >= 1


# --- row 12: manual during the scheduled one ----------------------------------------------------


async def test_row_12_the_message_says_since_when_and_until_when(firm: Company) -> None:
    firm.fill(20)
    firm.bugyo.faults.add(Fault(kind="latency", path=IMPORT, seconds=60))
    limit = timedelta(hours=4)
    endings = await two(firm, apart=0.5, deadline=limit)
    (skipped,) = [each for each in endings if each.error is not None]
    began = firm.sql("SELECT min(started_at) FROM run WHERE connection = :c")[0][0]
    assert f"{clock.jst_text(began)} に始まったスケジュールの処理" in skipped.message
    assert f"遅くとも {clock.jst_text(began + limit)} に終わります" in skipped.message
    assert "応答がなければ" in skipped.message
    once_each(firm, 20)


# --- row 13: frozen and woken -------------------------------------------------------------------


def frozen(child: Any) -> bool:
    """Whether the process has stopped."""
    return psutil.Process(child.pid).status() == psutil.STATUS_STOPPED


@pytest.fixture
def movers(new_company: Callable[..., Any]) -> dict[str, Any]:
    """A company of vouchers and one of customers, each with 250 of them."""
    vouchers = new_company(lease=LEASE)
    vouchers.fill(250)
    customers = new_company(kind=CustomerCompany, lease=LEASE)
    for number in range(1, 251):
        customers.customer(number)
    return {"vouchers": vouchers, "customers": customers}


@pytest.mark.parametrize("what", ["vouchers", "customers"])
@pytest.mark.parametrize("point", ["before-intent", "after-intent", "before-watermark"])
def test_row_13_the_woken_one_posts_nothing(movers: dict[str, Any], what: str, point: str) -> None:
    firm = movers[what]
    child = firm.start(Kill(point, freeze=True))
    until(lambda: frozen(child))
    time.sleep(LEASE)  # the lease of the frozen one lapses by itself
    ending = firm.run()
    assert ending.error is None
    asked = firm.requests(firm.operation)
    after = firm.history()
    os.kill(child.pid, signal.SIGCONT)
    child.join(120)
    assert child.exitcode == 1, "the woken one believes that it ended well"
    assert firm.requests(firm.operation) == asked
    assert firm.states() == {"posted": 250}
    if what == "vouchers":
        once_each(firm, 250)
    else:
        assert len(firm.customers) == 250
        assert set(firm.bugyo.customers[firm.tenant].writes.values()) == {1}
    assert [run["result"] for run in after] == ["ERROR", "SUCCESS"]
    assert after[0]["message"].startswith("中断")
    assert [run["result"] for run in firm.history()] == ["ERROR", "SUCCESS"]
    assert code(firm, 0) == "AC-602"


# --- row 31, without Prefect --------------------------------------------------------------------


def test_row_31_a_lapsed_lease_is_an_interruption_without_another_run(short: Company) -> None:
    short.fill(5)
    assert short.run_child(Kill("after-intent")) == 137
    assert short.history()[0]["result"] is None
    with short.store.begin() as db:
        assert history.mark_lapsed(db) == []  # its lease may be that of a living run
    time.sleep(LEASE)
    with short.store.begin() as db:
        (marked,) = history.mark_lapsed(db)
    (row,) = short.history()
    assert (row["id"], row["result"], code(short, 0)) == (marked, "ERROR", "AC-602")
    assert row["message"].startswith("中断")
    # Should it only have been frozen, it has lost its fence.
    assert short.sql("SELECT lease_owner, fence FROM connection WHERE name = :c")[0] == (None, 2)
    assert short.run().error is None
    once_each(short, 5)


def test_row_31_a_run_that_waits_for_its_lease_is_left_alone(firm: Company) -> None:
    waiting = uuid4()
    firm.run()
    insert = (
        "INSERT INTO run (id, connection, connector, service, trigger, mode, dry_run, "
        "business_date, started_at, stage, extracted, created, updated, unchanged, rejected, "
        "pending, message) SELECT :id, connection, connector, service, trigger, mode, false, "
        "business_date, clock_timestamp(), stage, 0, 0, 0, 0, 0, 0, '' FROM run "
        "WHERE connection = :c LIMIT 1"
    )
    firm.sql(insert, id=waiting)
    with firm.store.begin() as db:
        assert history.mark_lapsed(db) == []
    firm.sql("UPDATE run SET started_at = started_at - interval '11 min' WHERE id=:id", id=waiting)
    with firm.store.begin() as db:
        assert history.mark_lapsed(db) == [waiting]
