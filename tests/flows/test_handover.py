"""Extract and transform side by side: nothing lost or done twice, wherever either of them ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import orjson
import pytest
from sqlalchemy import text

from connectors.kit import FaultError, Masker
from flows.customers_from_kintone import PIPELINE
from flows.engine import handover, history, staging
from flows.engine.context import RunContext
from flows.engine.extract import extract
from flows.engine.handover import LIMIT, ParsedPage
from flows.engine.ledger import Ledger
from flows.engine.model import Counts, Mode, Reject, Row, RunHandle, SourcePage, Trigger, Window
from flows.engine.store import RunRow, Store, migrate
from flows.engine.transform import transform

PAGES, SIZE = 6, 4
ALL = PAGES * SIZE
BAD = {"0", "9", "23"}
NEWEST = datetime(2026, 11, 22, tzinfo=UTC)


class Pages:
    """A source of numbered records in numbered pages; it remembers how far ahead it was."""

    def __init__(self, *, parsed: bool = True, fails_at: int | None = None) -> None:
        self.parsed, self.fails_at = parsed, fails_at
        self.read: list[int] = []
        self.decoded = 0

    async def count(self, window: Window) -> int | None:
        return ALL

    async def pages(self, window: Window, position: Any) -> AsyncGenerator[SourcePage, None]:
        for number in range(position or 0, PAGES):
            if number == self.fails_at:
                raise FaultError("AC-301")
            await asyncio.sleep(0)
            self.read.append(number)
            body = orjson.dumps([str(number * SIZE + n) for n in range(SIZE)])
            common: dict[str, Any] = {"records": SIZE, "position": number + 1, "newest": NEWEST}
            if self.parsed:
                yield ParsedPage(body=body, parsed=list(self._records(body)), **common)
            else:
                yield SourcePage(body=body, **common)

    def records(self, body: bytes) -> Iterable[tuple[str, Mapping[str, Any]]]:
        self.decoded += 1
        return list(self._records(body))

    @staticmethod
    def _records(body: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for key in orjson.loads(body):
            yield key, {"name": f"name {key}"}


class Names:
    """A transform that remembers what it was given."""

    fields = ("code", "name")

    def __init__(self, *, fails_at: str | None = None) -> None:
        self.fails_at = fails_at
        self.seen: list[str] = []

    def __call__(self, source_key: str, record: Mapping[str, Any]) -> Row | Reject:
        if source_key == self.fails_at:
            raise ZeroDivisionError
        self.seen.append(source_key)
        if source_key in BAD:
            return Reject(source_key, "AC-801", reason="空です。")
        return Row(source_key, source_key, {"code": source_key, "name": record["name"]})


class Dying(Store):
    """A store that does ``left`` more things and then nothing, as if the process were killed."""

    left = 10**9

    async def do(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise FaultError("AC-701")
        return await super().do(work, *args, **kwargs)


@pytest.fixture
def store(fresh_database: Callable[..., str]) -> Iterator[Dying]:
    opened = Dying(fresh_database("app-connect-handover", migrate_and_close))
    yield opened
    opened._engine.dispose()


def migrate_and_close(url: str) -> None:
    migrate(url)
    Store(url)._engine.dispose()


async def quiet(stage: str, done: int, total: int | None) -> None:
    del stage, done, total


def begin(
    store: Store, source: Any = None, convert: Any = None, run_id: UUID | None = None
) -> RunContext:
    """A run, or the same run again after a crash, as the engine would open it."""
    run_id = run_id or uuid4()
    with store.session() as session:
        row = history.open_run(
            session,
            run_id=run_id,
            connection="shop",
            connector="test",
            service="test",
            trigger=Trigger.MANUAL,
            mode=Mode.FULL,
            dry_run=False,
            started_at=NEWEST,
        )
    return RunContext(
        handle=RunHandle(run_id=run_id, connection="shop"),
        store=store,
        pipeline=PIPELINE,
        source=source or Pages(),
        sink=cast("Any", None),
        transformer=convert or Names(),
        lease=cast("Any", None),
        ledger=Ledger("shop", "customer"),
        window=Window(Mode.FULL, retry=("5", "gone")),
        mode=Mode.FULL,
        dry_run=False,
        masker=Masker(),
        report=quiet,
        resumed=bool(row.position),
        position=dict(row.position),
        counts=Counts(extracted=row.extracted, rejected=row.rejected),
    )


async def both(run: RunContext) -> list[BaseException | None]:
    """Run the stages side by side; what each of them raised."""
    done = asyncio.gather(extract(run), transform(run), return_exceptions=True)
    return list(await asyncio.wait_for(done, 20))


def staged(run: RunContext, stage: str) -> list[Any]:
    """What is staged, page by page."""
    with Store.begin(run.store) as db:
        found = db.execute(
            text("SELECT body FROM staged_page WHERE run_id = :r AND stage = :s ORDER BY seq"),
            {"r": run.run_id, "s": stage},
        )
        return [orjson.loads(staging.decompress(bytes(row[0]))) for row in found]


def row_of(run: RunContext) -> RunRow:
    """The run's row in the store."""
    with run.store.session() as session:
        row = session.get(RunRow, run.run_id)
    assert row is not None
    return row


def rejected(run: RunContext) -> set[str]:
    """Source keys of the rejects in the books."""
    with Store.begin(run.store) as db:
        return {row[0] for row in db.execute(text("SELECT source_key FROM reject"))}


def assert_whole(run: RunContext) -> None:
    """Every record is staged once, and is a row or a reject; the books and the memory agree."""
    keys = [str(n) for n in range(ALL)]
    assert [key for page in staged(run, staging.RAW) for key in page] == keys
    rows = [row[0] for page in staged(run, staging.ROWS) for row in page]
    assert rows == [key for key in keys if key not in BAD]
    assert rejected(run) == BAD
    row = row_of(run)
    expected = {"source": None, "pages": PAGES, "transformed": PAGES, "extracted": True}
    assert row.position.items() >= expected.items()
    assert run.position.items() >= expected.items()
    assert (row.stage, row.extracted, row.rejected) == ("extracted", ALL, len(BAD))
    assert (run.counts.extracted, run.counts.rejected) == (ALL, len(BAD))
    assert run.newest == NEWEST
    assert run.seen_retries == {"5"}


def assert_consistent(run: RunContext) -> None:
    """What a crash left: pages and rows in order, and the position knows exactly those."""
    row = row_of(run)
    pages, transformed = row.position.get("pages", 0), row.position.get("transformed", 0)
    raw = staged(run, staging.RAW)
    assert len(raw) == pages >= transformed
    assert row.extracted == pages * SIZE
    done = [str(n) for n in range(transformed * SIZE)]
    assert [r[0] for page in staged(run, staging.ROWS) for r in page] == [
        key for key in done if key not in BAD
    ]
    assert row.rejected == len(rejected(run)) == len(BAD.intersection(done))


async def test_pages_are_parsed_once_and_staged_with_their_rows(store: Dying) -> None:
    run = begin(store)
    before = store.left
    assert await both(run) == [None, None]
    assert_whole(run)
    source = cast("Pages", run.source)
    assert source.decoded <= 1  # the first one may have come before the transform was there
    assert before - store.left <= PAGES + 4


@pytest.mark.parametrize("parsed", [True, False])
async def test_one_after_the_other_leaves_the_same(store: Dying, parsed: bool) -> None:
    run = begin(store, Pages(parsed=parsed))
    await asyncio.wait_for(extract(run), 20)
    await asyncio.wait_for(transform(run), 20)
    assert_whole(run)
    assert cast("Pages", run.source).decoded == PAGES


async def test_the_source_is_never_far_ahead(store: Dying) -> None:
    """Memory is flat in the number of records: few pages are read and not staged."""
    source, most = Pages(), 0

    class Watched(Names):
        def __call__(self, source_key: str, record: Mapping[str, Any]) -> Row | Reject:
            nonlocal most
            most = max(most, len(source.read) - int(run.position.get("pages", 0)))
            return super().__call__(source_key, record)

    run = begin(store, source, Watched())
    assert await both(run) == [None, None]
    # Waiting; being converted; being stored; being offered.
    assert most <= LIMIT + 3


async def test_an_error_of_the_source_keeps_what_was_transformed(store: Dying) -> None:
    run = begin(store, Pages(fails_at=3))
    failed, ended = await both(run)
    assert isinstance(failed, FaultError)
    assert ended is None
    assert_consistent(run)
    assert row_of(run).position["transformed"] == 3
    assert "extracted" not in row_of(run).position
    again = begin(store, run_id=run.run_id)
    assert again.resumed
    assert await both(again) == [None, None]
    assert_whole(again)
    assert cast("Pages", again.source).read == [3, 4, 5]
    assert cast("Names", again.transformer).seen == [str(n) for n in range(3 * SIZE, ALL)]


async def test_an_error_of_the_transform_stops_the_extract(store: Dying) -> None:
    run = begin(store, convert=Names(fails_at=str(2 * SIZE + 1)))
    ended, failed = await both(run)
    assert ended is None
    assert isinstance(failed, ZeroDivisionError)
    assert len(cast("Pages", run.source).read) < PAGES
    assert_consistent(run)
    assert row_of(run).position["transformed"] == 2
    again = begin(store, run_id=run.run_id)
    assert await both(again) == [None, None]
    assert_whole(again)
    assert cast("Names", again.transformer).seen == [str(n) for n in range(2 * SIZE, ALL)]


@pytest.mark.parametrize("commits", range(PAGES + 3))
@pytest.mark.parametrize("side_by_side", [True, False])
async def test_a_run_that_ends_after_any_commit_is_resumed(
    store: Dying, commits: int, side_by_side: bool
) -> None:
    run = begin(store)
    store.left = commits
    if side_by_side:
        await both(run)
    else:
        # What an older or a lone extract leaves: pages without rows.
        await asyncio.gather(extract(run), return_exceptions=True)
    store.left = 10**9
    assert_consistent(run)
    again = begin(store, run_id=run.run_id)
    assert await both(again) == [None, None]
    assert_whole(again)


async def test_a_second_attempt_in_this_process_has_a_hand_over_of_its_own(store: Dying) -> None:
    run = begin(store)
    first = handover.of(run)
    assert handover.of(run) is first
    again = begin(store, run_id=run.run_id)
    assert handover.of(again) is not first
