"""The backup file: a ZIP of two dumps and a manifest, readable by its owner alone.

    manifest.json   versions, times, connections, and which key belongs to it
    prefect.dump    Prefect's database: connections (blocks), schedules, runs
    store.dump      our books: ledger, history, rejects

Each dump is its database as of one instant, so a backup may be taken while runs are at work. The
two instants differ by the seconds that Prefect's dump takes; the store comes last, because the
ledger is what keeps anything from being posted twice.

The key that the blocks are encrypted with is not inside: whoever finds the file must not be able
to read passwords. The manifest names it, and carries a fingerprint so that a restore can tell a
wrong key.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import psycopg
from pydantic import AwareDatetime, BaseModel, ValidationError

from connectors.kit.database import translated
from deployments.backup import tools
from deployments.backup.places import Places, existing
from deployments.stack.settings import StackError, StackSettings

KEY_VARIABLE = "PREFECT_SERVER_ENCRYPTION_KEY"
MANIFEST = "manifest.json"
DUMPS = {"prefect": "prefect.dump", "store": "store.dump"}
"""Names of the dumps, in the order in which they are taken."""

Progress = Callable[[str], None]


class Manifest(BaseModel):
    """What a backup file says about itself.

    Attributes:
        format: Of the file; grows when an older program could not read it any more.
        created_at: When the last dump was begun.
        app_connect: Version of the program.
        prefect: Version of Prefect.
        postgres: Version of the server of each database.
        schema_revision: Schema of the store.
        prefect_revision: Schema of Prefect's database.
        connections: Their names, those that have run.
        running: Whether a stack was at work meanwhile.
        key: Where the encryption key was: a path, or the name of a variable.
        key_fingerprint: Of that key; tells keys apart, and says nothing about them.
    """

    format: Literal[1] = 1
    created_at: AwareDatetime
    app_connect: str
    prefect: str
    postgres: dict[str, str]
    schema_revision: str | None
    prefect_revision: str | None
    connections: list[str]
    running: bool
    key: str
    key_fingerprint: str


def find_key(settings: StackSettings) -> tuple[str, str] | None:
    """Where the encryption key is and its fingerprint; ``None`` when there is no key.

    The local stack's Prefect server has the key file's. A server of your own has its key in a
    variable.
    """
    if settings.prefect_database_url and (value := os.environ.get(KEY_VARIABLE)):
        return f"環境変数 {KEY_VARIABLE}", _fingerprint(value)
    if settings.key_file.exists():
        return str(settings.key_file), _fingerprint(settings.key_file.read_text("ascii"))
    return None


def _fingerprint(key: str) -> str:
    # The key has 256 random bits, so nothing can be guessed from this.
    return hashlib.blake2b(key.strip().encode(), digest_size=8, person=b"app-connect").hexdigest()


def write_backup(settings: StackSettings, path: Path, progress: Progress) -> Manifest:
    """Write a backup file; it appears under its name when it is complete.

    Args:
        settings: Which stack.
        path: The new file; its folder exists.
        progress: Told what is going on.

    Raises:
        StackError: the file exists, a database or the key is missing, or a dump failed.
        AppConnectError: ``AC-70x``, a database cannot be used.
    """
    if path.exists():
        raise StackError(f"{path} はすでにあります。\n対処: 別の名前を指定してください。")
    if not path.parent.is_dir():
        raise StackError(f"フォルダー {path.parent} がありません。")
    key = find_key(settings)
    if key is None:
        raise StackError(
            f"暗号化の鍵 {settings.key_file} がありません。鍵のないバックアップは戻せません。\n"
            f"対処: 鍵ファイルを元の場所に置くか、環境変数 {KEY_VARIABLE} を設定してください。"
        )
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # Born with its mode: at no time may others read it.
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            with existing(settings) as places, zipfile.ZipFile(stream, "w") as archive:
                manifest = _fill(archive, places, key, progress)
            stream.flush()
            os.fsync(stream.fileno())
        draft.rename(path)
    except OSError as error:
        raise StackError(
            f"バックアップを書き込めませんでした（{error.strerror}）: {path}\n"
            "対処: 書き込み先の空き容量と権限を確かめてください。"
        ) from None
    finally:
        draft.unlink(missing_ok=True)
    return manifest


def _fill(
    archive: zipfile.ZipFile, places: Places, key: tuple[str, str], progress: Progress
) -> Manifest:
    urls = {"prefect": places.prefect, "store": places.store}
    versions: dict[str, str] = {}
    for name, file in DUMPS.items():
        progress(f"{_WORDS[name]}を保存しています…")
        began = datetime.now(UTC)
        major, versions[name] = tools.server_version(urls[name])
        # pg_dump has compressed already.
        with archive.open(file, "w", force_zip64=True) as target:
            tools.dump(urls[name], target, tools.programs(major))
    manifest = Manifest(
        created_at=began,
        app_connect=version("app-connect"),
        prefect=version("prefect"),
        postgres=versions,
        schema_revision=revision(places.store),
        prefect_revision=revision(places.prefect),
        connections=_connections(places.store),
        running=places.running,
        key=key[0],
        key_fingerprint=key[1],
    )
    archive.writestr(MANIFEST, manifest.model_dump_json(indent=2))
    return manifest


_WORDS = {"prefect": "接続・スケジュール・実行の記録", "store": "送信の記録と処理履歴"}


def revision(url: str) -> str | None:
    """The schema of a database, as Alembic notes it; ``None`` = nothing was ever made in it."""
    with translated(url), psycopg.connect(url, connect_timeout=10) as db:
        there = db.execute("SELECT to_regclass('alembic_version')").fetchone()
        if there is None or there[0] is None:
            return None
        row = db.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None


def _connections(url: str) -> list[str]:
    with translated(url), psycopg.connect(url, connect_timeout=10) as db:
        there = db.execute("SELECT to_regclass('connection')").fetchone()
        if there is None or there[0] is None:
            return []
        return [str(row[0]) for row in db.execute("SELECT name FROM connection ORDER BY name")]


def read_manifest(path: Path) -> Manifest:
    """What is in a backup file, after every byte of it was checked.

    Raises:
        StackError: there is no such file, it is damaged, or not one of ours.
    """
    damaged = StackError(
        f"{path} は、壊れているか、app-connect backup で作ったファイルではありません。\n"
        "対処: 別のバックアップを指定してください。"
    )
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None or set(DUMPS.values()) - set(archive.namelist()):
                raise damaged
            return Manifest.model_validate_json(archive.read(MANIFEST))
    except FileNotFoundError:
        raise StackError(f"{path} がありません。") from None
    except (zipfile.BadZipFile, KeyError, EOFError, ValidationError):
        raise damaged from None
