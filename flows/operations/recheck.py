"""再確認: every morning, what we posted is looked up in 奉行クラウド and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4

from prefect import State, flow
from prefect.artifacts import acreate_table_artifact
from prefect.runtime import flow_run as runtime
from pydantic import Field

from connectors.kit import AppConnectError, SettingsError
from flows.engine.clock import business_date, now
from flows.engine.model import Result
from flows.engine.pipeline import Pipeline
from flows.engine.rechecking import Compared, Day, recheck
from flows.engine.store import Store
from flows.operations import Operation
from flows.operations.connections import open_sink, split, with_documents
from flows.operations.deploying import saved_connections
from flows.operations.ending import as_state

COLUMNS = ("接続", "期間", "控え", "奉行クラウド", "差異")
AHEAD = timedelta(days=366)
"""How far in the future the date of a slip may be that is looked up, too."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of one connection.

    Attributes:
        compared: ``None`` = it could not be asked.
        problem: Why not.
    """

    connection: str
    compared: Compared | None
    problem: AppConnectError | None = None


@flow(name="recheck", flow_run_name="再確認", persist_result=False)
async def recheck_all(
    connections: list[str] = [],  # noqa: B006 (Prefect reads the default for the run form)
    days: Annotated[int, Field(ge=1, le=400)] = 40,
    limit: Annotated[int, Field(ge=1, le=100_000)] = 5000,
) -> State[None]:
    """Compare the posted slips with 奉行クラウド; nothing is changed there.

    Args:
        connections: 接続の名前です。「1件追加」で1つずつ入れます。空なら、伝票の接続すべてです。
        days: 伝票日付がこの日数前からのものを確かめます。
        limit: 1つの接続で確かめる伝票の数の上限です（新しいものから）。
    """
    return await as_state(_recheck(split(connections), days, limit))


async def _recheck(names: Sequence[str], days: int, limit: int) -> tuple[Result, str]:
    store = Store()
    wanted = await to_check(store, names)
    today = business_date(now())
    period = (today - timedelta(days=days), today + AHEAD)
    run_id = UUID(runtime.id) if runtime.id else uuid4()
    checked = [await _one(store, p, name, period, limit, run_id) for name, p in wanted.items()]
    lines = [line for each in checked for line in lines_of(each, days)]
    if lines:
        await acreate_table_artifact(
            lines, key="recheck", description=f"再確認: 伝票日付が {period[0]:%Y/%m/%d} 以後の伝票"
        )
    return summary(checked)


async def to_check(store: Store, names: Sequence[str]) -> dict[str, Pipeline[Any]]:
    """The connections that are asked about their documents: the named ones, or all.

    The books of a connection that was deleted stay, but nobody can be asked about them any more.

    Raises:
        SettingsError: ``AC-206``, one that was named does not exist, or posts no documents.
    """
    known = await store.do(with_documents)
    if missing := [name for name in names if name not in known]:
        raise SettingsError("AC-206", "、".join(missing))
    if names:
        return {name: known[name] for name in names}
    saved = {name for name, _ in await saved_connections()}
    return {name: pipeline for name, pipeline in known.items() if name in saved}


async def _one(
    store: Store,
    pipeline: Pipeline[Any],
    connection: str,
    period: tuple[date, date],
    limit: int,
    run_id: UUID,
) -> Checked:
    try:
        async with open_sink(store, pipeline, connection) as sink:
            compared = await recheck(
                store,
                connection,
                pipeline.entity,
                sink,
                first=period[0],
                last=period[1],
                limit=limit,
                run_id=run_id,
            )
    except AppConnectError as error:
        return Checked(connection, None, error)  # one connection must not stop the others
    return Checked(connection, compared)


def lines_of(checked: Checked, days: int) -> list[dict[str, str]]:
    """The lines of the table: the connection as a whole, then each day that differs."""
    compared = checked.compared
    if compared is None:
        error = checked.problem
        why = f"確かめられませんでした: {error.code} {error.title}" if error else ""
        return [_line(checked.connection, f"{days} 日前から", None, why)]
    more = "（上限まで）" if compared.cut else ""
    problems = len(compared.found)
    words = f"{problems:,} 件（エラー明細 AC-813）" if problems else "なし"
    total = compared.total
    lines = [_line(checked.connection, f"{days} 日前から{more}", total, words)]
    for day, figures in sorted(compared.days.items()):
        if figures.differs:
            gap = (
                f"{figures.theirs - figures.ours:+,} 件 / "
                f"{figures.their_yen - figures.our_yen:+,} 円"
            )
            lines.append(_line(checked.connection, f"{day:%Y/%m/%d}", figures, gap))
    return lines


def _line(connection: str, period: str, day: Day | None, words: str) -> dict[str, str]:
    ours = f"{day.ours:,} 件 / {day.our_yen:,} 円" if day else ""
    theirs = f"{day.theirs:,} 件 / {day.their_yen:,} 円" if day else ""
    return dict(zip(COLUMNS, (connection, period, ours, theirs, words), strict=True))


def summary(checked: Sequence[Checked]) -> tuple[Result, str]:
    """結果 and what is said about it."""
    failed = [each for each in checked if each.compared is None]
    good = [each.compared for each in checked if each.compared is not None]
    documents = sum(each.total.ours for each in good)
    wrong, new = sum(len(each.found) for each in good), sum(each.new for each in good)
    words = f"伝票 {documents:,} 枚を奉行クラウドと比べました。"
    words += f"違いのあるもの {wrong:,} 件（新しく見つかったもの {new:,} 件）。" if wrong else ""
    words += "違いはありません。" if good and not wrong else ""
    if not checked:
        words = "伝票を登録する接続はありません。"
    words += "".join(f"接続「{each.connection}」: {each.problem}" for each in failed)
    if failed and not good:
        return Result.ERROR, words
    return (Result.PARTIAL if wrong or failed else Result.SUCCESS), words


OPERATION = Operation(
    flow=recheck_all,
    name="再確認",
    description="""\
登録した伝票を奉行クラウドで1枚ずつ検索し、控えと比べます。奉行クラウドのデータは何も変えません。

- **いつ**: 毎日 6:30（日本時間）に自動で確かめます。
- **今すぐ実行**: 「実行」→「今すぐ実行」で、伝票を登録するすべての接続を確かめます。
- **見つかったとき**: 伝票がない・2枚以上ある・金額が違うものは、その接続のエラー明細に AC-813 で\
1回だけ載ります。奉行クラウドの伝票を確かめ、「エラー明細の処理」で「対応済みにする」を選ぶと、\
同じ内容では二度と載りません。元どおりになったものは、次の再確認でエラー明細から消えます。
- **結果**: 処理の「結果・明細」に、接続ごと・違いのある日ごとの件数と金額があります。
""",
    cron="30 6 * * *",
    titles={"connections": "接続", "days": "何日前から", "limit": "伝票の数の上限"},
)
