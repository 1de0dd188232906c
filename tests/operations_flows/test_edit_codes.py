"""コード変換表 as a person meets it: the run's list, the run form, the terminal."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from typer.testing import CliRunner

import flows.customers_from_kintone as connector
from connectors.kit import DataError
from deployments.cli.app import app
from flows.engine.codes import CodeBook, CodeKind, CodeUse
from flows.engine.model import Reject, Row
from flows.operations import codes as operation
from flows.operations import connections
from flows.operations.codes import Action, CodeRow, edit_codes
from tests.flows.conftest import World, client, known_blocks, new_world, store, world

__all__ = ["client", "known_blocks", "new_world", "store", "world"]

RANK = "取引区分"


class Ranked:
    """得意先 whose メモ1 is a 取引先 code, made from the partner's."""

    def __init__(self, settings: Any, book: CodeBook) -> None:
        self._plain, self._book = connector.transform(settings), book
        self.fields = self._plain.fields

    def __call__(self, source_key: str, record: Mapping[str, Any]) -> Row | Reject:
        row = self._plain(source_key, record)
        if isinstance(row, Reject):
            return row
        codes = self._book.reader()
        memo = codes(CodeKind.PARTNER, RANK, row.values["memo1"], "上得意")
        missing = codes.reject(source_key, row.key)
        return missing or replace(row, values={**row.values, "memo1": memo})


@pytest.fixture(autouse=True)
def ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connector of 得意先 converts a code, in this process."""
    coded = replace(
        connector.PIPELINE,
        transformer=lambda connection, book: Ranked(connection.settings, book),
        codes=(CodeUse(CodeKind.PARTNER, RANK),),
    )
    monkeypatch.setattr(connector, "PIPELINE", coded)
    monkeypatch.setattr(connections, "pipelines", lambda: {coded.connector: coded})


async def edit(world: World, *arguments: Any, **more: Any) -> Any:
    return await edit_codes(world.name, *arguments, **more, return_state=True)


async def test_from_the_runs_list_to_the_form_and_back(
    world: World, client: PrefectClient, tmp_path: Path
) -> None:
    nothing = await edit(world)  # a connection that has never run
    assert nothing.name == "SUCCESS"
    assert "コード変換表 0 件 / 未対応のコードはありません" in nothing.message
    world.add(1, 備考="007")
    world.add(2, 備考="=A|B")
    preview = await world.run(dry_run=True)
    sentence = "未対応コード 2種類（2件）"
    assert preview.state.message.endswith(sentence)
    first = await world.run()
    assert (first.state.name, first.state.message.endswith(sentence)) == ("一部エラー", True)
    for ran in (preview, first):
        table = await ran.artifact("unmapped")
        assert table[0] == {
            "種類": "取引先",
            "相手側の項目": RANK,
            "コード": "007",
            "名称": "上得意",
            "止まっている件数": "1",
            "対処": "コード変換表に奉行コードを入れる",
        }
        result = await ran.artifact("result")
        assert "### 未対応のコード" in result
        assert "| 取引先 | 取引区分 | =A\\|B | 上得意 | 1 |" in result

    shown = await edit(world)
    assert shown.message.endswith(sentence)
    wanted = ArtifactFilterFlowRunId(any_=[shown.state_details.flow_run_id])
    left = {
        str(a.key): str(a.data)
        for a in await client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=wanted))
    }
    assert [r["奉行コード"] for r in json.loads(left[f"codes-{world.name}"])] == ["", ""]
    block = re.search(
        r"^(`{3,})\n(.*?)^\1$", left[f"codes-todo-{world.name}"], re.MULTILINE | re.DOTALL
    )
    assert block is not None
    rows = list(csv.DictReader(io.StringIO(block[2])))
    assert [row["コード"] for row in rows] == ["「007」", "'=A|B"]
    rows[0]["奉行コード"] = "０００００１"
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter="\t")
    writer.writeheader()
    writer.writerows(rows)
    for words in ("追加 1 件 / 変更 0 件 / 変更なし 0 件", "追加 0 件 / 変更 0 件 / 変更なし 1 件"):
        state = await edit(world, "CSVを貼り付けて取り込む", pasted=out.getvalue())
        assert f"{words} / 奉行コードが空の行 1 件。コード変換表 1 件 / " in state.message

    line = CodeRow(kind="取引先", code="=A|B", bugyo_code="000002")
    wrong = await edit(world, "追加・変更", rows=[line, CodeRow(kind="部門", code="1")])
    assert (wrong.name, wrong.message[:6]) == ("ERROR", "AC-824")
    assert "2行目の「種類」: 「部門」は使えません" in wrong.message
    wrongs: list[tuple[Action, str]] = [("削除", "AC-824"), ("CSVを貼り付けて取り込む", "AC-823")]
    for action, code in wrongs:
        with pytest.raises(DataError, match=code):
            await operation._edit(world.name, action, [], "x")
    assert (
        "コード変換表 2 件 / 未対応のコードはありません"
        in (await edit(world, "追加・変更", rows=[line])).message
    )
    after = await world.run()
    assert (after.state.name, after.counts[:2]) == ("SUCCESS", (2, 2))
    memos = {code: row["memo1"] for code, row in world.customers.items()}
    assert memos == {"000001": "000001", "000002": "000002"}
    assert "削除 1 件" in (await edit(world, "削除", rows=[line])).message
    assert "削除 0 件" in (await operation._edit(world.name, "削除", [line], ""))[1]
    await asyncio.to_thread(in_a_terminal, world, tmp_path)


def in_a_terminal(world: World, folder: Path) -> None:
    """The same with ``app-connect codes``."""

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["codes", arguments[0], world.name, *arguments[1:]])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.stdout

    key = ("取引先", RANK, "=A|B")
    (entry,) = json.loads(call("list", "--json"))
    assert (entry["コード"], entry["奉行コード"]) == ("007", "000001")
    counts = {"added": 1, "changed": 0, "unchanged": 0, "empty": 0, "unmapped": 0}
    assert json.loads(call("set", *key, "000002", "--json")) == counts
    assert "変更なし 1 件。未対応のコードはありません。" in call("set", *key, "000002")
    path = folder / "codes.csv"
    assert "2 件を" in call("export", str(path))
    assert "追加 0 件 / 変更 0 件 / 変更なし 2 件" in call("import", str(path))
    assert "削除 1 件" in call("remove", *key)
    assert "追加 1 件" in call("import", str(path))
    assert "000002" in call("list")
    assert json.loads(call("unmapped", "--json")) == []
    for wrong in (("import", str(folder)), ("set", "部門", *key[1:], "1")):
        with pytest.raises(DataError):
            call(*wrong)
