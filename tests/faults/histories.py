"""Random histories: a seed makes vouchers, faults and runs; a checker judges what is left.

    python histories.py --seeds 1000 [--first 1] [--jobs 2]   the last line counts violations
    python histories.py --seed 17 [--verbose]                 one history again

The checker reads the books of 勘定奉行, our ledger, our rejects and our history, and what was typed
into kintone; it knows nothing of how a run works. Its invariants are those of ``faults.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from company import LONG_AGO, POINTS, Company, Kill, company, warm_up

from connectors.bugyo.journal import external_key
from connectors.kit.emulator import Fault
from flows.engine.store import migrate

IMPORT = "(?i)/ImportJournalSlip$"
EXPORT = "(?i)/ExportJournalSlip$"
RESULT = "(?i)/ImportJournalSlipResult$"
RECORDS = "/records.json"
CALM_RUNS = 5
"""Runs without a fault after which everything has to be in order."""

_ANSWERS = (
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 502},
    {"kind": "status", "status": 503},
    {"kind": "status", "status": 429, "headers": {"retry-after": "0"}},
    {"kind": "drop_before"},
    {"kind": "drop_after"},
    {"kind": "cut_body"},
    {"kind": "replace_body", "body": "<html>proxy</html>"},
    {"kind": "maintenance"},
    {"kind": "maintenance_200"},
)


class ViolationError(AssertionError):
    """An invariant does not hold."""


@dataclass
class History:
    """One seed at work."""

    seed: int
    firm: Company
    say: Callable[[str], None]
    rng: random.Random = field(init=False)
    versions: dict[int, list[int]] = field(default_factory=dict)
    moment: datetime = LONG_AGO
    typed: dict[int, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.moment = LONG_AGO - timedelta(days=3)

    # --- what happens -------------------------------------------------------------------------

    def play(self) -> None:
        """Everything: a few stormy runs, then calm ones, then the judgement."""
        self._settings()
        for step in range(self.rng.randint(2, 4)):
            self._people(first=step == 0)
            self._storm()
            self._after_each_run()
        self.firm.bugyo.faults.clear()
        self.firm.kintone.faults.clear()
        self._set(slip_result="normal", slip_import="sync")
        endings: list[str] = []
        for n in range(CALM_RUNS):
            self.firm.lapse()
            ending = self.firm.run("全件" if n % 2 else "差分")
            self.say(f"calm: {ending.result} {ending.message}")
            self._after_each_run()
            endings.append(str(ending.result))
        if "ERROR" in endings[-2:]:
            raise ViolationError(f"I8: calm runs end {endings}: {ending.message}")
        judge(self)

    def _set(self, **more: Any) -> None:
        self.firm.bugyo.settings = self.firm.bugyo.settings.model_copy(update=more)

    def _settings(self) -> None:
        rng = self.rng
        lag = rng.choice((0.0, 0.0, 0.15))
        self.firm.changed = rng.choice(("報告のみ", "赤黒"))
        self.firm.visible = lag + 0.1
        self._set(
            import_mode=rng.choice(("all_or_nothing", "partial_200", "partial_207", "bare_400")),
            import_reply=rng.choice(("empty", "list", "rows")),
            slip_import=rng.choice(("sync", "sync", "async")),
            slip_async_seconds=rng.choice((0.0, 0.05)),
            slip_result_polls=rng.choice((0, 0, 0, 1)),
            slip_result=rng.choice(("normal",) * 8 + ("failed", "unknown")),
            slip_lag_seconds=lag,
            duplicate_voucher=rng.choice(("accept", "refuse")),
        )
        if self.firm.bugyo.settings.slip_result == "failed":
            # Each half of a batch is tried, down to single slips: hundreds of requests.
            self._set(slip_result_polls=0, slip_async_seconds=0.0)
        self.say(f"{self.firm.changed} {self.firm.bugyo.settings}")

    def _people(self, *, first: bool) -> None:
        """People work in kintone: vouchers come, change, go."""
        rng, firm = self.rng, self.firm
        for _ in range(rng.randint(40, 140) if first else rng.randint(0, 60)):
            good = rng.random() > 0.04
            self._type(None, rng.randint(1, 99_999), good)
        numbers = sorted(firm.records)
        for number in rng.sample(numbers, min(len(numbers), 0 if first else rng.randint(0, 6))):
            if rng.random() < 0.3:
                firm.delete(number)
            else:
                self._type(number, rng.randint(1, 99_999), rng.random() > 0.1)

    def _type(self, number: int | None, yen: int, good: bool) -> None:
        self.moment += timedelta(seconds=self.rng.randint(0, 40))
        if number is None:
            number = self.firm.add(yen, good=good, at=self.moment)
        else:
            self.firm.change(number, yen, good=good, at=self.moment)
        self.typed[number] = self.moment
        if good:
            self.versions.setdefault(number, []).append(yen)

    def _storm(self) -> None:
        """One run, or two, with whatever befalls them."""
        rng, firm = self.rng, self.firm
        for _ in range(rng.randint(0, 3)):
            self._break(firm.bugyo, rng.choice((IMPORT, IMPORT, IMPORT, EXPORT, RESULT)))
        if rng.random() < 0.3:
            self._break(firm.kintone, RECORDS)
        mode = rng.choice(("差分", "差分", "差分", "全件"))
        kill = None
        if rng.random() < 0.5:
            kill = Kill(rng.choice(POINTS), rng.choice((1, 1, 2)))
        befall = rng.choice(("alone",) * 5 + ("double", "frozen", "cut off"))
        self.say(f"run {mode} {kill} {befall}")
        match befall:
            case "double":
                first, second = firm.start(kill, mode), firm.start(None, mode)
                codes = [_ended(first)]
                if codes[0] in (137, -signal.SIGKILL):
                    firm.lapse()  # the second one waits for that
                codes.append(_ended(second))
            case "frozen":
                codes = [*self._frozen(mode)]
            case "cut off":
                codes = [self._cut_off(kill, mode)]
            case _:
                codes = [firm.run_child(kill, mode)]
        firm.bugyo.faults.hook = None
        self.say(f"  exit codes {codes}")
        firm.lapse()

    def _break(self, emulator: Any, path: str) -> None:
        what = self.rng.choice(_ANSWERS)
        fault = Fault(path=path, after=self.rng.randint(0, 2), **what)  # type: ignore[arg-type]
        self.say(f"  fault {emulator.name} {path} {what} after {fault.after}")
        emulator.faults.add(fault)

    def _frozen(self, mode: str) -> tuple[int, int]:
        """A run is frozen past its lease, another one works, the first one wakes."""
        child = self.firm.start(None, mode)
        time.sleep(self.rng.uniform(0.0, 0.35))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGSTOP)
        self.firm.lapse()
        second = self.firm.run_child(None, mode)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGCONT)
        return _ended(child), second

    def _cut_off(self, kill: Kill | None, mode: str) -> int:
        """The database ends every session of the run somewhere in the middle."""
        child = self.firm.start(kill, mode)
        time.sleep(self.rng.uniform(0.0, 0.35))
        self.firm.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        self.firm.store.close()  # our own idle sessions went with them
        return _ended(child)

    # --- what has to hold after every run -----------------------------------------------------

    def _after_each_run(self) -> None:
        doubled = {key: n for key, n in self.firm.copies.items() if n > 1}
        if doubled:
            raise ViolationError(f"I2: doubled {doubled}")
        mark = self.firm.watermark()
        if mark is None:
            return
        ledger, rejects = self.firm.ledger(), self.firm.rejects()
        for number in self.firm.records:
            key = str(number)
            updated = self.typed[number]
            final = key in rejects or ledger.get(key, {}).get("state") in _FINAL
            if updated < mark - timedelta(minutes=1) and not final:
                raise ViolationError(
                    f"I4: record {key} of {updated} is behind the watermark {mark}"
                )


_FINAL = ("posted", "rejected", "reversed")


def _ended(child: Any) -> int:
    child.join(60)
    if child.is_alive():
        child.kill()
        raise ViolationError("I8: a run did not end")
    code: int = child.exitcode
    return code


def judge(history: History) -> None:
    """Every invariant, after calm runs.

    Raises:
        ViolationError: one does not hold.
    """
    firm = history.firm
    slips = {slip.voucher_number: slip for slip in firm.slips}
    ledger, rejects = firm.ledger(), firm.rejects()
    known: set[str] = set()
    for slip in firm.slips:
        if slip.debit_total != slip.credit_total:
            raise ViolationError(f"I3: {slip.voucher_number} is not balanced")
    for number in sorted({*firm.records, *history.versions}):
        keys, reds = _keys(firm, number)
        known.update(keys, reds)
        stands = [slips[key].debit_total for key in keys if key in slips]
        taken = [slips[key].debit_total for key in reds if key in slips]
        _judge_record(history, number, stands, taken, ledger.get(str(number)), rejects)
    strays = slips.keys() - known
    if strays:
        raise ViolationError(f"I2: slips of no record: {sorted(strays)}")
    _judge_history(history)


def _keys(firm: Company, number: int) -> tuple[list[str], list[str]]:
    """証憑番号 that the slips of a record and their reversals may carry, up to 12 revisions."""
    keys = [external_key(firm.name, "journal_slip", str(number))]
    keys += [external_key(firm.name, "journal_slip", f"{number}#{n}") for n in range(2, 12)]
    reds = [external_key(firm.name, "journal_slip.reversal", f"{number}#{n}") for n in range(1, 12)]
    return keys, reds


def _judge_record(
    history: History,
    number: int,
    stands: list[int],
    taken: list[int],
    row: dict[str, Any] | None,
    rejects: dict[str, str],
) -> None:
    firm, key = history.firm, str(number)
    versions = history.versions.get(number, [])
    net = sum(stands) - sum(taken)
    state = row["state"] if row else None
    where = f"record {key}: stands {stands}, taken back {taken}, {row}, {rejects.get(key)}"
    if len(stands) - len(taken) not in (0, 1):
        raise ViolationError(f"I2: {where}")
    if net not in (0, *versions):
        raise ViolationError(f"I3: {net} yen is no version of {versions}; {where}")
    if state == "unclear":
        if rejects.get(key) != "AC-403":
            raise ViolationError(f"I1: 要確認 is shown to nobody; {where}")
        return
    if (state == "posted") != (net != 0):
        raise ViolationError(f"I5: the ledger says {state}; {where}")
    if number not in firm.records:
        if net and rejects.get(key) not in ("AC-812", "AC-813"):
            raise ViolationError(f"I1: its record is gone and nobody is told; {where}")
        return
    yen, good = firm.records[number]
    if not good:
        if key not in rejects:
            raise ViolationError(f"I1: a bad record is no reject; {where}")
    elif net == yen:
        if key in rejects:
            raise ViolationError(f"I5: posted and rejected; {where}")
    elif key not in rejects:
        raise ViolationError(f"I1: lost, {yen} yen; {where}")
    elif firm.changed == "赤黒" and rejects[key] not in ("AC-609", "AC-806", "AC-813"):
        raise ViolationError(f"I1: not reversed, {yen} yen; {where}")
    elif net == 0:
        raise ViolationError(f"I1: lost, {yen} yen; {where}")


def _judge_history(history: History) -> None:
    ledger = history.firm.ledger()
    for run in history.firm.history():
        if run["result"] is None or run["ended_at"] is None:
            raise ViolationError(f"I5: a run has no end: {run}")
        open_ends = run["rejected"] + run["pending"] + run["vanished"]
        if run["result"] == "SUCCESS" and open_ends:
            raise ViolationError(f"I5: SUCCESS with open ends: {run}")
        parts = ("created", "updated", "unchanged", "rejected", "pending")
        if run["result"] in ("SUCCESS", "一部エラー") and run["extracted"] != sum(
            run[part] for part in parts
        ):
            raise ViolationError(f"I1: the counts do not add up: {run}")
    created = sum(run["created"] for run in history.firm.history())
    posted = sum(row["revision"] == 1 and row["state"] == "posted" for row in ledger.values())
    if created < posted - sum(row["action"] == "found" for row in ledger.values()):
        raise ViolationError(f"I5: the history knows {created} of {posted} posted")


def play(seed: int, database: str, *, verbose: bool = False) -> str | None:
    """One history; returns the violation, or ``None``."""
    began = time.monotonic()
    say = (lambda w: print(f"{time.monotonic() - began:6.2f} {w}")) if verbose else (lambda _: None)
    if verbose:
        logging.getLogger("flows").addHandler(logging.StreamHandler(sys.stdout))
        logging.getLogger("flows").setLevel(logging.INFO)
    with company(database, name=f"seed-{seed}") as firm:
        try:
            History(seed, firm, say).play()
        except ViolationError as violation:
            return str(violation)
        finally:
            for table in ("ledger", "reject", "run", "connection"):
                column = "name" if table == "connection" else "connection"
                if not verbose:
                    firm.sql(f"DELETE FROM {table} WHERE {column} = :c")
    return None


def _work(database: str, todo: Any, done: Any) -> None:
    warm_up()
    while (seed := todo.get()) is not None:
        try:
            done.put((seed, play(seed, database)))
        except BaseException as error:  # noqa: BLE001 (whatever it is, it belongs to this seed)
            done.put((seed, f"the history broke: {type(error).__name__}: {error}"))


def _main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=25)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    from deployments.stack.postgres import EmbeddedPostgres

    with tempfile.TemporaryDirectory(prefix="histories-") as folder:
        server = EmbeddedPostgres(Path(folder) / "pg")
        names = [f"store{n}" for n in range(options.jobs)]
        server.start(names, durable=False)
        try:
            databases = [server.url(name) for name in names]
            for database in databases:
                migrate(database)
            began = time.monotonic()
            if options.seed is not None:
                warm_up()
                found = play(options.seed, databases[0], verbose=True)
                violations, seeds = [(options.seed, found)] if found else [], 1
            else:
                seeds = options.seeds
                violations = _many(databases, options.first, seeds)
            for seed, words in violations:
                print(f"seed {seed}: {words}\n  again: make faults SEED={seed}")
            took = time.monotonic() - began
            print(f"{seeds} seeds, {len(violations)} violations, {took:.0f} s")
            return 1 if violations else 0
        finally:
            server.stop()


def _many(databases: list[str], first: int, seeds: int) -> list[tuple[int, str]]:
    context = multiprocessing.get_context("spawn")
    todo, done = context.Queue(), context.Queue()
    for seed in range(first, first + seeds):
        todo.put(seed)
    workers = [context.Process(target=_work, args=(db, todo, done)) for db in databases]
    for worker in workers:
        todo.put(None)
        worker.start()
    violations: list[tuple[int, str]] = []
    try:
        for n in range(seeds):
            seed, words = done.get(timeout=900)
            if words:
                violations.append((seed, words))
                print(f"seed {seed}: {words}", file=sys.stderr, flush=True)
            if (n + 1) % 50 == 0:
                print(f"{n + 1} of {seeds}", file=sys.stderr, flush=True)
        for worker in workers:
            worker.join(10)
    finally:  # Ctrl-C, or a worker that hangs: nobody stays behind
        for worker in workers:
            worker.terminate()
    return violations


if __name__ == "__main__":
    threading.stack_size(1 << 20)
    sys.exit(_main())
