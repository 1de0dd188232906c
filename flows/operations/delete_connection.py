"""接続の削除: a connection goes; its books, its history and the credentials stay."""

from __future__ import annotations

from prefect import State, flow
from prefect.artifacts import acreate_markdown_artifact

from flows.engine.model import Result
from flows.engine.report import tolerant
from flows.engine.store import Store
from flows.operations import Operation
from flows.operations.ending import as_state
from flows.operations.removing import Removed, remove
from flows.operations.services import rebuild_quietly


@flow(name="delete-connection", flow_run_name="接続の削除 {connection}", persist_result=False)
async def delete_connection(
    connection: str, confirmation: str, with_pending: bool = False
) -> State[None]:
    """Delete a connection.

    Args:
        connection: 削除する接続の名前です（例: sample）。
        confirmation: 間違えて削除しないように、接続の名前をもう一度入れます。
        with_pending: 登録されたかどうかを確かめていないデータ（確認待ち・要確認）があっても
            削除するときに、オンにします。
    """
    return await as_state(_delete(connection, confirmation, with_pending=with_pending))


async def _delete(name: str, confirmation: str, *, with_pending: bool) -> tuple[Result, str]:
    store = Store()
    gone = await remove(store, name, confirmation, with_pending=with_pending)
    await rebuild_quietly(store)
    async with tolerant("接続の削除"):
        await acreate_markdown_artifact(
            page_of(gone), key="deleted-connection", description=f"接続の削除: {gone.name}"
        )
    return Result.SUCCESS, sentence(gone)


def sentence(gone: Removed) -> str:
    """What happened, in one line."""
    done = "は、もう削除してあります" if gone.before else "を削除しました"
    return (
        f"接続「{gone.name}」{done}。"
        "登録の控え・処理履歴・エラー明細・コード変換表・接続情報は残しています。"
    )


def kept(gone: Removed) -> dict[str, str]:
    """What is left, and how much of it."""
    found = {
        "登録の控え": f"{gone.ledger:,} 件",
        "処理履歴": f"{gone.runs:,} 件",
        "エラー明細": f"{gone.rejects:,} 件",
        "コード変換表": f"{gone.codes:,} 行",
        **{kind: f"「{name}」" for kind, name in gone.credentials.items()},
    }
    if gone.pending:
        found["確認待ち"] = f"{gone.pending:,} 件（登録の控えのうち）"
    return found


def page_of(gone: Removed) -> str:
    """The page, in Markdown."""
    lines = "\n".join(f"| {what} | {much} |" for what, much in kept(gone).items())
    pending = (
        "- 確認待ちのデータは、作り直したあとの最初の処理で、登録されているかどうかを確かめます。\n"
        if gone.pending
        else ""
    )
    done = "は、もう削除してあります" if gone.before else "を削除しました"
    return f"""\
## 接続「{gone.name}」{done}

**削除したもの**: 接続（{gone.service}）の設定と、連携一覧の「{gone.service} {gone.name}」\
（予定を含む）。奉行クラウドと相手のサービスのデータは、何も変えていません。

| 残したもの | 内容 |
|---|---|
{lines}

- **作り直すとき**: 「新しい接続」で、接続の名前に同じ「{gone.name}」を入れます。前回の続きから\
処理し、登録済みのデータを二重に登録することはありません。別の名前で作ると、控えを引き継ぎません。
{pending}- **接続情報**（ID・トークン）は、ほかの接続でも使えるように残しています。要らなければ、\
「接続情報・設定」で削除します。
"""


OPERATION = Operation(
    flow=delete_connection,
    name="接続の削除",
    description="""\
使わなくなった接続を削除します。自動の処理が止まり、「連携サービス」にも表示されなくなります。

- **使い方**: 「実行」→「条件を指定して実行」を開き、接続の名前を2回入れて実行します。
- **残るもの**: 登録の控え・処理履歴・エラー明細・コード変換表・\
接続情報（ID・トークン）は残ります。奉行クラウドと相手のサービスのデータは変わりません。
- **作り直すとき**: 「新しい接続」で同じ名前を入れると、前回の続きから処理します。\
二重に登録することはありません。
- **削除できないとき**: 名前が違うとき、処理が実行中のとき、登録されたかどうかを確かめていない\
データ（確認待ち）があるときは、何も変えずに終わります。
- **途中で止まったとき**: 同じ名前でもう一度実行すると、残りを削除します。
- しばらく止めるだけなら、削除せずに、連携一覧でスケジュールをオフにします。
""",
    titles={
        "connection": "接続",
        "confirmation": "確認（接続の名前をもう一度）",
        "with_pending": "確認待ちがあっても削除する",
    },
)
