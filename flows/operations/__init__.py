"""Operations: flows that a person or a schedule starts and that move no data.

A module of this package with an attribute ``OPERATION`` is found by looking
(`deployments.catalog.operations`) and deployed with the connections; nothing has to be registered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitStrategy


@dataclass(frozen=True)
class Operation:
    """An operation and how it appears in the Prefect UI.

    Attributes:
        flow: The flow; the descriptions of its run form come from the ``Args:`` of its docstring.
        name: Name of the deployment, in Japanese: ``連携トークンの更新``.
        description: What the deployment's page says (Markdown): what it does, when, what Run does.
        cron: Schedule in Japanese time; ``None`` = on demand only.
        titles: Titles of the run form's parameters, by parameter name.
        collision: What happens to a second run while the first is at work.
    """

    flow: Flow[..., Any]
    name: str
    description: str
    cron: str | None = None
    titles: Mapping[str, str] = field(default_factory=dict)
    collision: ConcurrencyLimitStrategy = ConcurrencyLimitStrategy.ENQUEUE
