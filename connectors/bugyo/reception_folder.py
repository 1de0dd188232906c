"""A folder of 受入ファイル and its books: each file appears whole, once, and never over another.

Beside the files, in ``.app-connect``, there is an index of what was written. A file is written in
three steps, each durable before the next:

1. the file, under ``.app-connect``;
2. its entry in the index: from here on the rows *are written*, whatever happens;
3. the file moves into the folder.

A process that dies before step 2 has written nothing: the next one removes the leftover. One that
dies after it has written everything: the next one moves the file. So a look-up in the index is as
good an answer as 奉行クラウド's own, also when a person has taken the file away already.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import IO, Final

import orjson

from connectors.bugyo.environment import SERVICE
from connectors.bugyo.reception import reception_file
from connectors.bugyo.registry import resource
from connectors.kit import Failure, FaultError, SettingsError, UnknownOutcomeError, WaitError

KEEP_DAYS: Final = 35
"""Days after which the index forgets the values of a row; it goes on knowing its key."""

_STATE: Final = ".app-connect"
_KEYS: Final = "keys.json"
_DATED: Final = re.compile(r"_([0-9]{8})_([0-9]+)\.")


class ReceptionFolder:
    """The files of one connection and one resource; one process at a time.

    Args:
        folder: Where a person looks for them; it has to exist.
        connection: Name of the connection; the files begin with it.
        name: The resource, e.g. ``attendance``.
        utf8: UTF-8 with BOM instead of CP932.
        today: The business date.
        reached: Told the name of each step that has been reached.
    """

    def __init__(
        self,
        folder: Path,
        connection: str,
        name: str,
        *,
        utf8: bool = False,
        today: Callable[[], date],
        reached: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._folder = folder
        self._registry = resource(name)
        self._prefix = f"{connection}_{self._registry.label}"
        self._state = folder / _STATE / f"{connection}.{name}"
        self._utf8 = utf8
        self._today = today
        self._reached = reached
        self._rows: dict[str, dict[str, str]] = {}
        self._lock: IO[bytes] | None = None

    def open(self) -> None:
        """Take the folder, finish what an earlier process left, read the index.

        Raises:
            SettingsError: ``AC-404``, there is no such folder, or it cannot be written.
            WaitError: ``AC-406``, another process is at work in it.
        """
        if not self._folder.is_absolute() or not self._folder.is_dir():
            raise SettingsError("AC-404", str(self._folder), service=SERVICE)
        try:
            self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self._state / "lock").open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise WaitError("AC-406", str(self._folder), service=SERVICE) from None
        except OSError as error:
            self.close()
            raise self._unusable(error) from error
        try:
            self._recover()
            self._read()
        except (OSError, ValueError) as error:
            self.close()
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> SettingsError:
        words = error.strerror if isinstance(error, OSError) else "控えを読めません"
        return SettingsError("AC-404", f"{self._folder}: {words}", service=SERVICE)

    def close(self) -> None:
        """Let the folder go."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def held(self, keys: Iterable[str], fields: Sequence[str]) -> dict[str, dict[str, str]]:
        """What was written under these keys, the last value of each field."""
        rows = self._rows
        return {
            key: {field: rows[key].get(field, "") for field in fields}
            for key in keys
            if key in rows
        }

    def write(self, rows: Sequence[Mapping[str, str]]) -> str:
        """Write a file with these rows, none of them unwritable; returns its name.

        Raises:
            FaultError: ``AC-405``, nothing was written.
            UnknownOutcomeError: ``AC-402``, not even that is certain.
        """
        name = self._free_name()
        pending, entry = self._state / name, (self._state / name).with_suffix(".json")
        fields = list(dict.fromkeys(field for row in rows for field in row))
        content = reception_file(self._registry.name, fields, rows, utf8=self._utf8)
        written = {self._registry.key_of(row): dict(row) for row in rows}
        try:
            _write(pending, content)
            self._reached("reception-written")
            _write(entry, orjson.dumps({"rows": written}))
            self._reached("reception-committed")
            self._publish(pending)
        except OSError as error:
            self._take_back(pending, entry)
            subject = f"{self._folder}: {error.strerror}"
            raise FaultError("AC-405", subject, service=SERVICE, failure=Failure.REFUSED) from error
        self._reached("reception-published")
        self._note(written)
        return name

    def _take_back(self, pending: Path, entry: Path) -> None:
        try:
            if entry.exists() and not pending.exists():
                return  # it has moved: only the confirmation of that failed
            entry.unlink(missing_ok=True)
            pending.unlink(missing_ok=True)
            _sync(self._state)
        except OSError as error:
            raise UnknownOutcomeError("AC-402", service=SERVICE) from error

    def _publish(self, pending: Path) -> None:
        final = self._folder / pending.name
        if final.exists():  # somebody's own file
            final = self._folder / self._free_name()
        pending.rename(final)
        _sync(self._folder)
        _sync(self._state)

    def _free_name(self) -> str:
        day = f"{self._today():%Y%m%d}"
        start = f"{self._prefix}_{day}_"
        taken = [
            int(match.group(2))
            for place in (self._folder, self._state)
            for path in place.iterdir()
            if path.name.startswith(start) and (match := _DATED.search(path.name))
        ]
        return f"{start}{max(taken, default=0) + 1:04}.csv"

    def _recover(self) -> None:
        for leftover in self._state.glob("*.new"):
            leftover.unlink()
        for pending in sorted(self._state.glob("*.csv")):
            if pending.with_suffix(".json").exists():
                self._publish(pending)
            else:
                pending.unlink()

    def _read(self) -> None:
        old = self._state / _KEYS
        keys: list[str] = orjson.loads(old.read_bytes()) if old.exists() else []
        self._rows = {key: {} for key in keys}
        forgotten: list[Path] = []
        last = self._today() - timedelta(days=KEEP_DAYS)
        for entry in sorted(self._state.glob(f"{self._prefix}_*.json")):
            rows: dict[str, dict[str, str]] = orjson.loads(entry.read_bytes())["rows"]
            if _day_of(entry) < last:
                keys += rows
                forgotten.append(entry)
                rows = {key: {} for key in rows}
            self._note(rows)
        if forgotten:
            _write(old, orjson.dumps(sorted(set(keys))))
            for entry in forgotten:
                entry.unlink()

    def _note(self, rows: Mapping[str, Mapping[str, str]]) -> None:
        for key, row in rows.items():
            self._rows.setdefault(key, {}).update(row)


def _day_of(entry: Path) -> date:
    match = _DATED.search(entry.name)
    if match is None:
        raise ValueError(entry.name)
    return datetime.strptime(match.group(1), "%Y%m%d").date()  # noqa: DTZ007 (a day, no moment)


def _write(path: Path, content: bytes) -> None:
    """A file that is there whole or not at all, and stays over a loss of power."""
    draft = path.with_name(f"{path.name}.new")
    with draft.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make what was created, moved or removed in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network shares cannot, and do without
            os.fsync(handle)
    finally:
        os.close(handle)
