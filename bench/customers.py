"""``make bench``: the engine beside a bare loop over httpx, and a run as a person feels it.

A is our pipeline in a process of its own: extract, transform and load with staged pages, ledger
and lease, on an empty durable PostgreSQL. B is `bench.bare`: the same requests, nothing kept. They
take turns on the same emulators (kintone with clean customers, a strict 奉行クラウド with empty
books). Nothing here is a test: a figure is judged by a person who knows the machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.pressed import pressed, with_prefect
from bench.services import Database, Emulators, cpu_seconds, database

SMALL = 10_000
"""The size whose memory stands beside that of the full size."""


@dataclass(frozen=True)
class Figures:
    """One measurement of one side.

    Attributes:
        told: What the process said, see `bench.meter`.
        postgres: CPU seconds of PostgreSQL.
        emulators: CPU seconds of the emulators.
        requests: What the emulators saw.
    """

    records: int
    told: dict[str, Any]
    postgres: float
    emulators: float
    requests: dict[str, int]

    @property
    def speed(self) -> float:
        """Records per second."""
        return float(self.records / self.told["seconds"])

    def micros(self, seconds: float) -> float:
        """Seconds as microseconds a record."""
        return seconds / self.records * 1e6

    @property
    def cpu(self) -> float:
        """CPU microseconds a record of the process itself."""
        return self.micros(self.told["cpu"])


class Bench:
    """Runs one side at a time and watches everybody's CPU meanwhile."""

    def __init__(self, size: int, store: Database, emulators: Emulators) -> None:
        self._size = size
        self._store = store
        self._emulators = emulators
        # The kintone emulator encodes a record when it is first read, and keeps that: whoever comes
        # first would pay for it, and the other side would not.
        self.bare()

    def ours(self) -> tuple[Figures, Figures]:
        """A on empty books, and again with nothing changed."""
        self._emulators.fresh_books()
        url = self._store.fresh_store()
        first = self._run("bench.ours", url)
        return first, self._run("bench.ours", url)

    def bare(self, *options: str) -> Figures:
        """B on empty books."""
        self._emulators.fresh_books()
        return self._run("bench.bare", *options)

    def _run(self, module: str, *more: str) -> Figures:
        postgres, emulators = cpu_seconds(self._store.pid), cpu_seconds(self._emulators.pid)
        addresses = (self._emulators.kintone, self._emulators.bugyo)
        command = [sys.executable, "-m", module, *addresses, *more]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        seen = self._emulators.requests()
        if seen["stored"] != self._size:
            raise SystemExit(f"{module}: {seen['stored']} of {self._size} customers arrived")
        return Figures(
            self._size,
            json.loads(said.splitlines()[-1]),
            cpu_seconds(self._store.pid) - postgres,
            cpu_seconds(self._emulators.pid) - emulators,
            seen["requests"],
        )


@contextmanager
def bench(size: int) -> Iterator[Bench]:
    """Emulators with ``size`` customers, and a PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="app-connect-bench-") as folder:
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as another user
        with database(Path(folder)) as store, Emulators(size) as emulators:
            yield Bench(size, store, emulators)


def _spread(values: list[float], form: str = ",.0f") -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _line(name: str, figures: list[Figures]) -> str:
    return (
        f"{name:<34} {_spread([f.speed for f in figures]):>28} records/s"
        f"   CPU µs/record: {median([f.cpu for f in figures]):5.1f} process"
        f"  {median([f.micros(f.postgres) for f in figures]):5.1f} PostgreSQL"
        f"  {median([f.micros(f.emulators) for f in figures]):5.1f} emulators"
        f"   peak {median([f.told['peak_mib'] for f in figures]):.0f} MiB"
    )


def _compare(size: int, rounds: int) -> None:
    first, again, bare, blind = [], [], [], []
    with bench(size) as side:
        for number in range(1, rounds + 1):
            one, two = side.ours()
            first.append(one)
            again.append(two)
            bare.append(side.bare())
            blind.append(side.bare("--no-look-ups"))
            print(f"round {number}: A {one.speed:,.0f}/s  B {bare[-1].speed:,.0f}/s", flush=True)
    print(f"\n{size:,} customers, {rounds} rounds, median (range)")
    print(_line("A  ours", first))
    print(_line("A  ours again, nothing changed", again))
    print(_line("B  bare loop", bare))
    print(_line("B' bare loop without look-ups", blind))
    for name, other in (("A/B ", bare), ("A/B'", blind)):
        ratios = [a.speed / b.speed for a, b in zip(first, other, strict=True)]
        print(f"{name} {_spread(ratios, '.2f')}")
    stages = first[-1].told["stages"]
    print(
        "A, last round: "
        + ", ".join(f"{k} {w:.2f} s (CPU {c:.2f} s)" for k, (w, c) in stages.items())
    )
    print(f"requests: A {first[-1].requests}  B {bare[-1].requests}")


def _memory(size: int) -> None:
    with bench(size) as side:
        one, two = side.ours()
    peaks = [f.told["peak_mib"] for f in (one, two)]
    idle = one.told["idle_mib"]
    print(f"A at {size:,} customers: peak {max(peaks):.0f} MiB ({idle:.0f} MiB before it begins)")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=100_000, help="customers in kintone")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of A and B")
    parser.add_argument("--no-prefect", action="store_true", help="only A and B")
    options = parser.parse_args()
    _compare(options.size, options.rounds)
    _memory(SMALL)
    if not options.no_prefect:
        print(with_prefect(options.size))
        print(pressed())


if __name__ == "__main__":
    main()
