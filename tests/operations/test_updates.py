"""アップデート情報: the data is in order, and an update says what to do."""

from __future__ import annotations

import json
from datetime import date

from typer.testing import CliRunner

from deployments.catalog import connectors
from deployments.cli.app import app
from flows.engine.updates import Change, changes, current, lines, order, since
from flows.operations.updates import page


def test_the_list_names_connectors_that_exist_and_begins_with_our_version() -> None:
    versions = [order(each.version) for each in changes()]
    assert versions == sorted(versions, reverse=True)
    assert changes()[0].version == current()
    assert {each.connector for each in changes()} <= {"", *connectors()}
    assert page().startswith(f"## {current()}（")
    said = CliRunner().invoke(app, ["updates", "--json"])
    assert json.loads(said.stdout)["version"] == current()


def test_an_update_says_what_changed_since_and_what_to_do() -> None:
    day = date(2026, 12, 1)
    known = [
        Change("0.10.0", day, "", "新しい項目", "項目が増えました。", "接続を開いて保存する"),
        Change("0.9.0", day, "", "表示", "見やすくなりました。", ""),
    ]
    assert [each.version for each in since("0.9.0", known)] == ["0.10.0"]
    assert lines(since("0.8.9", known)) == [
        "0.10.0 新しい項目: 項目が増えました。",
        "  対応: 接続を開いて保存する",
        "0.9.0 表示: 見やすくなりました。",
    ]
    assert since("0.10.0", known) == []
