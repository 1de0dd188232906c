"""Where the two databases of a stack are, whether it is running or not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from deployments.stack.external import plain_url, require_urls
from deployments.stack.postgres import (
    PREFECT_DATABASE,
    STORE_DATABASE,
    EmbeddedPostgres,
    folder_major,
    require_same_major,
    running_url,
)
from deployments.stack.processes import StateLock
from deployments.stack.settings import StackError, StackSettings


@dataclass(frozen=True)
class Places:
    """libpq URLs of the databases; ``running``: a stack is at work on them."""

    store: str
    prefect: str
    running: bool


def given_urls(settings: StackSettings) -> tuple[str, str]:
    """The URLs of the store and of Prefect's database, each empty when it is embedded."""
    given = settings.database_url, settings.prefect_database_url
    store, prefect = (plain_url(url.get_secret_value()) if url else "" for url in given)
    return store, prefect


def lock_of(settings: StackSettings) -> StateLock:
    """The lock that a running stack holds."""
    return StateLock(settings.state_dir / "stack.lock")


@contextlib.contextmanager
def existing(settings: StackSettings) -> Iterator[Places]:
    """The databases as they are. A stopped embedded server runs while the body does.

    Raises:
        StackError: there are none, or they are of another major version.
        AppConnectError: ``AC-70x``.
    """
    require_urls(settings)
    store, prefect = given_urls(settings)
    if store and prefect:
        yield Places(store, prefect, running=_held(settings))
        return
    data_dir = settings.state_dir / "postgres"
    if folder_major(data_dir) is None:
        raise StackError(
            f"{settings.state_dir} にデータベースがありません。\n"
            "対処: 起動したときと同じ APP_CONNECT_STATE_DIR を設定するか、同じフォルダーで"
            "実行してください。"
        )
    require_same_major(data_dir)
    lock = lock_of(settings)
    try:
        lock.acquire(settings.prefect_url, seconds=5)
    except StackError:
        found = running_url(data_dir, STORE_DATABASE), running_url(data_dir, PREFECT_DATABASE)
        if found[0] is None or found[1] is None:
            raise
        yield Places(store or found[0], prefect or found[1], running=True)
        return
    server = EmbeddedPostgres(data_dir)
    try:
        server.start()
        yield Places(
            store or server.url(STORE_DATABASE),
            prefect or server.url(PREFECT_DATABASE),
            running=False,
        )
    finally:
        server.stop()
        lock.release()


def _held(settings: StackSettings) -> bool:
    if not settings.state_dir.exists():
        return False
    lock = lock_of(settings)
    try:
        lock.acquire(settings.prefect_url, seconds=0)
    except StackError:
        return True
    lock.release()
    return False
