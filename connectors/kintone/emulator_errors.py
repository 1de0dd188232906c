"""kintone's error answers: status, code, text in two languages, and where the input is wrong.

Texts without a mark are the vendor's as public clients and tests quote them; where nobody quotes
one, ours says the same thing. Programs go by ``code``, people read the text.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from starlette.responses import HTMLResponse, Response

JSON = "application/json;charset=UTF-8"


class Text(NamedTuple):
    """One message in both languages."""

    ja: str
    en: str

    def say(self, language: str, **values: Any) -> str:
        """The message in ``language`` with its places filled."""
        return (self.en if language == "en" else self.ja).format(**values)


REQUIRED = Text("必須です。", "Required field.")
BAD_QUERY = Text("クエリ記法が間違っています。", "Query syntax is incorrect.")
NOT_NUMBER = Text("数字でなければなりません。", "Only numbers are allowed.")
DUPLICATE = Text(
    "値がほかのレコードと重複しています。", "This value already exists in another record."
)
TOO_MANY = Text("{n}件までです。", "The number of items must be {n} or less.")
TOO_LONG = Text("{n}文字以内で入力してください。", "Enter {n} characters or less.")
NO_OPTION = Text('"{value}"は選択肢にありません。', 'The value, "{value}", is not in options.')
BAD_DATE = Text("日付または時刻の形式が正しくありません。", "Invalid date or time.")
OUT_OF_RANGE = Text(
    "{low}から{high}の数値を指定してください。", "Must be between {low} and {high}."
)
NOT_UNIQUE_FIELD = Text(
    "値の重複を禁止していないフィールドです。", "Values of the field are not prohibited to repeat."
)

_MESSAGES: dict[str, tuple[int, Text]] = {
    "CB_AU01": (401, Text("ログインしてください。", "Please login.")),
    "CB_WA01": (
        401,
        Text(
            "ユーザーのパスワード認証に失敗しました。「X-Cybozu-Authorization」の値が正しくありません。",
            "Password authentication failed. The value of X-Cybozu-Authorization is incorrect.",
        ),
    ),
    "CB_OA01": (401, Text("OAuthの認証に失敗しました。", "Cannot access protected resource.")),
    "CB_NO02": (403, Text("権限がありません。", "No privilege to proceed.")),
    "CB_IJ01": (400, Text("不正なJSON文字列です。", "Invalid JSON string.")),
    "CB_IL02": (400, Text("不正なリクエストです。", "Illegal request.")),
    "CB_VA01": (400, Text("入力内容が正しくありません。", "Missing or invalid input.")),
    "GAIA_AP01": (
        404,
        Text(
            "指定したアプリ（id: {app}）が見つかりません。削除されている可能性があります。",
            "The app (ID: {app}) not found. The app may have been deleted.",
        ),
    ),
    "GAIA_CN01": (
        404,
        Text(
            "指定したカーソルは存在しないか、既に有効期限が切れています。",
            "The specified cursor does not exist or has expired.",
        ),
    ),
    "GAIA_CO02": (
        409,
        Text(
            "指定したrevisionは最新ではありません。ほかのユーザーがレコードを更新した可能性があります。",
            "The revision is not the latest. Someone may update a record.",
        ),
    ),
    "GAIA_DA03": (
        400,
        Text(
            "同じアプリのAPIトークンを複数指定することはできません。",
            "You cannot specify a duplicate API token for the same app.",
        ),
    ),
    "GAIA_IA02": (
        400,
        Text(
            "指定したAPIトークンは、アプリで生成されたトークンと異なります。"
            "アプリのAPIトークンの設定を確認してください。",
            "The specified API token does not match the API token generated via an app.",
        ),
    ),
    "GAIA_IL08": (
        400,
        Text("関数{name}の引数の値が正しくありません。", "An argument of {name} is out of range."),
    ),
    "GAIA_IQ03": (
        400,
        Text(
            "{field}フィールドのフィールドタイプには演算子{op}を使用できません。",
            "Operator {op} is not allowed for the field type of {field}.",
        ),
    ),
    "GAIA_IQ07": (
        400,
        Text(
            "テーブルに設定している場合、{field}フィールドのフィールドタイプには、"
            "演算子{op}を使用できません。",
            "Operator {op} is not allowed for {field} because it is in a table.",
        ),
    ),
    "GAIA_IQ10": (
        400,
        Text(
            "フィールド「{field}」の項目に「{value}」は存在しません。",
            'The field "{field}" has no option "{value}".',
        ),
    ),
    "GAIA_IQ11": (
        400,
        Text(
            "指定されたフィールド（{field}）が見つかりません。",
            "Specified field ({field}) not found.",
        ),
    ),
    "GAIA_IQ23": (
        400,
        Text("関数{name}の引数が正しくありません。", "An argument of {name} is invalid."),
    ),
    "GAIA_IQ25": (
        400,
        Text("関数{name}の引数の数が正しくありません。", "Wrong number of arguments of {name}."),
    ),
    "GAIA_LO04": (
        400,
        Text(
            "フィールド「{field}」の値「{value}」が、ルックアップの参照先のフィールドにないか、"
            "またはアプリやフィールドの閲覧権限がありません。",
            "A value {value} in the field {field} does not exist in the datasource app for lookup, "
            "or you do not have permission to view the app or the field.",
        ),
    ),
    "GAIA_NO01": (
        403,
        Text(
            "このAPIトークンでは、指定したAPIを実行できません。",
            "Using this API token, you cannot run the specified API.",
        ),
    ),
    "GAIA_QU01": (
        400,
        Text("limitには500以下の値を指定してください。", "limit must be 500 or less."),
    ),
    "GAIA_QU02": (
        400,
        Text("offsetには10,000以下の値を指定してください。", "offset must be 10,000 or less."),
    ),
    "GAIA_RE01": (
        404,
        Text(
            "指定したレコード（id: {id}）が見つかりません。",
            "The specified record (ID: {id}) is not found.",
        ),
    ),
    "GAIA_TM12": (
        429,
        Text(
            "作成できるカーソルの上限に達しているため、カーソルを作成できません。"
            "不要なカーソルを削除するか、しばらく経ってから再実行してください。",
            "The number of cursors has reached the limit. Delete cursors or try again later.",
        ),
    ),
    "GAIA_TO04": (
        429,
        Text(
            "APIの同時接続数の上限に達しているため、APIを実行できません。"
            "時間をおいて再度お試しください。",
            "The number of concurrent API requests has reached the limit. Try again later.",
        ),
    ),
}


class KintoneError(Exception):
    """An answer that is an error.

    Args:
        code: One of kintone's codes.
        errors: For ``CB_VA01``: what is wrong at which place of the input.
        status: Replaces the code's usual status.
        values: Fill the places of the code's message.
    """

    def __init__(
        self,
        code: str,
        *,
        errors: Mapping[str, str | Text] | None = None,
        status: int | None = None,
        **values: Any,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status = status or _MESSAGES[code][0]
        self._errors = errors
        self._values = values

    def body(self, language: str) -> dict[str, Any]:
        """The JSON that goes out, with an id of its own."""
        said: dict[str, Any] = {
            "code": self.code,
            "id": secrets.token_hex(10),
            "message": _MESSAGES[self.code][1].say(language, **self._values),
        }
        if self._errors:
            said["errors"] = {
                place: {"messages": [t.say(language) if isinstance(t, Text) else t]}
                for place, t in self._errors.items()
            }
        return said

    def response(self, language: str) -> Response:
        """The whole answer."""
        return Response(
            orjson.dumps(self.body(language)),
            self.status,
            {"x-cybozu-error": self.code},
            media_type=JSON,
        )


def bad_query() -> KintoneError:
    """What any query that cannot be parsed gets."""
    return KintoneError("CB_VA01", errors={"query": BAD_QUERY})


def missing(place: str) -> KintoneError:
    """A required parameter that is not there."""
    return KintoneError("CB_VA01", errors={place: REQUIRED})


def no_such_host() -> Response:
    """The page behind every subdomain that nobody owns."""
    return HTMLResponse(
        "<!DOCTYPE html><html><head><title>404 Not Found</title></head>"
        "<body><h1>404 Not Found</h1></body></html>",
        404,
    )
