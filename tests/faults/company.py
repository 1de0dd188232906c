"""A company for fault tests: a kintone app of vouchers, 勘定奉行, our books, and runs between them.

Runs are those of the product (`flows.engine.core.execute`) without Prefect around them, each in a
child process of its own that can be killed at a named point, against emulators that this process
serves and a real PostgreSQL. Nothing here knows how the engine works: the checks read the books of
奉行クラウド, our ledger and the history.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import resource
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID, uuid4

from pydantic import SecretStr
from sqlalchemy import text

from blocks import BugyoCredentials, KintoneCredentials
from connectors.bugyo.emulator import (
    DEMO_FIXED_TOKEN,
    DEMO_SUBSCRIPTION_KEY,
    DEMO_TENANTS,
    BugyoEmulator,
)
from connectors.bugyo.journal import JournalSlip, unflatten
from connectors.kintone.emulator import KintoneEmulator
from connectors.kit.emulator import serve
from deployments.licensing import issue_sample
from flows.engine import lease, points
from flows.engine.brake import Brake, stopped
from flows.engine.core import Ending, Order, execute
from flows.engine.model import Mode, Trigger
from flows.engine.pipeline import Pipeline
from flows.engine.plain import PlainSurface
from flows.engine.store import Store, migrate
from flows.engine.store.database import URL_VARIABLE
from flows.parts.journal import VISIBLE_VARIABLE
from flows.slips_from_kintone import PIPELINE, KintoneSlipSettings, SlipsFromKintoneConnection

APP = "1"
TOKEN = "demo-api-token"
TENANT = DEMO_TENANTS[0].id
COLUMNS = {
    **{
        f"{side}{name}": {"type": "SINGLE_LINE_TEXT"}
        for side in ("借方", "貸方")
        for name in ("勘定科目", "補助科目", "部門", "税区分", "税率", "取引先")
    },
    **{
        f"{side}{name}": {"type": "NUMBER"}
        for side in ("借方", "貸方")
        for name in ("金額", "消費税額")
    },
    "摘要行": {"type": "SINGLE_LINE_TEXT"},
}
FIELDS: dict[str, Any] = {
    "伝票日付": {"type": "DATE"},
    "摘要": {"type": "SINGLE_LINE_TEXT"},
    "明細": {"type": "SUBTABLE", "fields": COLUMNS},
}
POINTS = (
    "before-intent",
    "after-intent",
    "after-request",
    "after-answer",
    "before-watermark",
)
"""Where a run can be killed; ``after-request`` = the request is processed, the answer is not."""


def voucher(yen: int, note: str = "", *, debit: int | None = None) -> dict[str, Any]:
    """A voucher of one line as it stands in kintone; ``debit`` other than ``yen`` = unbalanced."""
    row = {
        "借方勘定科目": "710",
        "借方金額": str(yen if debit is None else debit),
        "貸方勘定科目": "100",
        "貸方金額": str(yen),
    }
    return {"伝票日付": "2026-11-02", "摘要": note or f"旅費 {yen}", "明細": [row]}


@dataclass(frozen=True)
class Kill:
    """End the run's process the ``nth`` time that it reaches ``point``.

    Attributes:
        freeze: Stop it there (SIGSTOP) instead, until somebody wakes it (SIGCONT).
    """

    point: str
    nth: int = 1
    freeze: bool = False


@dataclass
class Company:
    """One connection with both its ends and its books.

    Attributes:
        name: Of the connection.
        records: What the app holds now, by id: (yen, whether it can be posted).
        tenant: 法人.
        peak: A file into which a run in a child writes its peak of memory (KiB).
        lease: Seconds that the lease of a run lasts; 0 = as in the product.
    """

    pipeline: ClassVar[Pipeline[Any]] = PIPELINE
    operation: ClassVar[str] = "ImportJournalSlip"
    entity: ClassVar[str] = "journal_slip"
    fields: ClassVar[dict[str, Any]] = FIELDS

    kintone: KintoneEmulator
    bugyo: BugyoEmulator
    urls: tuple[str, str]
    database: str
    name: str
    changed: str = "報告のみ"
    visible: float = 0.0
    records: dict[int, tuple[int, bool]] = field(default_factory=dict)
    tenant: str = TENANT
    peak: str = ""
    lease: float = 0.0

    # --- the ends -----------------------------------------------------------------------------

    def add(self, yen: int, *, good: bool = True, at: datetime | None = None) -> int:
        """Add a voucher; a bad one is not balanced."""
        record = voucher(yen, debit=yen if good else yen + 1)
        number = self.kintone.seed(APP, [record], updated_at=at)[0]
        self.records[number] = (yen, good)
        return number

    def fill(self, many: int) -> list[int]:
        """Add ``many`` good vouchers."""
        return [self.add(1000 + n) for n in range(many)]

    def change(
        self, number: int, yen: int, *, good: bool = True, at: datetime | None = None
    ) -> None:
        """Change a voucher at the source."""
        record = voucher(yen, debit=yen if good else yen + 1)
        self.kintone.update(APP, number, record, at)
        self.records[number] = (yen, good)

    def delete(self, number: int) -> None:
        """Delete a voucher at the source."""
        self.kintone.delete(APP, number)
        del self.records[number]

    @property
    def slips(self) -> list[JournalSlip]:
        """What 勘定奉行 holds, visible or not."""
        book = self.bugyo.journals[self.tenant]
        book.run_due(self.bugyo.settings)
        return unflatten(book.rows())

    @property
    def copies(self) -> dict[str, int]:
        """How many slips carry each 証憑番号."""
        found: dict[str, int] = {}
        for slip in self.slips:
            found[slip.voucher_number] = found.get(slip.voucher_number, 0) + 1
        return found

    def requests(self, part: str) -> int:
        """Requests to 奉行クラウド whose path holds ``part``."""
        counts = self.bugyo.faults.counts().items()
        return sum(n for call, n in counts if part.lower() in call.lower())

    # --- runs ---------------------------------------------------------------------------------

    def block(self) -> Any:
        """The connection."""
        kintone_url, bugyo_url = self.urls
        return SlipsFromKintoneConnection(
            registration_number="AC-0000-0001",
            phone="03-0000-0000",
            bugyo=BugyoCredentials(
                environment="URLを指定",
                api_url=bugyo_url,
                id_url=bugyo_url,
                subscription_key=SecretStr(DEMO_SUBSCRIPTION_KEY),
                fixed_token=SecretStr(DEMO_FIXED_TOKEN),
                tenant_id=self.tenant,
            ),
            kintone=KintoneCredentials(
                subdomain="example", api_token=SecretStr(TOKEN), endpoint=kintone_url
            ),
            settings=KintoneSlipSettings(app=APP, changed=self.changed),  # type: ignore[arg-type]
        )

    async def _execute(self, order: Order, brake: Brake | None = None) -> Ending:
        async def load(*_: Any) -> Any:
            return self.block()

        variables = {URL_VARIABLE: self.database, VISIBLE_VARIABLE: str(self.visible)}
        with _environment(variables), _lasting(self.lease):
            return await execute(self.pipeline, order, PlainSurface(), load_block=load, brake=brake)

    def order(self, mode: str = "差分", **more: Any) -> Order:
        """A run of the connection."""
        return Order(uuid4(), self.name, Trigger.SCHEDULE, Mode(mode), **more)

    def run(self, mode: str = "差分", *, brake: Brake | None = None, **more: Any) -> Ending:
        """A run in this process."""
        return asyncio.run(self._execute(self.order(mode, **more), brake))

    async def arun(self, mode: str = "差分", **more: Any) -> Ending:
        """A run in this event loop."""
        return await self._execute(self.order(mode, **more))

    def start(self, kill: Kill | None = None, mode: str = "差分", **more: Any) -> Any:
        """A run in a child process; returns the process, which was started."""
        context = multiprocessing.get_context("forkserver")
        plan = {
            "urls": self.urls,
            "database": self.database,
            "name": self.name,
            "changed": self.changed,
            "visible": self.visible,
            "tenant": self.tenant,
            "peak": self.peak,
            "lease": self.lease,
            "kind": type(self),
            "order": self.order(mode, **more),
            "kill": kill,
        }
        child = context.Process(target=_child, args=(plan,), daemon=True)
        if kill is not None and kill.point == "after-request":
            self._kill_after_request(child, kill.nth)
        child.start()
        return child

    def run_child(self, kill: Kill | None = None, mode: str = "差分", **more: Any) -> int:
        """A run in a child process, to its end; returns the exit code (137 = killed)."""
        child = self.start(kill, mode, **more)
        child.join(120)
        assert not child.is_alive(), "the run did not end"
        code: int = child.exitcode
        self.bugyo.faults.hook = None
        return code

    def _kill_after_request(self, child: Any, nth: int) -> None:
        """Kill the run when its nth import is stored, before a byte of the answer leaves."""
        seen = 0

        def stored(path: str) -> None:
            nonlocal seen
            if path.lower().endswith(f"/{self.operation}".lower()):
                seen += 1
                if seen == nth:
                    child.kill()

        self.bugyo.faults.hook = stored

    def lapse(self) -> None:
        """Let the lease of a killed run lapse: what a minute does by itself."""
        self.sql("UPDATE connection SET lease_expires = clock_timestamp() WHERE name = :c")

    # --- our books ----------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """Our store."""
        return Store(self.database)

    def sql(self, statement: str, **more: Any) -> list[Any]:
        """Rows of a statement on the store; ``:c`` is the connection's name."""
        with self.store.begin() as db:
            result = db.execute(text(statement), {"c": self.name, **more})
            return list(result) if result.returns_rows else []

    def ledger(self, entity: str = "") -> dict[str, dict[str, Any]]:
        """Rows of the ledger by source key."""
        rows = self.sql(
            "SELECT source_key, state, external_key, amount, revision, run_id, action FROM ledger "
            "WHERE connection = :c AND entity = :e",
            e=entity or self.entity,
        )
        names = ("source_key", "state", "key", "amount", "revision", "run_id", "action")
        return {row[0]: dict(zip(names, row, strict=True)) for row in rows}

    def states(self) -> dict[str, int]:
        """Rows of the ledger by state."""
        found: dict[str, int] = {}
        for row in self.ledger().values():
            found[row["state"]] = found.get(row["state"], 0) + 1
        return found

    def rejects(self) -> dict[str, str]:
        """Open rejects: source key -> code."""
        rows = self.sql("SELECT source_key, code FROM reject WHERE connection = :c")
        return {row[0]: row[1] for row in rows}

    def history(self) -> list[dict[str, Any]]:
        """Every run, oldest first."""
        names: tuple[str, ...] = ("id", "result", "extracted", "created", "updated", "unchanged")
        names += ("rejected", "pending", "vanished", "ended_at", "message")
        rows = self.sql(
            f"SELECT {', '.join(names)} FROM run WHERE connection = :c ORDER BY started_at"
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    def watermark(self) -> datetime | None:
        """The connection's watermark."""
        rows = self.sql("SELECT watermark FROM connection WHERE name = :c")
        return rows[0][0] if rows else None


_depth = 0
_before: dict[str, str | None] = {}


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables while runs are at work; the last one to end puts back what was there.

    Two runs in one event loop end in any order: each putting back what *it* found would leave the
    first one's values behind for every test that follows.
    """
    global _depth  # noqa: PLW0603 (the environment is global, too)
    if _depth == 0:
        _before.update({name: os.environ.get(name) for name in values})
    _depth += 1
    os.environ.update(values)
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0:
            for name, value in _before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            _before.clear()


@contextlib.contextmanager
def _lasting(seconds: float) -> Iterator[None]:
    """Leases of another length; in this process, so of one run at a time."""
    if not seconds:
        yield
        return
    before = lease.LEASE_SECONDS, lease.RENEW_SECONDS
    lease.LEASE_SECONDS, lease.RENEW_SECONDS = seconds, seconds / 6
    try:
        yield
    finally:
        lease.LEASE_SECONDS, lease.RENEW_SECONDS = before


def _child(plan: dict[str, Any]) -> None:
    """A run in a process of its own. Module-level: the fork server finds it by its name."""
    kill: Kill | None = plan["kill"]
    reached = 0

    def at(point: str) -> None:
        nonlocal reached
        if kill is not None and point == kill.point:
            reached += 1
            if reached == kill.nth:
                if not kill.freeze:
                    os._exit(137)
                os.kill(os.getpid(), signal.SIGSTOP)

    points.arm(at)
    company = plan["kind"](
        None,
        None,
        plan["urls"],
        plan["database"],
        plan["name"],
        plan["changed"],
        plan["visible"],
        tenant=plan["tenant"],
        lease=plan["lease"],
    )
    brake = Brake()
    signal.signal(signal.SIGTERM, lambda *_: brake.pull(stopped("停止"), 20))
    ending = asyncio.run(company._execute(plan["order"], brake))
    if plan["peak"]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        Path(plan["peak"]).write_text(str(peak), "utf-8")
    os._exit({"SUCCESS": 0, "一部エラー": 3, "スキップ": 4}.get(str(ending.result), 1))


def warm_up() -> None:
    """Let the fork server load what a run needs, once."""
    here = str(Path(__file__).parent)
    # Before Python 3.13 it does not look where this process looks, and says nothing about it.
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if here not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([here, *filter(None, paths)])
    multiprocessing.set_forkserver_preload(["company"])


@contextlib.contextmanager
def company(
    database: str, *, name: str | None = None, kind: type[Company] = Company, **more: Any
) -> Iterator[Company]:
    """A new company on the store at ``database``, with emulators of its own."""
    migrate(database)
    issue_sample(Store(database))
    kintone, bugyo = KintoneEmulator(), BugyoEmulator()
    kintone.add_app(APP, "経費精算", kind.fields, tokens={TOKEN: {"view"}})
    with ExitStack() as stack:
        urls = stack.enter_context(serve(kintone)), stack.enter_context(serve(bugyo))
        yield kind(kintone, bugyo, urls, database, name or f"company-{uuid4().hex[:12]}", **more)


LONG_AGO = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(days=2)
"""更新日時 of records that an incremental run does not read again."""


def run_id_of(ending: Ending) -> UUID:
    """Id of a run that was opened."""
    assert ending.row is not None
    return ending.row.id
