"""SmartHR → 社員: the connector's settings, its pure transform, its flow.

As little personal data as possible: what is not moved is not even asked for, labels and reasons
name a crew by 社員番号 only, and nothing is logged about a single one.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import date
from typing import Any, Literal

from prefect import State, flow
from pydantic import Field

from blocks import Connection, SmartHRCredentials
from connectors.bugyo import master_operations, resource, row_validator
from connectors.kit import Timer
from connectors.kit.text import katakana, normalise_code
from flows.engine import ModeName, Pipeline, Reject, Row, Tools, run_connector, run_name
from flows.engine.codes import EMPTY_BOOK, CodeBook, CodeKind, CodeReader, CodeUse
from flows.parts.fields import (
    credentials_field,
    digits_field,
    overlap_field,
    unencodable_field,
)
from flows.parts.reception_file import DeliverySettings, open_people_sink
from flows.parts.smarthr import SmartHRSource, open_smarthr
from flows.parts.values import BadValueError, violating, writable

DEPARTMENT = "部署"
"""What a department's code is called in コード変換表."""

_STATUS = {"employed": "在籍", "absent": "休職", "retired": "退職"}
_GENDER = {"male": "男性", "female": "女性"}
_NAMES = ("last_name", "first_name")
_KANA = {"last_name_kana": "last_name_yomi", "first_name_kana": "first_name_yomi"}
_DAYS = {"hire_date": "entered_at", "leave_date": "resigned_at", "birth_date": "birth_at"}
_ADDRESS = {
    "postal_code": "zip_code",
    "prefecture": "pref",
    "city": "city",
    "street": "street",
    "building": "building",
}
_PERSONAL = ("gender", "birth_date", *_ADDRESS, "phone", "email")


def _personal(what: str) -> Any:
    """A field of the settings: personal data that is moved only when somebody wants it."""
    return Field(
        default=False,
        title=f"{what}を連携する",
        description="オフなら SmartHR から取得もしません。",
    )


class EmployeeSettings(DeliverySettings):
    """設定: which crews, which of their data, and how numbers are written."""

    code_width: int | None = digits_field(
        "社員番号の桁数",
        "数字だけの社員番号を、この桁数まで左に0を付けてそろえます。空欄ならそのままです。",
        10,
    )
    business_name: bool = Field(
        default=False,
        title="ビジネスネームを優先する",
        description="オンにすると、ビジネスネームがある人はその姓名・フリガナを連携します。",
    )
    department: Literal["連携しない", "1つ目の部署", "最後の部署"] = Field(
        default="連携しない",
        title="部門",
        description="どの部署を主務として連携するかです。部署コードは「コード変換表」で変換します。",
    )
    employment_type: Literal["連携しない", "名前", "コード"] = Field(
        default="連携しない",
        title="雇用区分",
        description="SmartHR の雇用形態の、名前とコードのどちらを連携するかです。",
    )
    gender: bool = _personal("性別")
    birth_date: bool = _personal("生年月日")
    address: bool = Field(
        default=False,
        title="住所を連携する",
        description="郵便番号・都道府県・市区町村・番地・建物です。オフなら取得もしません。",
    )
    phone: bool = _personal("電話番号")
    email: bool = _personal("メールアドレス")
    retired_since: date | None = Field(
        default=None,
        title="この日より前の退職者を除く",
        description="退職年月日がこの日より前の人は連携しません。空欄ならすべて連携します。",
    )
    unencodable: Literal["エラーにする", "置き換える"] = unencodable_field()
    overlap_minutes: int = overlap_field(5)

    def items(self) -> tuple[str, ...]:
        """The items of 社員 that are moved."""
        chosen = ["code", *_NAMES, *_KANA, "hire_date", "leave_date", "status"]
        chosen += [name for name in ("gender", "birth_date") if getattr(self, name)]
        chosen += [
            name
            for name in ("department", "employment_type")
            if getattr(self, name) != "連携しない"
        ]
        chosen += _ADDRESS if self.address else ()
        chosen += [name for name in ("phone", "email") if getattr(self, name)]
        return tuple(chosen)

    def attributes(self) -> tuple[str, ...]:
        """The attributes of a crew that this needs, and no other."""
        names = [*_NAMES, *_KANA.values()]
        needed = ["emp_code", "emp_status", "entered_at", "resigned_at", *names]
        needed += [f"business_{name}" for name in names] if self.business_name else []
        asked = {
            "gender": ("gender", self.gender),
            "birth_at": ("birth_date", self.birth_date),
            "address": ("address", self.address),
            "tel_number": ("phone", self.phone),
            "email": ("email", self.email),
            "departments": ("department", self.department != "連携しない"),
            "employment_type": ("employment_type", self.employment_type != "連携しない"),
        }
        return (*needed, *[attribute for attribute, (_, wanted) in asked.items() if wanted])


class EmployeesFromSmartHRConnection(Connection):
    """A connection of this connector.

    Example:
        ```python
        from flows.employees_from_smarthr import EmployeesFromSmartHRConnection

        connection = await EmployeesFromSmartHRConnection.aload("sample-smarthr")
        ```
    """

    _block_type_name = "接続: 社員 SmartHR→奉行クラウド"
    _block_type_slug = "employees-from-smarthr"
    _description = "SmartHR の従業員を、奉行クラウドの社員に連携する接続です。"
    _manual = "smarthr"

    smarthr: SmartHRCredentials = credentials_field("SmartHR の接続情報", "SmartHR の")
    settings: EmployeeSettings = Field(
        title="設定", description="連携する項目と、社員番号の書き方です。"
    )


class EmployeeTransform:
    """One crew -> one 社員. Pure; made once a run."""

    def __init__(self, settings: EmployeeSettings, book: CodeBook = EMPTY_BOOK) -> None:
        self.fields = settings.items()
        self._settings = settings
        self._book = book
        self._replace = settings.unencodable == "置き換える"
        self._validate = row_validator("employee", self.fields)
        registry = resource("employee")
        self._labels = {item.field: item.label for item in registry.items}
        self._words = registry.words

    def __call__(self, source_key: str, record: Mapping[str, Any]) -> Row | Reject:
        """The row, or the reject that says what is wrong."""
        code = normalise_code(record["emp_code"] or "", width=self._settings.code_width)
        label = f"社員番号 {code}" if code else f"社員番号のない従業員（ID {source_key}）"
        if not code:
            return Reject(
                source_key,
                "AC-801",
                item="社員番号",
                label=label,
                reason="SmartHR の社員番号が空です。",
                remedy=(
                    "SmartHR でこの従業員に社員番号を付ける"
                    " → 次回の処理（または手動実行）が自動で送り直します"
                ),
            )
        codes = self._book.reader()
        try:
            values = self._values(record, codes) | {"code": code}
        except BadValueError as bad:
            return bad.reject(source_key, label)
        if (reject := codes.reject(source_key, label)) is not None:
            return reject
        row = {name: values[name] for name in self.fields}
        if violations := self._validate(row):
            return violating(source_key, label, violations)
        return Row(source_key, code, row)

    def _values(self, record: Mapping[str, Any], codes: CodeReader) -> dict[str, str]:
        """Every item but the number, whether it is moved or not.

        Raises:
            BadValueError: a text that 奉行クラウド cannot hold, or a word nobody knows.
        """
        get = record.get
        names = self._names(record)
        texts = {name: names[name] for name in _NAMES}
        texts |= {item: katakana(names[yomi]) for item, yomi in _KANA.items()}
        address = get("address") or {}
        texts |= {item: address.get(part) or "" for item, part in _ADDRESS.items()}
        texts |= {"employment_type": self._employment_type(get("employment_type"))}
        values = {
            item: writable(self._labels[item], text, replace=self._replace)
            for item, text in texts.items()
        }
        values |= {item: (get(day) or "").replace("-", "/") for item, day in _DAYS.items()}
        for item in ("postal_code", "phone", "email"):
            source = {"phone": "tel_number"}.get(item, item)
            text = values.get(item) or get(source) or ""
            values[item] = normalise_code(text, width=None)
        values["status"] = self._word("status", _STATUS, record["emp_status"])
        values["gender"] = self._word("gender", _GENDER, get("gender"))
        values["department"] = self._department(get("departments"), codes)
        return values

    def _names(self, record: Mapping[str, Any]) -> dict[str, str]:
        """姓名 and their reading; a business name counts only as a whole."""
        wanted = [*_NAMES, *_KANA.values()]
        if self._settings.business_name:
            business = {name: record[f"business_{name}"] or "" for name in wanted}
            if business["last_name"] and business["first_name"]:
                return business
        return {name: record[name] or "" for name in wanted}

    def _word(self, item: str, ours: Mapping[str, str], word: str | None) -> str:
        if not word:
            return ""
        if word not in ours:
            raise BadValueError(self._labels[item], f"SmartHR の値「{word}」は扱えません")
        return self._words[item][ours[word]]

    def _employment_type(self, kind: Mapping[str, Any] | None) -> str:
        if kind is None:
            return ""
        return (kind["code"] if self._settings.employment_type == "コード" else kind["name"]) or ""

    def _department(self, departments: list[Mapping[str, Any]] | None, codes: CodeReader) -> str:
        filled = [each for each in departments or [] if each]  # 部署1 can be empty and 部署2 not
        if not filled:
            return ""
        chosen = filled[-1 if self._settings.department == "最後の部署" else 0]
        name = chosen.get("full_name") or chosen["name"]
        # A department without a code has its name in コード変換表.
        return codes(CodeKind.DEPARTMENT, DEPARTMENT, chosen["code"] or name, name)


@contextlib.asynccontextmanager
async def _source(
    connection: EmployeesFromSmartHRConnection,
    tools: Tools,
    timer: Timer = Timer(),  # noqa: B008 (frozen)
) -> AsyncIterator[SmartHRSource]:
    settings = connection.settings
    async with open_smarthr(connection.smarthr, tools, timer) as client:
        yield SmartHRSource(
            client, settings.attributes(), settings.code_width, settings.retired_since
        )


PIPELINE = Pipeline(
    entity="employee",
    key_label="社員番号",
    connection_type=EmployeesFromSmartHRConnection,
    open_source=_source,
    open_sink=lambda connection, tools: open_people_sink(connection, tools, "employee"),
    transformer=lambda connection, book: EmployeeTransform(connection.settings, book),
    hidden=frozenset(_PERSONAL),
    operations=master_operations("employee"),
    codes=(CodeUse(CodeKind.DEPARTMENT, DEPARTMENT),),
)


@flow(name=PIPELINE.connector, flow_run_name=run_name(PIPELINE), persist_result=False)
async def employees_from_smarthr(
    connection: str,
    mode: ModeName = "差分",
    record_key: str | None = None,
    period_from: date | None = None,
    period_to: date | None = None,
    dry_run: bool = False,
    record_keys: list[str] = [],  # noqa: B006 (Prefect reads the default for the run form)
) -> State[None]:
    """SmartHR の従業員を、奉行クラウドの社員に連携します。

    Args:
        connection: 接続（接続情報・設定）の名前です。
        mode: 差分は前回から変わった従業員とエラー明細、全件はすべて、
            期間はその期間に更新された従業員、1件は1人だけ、
            エラー明細のみはエラー明細にある従業員だけを処理します。
        record_key: 「1件」のときの社員番号です。
        period_from: 「期間」の開始日です。更新日時がこの日以降の従業員を処理します（日本時間）。
        period_to: 「期間」の終了日です。更新日時がこの日までの従業員を処理します。
        dry_run: オンにすると、送る内容を表示するだけで、奉行クラウドには何も送りません。
        record_keys: 「エラー明細のみ」のときに送るレコードの番号です。空ならすべてを送ります。
    """
    return await run_connector(
        PIPELINE, connection, mode, record_key, period_from, period_to, dry_run, record_keys
    )
