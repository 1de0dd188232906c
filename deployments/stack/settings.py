"""What a person may set for the local stack, and the Prefect environment that follows from it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import certifi
from cryptography.fernet import Fernet
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

WORK_POOL = "app-connect"
"""Name of the work pool, and type of its worker."""

EMULATORS = {
    "kintone": "kintone",
    "bugyo": "奉行クラウド",
    "smaregi": "スマレジ",
    "mfexpense": "マネーフォワード クラウド経費",
    "kingoftime": "KING OF TIME",
    "smarthr": "SmartHR",
}
"""Services that can be emulated: folder of ``connectors`` -> name on screens. Each has a setting
``<folder>_port`` below."""

PORTS = {
    "prefect_port": "Prefect（画面とAPI）",
    "gateway_port": "ゲートウェイ",
    **{f"{service}_port": f"{name} エミュレーター" for service, name in EMULATORS.items()},
}
"""Every setting that is a TCP port of the stack -> what listens there."""


class StackError(Exception):
    """The stack cannot start or has broken. The message is Japanese, for the person at the CLI."""


class StackSettings(BaseSettings):
    """Settings of the local stack; each is read from ``APP_CONNECT_<NAME>`` when not given.

    Attributes:
        state_dir: The one folder with everything that lives longer than a run of the stack:
            database, key, logs. Deleting it (after a stop) is a fresh start.
        database_url: The store on a PostgreSQL server of your own
            (``postgresql://user:password@host/database``); empty = embedded PostgreSQL.
        prefect_database_url: The same for Prefect's database; empty = embedded PostgreSQL.
        host: Address that everything listens on. Without ``api_auth`` there is no log-in, so keep
            it on loopback; with it, put TLS in front.
        api_auth: ``user:password`` that the Prefect UI and API ask for; empty = nobody asks.
        prefect_port: TCP port of the Prefect UI and API.
        kintone_port: TCP port of the kintone emulator; the others likewise, see `EMULATORS`.
        gateway_port: TCP port of the gateway (`deployments.gateway`).
        public_url: Address by which browsers and services reach the gateway, where that is another
            one: ``https://connect.example.co.jp``; empty = its own.
        timezone: IANA name of the zone of schedules and displayed times.
        worker_limit: How many runs the worker executes at a time.
        drain_seconds: When the worker is stopped, how long a run may go on by itself before
            it is asked to stop.
        kill_seconds: How long a run has to clean up after it was asked to stop.
    """

    model_config = SettingsConfigDict(env_prefix="APP_CONNECT_", env_ignore_empty=True)

    state_dir: Path = Path(".state")
    database_url: SecretStr | None = None
    prefect_database_url: SecretStr | None = None
    api_auth: SecretStr | None = None
    host: str = "127.0.0.1"
    prefect_port: int = Field(default=4200, ge=1, le=65535)
    kintone_port: int = Field(default=8701, ge=1, le=65535)
    bugyo_port: int = Field(default=8702, ge=1, le=65535)
    smaregi_port: int = Field(default=8703, ge=1, le=65535)
    mfexpense_port: int = Field(default=8704, ge=1, le=65535)
    kingoftime_port: int = Field(default=8705, ge=1, le=65535)
    smarthr_port: int = Field(default=8706, ge=1, le=65535)
    gateway_port: int = Field(default=8710, ge=1, le=65535)
    public_url: str = ""
    timezone: str = "Asia/Tokyo"
    worker_limit: int = Field(default=4, ge=1)
    drain_seconds: float = Field(default=3.0, ge=0)
    kill_seconds: float = Field(default=10.0, ge=0)

    @field_validator("state_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def prefect_url(self) -> str:
        """Address of the Prefect UI."""
        return f"http://{self.host}:{self.prefect_port}"

    @property
    def gateway_url(self) -> str:
        """Address by which browsers and services reach the gateway."""
        return self.public_url.rstrip("/") or f"http://{self.host}:{self.gateway_port}"

    def emulator_url(self, service: str) -> str:
        """Base URL of a service's emulator; ``service`` is one of `EMULATORS`."""
        return f"http://{self.host}:{getattr(self, f'{service}_port')}"

    @property
    def logs_dir(self) -> Path:
        """Where each process of the stack writes its log."""
        return self.state_dir / "logs"

    @property
    def key_file(self) -> Path:
        """The key that encrypts block documents; as worth saving as the database itself."""
        return self.state_dir / "encryption.key"

    @property
    def ui_dir(self) -> Path:
        """Where the Prefect server copies its UI at start, and we put our pages."""
        return self.state_dir / "ui"


@dataclass(frozen=True, slots=True)
class StackUrls:
    """Where everything is.

    Attributes:
        prefect: Prefect UI, e.g. ``http://127.0.0.1:4200``; the API is below ``/api``.
        store: SQLAlchemy URL of the store (psycopg).
        prefect_database: SQLAlchemy URL of Prefect's database (asyncpg).
        emulators: Base URL of each service's emulator, by its name in `EMULATORS`.
    """

    prefect: str
    store: str
    prefect_database: str
    emulators: Mapping[str, str]

    @property
    def prefect_api(self) -> str:
        """Base URL of the Prefect API."""
        return f"{self.prefect}/api"

    @property
    def pages(self) -> str:
        """Base URL of our logos and manuals (see ``deployments.stack.pages``)."""
        return f"{self.prefect}/v2/app-connect"


def prepare_state(settings: StackSettings) -> None:
    """Make the state folder and what is kept in it from the first start on: logs and the key.

    Only the owner may read logs and key. The folder itself must stay passable when we run as
    root, because PostgreSQL then runs as another user.
    """
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.logs_dir.mkdir(exist_ok=True, mode=0o700)
    (settings.state_dir / "prefect").mkdir(exist_ok=True, mode=0o700)
    _one_certificate(settings).write_text(one_certificate(), "ascii")
    if not settings.key_file.exists():
        # Born with its mode, under another name: no instant in which others may read it, and
        # no half-written key after a crash.
        draft = settings.key_file.with_suffix(".new")
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(Fernet.generate_key())
            stream.flush()
            os.fsync(stream.fileno())
        draft.rename(settings.key_file)


def _one_certificate(settings: StackSettings) -> Path:
    return settings.state_dir / "prefect" / "one-certificate.pem"


def one_certificate() -> str:
    """The first certificate of certifi's bundle, as PEM.

    Prefect reads all public certificates again for each of its clients, about ten in a run, also
    when its API is plain HTTP, as that of the stack always is: a quarter of what a run costs.
    """
    text = Path(certifi.where()).read_text("utf-8")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    return text[text.index(begin) : text.index(end) + len(end)] + "\n"


def prefect_environment(settings: StackSettings, urls: StackUrls) -> dict[str, str]:
    """Every ``PREFECT_*`` variable for a client or a worker of this stack, and our own.

    Prefect's profiles and home are inside the state folder, so the user's own Prefect settings
    neither leak in nor change. The encryption key and Prefect's database are the server's alone:
    see `server_environment`.
    """
    home = settings.state_dir / "prefect"
    environment = {
        "DO_NOT_TRACK": "1",
        "PREFECT_API_SSL_CERT_FILE": str(_one_certificate(settings)),
        "PREFECT_API_URL": urls.prefect_api,
        "PREFECT_CLI_COLORS": "false",
        "PREFECT_HOME": str(home),
        "PREFECT_LOGGING_COLORS": "false",
        "PREFECT_LOGGING_LEVEL": "INFO",
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Without the path, links in results and mails lead to Prefect's older UI, in English.
        "PREFECT_UI_URL": f"{urls.prefect}/v2",
        # Cancel of a run that has not started yet goes through the worker, too.
        "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
        # A run that is taken ahead of its time waits in a process, holds a slot, and is Crashed,
        # not late, when the worker stops before its time has come.
        "PREFECT_WORKER_PREFETCH_SECONDS": "0",
        # The default of 10 s is the largest part of the wait after pressing Run.
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "APP_CONNECT_DATABASE_URL": urls.store,
        "APP_CONNECT_PAGES_URL": urls.pages,
        "APP_CONNECT_STATE_DIR": str(settings.state_dir),
        "APP_CONNECT_TIMEZONE": settings.timezone,
        # Zones come from the package tzdata alone, whose names are one small file. Prefect lists
        # all zones whenever it reads a daily schedule: with the system's folders, that is a walk
        # through a thousand files each time, a tenth of what its server does.
        "PYTHONTZPATH": "",
    }
    for name in ("host", "public_url", *PORTS, "worker_limit", "drain_seconds", "kill_seconds"):
        environment[f"APP_CONNECT_{name.upper()}"] = str(getattr(settings, name))
    return {**environment, **_api_auth(settings, "PREFECT_API_AUTH_STRING")}


def _api_auth(settings: StackSettings, variable: str) -> dict[str, str]:
    """The log-in of UI and API under the name that Prefect reads: in the environment, never argv.

    Raises:
        StackError: it is not ``user:password``.
    """
    value = settings.api_auth.get_secret_value() if settings.api_auth else ""
    if not value:
        return {}
    user, _, password = value.partition(":")
    if not user or not password or not value.isascii() or not value.isprintable():
        raise StackError(
            "APP_CONNECT_API_AUTH が正しくありません。\n"
            "対処: 「利用者名:パスワード」の形で、半角の英数字と記号だけで設定してください。"
        )
    return {variable: value}


def server_environment(settings: StackSettings, urls: StackUrls) -> dict[str, str]:
    """`prefect_environment` plus what only the Prefect server may know: database and key."""
    return {
        **prefect_environment(settings, urls),
        **_api_auth(settings, "PREFECT_SERVER_API_AUTH_STRING"),
        "PREFECT_SERVER_API_HOST": settings.host,
        "PREFECT_SERVER_API_PORT": str(settings.prefect_port),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": urls.prefect_database,
        "PREFECT_SERVER_ENCRYPTION_KEY": settings.key_file.read_text("ascii").strip(),
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        # Runs of one deployment that wait for each other (missed ones after an outage) look again
        # after so many seconds; the default is 30.
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
        # Built-in blocks (Slack, GitHub, ...) are not ours to offer, and cost start-up time.
        "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
        # A new schedule is looked at every 5 s by another loop; this one writes ahead.
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "30",
        # Without it the UI calls port 4200, whatever port the server listens on.
        "PREFECT_SERVER_UI_API_URL": urls.prefect_api,
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # A copy of the UI of our own, so that our pages are served beside it.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(settings.ui_dir),
    }


def child_environment(
    extra: Mapping[str, str], base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of a child process: ours without any foreign ``PREFECT_*``, plus ``extra``.

    Args:
        extra: Variables of the child.
        base: Where it starts from; the environment of this process when left out.
    """
    inherited = os.environ if base is None else base
    kept = {k: v for k, v in inherited.items() if not k.startswith("PREFECT_")}
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}
