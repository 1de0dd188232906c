"""Settings that several connectors have, worded once; each stands where a connector puts it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from blocks.form import LAST


def overlap_field(minutes: int) -> Any:
    """重複して読む時間: minutes before the last change at which an incremental run begins.

    `Pipeline.overlap_seconds` goes by the setting with the name ``overlap_minutes``.
    """
    return Field(
        default=minutes,
        title="重複して読む時間（分）",
        description="前回の最終更新日時からさかのぼって読み直す時間です。",
        ge=1,
        le=1440,
        json_schema_extra=LAST,
    )


def credentials_field(title: str, whose: str) -> Any:
    """接続情報 of a partner, picked from those that were saved before.

    Args:
        title: Of the field.
        whose: Before 接続情報: ``kintone の``.
    """
    return Field(
        title=title,
        description=f"「接続情報・設定」で先に作成した、{whose}接続情報を選びます。",
    )


def digits_field(title: str, description: str, longest: int) -> Any:
    """桁数: how many digits a code of digits is padded to; ``None`` = it stays as it is."""
    return Field(default=None, title=title, description=description, ge=1, le=longest)


def unencodable_field() -> Any:
    """使えない文字: what becomes of a character that 奉行クラウド does not have."""
    return Field(
        default="エラーにする",
        title="使えない文字",
        description="絵文字など、奉行クラウドで使えない文字（Shift_JIS にない文字）の扱いです。",
        json_schema_extra=LAST,
    )
