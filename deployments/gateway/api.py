"""``/api/v1``: another system starts runs, and reads how they ended."""

from __future__ import annotations

import asyncio
import time
from datetime import date
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from pydantic import BaseModel, ConfigDict, Field

from connectors.kit import SettingsError, WaitError
from deployments.gateway.keys import Caller, Scope, caller_of
from flows.engine import history
from flows.engine.clock import now
from flows.engine.model import Mode, Result
from flows.engine.period import check_period
from flows.engine.run import ModeName
from flows.engine.store import RunRow, Store

router = APIRouter(prefix="/api/v1")
bearer = HTTPBearer(auto_error=False, description="app-connect key issue で発行した APIキーです。")

STRANGERS = RateLimitItemPerMinute(30)
"""How many requests without a good key one address may make."""


class Gate:
    """Counts requests: of each key, and of each address that has none."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def count(self, limit: RateLimitItem, *whose: str) -> None:
        """Count one.

        Raises:
            WaitError: ``AC-211``, it is one too many.
        """
        if self._limiter.hit(limit, *whose):
            return
        wait = self._limiter.get_window_stats(limit, *whose).reset_time - time.time()
        seconds = max(1.0, wait)
        raise WaitError("AC-211", f"{seconds:.0f} 秒後から", retry_after=seconds)


async def _caller(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
) -> Caller:
    state = request.app.state
    gate: Gate = state.gate
    address = request.client.host if request.client is not None else ""
    try:
        if credentials is None:
            raise SettingsError("AC-209")
        caller: Caller = await state.store.do(caller_of, credentials.credentials, now())
    except SettingsError:
        # Good keys from the same address, a proxy's perhaps, are not held up.
        gate.count(STRANGERS, "stranger", address)
        raise
    gate.count(RateLimitItemPerMinute(caller.per_minute), "key", caller.id)
    return caller


CallerOf = Annotated[Caller, Depends(_caller)]


def _allow(caller: Caller, scope: Scope, connection: str | None = None) -> None:
    if not caller.may(scope, connection):
        where = f"、接続 {connection}" if connection else ""
        raise SettingsError("AC-210", f"権限 {scope}{where}")


class Period(BaseModel):
    """Which days a run is about, first and last, in Japan."""

    model_config = ConfigDict(extra="forbid")

    first: date = Field(alias="from", description="最初の日（YYYY-MM-DD）")
    last: date = Field(alias="to", description="最後の日（YYYY-MM-DD）")


class RunRequest(BaseModel):
    """What is to be run. Everything may be left out: then it is what the Run button does."""

    model_config = ConfigDict(extra="forbid")

    mode: ModeName = Field(
        default="差分",
        description="差分 / 全件 / 期間（period）/ 1件（record_key）/ エラー明細のみ",
    )
    record_key: str | None = Field(
        default=None, max_length=200, description="「1件」のときのコード"
    )
    record_keys: list[Annotated[str, Field(max_length=200)]] | None = Field(
        default=None, max_length=1000, description="「エラー明細のみ」のときのレコードの番号"
    )
    period: Period | None = Field(default=None, description="「期間」のときの日付（日本時間）")
    dry_run: bool = Field(default=False, description="true: 送る内容を表示するだけで、送りません")


class Accepted(BaseModel):
    """A run that was asked for."""

    run_id: UUID
    connection: str
    status_url: str


class RunResult(BaseModel):
    """A run: as ``app-connect run --json`` tells it, with where it stands."""

    run_id: UUID
    connection: str
    state: str = Field(description="Prefect の状態: SCHEDULED、RUNNING、COMPLETED、FAILED …")
    finished: bool
    result: str | None = Field(
        description="SUCCESS / 一部エラー / ERROR / スキップ。"
        "待機中: 相手のサービスが開くのを待っています（finished は false のまま、自動で続きます）"
    )
    extracted: int
    created: int
    updated: int
    unchanged: int
    rejected: int
    pending: int
    seconds: float
    flow_run_id: UUID
    message: str
    error: dict[str, Any] | None


class ConnectionEntry(BaseModel):
    """A connection."""

    name: str
    service: str


@router.get("/connections", summary="接続の一覧", tags=["接続"])
async def connections(caller: CallerOf) -> list[ConnectionEntry]:
    """この APIキーで使える接続です。"""
    from flows.operations.deploying import saved_connections

    _allow(caller, "read")
    found = await saved_connections()
    return [
        ConnectionEntry(name=name, service=connector.pipeline.service)
        for name, connector in found
        if caller.sees(name)
    ]


@router.post(
    "/connections/{name}/runs",
    status_code=202,
    summary="処理を始める",
    tags=["処理"],
    response_model=Accepted,
)
async def start_run(
    request: Request,
    name: str,
    caller: CallerOf,
    wanted: RunRequest | None = None,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=200,
            description="同じ値の2回目は、1回目の処理を返します。",
        ),
    ] = None,
) -> JSONResponse:
    """接続の処理を始めます。終わるのを待たずに返ります。"""
    from deployments.cli.running import deployment_id

    _no_query(request)
    _allow(caller, "run", name)
    chosen = _parameters(wanted or RunRequest())
    key = f"api-{caller.id}-{name}-{idempotency_key}" if idempotency_key else None
    async with get_client() as client:
        found = await client.read_deployment(await deployment_id(client, name))
        known = (found.parameter_openapi_schema or {}).get("properties", {})
        if strange := sorted({_SAID.get(name, name) for name in set(chosen) - set(known)}):
            raise SettingsError("AC-212", f"この接続では {'、'.join(strange)} を指定できません")
        try:
            run = await client.create_flow_run_from_deployment(
                found.id, parameters=chosen, tags=["api"], idempotency_key=key
            )
        except PrefectHTTPStatusError as error:
            if error.response.status_code != 409:
                raise
            raise SettingsError("AC-212", "この接続で使えない値があります") from None
    where = f"/api/v1/runs/{run.id}"
    accepted = Accepted(run_id=run.id, connection=name, status_url=where)
    return JSONResponse(accepted.model_dump(mode="json"), 202, {"Location": where})


_SAID = {"period_from": "period", "period_to": "period"}
"""Parameters of a run that have another name in a request."""


def _parameters(wanted: RunRequest) -> dict[str, Any]:
    """What was asked for, as parameters of a run.

    Raises:
        SettingsError: ``AC-212``, a period that the run would refuse.
    """
    period = wanted.period
    first, last = (period.first, period.last) if period is not None else (None, None)
    try:
        check_period(Mode(wanted.mode), first, last)
    except SettingsError as error:
        raise SettingsError("AC-212", error.subject) from None
    chosen = wanted.model_dump(
        mode="json", exclude={"period"}, exclude_unset=True, exclude_none=True
    )
    if period is not None:
        chosen |= {"period_from": str(period.first), "period_to": str(period.last)}
    return chosen


@router.get("/runs/{run_id}", summary="処理の結果", tags=["処理"])
async def read_run(request: Request, run_id: UUID, caller: CallerOf) -> RunResult:
    """処理の状態と結果です。finished が true になるまで、数秒おきに読みます。"""
    _allow(caller, "read")
    store: Store = request.app.state.store
    row = await asyncio.to_thread(_row, store, run_id)
    async with get_client() as client:
        try:
            run = await client.read_flow_run(run_id)
        except ObjectNotFound:
            raise SettingsError("AC-215", f"処理 {run_id}") from None
    name = row.connection if row is not None else str(run.parameters.get("connection") or "")
    if not name or not caller.sees(name):
        # Of others: the same answer as for one that does not exist.
        raise SettingsError("AC-215", f"処理 {run_id}")
    return _result(run, row, name)


def _result(run: Any, row: RunRow | None, name: str) -> RunResult:
    from deployments.cli.running import Finished

    finished = run.state is not None and run.state.is_final()
    took = 0.0
    if row is not None:
        took = max(0.0, ((row.ended_at or now()) - row.started_at).total_seconds())
    told = Finished(run.id, run.state, row, took).as_dict()
    waits = row is not None and row.result == Result.POSTPONED
    if not finished and not waits:
        told["result"] = None
    return RunResult(
        **told,
        run_id=run.id,
        connection=name,
        state=run.state.type.value if run.state is not None else "SCHEDULED",
        finished=finished,
        message=(run.state.message or "") if finished or waits else "",
        error=row.error if row is not None else None,
    )


@router.get("/history", summary="処理履歴", tags=["処理"])
async def read_history(
    request: Request,
    caller: CallerOf,
    connection: Annotated[str | None, Query(max_length=200, description="接続の名前")] = None,
    first: Annotated[date | None, Query(alias="from", description="この日から（日本時間）")] = None,
    last: Annotated[date | None, Query(alias="to", description="この日まで（日本時間）")] = None,
    result: Annotated[Result | None, Query(description="結果")] = None,
    before: Annotated[
        UUID | None, Query(description="この処理より古いものだけ（前のページの最後の id）")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="件数")] = 5,
) -> list[dict[str, Any]]:
    """新しい順の処理履歴です（app-connect history --json と同じ形）。

    Prefect の画面より長く残ります。すべてを読むときは、最後の id を before に入れて、
    空の一覧が返るまで繰り返します。
    """
    _allow(caller, "read", connection)
    _no_query(request, "connection", "from", "to", "result", "before", "limit")
    store: Store = request.app.state.store

    def read() -> list[RunRow]:
        with store.session() as session:
            page = session.get(RunRow, before) if before is not None else None
            if before is not None and (page is None or not caller.sees(page.connection)):
                raise SettingsError("AC-215", f"処理 {before}")
            return history.recent(
                session,
                connection=connection,
                limit=limit,
                first=first,
                last=last,
                result=result,
                among=sorted(caller.connections),
                before=page,
            )

    rows = await asyncio.to_thread(read)
    return [row.model_dump(mode="json", exclude={"position"}) for row in rows]


def _row(store: Store, run_id: UUID) -> RunRow | None:
    with store.session() as session:
        return session.get(RunRow, run_id)


def _no_query(request: Request, *known: str) -> None:
    """A name that nobody knows is told, not overlooked: it may be one that is misspelt."""
    if strange := sorted(set(request.query_params) - set(known)):
        shown = "、".join(name[:40] for name in strange)
        raise SettingsError("AC-212", f"知らない項目 {shown}")


_WORDS: dict[str, str] = {
    "extra_forbidden": "は使えない項目です",
    "missing": "がありません",
    "json_invalid": "が JSON ではありません",
}


def wrong(violation: Any) -> str:
    """One violation of pydantic's in Japanese: which field, how; never what was sent."""
    place = [str(part)[:40] for part in violation["loc"] if part not in ("body", "query")]
    if violation["type"] == "json_invalid":
        place = []
    how = _WORDS.get(violation["type"], "の値が正しくありません")
    return f"「{'.'.join(place) or '本文'}」{how}"
