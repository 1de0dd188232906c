"""``/health``: whether the database, Prefect and a worker are there. Says nothing about anybody."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError

from deployments.stack.settings import WORK_POOL
from flows.engine.clock import now
from flows.engine.store import Store

router = APIRouter(include_in_schema=False)

_SILENT = timedelta(seconds=120)
"""After how long without a heartbeat a worker is taken for gone; it sends one every 30 s."""

_FRESH_SECONDS = 2.0
_PATIENCE = 5.0


@router.get("/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/health")
async def health(request: Request) -> JSONResponse:
    """200 when runs can be started and will be taken up, else 503; asked once in two seconds."""
    state, moment = request.app.state, time.monotonic()
    known: tuple[float, dict[str, Any]] | None = getattr(state, "health", None)
    if known is None or moment - known[0] > _FRESH_SECONDS:
        known = moment, await _look(state.store)
        state.health = known
    found = known[1]
    return JSONResponse(found, 200 if found["status"] == "ok" else 503)


async def _look(store: Store) -> dict[str, Any]:
    database, (prefect, worker) = await asyncio.gather(_database(store), _prefect())
    status = "ok" if database and prefect and worker else "degraded"
    return {"status": status, "database": database, "prefect": prefect, "worker": worker}


async def _database(store: Store) -> bool:
    try:
        return await asyncio.wait_for(asyncio.to_thread(store.healthy), _PATIENCE)
    except Exception:  # noqa: BLE001 (whatever it is, the database does not answer)
        return False


async def _prefect() -> tuple[bool, bool]:
    """Whether Prefect answers, and whether a worker was seen lately."""
    try:
        async with asyncio.timeout(_PATIENCE), get_client() as client:
            workers = await client.read_workers_for_work_pool(WORK_POOL)
    except PrefectHTTPStatusError as error:
        return error.response.status_code == 404, False  # no pool, so nobody ever worked on it
    except Exception:  # noqa: BLE001 (whatever it is, Prefect does not answer)
        return False, False
    beats = [each.last_heartbeat_time for each in workers if each.last_heartbeat_time is not None]
    return True, bool(beats) and now() - max(beats) < _SILENT
