"""``app-connect rejects`` and ``review``, as a person types them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from tests.deployments.test_cli import NAME, World, world

__all__ = ["world"]


def rows_of(path: Path) -> list[dict[str, str]]:
    text = path.read_bytes().decode("cp932")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_out_to_excel_and_back(world: World, tmp_path: Path) -> None:
    world.call("deploy", NAME)
    before = json.loads(world.call("run", NAME, "--json", status=3).splitlines()[-1])["rejected"]
    path = tmp_path / "rejects.csv"
    assert f"{before:,} 件" in world.call("rejects", NAME, "--csv", str(path))
    assert path.stat().st_mode & 0o077 == 0
    rows = rows_of(path)
    assert len(rows) == before
    emoji = next(row for row in rows if row["エラーコード"] == "AC-803")
    assert emoji["使えない文字"] == "得意先名: U+1F600 GRINNING FACE"

    mangled = emoji | {"得意先コード": emoji["得意先コード"].lstrip("0")}
    for changed, code in ((mangled, "AC-815"), (emoji | {"照合キー": ""}, "AC-815")):
        _write(path, changed)
        assert code in world.call("rejects", NAME, "--import", str(path), status=1)
    assert "AC-814" in world.call("rejects", NAME, "--import", str(tmp_path), status=1)

    _write(path, emoji | {"得意先名": "スマイル商会株式会社"})
    assert "1 件の修正" in world.call("rejects", NAME, "--import", str(path))
    assert "エラー明細にない行: 1 件" in world.call("rejects", NAME, "--import", str(path))
    left = json.loads(world.call("rejects", NAME, "--json"))
    assert len(left) == before - 1

    one = left[0]["レコード"]
    chosen = ("--record", one)
    for command in (("rejects", NAME, "--resend"), ("run", NAME, "--mode", "エラー明細のみ")):
        ended = json.loads(world.call(*command, *chosen, "--json", status=3).splitlines()[-1])
        assert (ended["created"], ended["rejected"]) == (0, 1)
    assert "AC-817" in world.call("rejects", NAME, "--done", *chosen, status=1)
    assert "AC-816" in world.call("rejects", NAME, "--resend", "--record", "0", status=1)
    assert "要確認の伝票（0 件）" in world.call("review", NAME)
    assert "AC-818" in world.call("review", NAME, "--posted", "0", status=1)
    assert "AC-206" in world.call("review", "never-heard-of", status=1)
    world.call("rejects", NAME, "--resend", "--done", status=2)


def _write(path: Path, row: dict[str, str]) -> None:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(row))
    writer.writeheader()
    writer.writerow(row)
    path.write_bytes(out.getvalue().encode("cp932"))
