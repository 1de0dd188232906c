"""What a connector has to bring: a source, a pure transform, a sink. The engine does the rest."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from blocks import Connection
from connectors.kit import Masker
from flows.engine.codes import CodeBook, CodeUse
from flows.engine.model import Changed, Found, Reject, Row, SendOutcome, SourcePage, Window

C = TypeVar("C", bound=Connection)
Record = Mapping[str, Any]


class Source(Protocol):
    """Reads the partner."""

    async def count(self, window: Window) -> int | None:
        """How many records the window holds, for the progress display; ``None`` = unknown."""
        ...

    def pages(self, window: Window, position: Any) -> AsyncGenerator[SourcePage, None]:
        """The window's pages, from ``position`` (``None`` = the beginning)."""
        ...

    def records(self, body: bytes) -> Iterable[tuple[str, Record]]:
        """The records of a staged page, each with its source key."""
        ...


@runtime_checkable
class Recurring(Protocol):
    """A source whose every run reads whole days again: a document that is gone is noticed there."""

    def whole_days(self, window: Window) -> tuple[date, date] | None:
        """First and last of the days of which every record is read; ``None`` = of no day."""
        ...

    async def gone(self, keys: Sequence[str]) -> set[str]:
        """Which of these records are certainly gone: pages may shift while they are read."""
        ...


@runtime_checkable
class Remarks(Protocol):
    """A source that has something to say about what it left out, e.g. months not yet closed."""

    def remarks(self) -> Sequence[str]:
        """Short sentences for the message of the run, when all has been read."""
        ...


class Transformer(Protocol):
    """Turns one source record into one row. Pure: no I/O, no clock, no state between records.

    Attributes:
        fields: The fields of every row, in order.
    """

    @property
    def fields(self) -> tuple[str, ...]: ...  # noqa: D102

    def __call__(self, source_key: str, record: Record) -> Row | Reject | None:
        """The row, or why there is none.

        ``None`` = of documents: there is nothing to post (a day without sales). Such a record is
        not counted; one that was posted before is treated as one that is gone.
        """
        ...


class Sink(Protocol):
    """Writes 奉行クラウド.

    Attributes:
        batch_size: Rows per request at most.
    """

    @property
    def batch_size(self) -> int: ...  # noqa: D102

    async def fetch(
        self, keys: Sequence[str], fields: Sequence[str]
    ) -> Mapping[str, Mapping[str, str]]:
        """What 奉行クラウド holds under these keys: key -> the asked fields."""
        ...

    async def send(self, rows: Sequence[Mapping[str, str]]) -> SendOutcome:
        """Register a batch.

        Raises:
            UnknownOutcomeError: nobody knows whether it was registered.
            AppConnectError: a definite no to the whole request.
        """
        ...


class DocumentSink(Protocol):
    """Writes documents (slips), which are created once and never updated.

    A document's row has the fields ``date`` (ISO) and ``amount`` (yen) besides its own.

    Attributes:
        batch_size: Documents that are worth one request.
        visible_after: Seconds after a request until a look-up that finds nothing can be believed.
    """

    @property
    def batch_size(self) -> int: ...  # noqa: D102

    @property
    def visible_after(self) -> float: ...  # noqa: D102

    def key(self, connection: str, entity: str, source_key: str, revision: int) -> str:
        """The key that is written into the document, always the same for the same record."""
        ...

    def portions(self, rows: Sequence[Mapping[str, str]]) -> Sequence[int]:
        """How many rows go into each request, in their order."""
        ...

    async def find(self, days: Mapping[str, str]) -> Mapping[str, Found]:
        """What 奉行クラウド holds under these keys (key -> the document's date)."""
        ...

    async def send(
        self,
        rows: Sequence[Mapping[str, str]],
        keys: Sequence[str],
        on_accepted: Callable[[str], Awaitable[None]],
    ) -> SendOutcome:
        """Register documents under their keys.

        Raises:
            UnknownOutcomeError: nobody knows whether they were registered.
            AppConnectError: a definite no to the whole request.
        """
        ...

    async def import_state(self, accepted_key: str) -> str:
        """``pending``, ``done``, ``failed`` or ``unknown``: an import that was accepted earlier."""
        ...

    def reversal(self, found: Found) -> Mapping[str, str]:
        """The row that takes back a document (赤伝票)."""
        ...


class TokenVault(Protocol):
    """Where a connector gets its keepers of OAuth tokens from; see `flows.engine.tokens`."""

    def keeper(self, credentials: Any) -> Any:
        """A keeper that refreshes the tokens of ``credentials`` one process at a time."""
        ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What the engine lends a connector when it opens its clients."""

    masker: Masker
    vault: TokenVault


def service_of(connection: type[Connection]) -> str:
    """サービス名 of the connector that has these connections."""
    return connection.get_block_type_name().removeprefix("接続: ")


@dataclass(frozen=True)
class Pipeline(Generic[C]):
    """A connector, as the engine sees it.

    Attributes:
        entity: What is moved, in the ledger: ``customer``.
        key_label: Label of the key at 奉行クラウド: ``得意先コード``.
        connection_type: The connection's block; the connector is called as its type is.
        references: Fields that hold the key of another row of the same entity, with their labels.
        open_source: Makes the source; closing it closes its client.
        open_sink: Makes the sink; closing it closes its client.
        transformer: Makes the transform from the connection's settings and its コード変換表.
        changed: Of documents: what happens when a record changes after it was posted. ``None`` =
            what is moved are masters, upserted by key.
        hidden: Fields that no person reads, left out of previews.
        operations: Names of the 奉行クラウド operations that it calls, for ``bugyo check``.
        codes: What it looks up in コード変換表; none = it is given an empty book.
    """

    entity: str
    key_label: str
    connection_type: type[C]
    open_source: Callable[[C, Tools], AbstractAsyncContextManager[Source]]
    open_sink: Callable[[C, Tools], AbstractAsyncContextManager[Any]]
    transformer: Callable[[C, CodeBook], Transformer]
    references: Mapping[str, str] = field(default_factory=dict)
    changed: Callable[[C], Changed] | None = None
    hidden: frozenset[str] = frozenset()
    operations: tuple[str, ...] = ("SearchTenant", "ExportCustomer", "ImportCustomer")
    codes: tuple[CodeUse, ...] = ()

    @property
    def connector(self) -> str:
        """Stable name, also of the flow: ``customers-from-kintone``."""
        return self.connection_type.get_block_type_slug()

    @property
    def service(self) -> str:
        """サービス名 on screens: ``得意先 kintone→商奉行``."""
        return service_of(self.connection_type)

    def overlap_seconds(self, connection: C) -> float:
        """How far before the watermark an incremental run starts, if the settings say so."""
        return 60.0 * getattr(getattr(connection, "settings", None), "overlap_minutes", 0)
