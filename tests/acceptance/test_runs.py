"""Every connector at work: between its partner's emulator and 奉行クラウド's, without Prefect."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import pytest

from connectors.kit import catalogue
from connectors.kit.emulator import Fault
from flows.engine.clock import business_date, now
from flows.engine.core import Ending
from flows.engine.model import Counts, Mode, Result, Window
from tests.acceptance.protocol import CANARY, hostile_values
from tests.acceptance.world import World

NewWorld = Callable[[], World]
JAPANESE = re.compile("[ぁ-んァ-ヶ一-龠]")


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
    """Everything that was logged, libraries included."""
    with caplog.at_level(logging.DEBUG):
        yield lambda: caplog.text


def shown(ending: Ending) -> str:
    """What a person sees of a run, and what its artifacts are made of."""
    error = ending.error
    words = [ending.message, repr(ending.row), repr(ending.planned), repr(ending.unmapped)]
    if error is not None:
        words += [str(error), repr(error), repr(vars(error))]
    return "\n".join(words)


def no_secret(world: World, *texts: str) -> None:
    """No secret of the connection is in any of the texts, or in the books."""
    assert len(world.secrets()) >= 3, "there is nothing to look for"
    everything = "\n".join([*texts, world.written()])
    assert [each for each in [CANARY, *world.secrets()] if each in everything] == []


def test_moved_once_however_often_it_runs(new_world: NewWorld, said: Callable[[], str]) -> None:
    world = new_world()
    before = world.count()
    empty = world.run()  # an empty page
    assert (empty.result, empty.counts and empty.counts.extracted) == (Result.SUCCESS, 0)
    keys = {world.case.good(number) for number in range(3)}
    first = world.read()
    assert [*first] == world.read(), "read twice, it is not the same"
    assert keys <= {key for key, _ in first}
    preview = world.run(dry_run=True)
    assert preview.error is None
    assert world.count() == before, "確認のみ sent something"
    ending = world.run()
    assert ending.result is Result.SUCCESS, ending.message
    assert ending.counts is not None
    assert (ending.counts.extracted, ending.counts.created) == (3, 3), ending.message
    assert set(world.keys()) == keys
    world.posted_once(before)
    held = world.at_bugyo()
    for mode in ("差分", "全件"):
        again = world.run(mode)
        assert again.result is Result.SUCCESS, again.message
        assert again.counts is not None
        assert (again.counts.created, again.counts.updated) == (0, 0), again.message
    # A period holds what it names; what lies outside is neither read nor taken for gone.
    today = business_date(now())
    around = Window(Mode.PERIOD, begins=date(2026, 1, 1), ends=today + timedelta(days=1))
    assert keys <= {key for key, _ in world.read(around)}
    long_ago = {"begins": date(2001, 1, 1), "ends": date(2001, 12, 31)}
    assert world.read(Window(Mode.PERIOD, **long_ago)) == []
    past = world.run("期間", **long_ago)
    assert (past.result, past.counts) == (Result.SUCCESS, Counts()), past.message
    assert set(world.keys()) == keys
    assert world.at_bugyo() == held
    assert "Traceback" not in said()
    no_secret(world, said(), *map(shown, (empty, preview, ending)))


@pytest.mark.parametrize("side", ["partner", "bugyo"])
def test_wrong_credentials_are_one_error_of_the_catalogue(
    new_world: NewWorld, said: Callable[[], str], side: str
) -> None:
    world = new_world()
    world.case.good(0)
    before = world.count()
    world.spoil(side)
    ending = world.run()
    assert ending.result is Result.ERROR
    assert ending.error is not None
    code = ending.error.code
    assert code[:4] in ("AC-1", "AC-2"), ending.message
    assert code in catalogue()
    assert ending.message.startswith(code)
    assert JAPANESE.search(ending.message)
    assert "Traceback" not in said() + ending.message
    assert world.count() == before
    no_secret(world, said(), shown(ending))


def test_hostile_values_end_posted_or_rejected_by_name(
    new_world: NewWorld, said: Callable[[], str]
) -> None:
    world = new_world()
    case = world.case
    before = world.count()
    given: dict[str, Any] = {}
    for number, value in enumerate(hostile_values()):
        key = case.hostile(number, value)
        if key is None:
            assert case.exempted(value.kind), (
                f"{value.name}: no place for a {value.kind}, no reason"
            )
            continue
        given[key] = value
    twins: set[str] = set()
    if not case.exempted("twin"):
        twins = {case.good(900), case.twin(900)}
    ending = world.run()
    assert ending.error is None, ending.message
    assert ending.result in (Result.SUCCESS, Result.PARTIAL)
    posted, rejected, held = world.keys(), world.listed(), world.at_bugyo()
    world.posted_once(before)
    for key, value in given.items():
        if key in posted:
            assert key not in rejected, value.name
            assert value.expect != "rejected", f"{value.name} was posted"
            if value.expect == "posted":
                arrived = held[posted[key]][0].replace("/", "-")
                assert value.becomes in arrived, f"{value.name} arrived as another"
            continue
        assert key in rejected or value.value == "0", f"{value.name} is lost"
        if key not in rejected:
            continue
        named = rejected[key]
        assert value.expect != "posted", f"{value.name} was rejected: {named}"
        assert named.code in catalogue(), named
        assert named.label, named
        assert JAPANESE.search(named.reason or catalogue()[named.code].title), named
    assert twins <= {*posted, *rejected}
    assert len(twins) < 2 or len(twins & set(posted)) <= 1
    counts = ending.counts
    assert counts is not None
    total = counts.created + counts.updated + counts.unchanged + counts.rejected + counts.pending
    assert counts.extracted == total
    assert (len(posted), len(rejected)) == (counts.created, counts.rejected)
    again = world.run("全件")
    assert again.counts is not None
    assert again.counts.created == again.counts.updated == 0, again.message
    assert "Traceback" not in said()


def test_a_page_that_moves_up_loses_no_record(new_world: NewWorld) -> None:
    world = new_world()
    case = world.case
    if case.exempted("shift"):
        return
    keys = case.crowd()
    gone: list[str] = []

    def hook(path: str) -> None:
        if not gone and re.search(case.data, path):
            gone.append("")
            gone[0] = case.shift(keys)

    world.kintone.faults.hook = hook
    found = {key for key, _ in world.read()}
    world.kintone.faults.hook = None
    assert gone, f"no request matched {case.data}"
    missed = set(keys) - found - set(gone)
    if missed:
        # Only a source that reads its whole window anew finds them, in the next run.
        later = Window(Mode.INCREMENTAL, since=now() + timedelta(hours=1))
        assert missed <= {key for key, _ in world.read(later)}, "a record is lost for good"


def test_rate_limit_and_maintenance(new_world: NewWorld, said: Callable[[], str]) -> None:
    world = new_world()
    case, faults = world.case, world.kintone.faults
    before = world.count()
    case.good(0)
    page = Fault(kind="maintenance", path=case.data, times=None, headers={"retry-after": "7200"})
    faults.add(page)
    ending = world.run()
    assert ending.result is Result.ERROR
    assert ending.error is not None
    assert ending.error.code in ("AC-302", "AC-501", "AC-502", "AC-503"), ending.message
    assert world.count() == before
    faults.clear()
    wait = Fault(kind="status", status=429, path=case.data, headers={"retry-after": "1"})
    faults.add(wait)
    asked = len(faults.requests)
    ending = world.run()
    if case.exempted("retry-after"):
        assert ending.error is not None
        assert ending.error.code == "AC-503", ending.message
        ending = world.run()
    assert ending.result is Result.SUCCESS, ending.message
    data = [r.at for r in list(faults.requests)[asked:] if re.search(case.data, r.path)]
    if "retry-after" not in case.exempt:
        assert data[1] - data[0] >= 0.9, "Retry-After was not obeyed"
    world.posted_once(before)
    assert "Traceback" not in said()
    no_secret(world, said(), shown(ending))
