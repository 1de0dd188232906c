"""Settling: what became of rows that an earlier run left without an answer (design 6.4).

It comes before anything is sent for the connection. Masters are compared by content; documents are
looked up by the key that was written into them, and "not found" is believed only when they would
certainly be visible. What cannot be told is 要確認, for a person.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import Connection

from flows.engine import history, points
from flows.engine.context import RunContext
from flows.engine.doubt import verdict
from flows.engine.ledger import PENDING, UNCLEAR, Known, Ledger
from flows.engine.sending import stored_as_sent

_CHUNK = 500


async def settle(run: RunContext) -> None:
    """Find out what became of rows that an earlier run left pending, before anything is sent."""
    points.reached("before-settle")
    if run.changed is None:
        await _masters(run)
        return
    for ledger in (run.reversals, run.ledger):
        await _documents(run, ledger, PENDING)
        await _documents(run, ledger, UNCLEAR)


async def _masters(run: RunContext) -> None:
    while True:
        pending = await run.store.do(run.ledger.in_state, PENDING, _CHUNK)
        if not pending:
            return
        stored = await stored_as_sent(run, [(p.key, p.content_hash) for p in pending])
        found = [p for p in pending if p.key in stored]
        left = [p for p in pending if p.key not in stored]
        await run.store.do(_write, run, run.ledger, found, left, {})


async def _documents(run: RunContext, ledger: Ledger, state: str) -> None:
    after = ""
    while rows := await run.store.do(ledger.in_state, state, _CHUNK, after):
        after = rows[-1].source_key
        await _settle(run, ledger, rows)


async def _settle(run: RunContext, ledger: Ledger, rows: Sequence[Known]) -> None:
    found: list[Known] = []
    unclear: dict[str, str] = {}
    left = list(rows)
    clock = asyncio.get_running_loop().time
    began = clock()
    while True:
        there = await run.documents.find(
            {row.key: row.day.isoformat() if row.day else "" for row in left}
        )
        for row in left:
            if row.key in there:
                problem = verdict(there[row.key], row.amount)
                if problem is None:
                    found.append(row)
                else:
                    unclear[row.source_key] = problem
        left = [row for row in left if row.key not in there]
        # The youngest decides: it may be stored and not yet visible.
        pending = [row for row in left if row.state == PENDING]
        age = min((row.age for row in pending), default=run.documents.visible_after)
        wait = run.documents.visible_after - age - (clock() - began)
        if not pending or wait <= 0:
            break
        await asyncio.sleep(wait)
    unsent: list[Known] = []
    waiting = 0
    states: dict[str, str] = {}
    for row in left:
        if row.state == UNCLEAR:
            continue  # a person decides
        if row.accepted_key and row.accepted_key not in states:
            states[row.accepted_key] = await run.documents.import_state(row.accepted_key)
        match states.get(row.accepted_key or "", "done"):
            case "done" | "failed":
                unsent.append(row)
            case "pending":
                waiting += 1
            case _:
                unclear[row.source_key] = "受付のあと、登録の結果が分かりません"
    await run.store.do(_write, run, ledger, found, unsent, unclear)
    if waiting:
        run.log("奉行クラウドで受入処理中のデータが %s 件あります", waiting)


def _write(
    db: Connection,
    run: RunContext,
    ledger: Ledger,
    found: Sequence[Known],
    unsent: Sequence[Known],
    unclear: dict[str, str],
) -> None:
    ledger.settle(
        db,
        posted=[row.source_key for row in found],
        unsent=[row.source_key for row in unsent],
        unclear=unclear,
        run=run.run_id,
        fence=run.lease.fence,
    )
    if ledger == run.ledger:
        history.settle_interrupted(db, [(row.run_id, row.action) for row in found])
    else:
        marks = [row.source_key.rpartition("#") for row in found]
        run.ledger.reversed(db, {key: int(n) for key, _, n in marks}, run=run.run_id)
    if found or unsent or unclear:
        run.log(
            "前回の結果を確認しました: 登録済み %s 件 / 未登録 %s 件 / 要確認 %s 件",
            len(found),
            len(unsent),
            len(unclear),
        )
