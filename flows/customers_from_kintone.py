"""kintone → 得意先: the connector's settings and its flow."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import date
from typing import Any, Literal

from prefect import State, flow
from pydantic import Field

from blocks import Connection, FormModel, KintoneCredentials
from flows.engine import ModeName, Pipeline, Tools, run_connector, run_name
from flows.parts.customers import CustomerTransform
from flows.parts.fields import (
    credentials_field,
    digits_field,
    overlap_field,
    unencodable_field,
)
from flows.parts.kintone import (
    KintoneSource,
    app_field,
    condition_field,
    kintone_source,
    needed_field,
    open_kintone,
    text_of,
)
from flows.parts.masters import open_masters

_ITEMS = (
    *("code", "name", "short_name", "kana", "postal_code", "address1", "address2", "phone"),
    *("billing_code", "memo1", "memo2", "memo3"),
)


def _item(default: str, title: str, words: str = "") -> Any:
    """A field of the settings: which field of the app an item comes from."""
    return Field(
        default=default, title=f"{title} ←", description=f"{words}空欄にすると連携しません。"
    )


def _unproven_item(title: str) -> Any:
    """An item whose 項目記号 nobody has seen; it is not moved unless somebody asks for it."""
    return Field(
        default="",
        title=f"{title} ←",
        description="空欄にすると連携しません。項目記号が仮のため、確認してから使ってください。",
    )


class CustomerSettings(FormModel):
    """設定: which app, which records, which field goes to which item."""

    app: str = app_field("顧客アプリ", "1")
    condition: str = condition_field('取引状態 in ("取引中")')
    code: str = needed_field("得意先コード")
    name: str = needed_field("得意先名")
    short_name: str = _item("略称", "得意先略称")
    billing_code: str = _item(
        "請求先コード", "請求先コード", "値が空のレコードは、得意先自身を請求先にします。"
    )
    memo1: str = _item("備考", "メモ1")
    memo2: str = _item("", "メモ2")
    memo3: str = _item("", "メモ3")
    kana: str = _unproven_item("フリガナ")
    postal_code: str = _unproven_item("郵便番号")
    address1: str = _unproven_item("住所1")
    address2: str = _unproven_item("住所2")
    phone: str = _unproven_item("電話番号")
    code_width: int | None = digits_field(
        "コードの桁数",
        "数字だけのコードを、この桁数まで左に0を付けてそろえます。空欄ならそのままです。",
        13,
    )
    unencodable: Literal["エラーにする", "置き換える"] = unencodable_field()
    overlap_minutes: int = overlap_field(1)

    def mapping(self) -> dict[str, str]:
        """得意先 field -> kintone field code, of what is moved; the key comes first."""
        chosen = {item: str(getattr(self, item)).strip() for item in _ITEMS}
        return {item: code for item, code in chosen.items() if code}


class CustomersFromKintoneConnection(Connection):
    """A connection of this connector.

    Example:
        ```python
        from flows.customers_from_kintone import CustomersFromKintoneConnection

        connection = await CustomersFromKintoneConnection.aload("sample")
        ```
    """

    _block_type_name = "接続: 得意先 kintone→商奉行"
    _block_type_slug = "customers-from-kintone"
    _description = "kintone の顧客アプリを、商奉行クラウドの得意先に連携する接続です。"
    _manual = "kintone"

    kintone: KintoneCredentials = credentials_field("kintone", "kintone の")
    settings: CustomerSettings = Field(
        title="設定", description="連携するアプリと、項目の対応です。"
    )


def transform(settings: CustomerSettings) -> CustomerTransform:
    """What makes a 得意先 of a kintone record, as the settings say."""
    plan = [*settings.mapping().items()]

    def texts(record: Mapping[str, Any]) -> dict[str, str]:
        # Nearly every value is text already: no call for those.
        return {
            name: value if type(value := record[code]["value"]) is str else text_of(record, code)
            for name, code in plan
        }

    replace = settings.unencodable == "置き換える"
    fields = [name for name, _ in plan]
    return CustomerTransform(fields, texts, width=settings.code_width, replace=replace)


@contextlib.asynccontextmanager
async def _source(
    connection: CustomersFromKintoneConnection, tools: Tools
) -> AsyncIterator[KintoneSource]:
    settings = connection.settings
    async with open_kintone(connection.kintone, tools) as client:
        mapping = settings.mapping()
        fields = [*dict.fromkeys(mapping.values())]
        yield await kintone_source(
            client, settings.app, settings.condition, fields, mapping["code"]
        )


PIPELINE = Pipeline(
    entity="customer",
    key_label="得意先コード",
    connection_type=CustomersFromKintoneConnection,
    open_source=_source,
    open_sink=lambda connection, tools: open_masters(connection.bugyo, tools, "customer"),
    transformer=lambda connection, _: transform(connection.settings),
    references={"billing_code": "請求先コード"},
)


@flow(name=PIPELINE.connector, flow_run_name=run_name(PIPELINE), persist_result=False)
async def customers_from_kintone(
    connection: str,
    mode: ModeName = "差分",
    record_key: str | None = None,
    period_from: date | None = None,
    period_to: date | None = None,
    dry_run: bool = False,
    record_keys: list[str] = [],  # noqa: B006 (Prefect reads the default for the run form)
) -> State[None]:
    """kintone の顧客アプリを、商奉行クラウドの得意先に連携します。

    Args:
        connection: 接続（接続情報・設定）の名前です。
        mode: 差分は前回から変わったデータとエラー明細、全件はすべて、
            期間はその期間に更新されたデータ、1件は1件だけ、
            エラー明細のみはエラー明細にあるデータだけを処理します。
        record_key: 「1件」のときの得意先コードです。
        period_from: 「期間」の開始日です。更新日時がこの日以降のデータを処理します（日本時間）。
        period_to: 「期間」の終了日です。更新日時がこの日までのデータを処理します。
        dry_run: オンにすると、送る内容を表示するだけで、奉行クラウドには何も送りません。
        record_keys: 「エラー明細のみ」のときに送るレコードの番号です。空ならすべてを送ります。
    """
    return await run_connector(
        PIPELINE, connection, mode, record_key, period_from, period_to, dry_run, record_keys
    )
