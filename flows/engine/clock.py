"""Times as a person in Japan reads them. Inside, every time is aware; business dates are JST."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

JST = ZoneInfo("Asia/Tokyo")


def now() -> datetime:
    """The present moment, aware."""
    return datetime.now(UTC)


def business_date(moment: datetime) -> date:
    """The calendar day in Japan at ``moment``."""
    return moment.astimezone(JST).date()


def jst_text(moment: datetime, *, seconds: bool = False) -> str:
    """``2026/11/22 05:00`` in Japan's time."""
    return moment.astimezone(JST).strftime("%Y/%m/%d %H:%M:%S" if seconds else "%Y/%m/%d %H:%M")


def span_text(start: datetime, end: datetime | None) -> str:
    """処理時間（開始 - 終了）; the day is not repeated when both are on the same one."""
    if end is None:
        return f"{jst_text(start, seconds=True)} - 実行中"
    first, last = start.astimezone(JST), end.astimezone(JST)
    style = "%H:%M:%S" if first.date() == last.date() else "%Y/%m/%d %H:%M:%S"
    return f"{first:%Y/%m/%d %H:%M:%S} - {last.strftime(style)}"
