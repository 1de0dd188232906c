"""勤怠 as 奉行クラウド takes it: how times and counts are written, whose they are.

Minutes become ``H:MM`` or hours with two decimals, counts of days have one decimal, and what is
null is empty or 0, as the settings say.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_UP, ROUND_UP, Decimal
from typing import Literal

from pydantic import Field

from blocks.form import LAST
from connectors.kit.text import normalise_code
from flows.engine.codes import CodeBook, CodeReader, CodeUse
from flows.parts.reception_file import DeliverySettings

_ROUNDING = {"四捨五入": ROUND_HALF_UP, "切り捨て": ROUND_DOWN, "切り上げ": ROUND_UP}


class AttendanceFormat(DeliverySettings):
    """設定 of every connector of 勤怠; they stand behind those that a subclass adds."""

    time_format: Literal["H:MM", "10進数"] = Field(
        default="H:MM",
        title="時間の書き方",
        description="218時間45分を「218:45」と書くか「218.75」と書くかです。",
        json_schema_extra=LAST,
    )
    rounding: Literal["四捨五入", "切り捨て", "切り上げ"] = Field(
        default="四捨五入",
        title="10進数の端数",
        description="時間を10進数で書くときの、小数第3位の扱いです。",
        json_schema_extra=LAST,
    )
    empty: Literal["空欄", "0"] = Field(
        default="空欄",
        title="値のない項目",
        description="勤怠に値がない項目を、空欄で送るか 0 で送るかです。",
        json_schema_extra=LAST,
    )
    code_width: int | None = Field(
        default=None,
        title="社員番号の桁数",
        description=(
            "数字だけの従業員コードを、この桁数まで左に0を付けて社員番号にします。"
            "空欄ならそのままです。番号が違うときはコード変換表（社員番号）を使います。"
        ),
        ge=1,
        le=10,
        json_schema_extra=LAST,
    )

    def text(self, amount: Decimal | None, *, time: bool) -> str:
        """An amount as it is sent.

        Args:
            amount: Minutes or a count; ``None`` = the partner has no value.
            time: Whether it is minutes.
        """
        if amount is None:
            return "" if self.empty == "空欄" else self.text(Decimal(0), time=time)
        if not time:
            return count_text(amount)
        if self.time_format == "H:MM":
            return hours_and_minutes(amount)
        return decimal_hours(amount, self.rounding)

    def employee(
        self, use: CodeUse, book: CodeBook, codes: CodeReader, code: str, name: str
    ) -> str:
        """社員番号 of the partner's employee.

        Args:
            use: What their codes are in コード変換表.
            book: The connection's コード変換表.
            codes: Reads it for this record.
            code: As the partner has it.
            name: For who reads what is missing.
        """
        padded = normalise_code(code, width=self.code_width)
        if use.kind in book.known:
            return codes(use.kind, use.source, padded, name)
        # 奉行クラウド cannot tell who is registered (or a file is written): it is believed.
        return codes.optional(use.kind, use.source, padded, name) or padded


def hours_and_minutes(minutes: Decimal) -> str:
    """``218:45``; hours go on beyond 24. A fraction of a minute is dropped."""
    hours, rest = divmod(abs(int(minutes)), 60)
    return f"{'-' if minutes <= -1 else ''}{hours}:{rest:02}"


def decimal_hours(minutes: Decimal, rounding: str) -> str:
    """Hours with two decimals: 13125 minutes are ``218.75``.

    Args:
        minutes: The minutes.
        rounding: 四捨五入, 切り捨て or 切り上げ; the last two towards and away from zero.
    """
    return str((minutes / 60).quantize(Decimal("0.01"), _ROUNDING[rounding]))


def count_text(count: Decimal) -> str:
    """A count of days or times with one decimal, ``20.5``; finer parts, if any, are kept."""
    tenths = count.quantize(Decimal("0.1"))
    return str(tenths if tenths == count else count.normalize())
