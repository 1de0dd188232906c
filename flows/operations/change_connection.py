"""接続の設定変更: sees that an edited connection is right on both sides, and puts it to work."""

from __future__ import annotations

from prefect import State, flow

from flows.engine.model import Result
from flows.engine.store import Store
from flows.operations import Operation
from flows.operations.connections import find_pipeline
from flows.operations.ending import as_state
from flows.operations.new_connection import deploy_here, summary
from flows.operations.onboarding import recheck_and_deploy
from flows.operations.services import rebuild_quietly


@flow(name="change-connection", flow_run_name="接続の設定変更 {connection}", persist_result=False)
async def change_connection(connection: str) -> State[None]:
    """Check an edited connection, and update its deployment.

    Args:
        connection: 接続の名前です（例: sample）。
    """
    return await as_state(_change(connection.strip()))


async def _change(name: str) -> tuple[Result, str]:
    store = Store()
    pipeline = await find_pipeline(store, name)
    made = await recheck_and_deploy(store, pipeline, name, deploy_here)
    await rebuild_quietly(store)
    return Result.SUCCESS, await summary(made, "設定を反映しました")


OPERATION = Operation(
    flow=change_connection,
    name="接続の設定変更",
    description="""\
接続の設定を変えたあとに実行します。両方のサービスに実際に接続して確かめ、スケジュールを反映します。

- **使い方**: 「接続情報・設定」で接続を開き、「編集」で変えて「保存」します。そのあと、ここで\
「実行」→「条件を指定して実行」を開き、接続の名前を入れて実行します。
- **誤りがあるとき**: 何が違うかを表示して終わります。直して保存し、もう一度実行します。
- データは動かしません。何度実行しても構いません。
""",
    titles={"connection": "接続"},
)
