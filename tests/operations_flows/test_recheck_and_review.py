"""再確認 and 要確認の処理 with Prefect around them, on a connection that posts slips."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from company import TENANT, Company, company
from prefect.client.orchestration import PrefectClient

from deployments import catalog
from flows.engine.store import Store
from flows.operations.delete_connection import delete_connection
from flows.operations.recheck import recheck_all, to_check
from flows.operations.review import review_unclear
from tests.flows.conftest import client, known_blocks, store
from tests.operations_flows.test_handle_rejects import artifacts

__all__ = ["client", "known_blocks", "store"]


@pytest.fixture
async def firm(
    prefect_server: Any, store: Any, known_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Company]:
    """A company whose connection is saved and deployed."""
    monkeypatch.setenv("APP_CONNECT_BUGYO_VISIBLE_SECONDS", "0")
    with company(prefect_server.store) as made:
        block = made.block()
        await block.bugyo.save(made.name)
        await block.kintone.save(made.name)
        await block.save(made.name)
        await catalog.ensure_work_pool()
        await catalog.deploy(block, made.name)
        yield made


async def test_a_recheck_reports_and_a_person_deals_with_it(
    firm: Company, client: PrefectClient, store: Store
) -> None:
    firm.fill(3)
    await firm.arun()
    state: Any = await recheck_all([firm.name], 400, return_state=True)
    assert state.name == "SUCCESS"
    assert "違いはありません" in state.message
    one = next(iter(firm.ledger().values()))
    firm.bugyo.journals[TENANT].remove(one["key"])
    state = await recheck_all([firm.name], 400, return_state=True)
    assert (state.name, state.is_completed()) == ("一部エラー", True)
    assert "新しく見つかったもの 1 件" in state.message
    whole, _ = (await artifacts(client, state.state_details.flow_run_id))["recheck"]
    assert whole["控え"].startswith("3 件")
    assert whole["奉行クラウド"].startswith("2 件")
    assert whole["差異"] == "1 件（エラー明細 AC-813）"
    assert firm.rejects() == {one["source_key"]: "AC-813"}
    # 奉行クラウド is not there: an error in words, and the books stay.
    firm.bugyo.accounts.revoke()
    state = await recheck_all([firm.name], 400, return_state=True)
    assert state.name == "ERROR"
    assert "AC-101" in state.message or "AC-102" in state.message
    # Deleted: its books stay, and nobody complains every morning that they cannot be compared.
    assert firm.name in await to_check(store, [])
    gone: Any = await delete_connection(firm.name, firm.name, return_state=True)
    assert gone.name == "SUCCESS", gone.message
    assert firm.name not in await to_check(store, [])
    assert len(firm.ledger()) == 3


async def test_an_unclear_slip_is_sent_again_by_a_person(
    firm: Company, client: PrefectClient, warm_worker: Any
) -> None:
    firm.fill(1)
    firm.add(1)
    await firm.arun()
    one, two = sorted(firm.ledger(), key=int)
    book = firm.bugyo.journals[TENANT]
    for key in (one, two):
        book.remove(firm.ledger()[key]["key"])
    firm.sql("UPDATE ledger SET state = 'unclear' WHERE connection = :c")
    state: Any = await review_unclear(firm.name, return_state=True)
    listed = (await artifacts(client, state.state_details.flow_run_id))[f"unclear-{firm.name}"]
    assert [line["レコード"] for line in listed] == [one, two]
    state = await review_unclear(firm.name, "もう一度送る", [one], return_state=True)
    assert state.name == "SUCCESS", state.message
    assert "もう一度送ります: 1 件" in state.message
    state = await review_unclear(firm.name, "登録済みにする", [two], return_state=True)
    assert "登録済みにしました: 1 件" in state.message
    assert firm.states() == {"posted": 2}
    assert [slip.debit_total for slip in firm.slips] == [1000]
