"""The invariants of the fault matrix, asked of what is left after a run.

They read the books of 勘定奉行, our ledger, our rejects and our history, and what was typed into
kintone; they know nothing of how a run works.
"""

from __future__ import annotations

from company import TOKEN, Company

from connectors.bugyo.emulator import DEMO_FIXED_TOKEN, DEMO_SUBSCRIPTION_KEY
from flows.engine.core import Ending

SECRETS = (TOKEN, DEMO_FIXED_TOKEN, DEMO_SUBSCRIPTION_KEY)
_OPEN_ENDS = ("rejected", "pending", "vanished")
_OUTCOMES = ("created", "updated", "unchanged", "rejected", "pending")


def none_lost(firm: Company) -> None:
    """I1, I3: every good voucher is posted with its yen, every bad one is a reject."""
    good = {str(n): yen for n, (yen, ok) in firm.records.items() if ok}
    bad = {str(n) for n, (_, ok) in firm.records.items() if not ok}
    ledger = firm.ledger()
    assert {k: r["amount"] for k, r in ledger.items() if r["state"] == "posted"} == good
    slips = {slip.voucher_number: slip for slip in firm.slips}
    assert {k: slips[ledger[k]["key"]].debit_total for k in good} == good
    assert all(slip.debit_total == slip.credit_total for slip in slips.values())
    assert set(firm.rejects()) == bad


def none_doubled(firm: Company) -> None:
    """I2: at most one slip for each 証憑番号."""
    assert {key: n for key, n in firm.copies.items() if n > 1} == {}


def truth(firm: Company) -> None:
    """I5: each run has ended, once; SUCCESS means that nothing is open; the counts add up."""
    runs = firm.history()
    assert runs
    for run in runs:
        assert run["result"] is not None, run
        assert run["ended_at"] is not None, run
        if run["result"] == "SUCCESS":
            assert not any(run[part] for part in _OPEN_ENDS), run
        if run["result"] in ("SUCCESS", "一部エラー"):
            assert run["extracted"] == sum(run[part] for part in _OUTCOMES), run
            assert run["message"], run


def no_secret(firm: Company, *shown: str) -> None:
    """I7: no secret in our books, nor in what was shown."""
    written = list(shown)
    for table in ("run", "reject", "ledger"):
        rows = firm.sql(f"SELECT row_to_json(t)::text FROM {table} t WHERE connection = :c")
        written += [row[0] for row in rows]
    text = "\n".join(written)
    assert not [secret for secret in SECRETS if secret in text]


def holds(firm: Company, *endings: Ending) -> None:
    """I1, I2, I3, I5 and I7, after runs that have read everything."""
    none_doubled(firm)
    none_lost(firm)
    safe(firm, *endings)


def safe(firm: Company, *endings: Ending) -> None:
    """What holds at every moment, also while something is left to do: I2, I5, I7."""
    none_doubled(firm)
    truth(firm)
    shown = [repr(ending.error) for ending in endings]
    no_secret(firm, *[ending.message for ending in endings], *shown)


def calls(firm: Company) -> list[str]:
    """Requests for slips that reached 奉行クラウド, in their order, by short names."""
    names = [each.path.rsplit("/", 1)[1] for each in list(firm.bugyo.faults.requests)]
    return [name.removesuffix("JournalSlip") for name in names]
