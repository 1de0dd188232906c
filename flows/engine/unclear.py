"""要確認: documents of which nobody can tell whether they are posted, and a person's decision.

A reversal (赤伝票) can be unclear, too; its source key is that of the record with ``#`` and the
revision that it takes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from sqlalchemy import Connection, text

from connectors.kit import DataError
from flows.engine import rejects
from flows.engine.doubt import verdict
from flows.engine.ledger import UNSENT, Ledger
from flows.engine.pipeline import DocumentSink
from flows.engine.store import Store

_LIST = text(
    "SELECT l.entity, l.source_key, l.external_key, l.amount, l.document_date, l.run_id, "
    "coalesce(l.error, ''), coalesce(r.label, '') FROM ledger l LEFT JOIN reject r "
    "ON (r.connection, r.entity, r.source_key) = (l.connection, l.entity, l.source_key) "
    "WHERE l.connection = :connection AND l.state = 'unclear' "
    "ORDER BY l.document_date, length(l.source_key), l.source_key"
)
_RED = ".reversal"


@dataclass(frozen=True, slots=True)
class Unclear:
    """One document that a person has to look at.

    Attributes:
        key: 証憑番号.
        amount: Yen.
        day: 伝票日付.
        why: What a look-up found, in words; empty = nothing was found.
    """

    entity: str
    source_key: str
    key: str
    amount: int | None
    day: date | None
    why: str
    label: str

    @property
    def is_reversal(self) -> bool:
        """Whether it is a 赤伝票."""
        return self.entity.endswith(_RED)

    @property
    def cells(self) -> tuple[str, ...]:
        """Texts of `COLUMNS`."""
        return (
            self.source_key,
            "赤伝票" if self.is_reversal else "伝票",
            self.key,
            f"{self.amount:,}" if self.amount is not None else "",
            f"{self.day:%Y/%m/%d}" if self.day else "",
            self.label,
            self.why or "登録されているかどうかを確かめられません",
        )


COLUMNS = ("レコード", "種類", "証憑番号", "金額", "日付", "対象", "理由")


@dataclass
class Decided:
    """What became of a person's decisions, by source key.

    Attributes:
        posted: They count as registered.
        found: もう一度送る was asked for, and they were found registered after all.
        unsent: They will be sent again.
        refused: Source key -> why they are not sent again.
    """

    posted: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    unsent: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def sentence(self) -> str:
        """The same for a person."""
        words = [f"登録済みにしました: {len(self.posted):,} 件。"] if self.posted else []
        if self.found:
            words.append(
                f"もう一度確かめたところ登録されていたため、登録済みにしました: "
                f"{len(self.found):,} 件。"
            )
        if self.unsent:
            words.append(f"もう一度送ります: {len(self.unsent):,} 件。")
        words += [f"レコード {key}: {why}。" for key, why in self.refused.items()]
        return "".join(words) or "変更はありません。"


def listed(db: Connection, connection: str) -> list[Unclear]:
    """Every unclear document of a connection, the oldest first."""
    rows = db.execute(_LIST, {"connection": connection})
    return [Unclear(r[0], r[1], r[2], r[3], r[4], r[6], r[7]) for r in rows]


def chosen(db: Connection, connection: str, keys: Sequence[str]) -> list[Unclear]:
    """Those that a person named; named by record or by 証憑番号.

    Raises:
        DataError: ``AC-818``, one is unknown. What was decided before is left out.
    """
    wanted = list(dict.fromkeys(key for each in keys if (key := each.strip())))
    found = listed(db, connection)
    known = {name for each in found for name in (each.source_key, each.key)}
    others = {key: key.partition("#")[0] for key in wanted if key not in known}
    done = {*rejects.finished(db, connection, list(others.values())), *_unsent(db, connection)}
    unknown = [key for key, record in others.items() if key not in done and record not in done]
    if unknown:
        raise DataError("AC-818", "、".join(unknown))
    return [each for each in found if each.source_key in wanted or each.key in wanted]


def _unsent(db: Connection, connection: str) -> set[str]:
    rows = db.execute(
        text("SELECT source_key FROM ledger WHERE connection = :c AND state = :s"),
        {"c": connection, "s": UNSENT},
    )
    return {row[0] for row in rows}


async def decide_posted(store: Store, connection: str, some: Sequence[Unclear]) -> Decided:
    """登録済みにする: a person has seen them in 奉行クラウド, once and right."""
    return Decided(posted=await store.do(_stored, connection, list(some)))


async def decide_resend(
    store: Store, connection: str, some: Sequence[Unclear], sink: DocumentSink
) -> Decided:
    """もう一度送る: looked up once more; what is there now is posted, the others go again."""
    days = {each.key: each.day.isoformat() if each.day else "" for each in some}
    there = await sink.find(days) if days else {}
    decided = Decided()
    found: list[Unclear] = []
    absent: list[Unclear] = []
    for each in some:
        if each.key not in there:
            absent.append(each)
        elif (why := verdict(there[each.key], each.amount)) is None:
            found.append(each)
        else:
            decided.refused[each.source_key] = f"{why}。もう一度は送りません"
    decided.found = await store.do(_stored, connection, found)
    decided.unsent = await store.do(_missing, connection, absent)
    return decided


def _stored(db: Connection, connection: str, some: Sequence[Unclear]) -> list[str]:
    done: list[str] = []
    for entity, keys in _by_entity(some).items():
        agreed = Ledger(connection, entity).decide(db, keys, stored=True)
        rejects.resolve(db, connection, entity, agreed)
        done += agreed
        if entity.endswith(_RED):
            _taken_back(db, connection, entity, agreed)
    return done


def _taken_back(db: Connection, connection: str, entity: str, marks: Sequence[str]) -> None:
    """The reversals are posted, so the documents that they reverse are reversed."""
    rows = db.execute(
        text(
            "SELECT source_key, run_id FROM ledger WHERE connection = :c AND entity = :e "
            "AND source_key = ANY(:k)"
        ),
        {"c": connection, "e": entity, "k": list(marks)},
    )
    originals = Ledger(connection, entity.removesuffix(_RED))
    for mark, run in rows:
        source_key, _, revision = mark.rpartition("#")
        originals.reversed(db, {source_key: int(revision)}, run=run)


def _missing(db: Connection, connection: str, some: Sequence[Unclear]) -> list[str]:
    done: list[str] = []
    for entity, keys in _by_entity(some).items():
        done += Ledger(connection, entity).decide(db, keys, stored=False)
    return done


def _by_entity(some: Sequence[Unclear]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in some:
        found.setdefault(each.entity, []).append(each.source_key)
    return found
