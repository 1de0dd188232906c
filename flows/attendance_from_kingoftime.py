"""KING OF TIME → 勤怠: the connector's settings, its pure transform, its flow.

Only what is closed (締め) is posted; a day with an error (エラー勤務) is a reject.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import date
from typing import Any, Literal, Self

from prefect import State, flow
from pydantic import Field, ValidationError, model_validator

from blocks import Connection, KingOfTimeCredentials
from connectors.bugyo import master_operations, resource, row_validator
from connectors.kingoftime import DailyWorking, MonthlyWorking
from connectors.kingoftime.items import DAILY, MONTHLY, WorkItem, terms, unit_of, value_of
from connectors.kit.days import months_later
from flows.engine import ModeName, Pipeline, Reject, Row, Tools, run_connector, run_name
from flows.engine.clock import business_date, now
from flows.engine.codes import CodeBook, CodeKind, CodeUse
from flows.parts.attendance import AttendanceFormat
from flows.parts.bugyo_codes import code_operations
from flows.parts.fields import credentials_field
from flows.parts.kingoftime import KingOfTimeSource, open_kingoftime
from flows.parts.reception_file import open_people_sink
from flows.parts.values import violating

CODES = CodeUse(CodeKind.EMPLOYEE, "従業員コード")
_NIGHT = "深夜所定時間+深夜所定外時間+深夜残業時間"


def _item(default: str, title: str, words: str = "") -> Any:
    """A field of the settings: which items of KING OF TIME make one item of 勤怠."""
    return Field(default=default, title=f"{title} ←", description=f"{words}空欄なら連携しません。")


class AttendanceSettings(AttendanceFormat):
    """設定: what is read, and which item goes to which."""

    target: Literal["月次", "日次"] = Field(
        default="月次",
        title="対象",
        description="月次は月別勤怠（社員・年月ごと）、日次は日別勤怠（社員・日ごと）を連携します。",
    )
    start: str = Field(
        title="開始年月",
        description="この年月の勤怠から連携します。3年より前は、KING OF TIME から取得できません。",
        pattern=r"^20\d{2}[-/](0[1-9]|1[0-2])$",
        examples=["2026-04"],
    )
    reread: int = Field(
        default=2,
        title="読み直す月数",
        description=(
            "締めたあとの修正に備えて、毎回読み直す月数（当月を含む）です。"
            "まだ締めていない月は、これより前でも、締めるまで毎回確かめます。"
        ),
        ge=1,
        le=36,
    )
    month_of: Literal["KING OF TIME の年月", "締め期間の終了日の年月", "締め期間の開始日の年月"] = (
        Field(
            default="KING OF TIME の年月",
            title="年月の決め方",
            description="勤怠をどの年月として登録するかです。",
        )
    )
    month_shift: int = Field(
        default=0,
        title="年月をずらす月数",
        description="翌月の給与で支払うときは 1 にします。",
        ge=-2,
        le=2,
    )
    work_days: str = _item(
        "出勤日数", "出勤日数", "KING OF TIME の項目です。足すときは + でつなぎます。"
    )
    absence_days: str = _item("欠勤日数", "欠勤日数")
    paid_leave_days: str = _item(
        "休暇:1", "有休日数", "休暇は「休暇:」と KING OF TIME の休暇区分コードで書きます。"
    )
    special_leave_days: str = _item("", "特休日数")
    holiday_work_days: str = _item("法定休日出勤日数+法定外休日出勤日数", "休日出勤日数")
    late_early_count: str = _item("遅刻回数+早退回数", "遅刻早退回数")
    late_early_time: str = _item("遅刻時間+早退時間", "遅刻早退時間")
    work_time: str = _item(f"所定時間+所定外時間+残業時間+{_NIGHT}", "出勤時間")
    scheduled_time: str = _item("所定時間+深夜所定時間", "所定労働時間")
    overtime_time: str = _item(
        "所定外時間+残業時間+深夜所定外時間+深夜残業時間",
        "所定外労働時間",
        "カスタム項目は「カスタム:」とコードで書きます。",
    )
    late_night_time: str = _item(_NIGHT, "深夜労働時間")
    holiday_time: str = _item("法定外休日労働時間", "休日労働時間")
    legal_holiday_time: str = _item("法定休日労働時間", "法定休日労働時間")

    @property
    def daily(self) -> bool:
        """Days instead of months."""
        return self.target == "日次"

    @property
    def resource(self) -> str:
        """What is written at 奉行クラウド."""
        return "attendance_day" if self.daily else "attendance"

    @property
    def items(self) -> Mapping[str, WorkItem]:
        """The items that expressions are made of."""
        return DAILY if self.daily else MONTHLY

    def mapping(self) -> dict[str, str]:
        """勤怠 field -> expression, of what is moved."""
        fields = resource(self.resource).by_field
        chosen = {name: str(getattr(self, name)).strip() for name in _ITEMS if name in fields}
        return {name: expression for name, expression in chosen.items() if expression}

    @model_validator(mode="after")
    def _can_be_added(self) -> Self:
        for name, expression in self.mapping().items():
            time = resource(self.resource).by_field[name].type == "time"
            unit = unit_of(expression, self.items)
            if unit != "any" and (unit == "minutes") is not time:
                raise ValueError(f"「{expression}」は、時間と日数・回数を取り違えています")
        return self


_ITEMS = tuple(
    name for name, field in AttendanceSettings.model_fields.items() if "←" in (field.title or "")
)


class AttendanceFromKingOfTimeConnection(Connection):
    """A connection of this connector.

    Example:
        ```python
        from flows.attendance_from_kingoftime import AttendanceFromKingOfTimeConnection

        connection = await AttendanceFromKingOfTimeConnection.aload("sample")
        ```
    """

    _block_type_name = "接続: 勤怠 KING OF TIME→奉行"
    _block_type_slug = "attendance-from-kingoftime"
    _description = "KING OF TIME の勤怠を、奉行クラウドの勤怠に連携する接続です。"
    _manual = "kingoftime"

    kingoftime: KingOfTimeCredentials = credentials_field("KING OF TIME（勤怠）", "KING OF TIME の")
    settings: AttendanceSettings = Field(
        title="設定", description="連携する勤怠と、項目の対応です。"
    )


class AttendanceTransform:
    """One 月別勤怠 or 日別勤怠 -> one row of 勤怠. Pure; made once a run."""

    def __init__(self, settings: AttendanceSettings, book: CodeBook) -> None:
        self._settings, self._book = settings, book
        self._registry = resource(settings.resource)
        keys = [item.field for item in self._registry.keys]
        mapping = settings.mapping()
        self.fields = (*keys, *mapping)
        self._period = keys[1]
        self._plan = [
            (name, terms(expression), self._registry.by_field[name].type == "time")
            for name, expression in mapping.items()
        ]
        self._validate = row_validator(settings.resource, self.fields)

    def __call__(self, source_key: str, record: Mapping[str, Any]) -> Row | Reject:
        """The row, or the reject that says what is wrong."""
        try:
            working = self._working(record)
        except ValidationError as error:
            wrong = ".".join(map(str, error.errors()[0]["loc"]))
            return _unreadable(source_key, wrong, f"勤怠 {source_key}")
        employee = working.employee
        if employee is None or not employee.code:
            reason = f"従業員キー {working.employee_key[:12]}… の従業員がいません。"
            return Reject(source_key, "AC-843", "従業員コード", f"勤怠 {source_key}", reason)
        period = self._period_of(working)
        label = f"{employee.code} {employee.name} {period}"
        if not working.is_closing:
            return Reject(
                source_key, "AC-841", "締め", label, f"{period} の締めが解除されています。"
            )
        if isinstance(working, DailyWorking) and working.is_error:
            return Reject(source_key, "AC-842", "エラー勤務", label, f"{period} はエラー勤務です。")
        codes = self._book.reader()
        who = self._settings.employee(CODES, self._book, codes, employee.code, employee.name)
        values = {self.fields[0]: who, self._period: period}
        try:
            for name, names, is_time in self._plan:
                amount = value_of(record, names, self._settings.items)
                values[name] = self._settings.text(amount, time=is_time)
        except ValueError as wrong:
            return _unreadable(source_key, str(wrong), label)
        if (reject := codes.reject(source_key, label)) is not None:
            return reject
        if violations := self._validate(values):
            return violating(source_key, label, violations)
        return Row(source_key, self._registry.key_of(values), values)

    def _working(self, record: Mapping[str, Any]) -> MonthlyWorking | DailyWorking:
        kind = DailyWorking if self._settings.daily else MonthlyWorking
        return kind.model_validate(record)

    def _period_of(self, working: MonthlyWorking | DailyWorking) -> str:
        if isinstance(working, DailyWorking):
            return f"{working.day:%Y/%m/%d}"
        month = {
            "KING OF TIME の年月": date(working.year, working.month, 1),
            "締め期間の終了日の年月": working.end_date.replace(day=1),
            "締め期間の開始日の年月": working.start_date.replace(day=1),
        }[self._settings.month_of]
        return f"{months_later(month, self._settings.month_shift):%Y/%m}"


def _unreadable(source_key: str, item: str, label: str) -> Reject:
    reason = f"KING OF TIME の項目「{item}」を読み取れません。"
    return Reject(source_key, "AC-807", item, label, reason)


@contextlib.asynccontextmanager
async def _source(
    connection: AttendanceFromKingOfTimeConnection, tools: Tools
) -> AsyncIterator[KingOfTimeSource]:
    settings = connection.settings
    start = date.fromisoformat(f"{settings.start.replace('/', '-')}-01")
    async with open_kingoftime(connection.kingoftime, tools) as client:
        today = business_date(now())
        yield KingOfTimeSource(client, settings.daily, start, settings.reread, today)


PIPELINE = Pipeline(
    entity="attendance",
    key_label="社員番号/年月",
    connection_type=AttendanceFromKingOfTimeConnection,
    open_source=_source,
    open_sink=lambda connection, tools: open_people_sink(
        connection, tools, connection.settings.resource
    ),
    transformer=lambda connection, book: AttendanceTransform(connection.settings, book),
    operations=(*master_operations("attendance"), *code_operations((CODES.kind,))),
    codes=(CODES,),
)


@flow(name=PIPELINE.connector, flow_run_name=run_name(PIPELINE), persist_result=False)
async def attendance_from_kingoftime(
    connection: str,
    mode: ModeName = "差分",
    record_key: str | None = None,
    period_from: date | None = None,
    period_to: date | None = None,
    dry_run: bool = False,
    record_keys: list[str] = [],  # noqa: B006 (Prefect reads the default for the run form)
) -> State[None]:
    """KING OF TIME の締めた勤怠を、奉行クラウドの勤怠に連携します。

    Args:
        connection: 接続（接続情報・設定）の名前です。
        mode: 差分はまだ締めていなかった勤怠と最近の月とエラー明細、全件は開始年月からのすべて、
            期間はその期間の月（日次は日）の勤怠、1件は1人だけ、
            エラー明細のみはエラー明細にあるデータだけを処理します。
        record_key: 「1件」のときの従業員コードです。「0001/2026-10」のように年月も指定できます。
        period_from: 「期間」の開始日です。この日の月（日次はこの日）から読みます（日本時間）。
        period_to: 「期間」の終了日です。この日の月（日次はこの日）まで読みます。
        dry_run: オンにすると、送る内容を表示するだけで、奉行クラウドには何も送りません。
        record_keys: 「エラー明細のみ」のときに送るレコードの番号です。空ならすべてを送ります。
    """
    return await run_connector(
        PIPELINE, connection, mode, record_key, period_from, period_to, dry_run, record_keys
    )
