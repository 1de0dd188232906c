"""The parts of 診断: each looks at one thing and says what it found, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, text

from connectors.kit import AppConnectError, FaultError, Masker, SettingsError
from connectors.kit.clocks import Heard, listening
from flows.engine import licences
from flows.engine.clock import business_date, jst_text, now
from flows.engine.model import Mode, Window
from flows.engine.opening import secrets_of
from flows.engine.pipeline import Pipeline, Tools
from flows.engine.store import Store
from flows.engine.tokens import Vault, grant_notice
from flows.operations.tokens import until_of
from flows.parts.bugyo import open_bugyo

Mark = Literal["正常", "注意", "異常"]

COLUMNS = ("項目", "結果", "対応")

SKEW = timedelta(minutes=2)
"""How far a clock may be off: an answer takes seconds, tokens and webhooks allow minutes."""

_LITTLE, _LOW = 1 << 30, 5 << 30  # bytes of free disk
_SOON = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table. Never holds a secret.

    Attributes:
        item: What was looked at.
        mark: How it is.
        words: What was found.
        remedy: What to do; empty = nothing.
    """

    item: str
    mark: Mark
    words: str
    remedy: str = ""

    def cells(self) -> dict[str, str]:
        """By column."""
        values = (self.item, f"{self.mark}: {self.words}", self.remedy or "不要")
        return dict(zip(COLUMNS, values, strict=True))


def failed(item: str, error: AppConnectError) -> Finding:
    """What an error of the product says, as a line."""
    steps = " ".join(f"{n}. {step}" for n, step in enumerate(error.next_steps, 1))
    return Finding(item, "異常", f"{error.code} {error.title}: {error.happened}", steps)


# --- this machine -------------------------------------------------------------------------------


async def database(store: Store) -> Finding:
    """Whether the store answers, and whose clock it has."""
    try:
        there = await store.do(_database_time)
    except AppConnectError as error:
        return failed("データベース", error)
    if abs(now() - there) > SKEW:
        return Finding(
            "データベース",
            "注意",
            f"応答しました。時計が {_minutes(now() - there)} 違います",
            "データベースのサーバーと、このコンピューターの時計を合わせる",
        )
    return Finding("データベース", "正常", "応答しました")


def _database_time(db: Connection) -> datetime:
    found: datetime = db.execute(text("SELECT clock_timestamp() FROM alembic_version")).scalar_one()
    return found


def disk() -> Finding:
    """Free space where the local stack keeps its data, else where the program runs."""
    folder = Path(os.environ.get("APP_CONNECT_STATE_DIR", "."))
    free = shutil.disk_usage(folder if folder.exists() else Path()).free
    words = f"空き {free / (1 << 30):,.1f} GB"
    if free >= _LOW:
        return Finding("ディスクの空き", "正常", words)
    mark: Mark = "異常" if free < _LITTLE else "注意"
    return Finding("ディスクの空き", mark, words, "不要なファイルを消すか、容量を増やす")


def time_zone() -> Finding:
    """What this machine calls the present; times on screens are Japan's whatever it is."""
    local = datetime.now().astimezone()
    offset = local.strftime("%z")
    words = f"このコンピューターは UTC{offset[:3]}:{offset[3:]}、日本時間では {jst_text(now())}"
    if offset == "+0900":
        return Finding("タイムゾーン", "正常", words)
    return Finding(
        "タイムゾーン",
        "正常",
        f"{words}（スケジュールと画面の時刻は、設定にかかわらず日本時間です）",
    )


def screens() -> Finding:
    """What a person does who sees nothing: no program can look at that from here."""
    return Finding(
        "画面に何も表示されないとき",
        "正常",
        "ここからは確かめられません",
        "1. 処理が見えないときは、絞り込みを「すべての状態」にする "
        "2. パソコンの時計を合わせる（「設定」→「時刻と言語」→「日付と時刻」の「今すぐ同期」） "
        "3. 画面が白いまま・前のままのときは Ctrl + F5 を押す "
        "4. 直らないときは Ctrl + Shift + Delete を押し、「全期間」（Edge は「すべての期間」）の"
        "「キャッシュされた画像とファイル」だけを消して、開き直す",
    )


# --- clocks -------------------------------------------------------------------------------------


def clocks(heard: Sequence[Heard]) -> list[Finding]:
    """Our clock beside that of every service that answered."""
    latest = {each.service: each for each in heard}
    off = {name: each for name, each in latest.items() if abs(each.ahead) > SKEW}
    found = []
    for name, each in latest.items():
        item = f"時計（{name}）"
        if name not in off:
            found.append(Finding(item, "正常", "合っています"))
            continue
        way = "進んで" if each.ahead > timedelta() else "遅れて"
        subject = f"{name} の時計より {_minutes(each.ahead)}{way}います"
        error = SettingsError("AC-228", subject)
        line = failed(item, error)
        if len(off) < len(latest):
            fine = "、".join(name for name in latest if name not in off)
            line = Finding(
                item,
                "異常",
                f"{line.words}（{fine} とは合っているため、{name} の側の時計のずれかもしれません）",
                line.remedy,
            )
        found.append(line)
    return found


def _minutes(span: timedelta) -> str:
    seconds = round(abs(span).total_seconds())
    # ``Date`` has whole seconds and an answer takes its time: 9:59 are ten minutes to a person.
    return f"{(seconds + 30) // 60}分" if seconds >= 60 else f"{seconds}秒"


# --- a connection -------------------------------------------------------------------------------


async def licence(store: Store, name: str, block: Any) -> Finding:
    """Whether the registration number of a connection may be used, and how long."""
    item = f"契約（{name}）"
    number = licences.number_of(block.registration_number)
    found = await store.do(licences.find, number)
    if found is None:
        return failed(item, SettingsError("AC-107"))
    problem = licences.standing(found, now())
    if problem is not None:
        return failed(item, problem)
    if found.expires_on is None:
        return Finding(item, "正常", f"{number} 期限なし")
    words = f"{number} {found.expires_on:%Y/%m/%d} まで"
    if found.expires_on - business_date(now()) < _SOON:
        return Finding(item, "注意", words, "契約を更新する（app-connect licence issue --replace）")
    return Finding(item, "正常", words)


def token(block: Any) -> Finding | None:
    """Until when a consent holds; ``None`` = these credentials have nothing that could lapse."""
    if not block.uses_oauth:
        return None
    item = f"連携トークン（{block._block_document_name or ''}）"
    notice = grant_notice(block, now())
    if notice:
        return Finding(item, "注意", until_of(block), notice)
    return Finding(item, "正常", until_of(block))


async def apis(
    store: Store, pipeline: Pipeline[Any], name: str, block: Any, masker: Masker
) -> tuple[list[Finding], list[Heard]]:
    """A cheap call to both ends of a connection, and what time it is there."""
    masker.add(*secrets_of(block))
    tools = Tools(masker, Vault(store))
    with listening() as heard:
        found = await asyncio.gather(
            _answer(f"奉行クラウドの API（{name}）", _ask_bugyo(block, tools), masker),
            _answer(
                f"{pipeline.service} の取得元の API（{name}）",
                _ask_partner(pipeline, block, tools),
                masker,
            ),
        )
    return list(found), heard


async def _answer(item: str, call: Awaitable[None], masker: Masker) -> Finding:
    try:
        await call
    except AppConnectError as error:
        error.mask(masker.mask)
        return failed(item, error)
    except Exception as error:  # noqa: BLE001 (one end must not hide the others)
        return failed(item, FaultError("AC-901", type(error).__name__))
    return Finding(item, "正常", "応答しました")


async def _ask_bugyo(block: Any, tools: Tools) -> None:
    async with open_bugyo(block.bugyo, tools) as client:
        await client.search_tenants()


async def _ask_partner(pipeline: Pipeline[Any], block: Any, tools: Tools) -> None:
    """What changed just now: how many, or, of a service that does not count, the first page."""
    window = Window(Mode.INCREMENTAL, since=now() - timedelta(minutes=1))
    async with pipeline.open_source(block, tools) as source:
        if await source.count(window) is not None:
            return
        pages = source.pages(window, None)
        try:
            await anext(pages, None)
        finally:
            await pages.aclose()
