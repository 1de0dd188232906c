"""``app-connect new-connector``: the beginning of a connector, for who writes one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def new_connector(
    name: Annotated[str, typer.Argument(help="相手サービスの英小文字の名前です（例: acme）。")],
    title: Annotated[str, typer.Option(help="画面に出す名前です。省略すると NAME です。")] = "",
    root: Annotated[Path, typer.Option(help="ソースのフォルダです。")] = Path(),
) -> None:
    """新しいコネクタ（→ 仕訳伝票）のひな形を作り、埋めるところの一覧を表示します。"""
    from deployments.scaffold import blanks, generate

    written = generate(root, name, title or name)
    left = list(blanks(written))
    for path in written:
        typer.echo(f"作成: {path}")
    typer.echo(f"\n埋めるところ（{len(left)} か所）:")
    for blank in left:
        typer.echo(f"  {blank.path}:{blank.line}  {blank.name}: {blank.words}")
    typer.echo(
        "\n埋めた行から BLANK[…] の注釈を消し、次のコマンドが緑になれば受け入れ試験に合格です:\n"
        "  ruff check --fix . && ruff format . && mypy\n"
        f"  python -m pytest tests/acceptance -k {name}"
    )
