"""連携サービス and 処理履歴: the page, and the history that outlives Prefect's own as a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from connectors.kit import FaultError
from deployments.cli.books import CSV_COLUMNS, history_csv
from flows.engine import history
from flows.engine.model import Counts, Mode, Result, Trigger
from flows.engine.store import RunRow, Store, migrate
from flows.operations.services import Service, page_of

AT = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)  # 11/21 5:00 in Japan


@pytest.fixture
def store(fresh_database: Callable[..., str]) -> Iterator[Store]:
    def prepare(url: str) -> None:
        migrate(url)
        Store(url).close()

    opened = Store(fresh_database("app-connect-store", prepare))
    yield opened
    opened.close()


def ran(store: Store, connection: str, days: int, result: Result, service: str = "得意先") -> None:
    run, error = uuid4(), FaultError("AC-301", service="=kintone")
    with store.session() as session:
        history.open_run(
            session,
            run_id=run,
            connection=connection,
            connector="customers-from-kintone",
            service=service,
            trigger=Trigger.SCHEDULE,
            mode=Mode.INCREMENTAL,
            dry_run=False,
            started_at=AT + timedelta(days=days),
        )
    with store.begin() as db:
        history.close_run(
            db,
            run,
            result=result,
            counts=Counts(extracted=1, created=1),
            message="",
            error=error.as_dict() if result is Result.ERROR else None,
        )


def test_history_is_filtered_and_exported_and_the_page_says_what_to_do(store: Store) -> None:
    for day in range(6):
        ran(store, "shop", day, Result.SUCCESS)
    ran(store, "shop", 6, Result.ERROR, "=HYPERLINK(1)|髙")
    ran(store, "other", 7, Result.PARTIAL)

    def days(**chosen: object) -> list[int]:
        with store.session() as session:
            found = history.recent(session, **{"limit": None, **chosen})  # type: ignore[arg-type]
        return [row.business_date.day for row in found]

    assert days() == [28, 27, 26, 25, 24, 23, 22, 21]
    assert days(limit=2) == [28, 27]
    assert days(connection="shop", last=date(2026, 11, 22)) == [22, 21]
    assert days(first=date(2026, 11, 27)) == [28, 27]
    assert days(result="ERROR") == [27]
    with store.session() as session:
        rows = history.recent(session, limit=5)
    table = list(csv.reader(io.StringIO(history_csv(rows).decode("cp932"), newline="")))
    assert table[0][: len(CSV_COLUMNS)] == list(CSV_COLUMNS)
    assert [line[0] for line in table[1:]] == ["other", *["shop"] * 4]
    failed = dict(zip(table[0], table[2], strict=True))
    assert failed["サービス名"] == "'=HYPERLINK(1)|髙"  # no formula
    assert failed["結果"] == "ERROR"
    assert failed["エラー詳細"] == "AC-301 データの取得に失敗"
    assert failed["対処"].startswith("1. =kintone の稼働状況を確かめる 2.")
    check_page(rows)


def check_page(rows: list[RunRow]) -> None:
    services = [
        Service(
            "得意先 kintone→商奉行", "shop", "毎日 5:00", "AC-0000-0001", "http://r", "http://s"
        ),
        Service("仕訳", "a|b<c", "0 9 * * 1", "AC-205 設定", "", "http://t"),
    ]
    page = page_of(services, rows).splitlines()
    assert page[2] == "| サービス名 | 接続 | 連携タイミング | 登録番号 | 操作 |"
    assert page[4] == (
        "| 得意先 kintone→商奉行 | shop | 毎日 5:00 | AC-0000-0001 "
        "| [今すぐ実行](http://r) / [設定](http://s) |"
    )
    assert page[5].startswith("| 仕訳 | a\\|b&lt;c | 0 9 \\* \\* 1 | AC-205 設定 |")
    assert page[5].endswith("| 今すぐ実行（未登録） / [設定](http://t) |")
    start = page.index("## 処理履歴（最近5件）")
    assert len([line for line in page[start + 4 :] if line.startswith("| ")]) == 5
    assert "### エラー詳細" in page
    assert "    1. =kintone の稼働状況を確かめる" in page


def test_a_line_that_was_written_otherwise_hides_no_other(store: Store) -> None:
    ran(store, "shop", 0, Result.ERROR)
    ran(store, "odd", 1, Result.ERROR)
    with store.begin() as db:
        statement = "UPDATE run SET error = '{\"code\": \"AC-301\"}' WHERE connection = 'odd'"
        db.execute(text(statement))
    with store.session() as session:
        page = page_of([], history.recent(session))
    assert page.count("AC-301") == 4  # a line, and its details, of each
    assert "1. " in page
