"""Prefect block for a 接続: a configured connector of one company.

A connector subclasses `Connection` beside its flow, adding the partner's credentials and its own
settings model, so that its form shows exactly what that connector needs.
"""

from __future__ import annotations

from abc import ABC
from typing import Annotated, Any, Literal, Self

from prefect.blocks.core import Block
from prefect.utilities.names import obfuscate
from pydantic import Field, SecretStr, StringConstraints

from blocks.bugyo import BugyoCredentials
from blocks.form import AUTOMATIC, LAST, FormBlock
from connectors.kit import SettingsError

DAILY_AT = "5:00"
"""The time that the original product promises; in `TIMEZONE`."""

Days = Literal["毎日", "平日のみ", "営業日のみ", "締め日の翌営業日", "締め日の前営業日"]
"""Which days a connection is processed on; what they are: `flows.engine.timing`."""

TIMEZONE = "Asia/Tokyo"


class Connection(FormBlock, ABC):
    """What every connection has: licence, 奉行クラウド credentials, schedule.

    An interface for Prefect: only the connections of connectors are registered and offered.
    """

    _block_type_name = "接続"
    _block_type_slug = "app-connect-connection"
    _description = "接続（コネクタの契約、接続情報、設定、スケジュール）の共通部分です。"

    registration_number: Annotated[str, StringConstraints(strip_whitespace=True)] = Field(
        title="登録番号", description="コネクタの登録番号です。", examples=["AC-0000-0000"]
    )
    phone: str = Field(
        title="電話番号",
        description="登録番号と一緒に登録した電話番号です。",
        examples=["03-0000-0000"],
    )
    bugyo: BugyoCredentials = Field(
        title="奉行クラウド",
        description="「接続情報・設定」で先に作成した、奉行クラウドの接続情報を選びます。",
    )
    schedule: str = Field(
        default=DAILY_AT,
        title="処理する時刻",
        description=(
            "自動で処理する時刻です（日本時間）。5:00 のように書きます。"
            "cron（分 時 日 月 曜日）でも書けます。"
        ),
        # Of the form only: an empty one that was stored all the same is told by `flows.engine`.
        json_schema_extra={**LAST, "minLength": 1},
    )
    days: Days = Field(
        default="毎日",
        title="処理する日",
        description=(
            "平日は月〜金曜日、営業日は平日から祝日・年末年始（12/31〜1/3）・会社の休業日を"
            "除いた日です。"
        ),
        json_schema_extra=LAST,
    )
    closing_day: int = Field(
        default=31,
        ge=1,
        le=31,
        title="締め日",
        description="「処理する日」が締め日の翌・前営業日のときに使います。31 は月末です。",
        json_schema_extra=LAST,
    )
    company_holidays: str = Field(
        default="",
        title="会社の休業日",
        description=(
            "祝日のほかに休む日です。「2026-12-29〜2027-01-03, 2026-08-14」のように、"
            "「、」か改行で区切ります。毎年同じ日なら「8-13〜8-15」のように、年を書きません。"
        ),
        json_schema_extra=LAST,
    )
    block_names: dict[str, str] = Field(
        default_factory=dict,
        title="接続情報の名前",
        description="自動的に入ります。",
        json_schema_extra=AUTOMATIC,
    )

    @classmethod
    async def aload(cls, name: str, validate: bool = True, client: Any = None) -> Self:
        """Load a connection, with the credentials that it was saved with.

        The edit form of the Prefect UI (seen in 3.8.8) does not know that a field refers to
        another block: saving the form replaces the reference by a copy in which every secret is
        ``********``. Such a copy is recognised, and the block that it was made of is loaded.

        Raises:
            SettingsError: ``AC-205``, it is a copy, and it is not certain of which block.
            ValueError: there is no connection of this name.
        """
        connection: Self = await super().aload(name, validate=validate, client=client)
        for field, copy in connection._nested().items():
            if not _is_masked_copy(copy):
                continue
            known = connection.block_names.get(field)
            original: Block | None = None
            if known is not None:
                original = await type(copy).aload(known, client=client)
            if original is None or _visible(original) != _visible(copy):
                title = cls.model_fields[field].title
                raise SettingsError("AC-205", f"接続「{name}」の「{title}」を選び直してください")
            setattr(connection, field, original)
        return connection

    def destination(self) -> str:
        """Which 法人 it writes to. A ledger is about one 法人 and must not be used for another."""
        return f"{self.bugyo.environment}/{self.bugyo.tenant_id or ''}"

    def credentials(self) -> list[Block]:
        """The credentials blocks that it refers to."""
        return list(self._nested().values())

    def remember(self) -> None:
        """Note which blocks the connection refers to; to be saved by the caller."""
        names = {f: b._block_document_name for f, b in self._nested().items()}
        self.block_names = {field: name for field, name in names.items() if name is not None}

    def _nested(self) -> dict[str, Block]:
        return {field: value for field, value in self if isinstance(value, Block)}


def _is_masked_copy(block: Block) -> bool:
    if getattr(block, "_block_document_name", None) is not None:
        return False
    masked = obfuscate("")
    return any(isinstance(v, SecretStr) and v.get_secret_value() == masked for _, v in block)


def _visible(block: Block) -> dict[str, Any]:
    """What a form shows of a block; equal for a copy and its original, unless one was changed."""
    shown = type(block).model_json_schema()["properties"]
    return {f: v for f, v in block if f in shown and not isinstance(v, SecretStr)}
