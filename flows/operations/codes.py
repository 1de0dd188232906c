"""コード変換表: shows the table of a connection and what it lacks, and changes it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from prefect import State, flow
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from pydantic import ConfigDict, Field
from sqlalchemy import Connection

from blocks import FormModel
from connectors.kit import DataError
from flows.engine import code_edit, code_table
from flows.engine.code_edit import COLUMNS, Changes, Typed
from flows.engine.code_table import Entry, Unmapped
from flows.engine.codes import CodeUse
from flows.engine.model import Result
from flows.engine.report import TABLE_ROWS
from flows.engine.store import Store
from flows.operations import Operation
from flows.operations.connections import find_pipeline
from flows.operations.ending import as_state

Action = Literal["一覧を表示", "追加・変更", "削除", "CSVを貼り付けて取り込む"]
KindName = Literal["勘定科目", "補助科目", "部門", "税区分", "取引先", "社員番号"]
"""The values of `flows.engine.codes.CodeKind`, which Prefect would draw with its docstring."""


class CodeRow(FormModel):
    """One entry in the run form."""

    model_config = ConfigDict(title="行")

    kind: KindName = Field(
        default="勘定科目",
        title="種類",
        description="奉行クラウドの何のコードに変換するかです。",
    )
    source: str = Field(
        default="",
        title="相手側の項目",
        description="相手側の何のコードかです（例: 経費科目）。1つしかないときは空欄で構いません。",
    )
    code: str = Field(title="コード", description="相手側のコードです。値が空のときは（空欄）。")
    name: str = Field(default="", title="名称", description="分かりやすい名前です（任意）。")
    bugyo_code: str = Field(
        default="",
        title="奉行コード",
        description="奉行クラウドのコードです（補助科目は 521/0001 の形）。「削除」では空欄です。",
    )


def table_of(db: Connection, connection: str) -> tuple[list[Entry], Unmapped]:
    """The table of a connection, and the codes that it still lacks."""
    return code_table.entries(db, connection), code_table.unmapped(db, connection)


def change(
    db: Connection,
    connection: str,
    uses: Sequence[CodeUse],
    typed: Sequence[Typed],
    *,
    may_be_empty: bool = False,
) -> Changes:
    """Add or change entries, all of them or none; the same once more changes nothing.

    Raises:
        DataError: ``AC-824``, lines that cannot be taken in.
    """
    entries, unmapped = table_of(db, connection)
    found = code_edit.understand(typed, uses, entries, unmapped.codes, may_be_empty=may_be_empty)
    code_table.put(db, connection, found.entries)
    return found


def take_away(
    db: Connection, connection: str, uses: Sequence[CodeUse], typed: Sequence[Typed]
) -> int:
    """Remove entries; returns how many there were.

    Raises:
        DataError: ``AC-824``, a row that names none.
    """
    entries, unmapped = table_of(db, connection)
    return code_table.remove(db, connection, code_edit.keys(typed, uses, entries, unmapped.codes))


def lines_of(db: Connection, connection: str) -> list[list[str]]:
    """The whole table, as texts of `COLUMNS`; what has to be filled in comes first."""
    entries, unmapped = table_of(db, connection)
    return code_edit.lines(entries, unmapped.codes)


@flow(name="code-table", flow_run_name="コード変換表 {connection} {action}", persist_result=False)
async def edit_codes(
    connection: str,
    action: Action = "一覧を表示",
    rows: list[CodeRow] = [],  # noqa: B006 (Prefect reads the default for the run form)
    pasted: str = "",
) -> State[None]:
    """Show コード変換表, or change it.

    Args:
        connection: 接続の名前です（例: keihi）。
        action: どの操作でも、終わったあとの表と未対応のコードが「結果・明細」に出ます。
        rows: 「追加・変更」「削除」のときの行です。「1件追加」で1行ずつ入れます。
        pasted: 「CSVを貼り付けて取り込む」のとき、見出しの行から貼り付けます。
            Excel でコピーした行もそのまま貼り付けられます。
    """
    return await as_state(_edit(connection.strip(), action, rows, pasted))


async def _edit(
    connection: str, action: Action, rows: Sequence[CodeRow], pasted: str
) -> tuple[Result, str]:
    store = Store()
    uses = (await find_pipeline(store, connection)).codes
    typed = [
        Typed(f"{number}行目", row.kind, row.source, row.code, row.name, row.bugyo_code)
        for number, row in enumerate(rows, 1)
    ]
    if action in ("追加・変更", "削除") and not typed:
        raise DataError("AC-824", f"「{action}」の行がありません。「1件追加」で行を入れます")
    words = ""
    match action:
        case "追加・変更":
            words = f"{(await store.do(change, connection, uses, typed)).sentence()}。"
        case "削除":
            words = f"削除 {await store.do(take_away, connection, uses, typed):,} 件。"
        case "CSVを貼り付けて取り込む":
            found = await store.do(_take_in, connection, uses, pasted)
            words = f"{found.sentence()}。"
    return Result.SUCCESS, words + await _show(store, connection)


def _take_in(db: Connection, connection: str, uses: Sequence[CodeUse], data: str) -> Changes:
    return change(db, connection, uses, code_edit.read(data), may_be_empty=True)


async def _show(store: Store, connection: str) -> str:
    """The artifacts: the whole table, and what has to be filled in, ready to be copied."""
    entries, unmapped = await store.do(table_of, connection)
    lines = await store.do(lines_of, connection)
    more = f"（先頭 {TABLE_ROWS} 行）" if len(lines) > TABLE_ROWS else ""
    await acreate_table_artifact(
        [dict(zip(COLUMNS, line, strict=True)) for line in lines[:TABLE_ROWS]]
        or [{COLUMNS[0]: "コード変換表は空です"}],
        key=f"codes-{connection}",
        description=f"コード変換表: {connection} {len(entries):,} 件{more}",
    )
    todo = lines[: len(lines) - len(entries)]
    if todo:
        text = code_edit.write(todo).decode("cp932").replace("\r\n", "\n")
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
        await acreate_markdown_artifact(
            "## 奉行コードを入れるコード\n\n"
            "下の枠を見出しの行からコピーし、「奉行コード」の列を入れて、"
            "操作「CSVを貼り付けて取り込む」に貼り付けます。\n\n"
            f"{fence}\n{text}{fence}\n",
            key=f"codes-todo-{connection}",
            description=f"奉行コードを入れるコード: {connection} {len(todo):,} 種類",
        )
    words = f"コード変換表 {len(entries):,} 件"
    if sentence := unmapped.sentence():
        return f"{words} / {sentence}"
    return f"{words} / 未対応のコードはありません"


OPERATION = Operation(
    flow=edit_codes,
    name="コード変換表",
    description="""\
接続ごとの、相手側のコード → 奉行クラウドのコードの対応です（勘定科目・補助科目・部門・税区分・\
取引先・社員番号）。

- **使い方**: 「実行」→「条件を指定して実行」で、接続の名前と操作を選びます。まず「一覧を表示」で、\
今の表と、対応のないコード（止まっている件数つき）を見ます。結果は「結果・明細」にあります。
- **追加・変更**: 「行」の「1件追加」で、種類・相手側の項目・コード・奉行コードを入れます。\
補助科目の奉行コードは「勘定科目/補助科目」（例: 521/0001）です。
- **まとめて入れる**: 「一覧を表示」の「結果・明細」の枠（または Excel で開いた CSV）を\
見出しの行からコピーし、奉行コードを入れて「CSVを貼り付けて取り込む」に貼り付けます。\
CSV は `app-connect codes export 接続の名前 ファイル` で書き出せます。\
先頭に 0 のあるコードは「0012」のように「」で囲むと、Excel で 0 が消えません。
- **対応がないコード**: 奉行クラウドに同じコードがあれば、そのまま使います。なければ、\
そのコードを使うデータだけが止まります（AC-821）。
- **入れたあと**: 接続の処理を実行すると、止まっていたデータだけが登録されます。\
登録済みの伝票は変わりません。

何度実行しても、同じ内容なら何も変わりません。1行でも誤りがあれば、1行も取り込みません。
""",
    titles={
        "connection": "接続",
        "action": "操作",
        "rows": "行（追加・変更・削除）",
        "pasted": "貼り付ける CSV（見出しの行から）",
    },
)
