"""エラー明細の処理: sends rejects again, takes corrections in, marks what a person dealt with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from prefect import State, flow
from prefect.artifacts import acreate_table_artifact
from sqlalchemy import Connection

from flows.engine import corrections as kept
from flows.engine import reject_csv, rejects
from flows.engine.corrections import Correction
from flows.engine.model import Result
from flows.engine.reject_csv import Import
from flows.engine.store import Store
from flows.operations import Operation
from flows.operations.connections import pipeline_of, split
from flows.operations.ending import as_state
from flows.operations.resending import resend

Action = Literal["再送する", "対応済みにする"]

COLUMNS = ("レコード", "対象", "結果", "理由", "対処")
_SHOWN = 200


def import_csv(db: Connection, connection: str, data: bytes | str) -> Import:
    """Take in what a person corrected; the same once more changes nothing.

    Args:
        db: The transaction; nothing is kept when anything in the CSV is wrong.
        connection: Name of the connection.
        data: The file, or cells that were pasted.

    Raises:
        SettingsError: ``AC-206``, no such connection.
        DataError: ``AC-814``, the CSV cannot be read, or is of another connection; ``AC-815``, rows
            that cannot be imported.
    """
    pipeline_of(db, connection)
    rows = reject_csv.parse(data)
    open_lines = {line.key: line for line in rejects.lines(db, connection)}
    keys = [row[reject_csv.WORDS[0]].strip() for row in rows]
    done = rejects.finished(db, connection, [key for key in keys if key not in open_lines])
    found = reject_csv.understand(rows, connection, open_lines, done)
    by_entity: dict[str, dict[str, Correction]] = {}
    for (entity, key), correction in found.corrections.items():
        by_entity.setdefault(entity, {})[key] = correction
    for entity, some in by_entity.items():
        kept.put(db, connection, entity, some)
    return found


def to_resend(db: Connection, connection: str, records: Sequence[str]) -> list[str]:
    """Which of the rejects can be sent again, of those that a person named (none = all).

    Raises:
        SettingsError: ``AC-206``, no such connection.
        DataError: ``AC-816``, a record is not among them.
    """
    entity = pipeline_of(db, connection).entity
    found, _ = rejects.chosen(db, connection, records)
    return [each.source_key for each in found if each.entity == entity]


@flow(name="handle-rejects", flow_run_name="エラー明細の処理 {connection}", persist_result=False)
async def handle_rejects(
    connection: str,
    action: Action = "再送する",
    records: list[str] = [],  # noqa: B006 (Prefect reads the default for the run form)
    corrections: str = "",
) -> State[None]:
    """Send rejects again, or mark them as dealt with.

    Args:
        connection: 接続の名前です（例: sample）。
        action: 「再送する」は、エラー明細のデータだけをもう一度処理します。「対応済みにする」は、
            登録後の変更・取消（AC-811〜813）を人が処理し終えたときに選びます。
        records: エラー明細の「レコード」の番号です。「1件追加」で1つずつ入れます。空なら
            すべてです。
        corrections: 「再送する」のとき、Excel で直した行を見出しの行ごとコピーして貼り付けます。
            空なら修正なしで送り直します。パスワードなどの秘密の情報は入れないでください。
    """
    return await as_state(_handle(connection.strip(), action, split(records), corrections))


async def _handle(
    connection: str, action: Action, records: Sequence[str], pasted: str
) -> tuple[Result, str]:
    store = Store()
    if action == "対応済みにする":
        done = await store.do(_acknowledge, connection, records)
        return Result.SUCCESS, f"対応済みにしました: {len(done):,} 件。"
    words = ""
    if pasted.strip():
        imported = await store.do(import_csv, connection, pasted)
        words = imported.sentence()
        if not records:
            records = [*imported.keys, *imported.unchanged]
            if not records:
                return Result.SUCCESS, f"{words}送り直すエラー明細はありません。"
    keys = await store.do(to_resend, connection, records)
    if not keys:
        return Result.SUCCESS, f"{words}送り直すエラー明細はありません。"
    before = {each.source_key: each.label for each in await store.do(rejects.listed, connection)}
    ended = await resend(connection, keys if records else [])
    await _report(store, connection, keys, before)
    return ended.result, f"{words}{ended.sentence()}"


def _acknowledge(db: Connection, connection: str, records: Sequence[str]) -> list[str]:
    pipeline_of(db, connection)
    return rejects.acknowledge(db, connection, records)


async def _report(
    store: Store, connection: str, keys: Sequence[str], before: dict[str, str]
) -> None:
    """Artifact: what became of each reject that was sent again."""
    left = {each.source_key: each for each in await store.do(rejects.listed, connection)}
    table = []
    for key in keys[:_SHOWN]:
        still = left.get(key)
        texts = (
            (key, before.get(key, ""), "解消", "", "")
            if still is None
            else (key, still.label, "エラー", still.reason, still.remedy)
        )
        table.append(dict(zip(COLUMNS, texts, strict=True)))
    solved = sum(key not in left for key in keys)
    await acreate_table_artifact(
        table,
        key=f"resent-{connection}",
        description=f"再送の結果: 解消 {solved:,} 件 / エラー {len(keys) - solved:,} 件",
    )


OPERATION = Operation(
    flow=handle_rejects,
    name="エラー明細の処理",
    description="""\
エラー明細（奉行クラウドに登録できなかったデータ）を送り直します。

- **実行のしかた**: 「実行」→「条件を指定して実行」で、接続の名前を入れて実行します。何度押しても、\
同じデータが二重に登録されることはありません。
- **元のサービスで直したとき**: 「再送する」のまま実行します（次回 5:00 の処理でも送り直します）。
- **Excel で直すとき**: `app-connect rejects 接続の名前 --csv ファイル` で書き出し、\
元データの列だけを直します。見出しの行と直した行をコピーし、「修正した行」に貼り付けて実行します。\
元のサービスのデータは変わりません。
- **対応済みにする**: 登録後の変更・取消（AC-811、AC-812、AC-813）を、奉行クラウドで処理し終えた\
ときに選びます。
- **結果**: 処理の「結果・明細」に、レコードごとの結果があります。

貼り付けた内容は処理の記録に残ります。パスワードなどの秘密の情報は入れないでください。
""",
    titles={
        "connection": "接続",
        "action": "操作",
        "records": "レコードの番号",
        "corrections": "修正した行（見出しの行から貼り付け）",
    },
)
