"""What can be switched in the emulator: the variants of the unknowns, and limits."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from connectors.bugyo.registry import data

ImportMode = Literal["all_or_nothing", "partial_200", "partial_207", "bare_400"]

_TOKENS = data("environments")["tokens"]
_IMPORT = data("operations")["ImportJournalSlip"]


class EmulatorSettings(BaseModel):
    """The variants of what the contract does not know, and limits. Seconds, rows, calls."""

    model_config = ConfigDict(extra="forbid")

    import_mode: ImportMode = Field(
        default="all_or_nothing",
        description="all_or_nothing: 400 naming the rows. partial_200: good rows stored, 200 "
        "naming the bad ones. partial_207: the same with status 207. bare_400: 400 naming no row.",
    )
    import_reply: str = Field(default="empty", pattern="^(empty|list|rows)$")
    max_rows: int = Field(default=1000, ge=1)
    access_lifetime: float = Field(default=_TOKENS["access_lifetime"], gt=0)
    refresh_lifetime: float = Field(default=_TOKENS["refresh_lifetime"], gt=0)
    code_lifetime: float = Field(default=_TOKENS["code_lifetime"], ge=60, le=600)
    rotate: bool = _TOKENS["rotates"]
    echo_state: bool = True
    send_expires_in: bool = True
    pkce: Literal["verify", "ignore"] = Field(
        default="verify", description="ignore: a server that does not know PKCE."
    )
    send_iss: bool = Field(default=False, description="The answer names its issuer (RFC 9207).")
    reuse_grace: float = Field(
        default=0, ge=0, description="Seconds in which a rotated refresh token works once more."
    )
    max_slip_rows: int = Field(default=_IMPORT["max_slip_rows"], ge=1)
    slip_import: Literal["sync", "async"] = Field(
        default="sync", description="async: the reply is an accepted key."
    )
    slip_async_seconds: float = Field(
        default=0, ge=0, description="From an accepted import until its slips are stored."
    )
    slip_result_polls: int = Field(
        default=1, ge=0, description="Answers 処理中 to each key before its result is told."
    )
    slip_result: Literal["normal", "failed", "unknown"] = Field(
        default="normal",
        description="failed: nothing is stored, and the result says so without naming a row. "
        "unknown: the slips are stored, and the key is not known when it is asked for.",
    )
    slip_lag_seconds: float = Field(
        default=0, ge=0, description="From storing a slip until exports show it."
    )
    slip_lag_lookups: int = Field(
        default=0, ge=0, description="Exports after storing a slip that do not show it yet."
    )
    duplicate_voucher: Literal["accept", "refuse"] = Field(
        default="accept", description="A second slip with a 証憑番号 that is there already."
    )
    closed_until: date | None = Field(
        default=None, description="Slips of this day and earlier are in a closed period."
    )
    closed_month: str | None = Field(
        default=None,
        pattern="^[0-9]{4}/(0[1-9]|1[0-2])$",
        description="勤怠 of this month (YYYY/MM) and earlier is closed.",
    )
    calls_per_minute: int | None = Field(default=None, ge=1, description="null = no limit")
