"""The scan over crews that move while they are read: nothing is skipped, whatever happens between
two requests, and nothing is asked for twice without need."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable, Iterator
from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
import pytest

from connectors.kit import FaultError, SettingsError, Timer
from connectors.kit.emulator import serve
from connectors.smarthr import SmartHRClient
from connectors.smarthr.emulator import SmartHREmulator
from flows.engine.model import Mode, SourcePage, Window
from flows.parts.smarthr import SmartHRSource

TOKEN, BLIND = "shr_reader_0001", "shr_blind_0002"
FIELDS = ("emp_code", "emp_status", "resigned_at")
FULL = Window(Mode.FULL)
TLS = ssl.create_default_context()  # once: reading the certificates takes longer than a history


class World:
    """An emulator whose state changes between two requests, in a time of its own."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.smarthr = SmartHREmulator(clock=self.clock, ticks=lambda: self.passed)
        self.smarthr.add_token(TOKEN)
        self.smarthr.add_token(BLIND, hidden={"resigned_at"})
        self.smarthr.faults.hook = self._between
        self.numbers = iter(range(1, 10_000))
        self.plans: dict[int, Callable[[], None]] = {}
        self.requests = 0
        self.url = ""

    def clock(self) -> datetime:
        return datetime(2026, 11, 22, 3, 0, tzinfo=UTC) + timedelta(seconds=self.passed)

    async def sleep(self, seconds: float) -> None:
        self.passed += seconds

    def reset(self) -> None:
        self.smarthr.crews.rows.clear()
        self.plans.clear()
        self.requests = 0
        self.passed = 0.0
        self.numbers = iter(range(1, 10_000))

    def _between(self, path: str) -> None:
        """After a request was processed: whoever works in SmartHR does something."""
        self.requests += 1
        if act := self.plans.get(self.requests):
            act()

    def add(self, many: int = 1, **values: Any) -> list[str]:
        made = []
        for _ in range(many):
            self.passed += 1
            made += self.smarthr.seed([{"emp_code": f"{next(self.numbers):05}", **values}])
        return made

    def update(self, crew: str, *, later: bool = True) -> None:
        self.passed += later
        self.smarthr.update(crew, {"tel_number": str(next(self.numbers))})

    @property
    def changes(self) -> dict[str, str]:
        return {crew: row["updated_at"] for crew, row in self.smarthr.crews.rows.items()}

    def source(self, token: str = TOKEN, **more: Any) -> SmartHRSource:
        timer = Timer(lambda: self.passed, self.sleep)
        client = SmartHRClient("example", token=token, endpoint=self.url, timer=timer, verify=TLS)
        return SmartHRSource(client, FIELDS, **{"size": 5, **more})

    async def read(
        self, window: Window = FULL, position: Any = None, stop: int = 10_000, **more: Any
    ) -> list[SourcePage]:
        """Pages of a run from a position, at most ``stop`` of them."""
        source = self.source(**more)
        found: list[SourcePage] = []
        async with source.client, aclosing(source.pages(window, position)) as pages:
            await source.count(window)
            async for page in pages:
                found.append(page)
                if len(found) == stop:
                    break
        return found


def seen(pages: list[SourcePage]) -> list[tuple[str, str]]:
    """Id and change of every record, in the order in which they came."""
    records = [crew for page in pages for crew in orjson.loads(page.body)]
    assert sum(page.records for page in pages) == len(records)
    return [(crew["id"], crew["updated_at"]) for crew in records]


@pytest.fixture(scope="module")
def _served() -> Iterator[World]:
    made = World()
    with serve(made.smarthr) as made.url:
        yield made


@pytest.fixture
def world(_served: World) -> World:
    _served.reset()
    return _served


async def test_a_quiet_company_is_read_once_and_looked_at_once_more(world: World) -> None:
    world.add(23)
    pages = await world.read()
    assert dict(seen(pages)) == world.changes
    assert len(seen(pages)) == 23
    assert world.requests == 5 + 1  # five pages, and the first one again
    assert pages[0].newest is not None
    assert pages[0].newest.isoformat() == "2026-11-22T03:00:23+00:00"


async def test_what_changed_is_one_request(world: World) -> None:
    ids = world.add(23)
    since = world.clock()
    world.passed += 60
    for crew in ids[3:6]:
        world.update(crew)
    found = seen(await world.read(Window(Mode.INCREMENTAL, since=since)))
    assert {crew for crew, _ in found} >= set(ids[3:6])
    assert len(found) == 4  # the newest of before is read again: its second was not over
    assert world.requests == 1


async def test_one_page_to_its_end_and_not_a_crew_more(world: World) -> None:
    world.add(10)
    assert len(seen(await world.read())) == 10
    assert world.requests == 2 + 1
    world.reset()
    assert seen(await world.read()) == []
    assert world.requests == 1


async def test_a_crew_that_is_updated_while_it_is_behind_us(world: World) -> None:
    ids = world.add(23)
    world.plans[2] = lambda: world.update(ids[0])  # the last one of all goes to the front
    found = seen(await world.read())
    assert dict(found) == world.changes
    assert len(found) == 23  # the one that moved over a page's end did not come twice


async def test_a_crew_that_is_updated_after_it_was_read_comes_again(world: World) -> None:
    ids = world.add(23)
    world.plans[3] = lambda: world.update(ids[-1])
    found = seen(await world.read())
    assert dict(found) == world.changes
    assert [crew for crew, _ in found].count(ids[-1]) == 2


async def test_a_deleted_crew_takes_nobody_along(world: World) -> None:
    ids = world.add(23)
    world.plans[1] = lambda: world.smarthr.delete(ids[-1])  # its page is read; all move forward
    found = dict(seen(await world.read()))
    assert {crew: found.get(crew) for crew in world.changes} == world.changes


async def test_many_deleted_crews_are_as_many_pages_back(world: World) -> None:
    ids = world.add(40)

    def leave() -> None:
        for crew in ids[-12:]:
            world.smarthr.delete(crew)

    world.plans[3] = leave
    found = dict(seen(await world.read()))
    assert {crew: found.get(crew) for crew in world.changes} == world.changes


async def test_a_run_that_goes_on_after_a_crash_finds_what_moved_meanwhile(world: World) -> None:
    ids = world.add(23)
    before = await world.read(stop=3)
    for crew in (ids[-1], ids[-3]):
        world.smarthr.delete(crew)
    world.update(ids[0])
    world.add(1)
    position = orjson.loads(orjson.dumps(before[-1].position))  # as the store gives it back
    after = await world.read(position=position)
    found = dict(seen(before) + seen(after))
    assert {crew: found.get(crew) for crew in world.changes} == world.changes
    assert seen(await world.read(position=after[-1].position)) == []


def _something(world: World, dice: random.Random) -> None:
    crews = list(world.smarthr.crews.rows)
    for _ in range(dice.randint(1, 7)):
        match dice.choice(("update", "update", "add", "delete")):
            case "update":
                world.update(dice.choice(crews), later=dice.random() < 0.7)
            case "add":
                crews += world.add()
            case _ if len(crews) > 4:
                world.smarthr.delete(crews.pop(dice.randrange(len(crews))))


@pytest.mark.parametrize("seed", range(25))
async def test_nothing_is_skipped_in_any_history(world: World, seed: int) -> None:
    dice = random.Random(seed)
    ids = world.add(dice.randint(6, 40))
    for crew in dice.sample(ids, len(ids) // 2):
        world.update(crew, later=dice.random() < 0.5)
    for request in dice.sample(range(1, 12), dice.randint(1, 6)):
        world.plans[request] = lambda: _something(world, dice)
    pages = await world.read(stop=dice.choice((1, 2, 4, 10_000)))
    while pages[-1].position[0] != "end":  # crashed: on from where it stopped
        if dice.random() < 0.5:
            _something(world, dice)
        pages += await world.read(position=pages[-1].position, stop=dice.choice((1, 3, 10_000)))
    found, quiet = dict(seen(pages)), world.changes
    world.plans.clear()
    # The next run begins at the watermark; what happened after the last request is its business.
    newest = max(page.newest for page in pages if page.newest is not None)
    later = dict(seen(await world.read(Window(Mode.INCREMENTAL, since=newest))))
    assert quiet == world.changes
    for crew, change in quiet.items():
        assert found.get(crew) == change or later.get(crew) == change


async def test_crews_that_the_total_speaks_of_and_no_page_shows(world: World) -> None:
    world.add(12)
    lost = next(iter(world.smarthr.crews.rows))
    select = world.smarthr.crews.select

    def shuffled(asked: Any) -> list[Any]:
        """Two pages that swap two crews with the same change and no number."""
        rows = select(asked)
        if asked["page"] == "3":
            rows[-1] = rows[0]
        return rows

    world.smarthr.crews.select = shuffled  # type: ignore[method-assign]
    try:
        with pytest.raises(FaultError, match="AC-302") as caught:
            await world.read()
    finally:
        world.smarthr.crews.select = select  # type: ignore[method-assign]
    assert "12 件のはずが 11 件" in str(caught.value)
    assert lost in world.changes


async def test_single_crews(world: World) -> None:
    ids = world.add(12)
    number = world.smarthr.crews.rows[ids[4]]["emp_code"]
    world.smarthr.update(ids[5], {"emp_code": number.lstrip("0")})
    for asked in (number, number.lstrip("0")):
        one = seen(await world.read(Window(Mode.ONE, key=asked), width=5))
        assert {crew for crew, _ in one} == {ids[4], ids[5]}
    some = Window(Mode.REJECTS, retry=(ids[0], ids[7], "gone"))
    assert {crew for crew, _ in seen(await world.read(some))} == {ids[0], ids[7]}


async def test_retried_crews_come_once_however_old(world: World) -> None:
    ids = world.add(12)
    since = world.clock()
    world.update(ids[2])
    window = Window(Mode.INCREMENTAL, since=since, retry=(ids[0], ids[2]))
    found = [crew for crew, _ in seen(await world.read(window))]
    assert sorted(found) == sorted([ids[0], ids[2], ids[11]])
    assert world.requests == 2


async def test_a_period_is_read_down_to_its_first_moment(world: World) -> None:
    """From midnight to midnight in Japan; newer changes are passed over, older ones not reached."""
    old = world.add(10)
    midnight = datetime(2026, 11, 22, 15, 0, tzinfo=UTC)  # the 23rd begins in Japan
    world.passed += (midnight - world.clock()).total_seconds() - 1
    first, *inside = world.add(7)
    world.passed += (midnight - world.clock()).total_seconds() + 24 * 3600 - 2
    last = world.add()[0]
    new = world.add(8)
    day = date(2026, 11, 23)
    asked = Window(Mode.PERIOD, begins=day, ends=day)
    pages = await world.read(asked)
    assert [crew for crew, _ in seen(pages)] == [last, *reversed(inside), first]
    assert {page.newest for page in pages} == {None}, "a period moves no watermark"
    assert world.requests == 4 + 1  # of six pages; and the first one again
    before = await world.read(Window(Mode.PERIOD, begins=date(2026, 11, 22), ends=day), stop=3)
    world.update(old[0])  # it leaves the period while it is read, and moves all others
    position = orjson.loads(orjson.dumps(before[-1].position))
    period = Window(Mode.PERIOD, begins=date(2026, 11, 22), ends=day)
    after = await world.read(period, position=position)
    found = {crew for crew, _ in seen(before) + seen(after)}
    assert found == {*old[1:], first, *inside, last}
    assert not found & set(new)


async def test_what_a_role_hides_is_an_error_and_not_empty(world: World) -> None:
    world.add(1)
    with pytest.raises(SettingsError, match="AC-203") as caught:
        await world.read(token=BLIND)
    assert "退職年月日" in str(caught.value)


async def test_those_who_left_long_ago_stay_out(world: World) -> None:
    old, recent = (
        world.add(1, emp_status="retired", resigned_at=day)[0]
        for day in ("2020-03-30", "2020-03-31")
    )
    here = world.add(1)[0]
    found = seen(await world.read(retired_since=date(2020, 3, 31)))
    assert {crew for crew, _ in found} == {recent, here}
    number = world.smarthr.crews.rows[old]["emp_code"]
    window = Window(Mode.ONE, key=number)  # whoever is asked for by number comes
    assert [c for c, _ in seen(await world.read(window, retired_since=date(2020, 3, 31)))] == [old]


async def test_the_total_for_the_progress_costs_no_request(world: World) -> None:
    world.add(7)
    source = world.source()
    async with source.client:
        assert await source.count(FULL) == 7
        async with aclosing(source.pages(FULL, None)) as pages:
            assert len([page async for page in pages]) == 3
        assert world.requests == 3
        assert await source.count(Window(Mode.INCREMENTAL, since=world.clock())) is None
