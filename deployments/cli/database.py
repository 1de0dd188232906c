"""``app-connect backup``, ``restore`` and ``upgrade-database``: what the operator reads."""

from __future__ import annotations

from pathlib import Path

import typer

from deployments.backup.archive import write_backup
from deployments.backup.restore import restore_backup
from deployments.backup.upgrade import upgrade_database
from deployments.stack.settings import StackSettings
from flows.engine.clock import jst_text


def back_up(settings: StackSettings, path: Path) -> None:
    """Write a backup and say what belongs to it."""
    manifest = write_backup(settings, path.absolute(), typer.echo)
    typer.echo(
        f"バックアップしました: {path}（{path.stat().st_size:,} バイト、"
        f"{jst_text(manifest.created_at)} 時点、接続 {len(manifest.connections)} 件）"
    )
    typer.echo(f"鍵はこのファイルに入っていません。別の場所に保管してください: {manifest.key}")
    if manifest.running:
        typer.echo("処理中のデータは、戻したあとの最初の処理で結果を確かめます。")


def put_back(settings: StackSettings, path: Path, *, replace: bool) -> None:
    """Restore a backup and say what to do next."""
    manifest, kept = restore_backup(settings, path.absolute(), typer.echo, replace=replace)
    typer.echo(f"{jst_text(manifest.created_at)} 時点のバックアップを戻しました。")
    if kept is not None:
        typer.echo(f"それまでのデータベースは残してあります: {kept}")
    typer.echo(
        "バックアップより後に登録したデータは、次回の処理が奉行クラウドで確かめます"
        "（二重には登録しません）。"
    )
    typer.echo(
        "連携トークンがバックアップより後に更新されていた場合は、AC-101 が出ます。"
        "そのときは app-connect login を実行してください。"
    )
    typer.echo("次に: app-connect up（または make run）で起動してください。")


def upgrade(settings: StackSettings, old_binaries: Path | None) -> None:
    """Move the embedded databases to this program's PostgreSQL."""
    kept = upgrade_database(settings, old_binaries, typer.echo)
    if kept is None:
        typer.echo("データベースは、このプログラムの PostgreSQL の版です。移す必要はありません。")
        return
    typer.echo("新しい版の PostgreSQL に移しました。")
    typer.echo(f"元のデータベースは残してあります。確認が済んだら削除してください: {kept}")
