"""What a connector brings to the acceptance kit, and how the kit finds it.

``tests/acceptance/connectors/<connector>.py`` (the connector's name with underscores) has a class
``CASE``, a `Case`. Everything else the kit knows by itself: the connector from the catalogue, its
blocks, credentials, settings and code table from its sample, its manual from its block.
"""

from __future__ import annotations

import importlib
import tomllib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import SecretStr

from connectors.kit.emulator import Emulator
from deployments.catalog import Connector, connectors
from deployments.samples import SampleConnection, sample_connections
from deployments.stack.settings import EMULATORS, StackUrls

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).parent / "connectors"
PACKAGE = "tests.acceptance.connectors"
CANARY = "cAnArY"
"""In every secret that the kit makes up."""


class Exempt(UserWarning):
    """A check that a connector is exempt from; pytest prints it in its summary."""


@dataclass(frozen=True)
class Hostile:
    """One value of ``hostile.toml``."""

    name: str
    kind: str
    value: str
    expect: str
    becomes: str


def hostile_values() -> list[Hostile]:
    """The hostile data file."""
    read = tomllib.loads((Path(__file__).parent / "hostile.toml").read_text("utf-8"))
    return [
        Hostile(v["name"], v["kind"], v["value"], v["expect"], v.get("as", v["value"]))
        for v in read["value"]
    ]


def secret_fields(block: Any) -> list[str]:
    """Names of the fields of a block that hold secrets."""
    fields = type(block).model_fields.items()
    return [name for name, field in fields if "SecretStr" in str(field.annotation)]


def spoil(block: Any) -> None:
    """Another value in every secret field."""
    for name in secret_fields(block):
        setattr(block, name, SecretStr(f"{CANARY}-wrong-{name}"))


class Case(ABC):
    """One connector in front of the kit. Made anew for every test, with an emulator of its own.

    Attributes:
        service: Folder of the partner in ``connectors``.
        data: Regular expression, searched in the path of requests that the partner answers with
            records.
        exempt: Name of a check (or kind of hostile value) -> why this connector cannot have it.
    """

    service: ClassVar[str]
    data: ClassVar[str]
    exempt: ClassVar[Mapping[str, str]] = {}

    def __init__(self) -> None:
        self.partner: Any = self.emulator()

    @abstractmethod
    def emulator(self) -> Emulator:
        """The partner without a record; it accepts the credentials of the sample."""

    def settings(self, sample: Any) -> Any:
        """The connector's settings; those of the sample, unless they do not suit."""
        return sample

    @abstractmethod
    def good(self, number: int) -> str:
        """Put in a record that can be posted, another one for each number; returns its key."""

    @abstractmethod
    def hostile(self, number: int, value: Hostile) -> str | None:
        """The same with a hostile value in it; ``None`` = nothing of its kind is moved."""

    @abstractmethod
    def twin(self, number: int) -> str:
        """A second record that claims to be ``good(number)``; its key, or that of the first."""

    @abstractmethod
    def crowd(self) -> list[str]:
        """Put in more records than a page holds; returns their keys."""

    @abstractmethod
    def shift(self, keys: list[str]) -> str:
        """Take a record of the first page away, so that the following ones move up; its key."""

    def spoil(self, credentials: Any) -> None:
        """Make the partner's credentials such as nobody accepts: every secret is another one."""
        spoil(credentials)

    def exempted(self, check: str) -> bool:
        """Whether this connector is exempt from a check; says so."""
        reason = self.exempt.get(check, "")
        if reason:
            warnings.warn(f"{type(self).__module__}: {check}: {reason}", Exempt, stacklevel=2)
        return bool(reason)


def case_of(connector: str) -> type[Case]:
    """The module of a connector.

    Raises:
        AssertionError: it has none.
    """
    name = connector.replace("-", "_")
    path = CASES / f"{name}.py"
    assert path.is_file(), (
        f"{path.relative_to(ROOT)} がありません: コネクタごとに受け入れ試験のモジュールが要ります"
        f" / every connector needs an acceptance module (see {Path(__file__).name})"
    )
    kind: type[Case] = importlib.import_module(f"{PACKAGE}.{name}").CASE
    return kind


def connector_of(name: str) -> Connector:
    """A connector of the catalogue."""
    return connectors()[name]


def sample_of(connector: Connector, partner: str = "", bugyo: str = "") -> SampleConnection:
    """Its sample, with the addresses of the emulators of a test.

    Raises:
        AssertionError: the local stack has none.
    """
    emulators = dict.fromkeys(EMULATORS, partner or "http://127.0.0.1:1") | {
        "bugyo": bugyo or "http://127.0.0.1:1"
    }
    for sample in sample_connections(StackUrls("", "", "", emulators)):
        if sample.kind is connector.pipeline.connection_type:
            return sample
    raise AssertionError(
        f"{connector.pipeline.connector}: deployments/samples に接続がありません"
        " / the local stack has no sample connection of it"
    )
