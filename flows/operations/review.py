"""要確認の処理: documents of which nobody can tell whether they are posted; a person decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from prefect import State, flow
from prefect.artifacts import acreate_table_artifact

from connectors.kit import DataError
from flows.engine import unclear
from flows.engine.model import Result
from flows.engine.store import Store
from flows.engine.unclear import COLUMNS, Decided, Unclear
from flows.operations import Operation
from flows.operations.connections import open_sink, pipeline_of, split
from flows.operations.ending import as_state
from flows.operations.resending import resend

Decision = Literal["一覧を見る", "登録済みにする", "もう一度送る"]


async def decide(store: Store, connection: str, records: Sequence[str], *, again: bool) -> Decided:
    """A person's decision about unclear documents, named by record or by 証憑番号.

    Args:
        store: The books.
        connection: Name of the connection.
        records: Which; all have to be unclear, or decided already.
        again: もう一度送る instead of 登録済みにする.

    Raises:
        SettingsError: ``AC-206``, no such connection.
        DataError: ``AC-818``, a document is not unclear.
        AppConnectError: 奉行クラウド cannot be asked; nothing was decided.
    """
    pipeline = await store.do(pipeline_of, connection)
    some = await store.do(unclear.chosen, connection, records)
    if not again:
        return await unclear.decide_posted(store, connection, some)
    if not some:
        return Decided()
    async with open_sink(store, pipeline, connection) as sink:
        return await unclear.decide_resend(store, connection, some, sink)


def records_of(some: Sequence[str]) -> list[str]:
    """Source keys of the records to be read, of documents and reversals to be sent again."""
    return list(dict.fromkeys(key.partition("#")[0] for key in some))


@flow(name="review-unclear", flow_run_name="要確認の処理 {connection}", persist_result=False)
async def review_unclear(
    connection: str,
    decision: Decision = "一覧を見る",
    records: list[str] = [],  # noqa: B006 (Prefect reads the default for the run form)
) -> State[None]:
    """List unclear documents, or decide about some of them.

    Args:
        connection: 接続の名前です。
        decision: 「一覧を見る」で証憑番号を調べ、奉行クラウドで検索してから判断します。
        records: 判断する伝票の「レコード」の番号か証憑番号です。「1件追加」で1つずつ入れます。
    """
    return await as_state(_review(connection.strip(), decision, split(records)))


async def _review(
    connection: str, decision: Decision, records: Sequence[str]
) -> tuple[Result, str]:
    store = Store()
    await store.do(pipeline_of, connection)
    if decision == "一覧を見る":
        return await _show(store, connection)
    if not records:
        raise DataError("AC-818", "レコードの番号が空です")
    decided = await decide(store, connection, records, again=decision == "もう一度送る")
    words, result = decided.sentence(), Result.SUCCESS
    if decided.unsent:
        ended = await resend(connection, records_of(decided.unsent))
        words, result = f"{words}{ended.sentence()}", ended.result
    if decided.refused and result is Result.SUCCESS:
        result = Result.PARTIAL
    await _show(store, connection)
    return result, words


async def _show(store: Store, connection: str) -> tuple[Result, str]:
    """Artifact: what is unclear now."""
    found = await store.do(unclear.listed, connection)
    await acreate_table_artifact(
        table(found) or [dict.fromkeys(COLUMNS[:1], "要確認の伝票はありません")],
        key=f"unclear-{connection}",
        description=f"要確認の伝票: {len(found):,} 件",
    )
    return Result.SUCCESS, f"要確認の伝票: {len(found):,} 件（「結果・明細」に一覧があります）。"


def table(found: Sequence[Unclear]) -> list[dict[str, str]]:
    """Unclear documents as lines of a table."""
    return [dict(zip(COLUMNS, each.cells, strict=True)) for each in found]


OPERATION = Operation(
    flow=review_unclear,
    name="要確認の処理",
    description="""\
送ったあと、登録されているかどうかを確かめられなかった伝票（要確認）について、人が判断します。\
判断するまで、その伝票がもう一度送られることはありません。

- **1. 一覧を見る**: 「実行」→「条件を指定して実行」で接続の名前を入れて実行します。\
「結果・明細」の一覧に、証憑番号・金額・日付・理由があります。
- **2. 奉行クラウドで検索する**: 証憑番号を条件に、仕訳伝票を検索します。
- **3. 判断する**: 1枚だけ正しく登録されていれば「登録済みにする」、登録されていなければ\
「もう一度送る」を選び、レコードの番号を入れて実行します。\
2枚以上あれば、余分な伝票を削除してから「登録済みにする」を選びます。

「もう一度送る」では、送る前にもう一度奉行クラウドを検索し、見つかれば送らずに登録済みにします。
""",
    titles={
        "connection": "接続",
        "decision": "判断",
        "records": "レコードの番号（または証憑番号）",
    },
)
