"""kintone → 仕訳伝票: the connector's settings, its pure transform, its flow.

One record is one slip; the rows of a table in it are the slip's lines. A slip is posted once: what
changes in kintone afterwards is reported, or reversed and posted anew (赤黒), as the settings say.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import date, datetime
from typing import Any, Literal

from prefect import State, flow
from pydantic import Field

from blocks import NEEDED, Connection, FormModel, KintoneCredentials
from connectors.bugyo.journal import JournalLine, JournalSide, JournalSlip, parse_date, yen
from connectors.bugyo.journal_checks import check_slip
from connectors.kit.text import (
    all_clean,
    clean_text,
    cp932_problems,
    normalise_code,
    to_cp932_twins,
    transliterate_cp932,
)
from flows.engine import ModeName, Pipeline, Reject, Row, Tools, run_connector, run_name
from flows.engine.clock import business_date
from flows.engine.model import Changed
from flows.parts.journal import FIELDS, HIDDEN, OPERATIONS, open_journal, slip_row
from flows.parts.kintone import KintoneSource, kintone_source, open_kintone, text_of

_SIDES = {"debit": "借方", "credit": "貸方"}
_CODES = {
    "account": "勘定科目",
    "sub_account": "補助科目",
    "department": "部門",
    "tax_code": "税区分",
    "tax_rate": "税率",
    "partner": "取引先",
}
_TAX_ROUNDING_TOLERANCE = 1  # yen: taxes are often rounded per invoice, not per line


class SlipSettings(FormModel):
    """設定: which app, which records, which fields make a slip.

    The columns of the table are recognised by their field codes: 借方 or 貸方, then 勘定科目,
    補助科目, 部門, 税区分, 税率, 取引先, 金額, 消費税額; and 摘要.
    """

    app: str = Field(
        title="アプリID",
        description="伝票アプリを開いたときのURL（/k/ここ/）の数字です。",
        pattern=r"^[1-9][0-9]*$",
        examples=["2"],
    )
    condition: str = Field(
        default="",
        title="絞り込み条件",
        description="連携するレコードの条件（kintone のクエリ）です。空欄ならすべて連携します。",
        examples=['ステータス = "承認済み"'],
    )
    day: str = Field(
        default="伝票日付",
        title="伝票日付 ←",
        description="伝票日付が入っているフィールドのフィールドコードです。",
        min_length=1,
        json_schema_extra=NEEDED,
    )
    description: str = Field(
        default="摘要",
        title="摘要 ←",
        description="明細に摘要がない行に入れる摘要です。空欄にすると連携しません。",
    )
    table: str = Field(
        default="明細",
        title="明細テーブル ←",
        description=(
            "明細が入っているテーブルのフィールドコードです。列のフィールドコードは"
            "「借方勘定科目」「貸方金額」のように、借方・貸方と項目名をつなげたものにします。"
        ),
        min_length=1,
        json_schema_extra=NEEDED,
    )
    changed: Literal["報告のみ", "赤黒"] = Field(
        default="報告のみ",
        title="登録後に変わったとき",
        description=(
            "伝票を登録したあとで元のレコードが変わったり削除されたりしたときの扱いです。"
            "「赤黒」は、赤伝票で取り消してから新しい内容で登録し直します。"
        ),
        json_schema_extra=NEEDED,
    )
    unencodable: Literal["エラーにする", "置き換える"] = Field(
        default="エラーにする",
        title="使えない文字",
        description="絵文字など、奉行クラウドで使えない文字（Shift_JIS にない文字）の扱いです。",
        json_schema_extra=NEEDED,
    )
    overlap_minutes: int = Field(
        default=1,
        title="重複して読む時間（分）",
        description="前回の最終更新日時からさかのぼって読み直す時間です。",
        ge=1,
        le=1440,
        json_schema_extra=NEEDED,
    )


class SlipsFromKintoneConnection(Connection):
    """A connection of this connector.

    Example:
        ```python
        from flows.slips_from_kintone import SlipsFromKintoneConnection

        connection = await SlipsFromKintoneConnection.aload("keihi")
        ```
    """

    _block_type_name = "接続: 仕訳伝票 kintone→勘定奉行"
    _block_type_slug = "slips-from-kintone"
    _description = "kintone の伝票アプリを、勘定奉行クラウドの仕訳伝票に連携する接続です。"
    _manual = "kintone-slips"

    kintone: KintoneCredentials = Field(
        title="kintone", description="Blocks で先に作成した、kintone の接続情報を選びます。"
    )
    settings: SlipSettings = Field(title="設定", description="連携するアプリと、項目の対応です。")


class _BadValueError(Exception):
    def __init__(self, item: str, message: str, code: str = "AC-807") -> None:
        super().__init__(message)
        self.item, self.message, self.code = item, message, code


class SlipTransform:
    """One kintone record -> one slip. Pure; made once a run."""

    fields = FIELDS

    def __init__(self, settings: SlipSettings) -> None:
        self._settings = settings
        self._replace = settings.unencodable == "置き換える"

    def __call__(self, source_key: str, record: Mapping[str, Any]) -> Row | Reject:
        """The row, or the reject that says what is wrong."""
        day = text_of(record, self._settings.day).strip()
        label = f"レコード {source_key}"
        try:
            slip = self._slip(day, record)
            label = f"{slip.date:%Y/%m/%d} {slip.debit_total:,}円 {slip.description}".strip()[:60]
        except _BadValueError as bad:
            return Reject(
                source_key, bad.code, item=bad.item, label=label, reason=f"{bad.message}。"
            )
        violations = check_slip(slip, tolerance=_TAX_ROUNDING_TOLERANCE)
        # 証憑番号 is given by the engine when the slip is sent.
        violations = [each for each in violations if each.field != "voucher_number"]
        if violations:
            reason = "。".join(each.message for each in violations) + "。"
            first = violations[0]
            return Reject(source_key, first.code, item=first.label, label=label, reason=reason)
        return Row(source_key, label, slip_row(slip, label))

    def _slip(self, day: str, record: Mapping[str, Any]) -> JournalSlip:
        if not day:
            raise _BadValueError("伝票日付", "伝票日付が空です", "AC-801")
        try:
            parsed = _day(day)
        except ValueError as error:
            raise _BadValueError("伝票日付", str(error)) from None
        rows = record[self._settings.table]["value"] or []
        if not rows:
            raise _BadValueError("明細", "明細が1行もありません", "AC-801")
        lines = tuple(self._line(number, row["value"]) for number, row in enumerate(rows, 1))
        common = ""
        if self._settings.description:
            common = self._text("摘要", text_of(record, self._settings.description))
        return JournalSlip(date=parsed, voucher_number="", lines=lines, description=common)

    def _line(self, number: int, row: Mapping[str, Any]) -> JournalLine:
        sides = {name: self._side(number, word, row) for name, word in _SIDES.items()}
        text = self._text(f"{number}行目の摘要", _cell(row, "摘要"))
        return JournalLine(debit=sides["debit"], credit=sides["credit"], description=text)

    def _side(self, number: int, word: str, row: Mapping[str, Any]) -> JournalSide | None:
        codes = {name: _code(_cell(row, f"{word}{column}")) for name, column in _CODES.items()}
        amounts: list[int] = []
        for column in ("金額", "消費税額"):
            text = _cell(row, f"{word}{column}").strip()
            try:
                amounts.append(yen(text) if text else 0)
            except ValueError as error:
                item = f"{word}{column}"
                raise _BadValueError(item, f"{number}行目: {item}が{error}") from None
        if not any(amounts) and not codes["account"]:
            return None
        return JournalSide(amount=amounts[0], tax=amounts[1], **codes)

    def _text(self, item: str, text: str) -> str:
        if all_clean([text]):
            return text
        text = to_cp932_twins(clean_text(text, multiline=False))
        problems = cp932_problems(text)
        if problems and not self._replace:
            listed = "、".join(f"{c}（U+{ord(c):04X}）" for c in problems)
            raise _BadValueError(item, f"{item}に使えない文字があります: {listed}", "AC-803")
        return transliterate_cp932(text) if problems else text


def _cell(row: Mapping[str, Any], code: str) -> str:
    return text_of(row, code) if code in row else ""


def _day(text: str) -> date:
    """The day of a date field, or that of a date-and-time field (UTC on the wire) in Japan.

    Raises:
        ValueError: it is no date, or something follows it: cutting that off could be a day wrong.
    """
    with contextlib.suppress(ValueError):  # its words are not for a clerk
        if "T" not in text and len(text) <= len("2026/11/02"):
            return parse_date(text)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return business_date(moment)
    raise ValueError(f"日付ではありません: 「{text[:40]}」")


def _code(text: str) -> str:
    return normalise_code(text, width=None)


@contextlib.asynccontextmanager
async def _source(
    connection: SlipsFromKintoneConnection, tools: Tools
) -> AsyncIterator[KintoneSource]:
    settings = connection.settings
    fields = [code for code in (settings.day, settings.description, settings.table) if code]
    async with open_kintone(connection.kintone, tools) as client:
        yield await kintone_source(client, settings.app, settings.condition, fields, "$id")


PIPELINE = Pipeline(
    connector="slips-from-kintone",
    service="仕訳伝票 kintone→勘定奉行",
    entity="journal_slip",
    key_label="レコード番号",
    connection_type=SlipsFromKintoneConnection,
    open_source=_source,
    open_sink=lambda connection, tools: open_journal(connection.bugyo, tools),
    transformer=lambda connection: SlipTransform(connection.settings),
    references={},
    overlap_seconds=lambda connection: connection.settings.overlap_minutes * 60.0,
    changed=lambda connection: Changed(connection.settings.changed),
    hidden=HIDDEN,
    operations=OPERATIONS,
)


@flow(name=PIPELINE.connector, flow_run_name=run_name(PIPELINE), persist_result=False)
async def slips_from_kintone(
    connection: str,
    mode: ModeName = "差分",
    record_key: str | None = None,
    dry_run: bool = False,
    record_keys: list[str] = [],  # noqa: B006 (Prefect reads the default for the run form)
) -> State[None]:
    """kintone の伝票アプリを、勘定奉行クラウドの仕訳伝票に連携します。

    Args:
        connection: 接続（Blocks）の名前です。
        mode: 差分は前回から変わったデータとエラー明細、全件はすべて、1件は1件だけ、
            エラー明細のみはエラー明細にあるデータだけを処理します。
        record_key: 「1件」のときのレコード番号です。
        dry_run: オンにすると、送る内容を表示するだけで、奉行クラウドには何も送りません。
        record_keys: 「エラー明細のみ」のときに送るレコードの番号です。空ならすべてを送ります。
    """
    return await run_connector(
        PIPELINE,
        connection=connection,
        mode=mode,
        record_key=record_key,
        dry_run=dry_run,
        record_keys=record_keys,
    )
