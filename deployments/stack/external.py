"""Databases on a PostgreSQL server of the operator's own: looked at before anything is started.

Prefect's server would say "password authentication failed" in the middle of a traceback, after
half a minute; here the operator reads at once which variable is wrong and what to do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from pydantic import SecretStr

from connectors.kit import FaultError, SettingsError
from connectors.kit.database import SERVICE, translated
from deployments.stack.settings import StackError, StackSettings

OLDEST_MAJOR = 14
"""The oldest server that is promised; 15 and 18 are what the tests run on."""

Role = Literal["store", "prefect"]
VARIABLES: dict[Role, str] = {
    "store": "APP_CONNECT_DATABASE_URL",
    "prefect": "APP_CONNECT_PREFECT_DATABASE_URL",
}
"""Where each database's URL is set."""

_PLACES = "databases.json"

_LOOK = """
SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding'),
  pg_is_in_recovery(), has_schema_privilege(coalesce(current_schema(), 'public'), 'CREATE'),
  current_database(), current_user,
  (SELECT oid FROM pg_database WHERE datname = current_database()),
  pg_postmaster_start_time()::text,
  EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm'),
  EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm')
    AND has_database_privilege(current_database(), 'CREATE')
"""


@dataclass(frozen=True)
class Seen:
    """What a server said about a database; `identity` is equal for the same database only."""

    major: int
    identity: tuple[Any, ...]


def plain_url(url: str) -> str:
    """libpq's form of a URL, without SQLAlchemy's driver."""
    _, separator, rest = url.partition("://")
    return f"postgresql{separator}{rest}"


def check_database(url: str, role: Role) -> Seen:
    """Connect as the stack will, and see that everything it needs is there.

    Raises:
        AppConnectError: ``AC-701`` unreachable, ``AC-703`` crowded, ``AC-705`` user or
            privileges, ``AC-706`` no such database, ``AC-707`` too old, ``AC-709`` read only.
        StackError: another encoding than UTF8, or no pg_trgm for Prefect.
    """
    variable = VARIABLES[role]
    with (
        translated(plain_url(url), variable),
        psycopg.connect(plain_url(url), connect_timeout=10) as connection,
    ):
        row = connection.execute(_LOOK).fetchone()
    if row is None:
        raise FaultError("AC-701", variable, service=SERVICE)
    major, encoding, standby, may_create, name, user, oid, started, has_trgm, may_trgm = row
    if major < OLDEST_MAJOR:
        raise SettingsError(
            "AC-707", f"{variable} のサーバーは PostgreSQL {major}", service=SERVICE
        )
    if standby:
        raise FaultError("AC-709", variable, service=SERVICE)
    if encoding != "UTF8":
        raise StackError(
            f"データベース {name} の文字コードが {encoding} です（{variable}）。\n"
            f"対処: CREATE DATABASE {name} OWNER {user} TEMPLATE template0 ENCODING 'UTF8'; "
            "で作り直してください。"
        )
    if not may_create:
        raise SettingsError(
            "AC-705", f"{variable} の利用者 {user} は表を作成できません", service=SERVICE
        )
    if role == "prefect" and not (has_trgm or may_trgm):
        raise StackError(
            f"Prefect 用のデータベース {name} に、拡張 pg_trgm がありません（{variable}）。\n"
            f"対処: サーバーの管理者が、データベース {name} で次を実行してください: "
            "CREATE EXTENSION pg_trgm;\n"
            "（拡張そのものがないときは、PostgreSQL の contrib パッケージを入れます。）"
        )
    return Seen(int(major), (oid, started))


def check_databases(settings: StackSettings) -> None:
    """`check_database` for each that is given by URL; and that they are two.

    Raises:
        AppConnectError, StackError: see `check_database`.
    """
    urls: dict[Role, SecretStr | None] = {
        "store": settings.database_url,
        "prefect": settings.prefect_database_url,
    }
    seen = [
        check_database(url.get_secret_value(), role)
        for role, url in urls.items()
        if url is not None
    ]
    if len(seen) == 2 and seen[0].identity == seen[1].identity:
        raise StackError(
            "APP_CONNECT_DATABASE_URL と APP_CONNECT_PREFECT_DATABASE_URL が、"
            "同じデータベースを指しています。\n"
            "対処: App Connect 用と Prefect 用に、別々のデータベースを用意してください。"
        )


def note_places(settings: StackSettings) -> None:
    """Remember in the state folder where each database is: a backup must not take another one."""
    places = {
        "store": "url" if settings.database_url else "embedded",
        "prefect": "url" if settings.prefect_database_url else "embedded",
    }
    (settings.state_dir / _PLACES).write_text(json.dumps(places), "utf-8")


def require_urls(settings: StackSettings) -> None:
    """Refuse to work on the embedded databases of a stack that uses others.

    Raises:
        StackError: a variable is missing that the stack was started with.
    """
    path = settings.state_dir / _PLACES
    if not path.exists():
        return
    given = {"store": settings.database_url, "prefect": settings.prefect_database_url}
    noted = json.loads(path.read_text("utf-8"))
    missing = [VARIABLES[r] for r in VARIABLES if noted.get(r) == "url" and not given[r]]
    if missing:
        raise StackError(
            f"この状態フォルダー {settings.state_dir} のデータベースは、別の PostgreSQL "
            "サーバーにあります。\n"
            f"対処: 起動したときと同じ環境変数（{'、'.join(missing)}）を設定して、"
            "もう一度実行してください。"
        )
