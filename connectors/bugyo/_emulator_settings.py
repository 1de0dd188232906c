"""What can be switched in the emulator: the variants of the unknowns, and limits."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from connectors.bugyo.registry import data

ImportMode = Literal["all_or_nothing", "partial_200", "bare_400"]

_TOKENS = data("environments")["tokens"]


class EmulatorSettings(BaseModel):
    """The variants of what the contract does not know, and limits. Seconds, rows, calls."""

    model_config = ConfigDict(extra="forbid")

    import_mode: ImportMode = Field(
        default="all_or_nothing",
        description="all_or_nothing: 400 naming the rows. partial_200: good rows stored, 200 "
        "naming the bad ones. bare_400: 400 naming no row.",
    )
    import_reply: str = Field(default="empty", pattern="^(empty|list|rows)$")
    max_rows: int = Field(default=1000, ge=1)
    access_lifetime: float = Field(default=_TOKENS["access_lifetime"], gt=0)
    refresh_lifetime: float = Field(default=_TOKENS["refresh_lifetime"], gt=0)
    code_lifetime: float = Field(default=_TOKENS["code_lifetime"], ge=60, le=600)
    rotate: bool = _TOKENS["rotates"]
    echo_state: bool = True
    send_expires_in: bool = True
    calls_per_minute: int | None = Field(default=None, ge=1, description="null = no limit")
