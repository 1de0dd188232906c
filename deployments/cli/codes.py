"""``app-connect codes``: コード変換表 in a terminal, the same words and work as on the screens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from flows.engine.code_edit import Typed
    from flows.engine.codes import CodeUse

codes = typer.Typer(
    help="コード変換表（相手側のコード → 奉行クラウドのコード）です。", no_args_is_help=True
)

ConnectionName = Annotated[str, typer.Argument(help="接続の名前です。")]
Kind = Annotated[str, typer.Argument(help="種類です（勘定科目、補助科目、部門、税区分 …）。")]
Source = Annotated[str, typer.Argument(help="相手側の項目です（例: 経費科目）。")]
Code = Annotated[str, typer.Argument(help="相手側のコードです。")]
Json = Annotated[bool, typer.Option("--json", help="結果を JSON で表示します。")]


@codes.command("list")
def list_(connection: ConnectionName, as_json: Json = False) -> None:
    """コード変換表を表示します（奉行コードのないコードが先です）。"""
    _uses(connection)
    from flows.engine.code_edit import COLUMNS
    from flows.engine.store import Store
    from flows.operations.codes import lines_of

    with Store().begin() as db:
        lines = lines_of(db, connection)
    _print(f"コード変換表（{len(lines):,} 件）", COLUMNS, lines, as_json=as_json)


@codes.command()
def unmapped(connection: ConnectionName, as_json: Json = False) -> None:
    """データを止めている、対応のないコードを表示します。"""
    _uses(connection)
    from flows.engine.report import UNMAPPED_COLUMNS, unmapped_line
    from flows.engine.store import Store
    from flows.operations.codes import table_of

    with Store().begin() as db:
        found = table_of(db, connection)[1]
    lines = [unmapped_line(each) for each in found.codes]
    title = found.sentence() or "未対応のコードはありません"
    _print(title, UNMAPPED_COLUMNS, lines, as_json=as_json)


@codes.command("set")
def set_(
    connection: ConnectionName,
    kind: Kind,
    source: Source,
    code: Code,
    bugyo_code: Annotated[
        str, typer.Argument(help="奉行クラウドのコードです（補助科目は 521/0001 の形）。")
    ],
    name: Annotated[str, typer.Option(help="分かりやすい名前です。")] = "",
    as_json: Json = False,
) -> None:
    """対応を1件、追加または変更します。"""
    uses = _uses(connection)
    from flows.engine.code_edit import Typed

    typed = [Typed("指定", kind, source, code, name, bugyo_code)]
    _change(connection, uses, typed, may_be_empty=False, as_json=as_json)


@codes.command()
def remove(
    connection: ConnectionName, kind: Kind, source: Source, code: Code, as_json: Json = False
) -> None:
    """対応を1件、削除します。"""
    uses = _uses(connection)
    from flows.engine.code_edit import Typed
    from flows.engine.store import Store
    from flows.operations.codes import take_away

    with Store().begin() as db:
        removed = take_away(db, connection, uses, [Typed("指定", kind, source, code)])
    typer.echo(json.dumps({"removed": removed}) if as_json else f"削除 {removed:,} 件。")


@codes.command()
def export(
    connection: ConnectionName,
    file: Annotated[Path, typer.Argument(help="書き出す CSV です。")],
    as_json: Json = False,
) -> None:
    """Excel で開ける CSV（Shift_JIS）に書き出します。対応のないコードも入ります。"""
    _uses(connection)
    from flows.engine import code_edit
    from flows.engine.store import Store
    from flows.operations.codes import lines_of

    with Store().begin() as db:
        lines = lines_of(db, connection)
    file.write_bytes(code_edit.write(lines))
    words = f"{len(lines):,} 件を {file} に書き出しました。"
    typer.echo(json.dumps({"rows": len(lines), "file": str(file)}) if as_json else words)


@codes.command("import")
def import_(
    connection: ConnectionName,
    file: Annotated[Path, typer.Argument(help="codes export で書き出し、直した CSV です。")],
    as_json: Json = False,
) -> None:
    """CSV を取り込みます。1行でも誤りがあれば、1行も取り込みません。"""
    uses = _uses(connection)
    from connectors.kit import DataError
    from flows.engine import code_edit

    try:
        data = file.read_bytes()
    except OSError as error:
        problem = DataError("AC-823", f"{file}: {error.strerror}")
    else:
        typed = code_edit.read(data)
        _change(connection, uses, typed, may_be_empty=True, as_json=as_json)
        return
    raise problem


def _uses(connection: str) -> Sequence[CodeUse]:
    """What the connector looks up; the process is pointed at the local stack first."""
    from deployments.cli.environment import use_running_stack

    use_running_stack()
    from flows.engine.store import Store
    from flows.operations.connections import find_pipeline

    return asyncio.run(find_pipeline(Store(), connection)).codes


def _change(
    connection: str,
    uses: Sequence[CodeUse],
    typed: Sequence[Typed],
    *,
    may_be_empty: bool,
    as_json: bool,
) -> None:
    from flows.engine.store import Store
    from flows.operations.codes import change, table_of

    with Store().begin() as db:
        found = change(db, connection, uses, typed, may_be_empty=may_be_empty)
        left = table_of(db, connection)[1]
    if as_json:
        counts = {
            "added": found.added,
            "changed": len(found.entries) - found.added,
            "unchanged": found.unchanged,
            "empty": found.empty,
            "unmapped": len(left.codes),
        }
        typer.echo(json.dumps(counts))
        return
    typer.echo(f"{found.sentence()}。{left.sentence() or '未対応のコードはありません'}。")
    if found.entries:
        typer.echo(f"止まっていたデータを登録するには: app-connect run {connection}")


def _print(title: str, columns: tuple[str, ...], lines: list[list[str]], *, as_json: bool) -> None:
    from deployments.cli.books import table

    if as_json:
        entries = [dict(zip(columns, line, strict=True)) for line in lines]
        typer.echo(json.dumps(entries, ensure_ascii=False))
        return
    Console().print(table(title, columns, lines))
