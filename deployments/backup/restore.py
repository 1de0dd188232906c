"""A backup file -> an empty state folder, or empty databases on a server given by URL."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import zipfile
from importlib import resources
from pathlib import Path
from uuid import UUID

import psycopg
from sqlalchemy import text
from sqlmodel import select

from connectors.kit.database import translated
from deployments.backup import tools
from deployments.backup.archive import (
    DUMPS,
    KEY_VARIABLE,
    Manifest,
    Progress,
    find_key,
    read_manifest,
)
from deployments.backup.places import given_urls, lock_of
from deployments.backup.successor import dated_copy, successor
from deployments.stack.external import VARIABLES, Role, check_databases, note_places
from deployments.stack.postgres import PREFECT_DATABASE, STORE_DATABASE, folder_major
from deployments.stack.settings import StackError, StackSettings
from flows.engine.history import mark_interrupted
from flows.engine.store import ConnectionRow, Store, migrate
from flows.engine.store.database import refuse_newer

_NOBODY = UUID(int=0)

_TABLES = """
SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'S') AND n.nspname NOT LIKE 'pg\\_%'
  AND n.nspname <> 'information_schema'
"""

_LOST_RUNS = """
UPDATE flow_run SET infrastructure_pid = %s WHERE state_type IN ('RUNNING', 'PENDING', 'CANCELLING')
"""


def restore_backup(
    settings: StackSettings, path: Path, progress: Progress, *, replace: bool
) -> tuple[Manifest, Path | None]:
    """Put back what ``path`` holds. Until everything is there, nothing that exists changes.

    What was posted after the backup is known to 奉行クラウド only, so the next run asks it before
    it sends anything. Rows whose outcome was unknown stay so, and are settled then; leases are
    nobody's; runs that were at work are 中断.

    Args:
        settings: Which stack; its key has to be there already.
        path: The backup file.
        progress: Told what is going on.
        replace: Whether an embedded database that exists may be set aside (it is kept).

    Returns:
        What was restored, and the name under which the old data folder is kept.

    Raises:
        StackError: the file, the key or the target is not as it must be; the words say what to do.
        AppConnectError: ``AC-708``, the backup is of a newer program; ``AC-70x``, a server that
            was given by URL.
    """
    manifest = read_manifest(path)
    refuse_newer(manifest.schema_revision)
    _refuse_newer_prefect(manifest)
    require_key(settings, manifest)
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = lock_of(settings)
    lock.acquire(settings.prefect_url, seconds=5)
    try:
        return manifest, _restore(settings, path, progress, replace=replace)
    finally:
        lock.release()


def require_key(settings: StackSettings, manifest: Manifest) -> None:
    """Only the key that the backup was made with opens its blocks.

    Raises:
        StackError: it is not here; with the commands that bring it.
    """
    key = find_key(settings)
    if key is not None and key[1] == manifest.key_fingerprint:
        return
    what = (
        f"暗号化の鍵 {settings.key_file} がありません。"
        if key is None
        else f"暗号化の鍵（{key[0]}）が、このバックアップのものではありません。"
    )
    raise StackError(
        f"{what}鍵はバックアップの中にはありません。バックアップしたときの場所: {manifest.key}\n"
        "対処: 保管してある鍵を次の場所にコピーして、もう一度実行してください。\n"
        f"  mkdir -p {settings.state_dir}\n"
        f"  cp （保管した encryption.key） {settings.key_file}\n"
        f"  chmod 600 {settings.key_file}\n"
        f"（環境変数 {KEY_VARIABLE} で鍵を渡している場合は、同じ値を設定します。）"
    )


def _refuse_newer_prefect(manifest: Manifest) -> None:
    folder = resources.files("prefect.server.database") / "_migrations" / "versions" / "postgresql"
    wanted = manifest.prefect_revision
    if wanted is None or any(wanted in file.name for file in folder.iterdir()):
        return
    raise StackError(
        f"このバックアップは、より新しい版の Prefect（{manifest.prefect}）のものです。\n"
        "対処: バックアップしたときの版のプログラムを入れてから、もう一度実行してください。"
    )


def _restore(
    settings: StackSettings, path: Path, progress: Progress, *, replace: bool
) -> Path | None:
    store, prefect = given_urls(settings)
    kept: Path | None = None
    if store or prefect:
        check_databases(settings)
    if store:
        _require_empty(store, "store")
    if prefect:
        _require_empty(prefect, "prefect")
    with contextlib.ExitStack() as stack:
        if not (store and prefect):
            data_dir = settings.state_dir / "postgres"
            if folder_major(data_dir) is not None:
                if not replace:
                    raise StackError(
                        f"{settings.state_dir} には、すでにデータベースがあります。"
                        "何も変更していません。\n"
                        "対処: 空のフォルダーを APP_CONNECT_STATE_DIR に設定するか、"
                        "--replace を付けて実行してください"
                        "（今のデータベースは、日付を付けた名前で残します）。"
                    )
                kept = dated_copy(data_dir)
            names = [n for n, u in ((PREFECT_DATABASE, prefect), (STORE_DATABASE, store)) if not u]
            server = stack.enter_context(successor(data_dir, names, kept))
            store = store or server.url(STORE_DATABASE)
            prefect = prefect or server.url(PREFECT_DATABASE)
        _load(path, {"prefect": prefect, "store": store}, settings, progress)
        progress("続きから処理できるように整えています…")
        _tidy(store, prefect)
    note_places(settings)
    return kept


def _require_empty(url: str, role: Role) -> None:
    with translated(url, VARIABLES[role]), psycopg.connect(url, connect_timeout=10) as db:
        row = db.execute(_TABLES).fetchone()
        name, user = db.info.dbname, db.info.user
    if row is not None and row[0]:
        raise StackError(
            f"データベース {name}（{VARIABLES[role]}）は空ではありません。何も変更していません。\n"
            "対処: サーバーの管理者が、空のデータベースを新しく作り、URL の名前を変えてください"
            f"（今のデータベースは、確認が済むまで残しておけます）:\n"
            f"  CREATE DATABASE {name}_restored OWNER {user} TEMPLATE template0 ENCODING 'UTF8';"
        )


def _load(path: Path, urls: dict[str, str], settings: StackSettings, progress: Progress) -> None:
    with (
        zipfile.ZipFile(path) as archive,
        tempfile.TemporaryDirectory(prefix="restore-", dir=settings.state_dir) as folder,
    ):
        for name, file in DUMPS.items():
            progress(f"{file} を戻しています…")
            major, _ = tools.server_version(urls[name])
            source = Path(archive.extract(file, folder))
            tools.load(urls[name], source, tools.programs(major))
            source.unlink()


def _tidy(store_url: str, prefect_url: str) -> None:
    """Make the books say what is true now: nobody is at work."""
    migrate(store_url)
    store = Store(store_url)
    with store.session() as session:
        for connection in session.exec(select(ConnectionRow)).all():
            connection.lease_owner = connection.lease_expires = None
            mark_interrupted(session, connection.name, current=_NOBODY)
    with store.begin() as db:
        db.execute(text("ANALYZE"))
    store.close()
    # To Prefect these runs are at work, and keep the only slot of their deployment. The next
    # worker ends those of its machine whose process is gone: process 0 never is there.
    with translated(prefect_url), psycopg.connect(prefect_url, connect_timeout=10) as db:
        db.execute(_LOST_RUNS, [f"{socket.gethostname()}:0"])
        db.execute("ANALYZE")
