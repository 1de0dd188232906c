"""連携トークンの更新: renews consents before they lapse, and tells what a person has to do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from prefect import State, flow
from prefect.artifacts import acreate_table_artifact
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Failed
from pydantic import Field

from blocks import OAuthBlock
from connectors.kit import AppConnectError, FaultError, Masker, ReauthorizeError, SettingsError
from flows.engine.clock import JST, now
from flows.engine.model import Result
from flows.engine.opening import secrets_of
from flows.engine.pipeline import Tools
from flows.engine.store import Store
from flows.engine.tokens import Vault, grant_notice, service_of, tokens_of
from flows.operations import Operation
from flows.operations.onboarding import may_consent
from flows.operations.permitting import show_consent, somebody_is_there
from flows.parts import consents
from flows.parts.oauth import oauth_blocks, oauth_client

Scope = Literal["すべて", "期限が近いものだけ"]

COLUMNS = ("接続情報", "サービス", "結果", "有効期限", "次にすること")

AHEAD = timedelta(hours=1)
"""An access token that ends within this time is near its end: the runs of 05:00 find a fresh one"""

_RENEWED, _NOT_NEEDED, _NOT_MEANT, _ERROR = "更新しました", "更新不要", "対象外", "エラー"
_PERMITTED = "許可を受け取りました"

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one credentials block: a line of the table. What it shows is no secret.

    Attributes:
        lapsed: The block, when 許可する is what it needs.
    """

    name: str
    service: str
    result: str
    until: str = ""
    next: str = ""
    lapsed: OAuthBlock | None = field(default=None, repr=False)

    def cells(self) -> dict[str, str]:
        """By column."""
        values = (self.name, self.service, self.result, self.until, self.next)
        return dict(zip(COLUMNS, values, strict=True))


async def saved_credentials() -> list[tuple[type[OAuthBlock], str]]:
    """Type and name of every saved credentials block that may hold a consent, by name."""
    found: list[tuple[type[OAuthBlock], str]] = []
    async with get_client() as client:
        for kind in oauth_blocks():
            try:
                known = await client.read_block_type_by_slug(kind.get_block_type_slug())
            except ObjectNotFound:
                continue
            documents = await client.read_block_documents_by_type(known.slug, include_secrets=False)
            found += [(kind, document.name) for document in documents if document.name]
    return sorted(found, key=lambda entry: (entry[1], entry[0].__name__))


def needs_renewal(block: OAuthBlock, moment: datetime, idle_days: int) -> bool:
    """Whether a pair is near its end, or was not renewed for ``idle_days``."""
    issued, expires = block.token_issued_at, block.token_expires_at
    if issued is None or moment - issued >= timedelta(days=idle_days):
        return True
    return (expires is not None and expires - moment < AHEAD) or bool(grant_notice(block, moment))


async def renew_one(
    kind: type[OAuthBlock], name: str, vault: Vault, *, scope: Scope, idle_days: int
) -> Line | None:
    """Renew one block; ``None`` = it has nothing that could lapse."""
    service, masker = service_of(kind), Masker()
    block: Any = None
    try:
        block = await _load(kind, name)
        masker.add(*secrets_of(block))
        if not block.uses_oauth:
            return None
        if scope == "期限が近いものだけ" and not needs_renewal(block, now(), idle_days):
            return Line(name, service, _NOT_NEEDED, until_of(block), "")
        keeper, app = vault.keeper(block), oauth_client(block, Tools(masker, vault))
        await keeper.renew(tokens_of(block), app.refresh, insist=True)
        block = await _load(kind, name)
        return Line(name, service, _RENEWED, until_of(block), grant_notice(block, now()) or "")
    except AppConnectError as error:
        problem = error
    except Exception as error:  # noqa: BLE001 (one block must not stop the others)
        problem = FaultError("AC-901", type(error).__name__)
    problem.mask(masker.mask)
    asks = isinstance(problem, ReauthorizeError) and may_consent(block)
    until = until_of(block) if block else ""
    return _wrong(name, service, problem, until, block if asks else None)


def _wrong(
    name: str,
    service: str,
    problem: AppConnectError,
    until: str = "",
    lapsed: OAuthBlock | None = None,
) -> Line:
    steps = " ".join(f"{n}. {step}" for n, step in enumerate(problem.next_steps, 1))
    words = f"{_ERROR}: {problem.code} {problem.title}"
    return Line(name, service, words, until, f"{problem.happened}{steps}", lapsed)


async def _permitted(line: Line, store: Store) -> Line:
    """The line after a person was asked for 許可する; as it was, when that is not done here."""
    block = line.lapsed
    if block is None:
        return line
    try:
        begun = await consents.begin(store, block)
    except AppConnectError:
        return line  # the browser would not come back to us: its steps name app-connect login
    await show_consent(begun)
    masker = Masker(secrets_of(block))
    try:
        await consents.wait(store, begun)
        fresh = await _load(type(block), line.name)
    except AppConnectError as error:
        error.mask(masker.mask)
        return _wrong(line.name, line.service, error, line.until)
    return Line(line.name, line.service, _PERMITTED, until_of(fresh))


async def _load(kind: type[OAuthBlock], name: str) -> OAuthBlock:
    try:
        return await kind.aload(name)
    except ValueError:
        raise SettingsError("AC-206", name) from None
    except RuntimeError:
        # Prefect's word for a document that does not fit; its cause would show the values.
        problem = SettingsError("AC-205", f"接続情報「{name}」", service=service_of(kind))
    raise problem


def until_of(block: OAuthBlock) -> str:
    """When the access token ends, and the grant as far as that is known."""
    expires, ends = block.token_expires_at, block._grant_life.ends(block.token_issued_at)
    access = f"アクセストークン {expires.astimezone(JST):%Y-%m-%d %H:%M}" if expires else ""
    guess = "（見込み）" if block._grant_life.evidence == "?" else ""
    grant = f"許可 {ends.astimezone(JST):%Y-%m-%d %H:%M}{guess}" if ends else ""
    return " / ".join(filter(None, (access, grant))) or "期限の情報なし"


def _summary(lines: Sequence[Line]) -> tuple[Result, str]:
    wrong = sum(line.result.startswith(_ERROR) for line in lines)
    renewed = sum(line.result in (_RENEWED, _PERMITTED) for line in lines)
    result = Result.SUCCESS
    if wrong:
        result = Result.ERROR if wrong == len(lines) else Result.PARTIAL
    others = len(lines) - wrong - renewed
    message = f"連携トークン: 更新 {renewed} / 更新不要・対象外 {others} / エラー {wrong}"
    if not lines:
        message = (
            "更新が要る接続情報はありません"
            "（固定アクセストークンと APIトークンには、更新する期限がありません）。"
        )
    steps = [
        f"{line.name}（{line.service}）{line.result} {line.next}" for line in lines if line.next
    ]
    good = [line for line in lines if line.until and not line.result.startswith(_ERROR)]
    known = [f"「{line.name}」（{line.service}）は {line.until}" for line in good]
    if known:
        more = f"、ほか {len(known) - _SHOWN} 件" if len(known) > _SHOWN else ""
        message += f"。有効期限: {'、'.join(known[:_SHOWN])}{more}"
    return result, "。".join([message, *steps])


@flow(name="renew-tokens", flow_run_name="連携トークンの更新", persist_result=False)
async def renew_tokens(
    credentials: list[str] = [],  # noqa: B006 (Prefect reads the default for the run form)
    scope: Scope = "すべて",
    idle_days: Annotated[int, Field(ge=1, le=365)] = 1,
) -> State[None]:
    """Renew the tokens of credentials blocks, one after the other.

    Args:
        credentials: 更新する接続情報の名前です。空なら、許可（OAuth）を使うすべてです。
        scope: 「期限が近いものだけ」では、下の日数のあいだ更新していないものも更新します。
        idle_days: この日数のあいだ更新していない許可は、使わなくても更新して切れるのを防ぎます。
    """
    try:
        lines = await _renew(credentials, scope, idle_days)
    except AppConnectError as error:
        return Failed(name=Result.ERROR, message=str(error))
    except Exception as error:  # noqa: BLE001 (a clerk never reads a traceback)
        problem = FaultError("AC-901", type(error).__name__)
        return Failed(name=Result.ERROR, message=str(problem))
    result, message = _summary(lines)
    if lines:
        await acreate_table_artifact(
            [line.cells() for line in lines], key="tokens", description="連携トークンの更新"
        )
    if result is Result.ERROR:
        return Failed(name=result, message=message)
    return Completed(name=result, message=message)


async def _renew(credentials: Sequence[str], scope: Scope, idle_days: int) -> list[Line]:
    store = Store()
    vault = Vault(store)
    found = await saved_credentials()
    lines: list[Line] = []
    for kind, name in found:
        if credentials and name not in credentials:
            continue
        line = await renew_one(kind, name, vault, scope=scope, idle_days=idle_days)
        if line is not None:
            lines.append(line)
        elif credentials:
            why = "固定アクセストークンまたは APIトークンを使っています"
            lines.append(Line(name, service_of(kind), _NOT_MEANT, "", why))
    for name in sorted(set(credentials) - {name for _, name in found}):
        error = SettingsError("AC-206", name)
        lines.append(Line(name, "", f"{_ERROR}: {error.code} {error.title}", "", error.happened))
    if not somebody_is_there():
        return lines
    return list(await asyncio.gather(*(_permitted(line, store) for line in lines)))


OPERATION = Operation(
    flow=renew_tokens,
    name="連携トークンの更新",
    description="""\
許可（OAuth）を使う接続情報の連携トークンを更新します。データは動かしません。

- **いつ**: 毎日 4:30（日本時間）に自動で更新します。5:00 の処理は新しいトークンで始まり、\
使っていない接続の許可も切れません。
- **今すぐ実行**: 「実行」→「今すぐ実行」で、すべて更新します。何度押しても構いません。
- **条件を指定して実行**: 「実行」→「条件を指定して実行」で、接続情報の名前と範囲を選べます。
- **結果**: 処理の「結果・明細」に、接続情報ごとの結果・有効期限・次にすることがあります。\
「許可する」を押し直す必要があるものは、ここで分かります。
- **「許可する」を押し直すとき**: 「今すぐ実行」のあと、その処理の「結果・明細」に\
「許可のお願い」が出ます（出ないときは、画面を再読み込みします）。開いて、リンクの画面で「許可する」を押すと、処理は自動的に続きます（10分以内）。
""",
    cron="30 4 * * *",
    titles={
        "credentials": "接続情報の名前",
        "scope": "更新する範囲",
        "idle_days": "更新していない日数",
    },
)
