"""SmartHR's error answers, after the table of ``developer.smarthr.jp/api/about_api``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, Response

_TYPES: dict[str, tuple[int, int, str]] = {
    "bad_request": (1, 400, "不正なリクエストパラメータです"),
    "unauthorized_token": (2, 401, "無効なアクセストークンです"),
    "forbidden": (3, 403, "アクセスが禁止されています"),
    "not_found": (4, 404, "リソースが見つかりません"),
    "too_many_requests": (6, 429, "リクエスト数が制限を超えました"),
    "ip_not_permitted": (15, 403, "許可されていないIPアドレスです"),
}
"""Type -> code, status, message; the messages are ours where the vendor quotes none."""


class SmartHRError(Exception):
    """An answer that is an error.

    Args:
        kind: One of SmartHR's types.
        message: Replaces the type's usual message.
        status: Replaces its usual status: 422 for a body with wrong attributes.
        errors: What is wrong with single attributes.
    """

    def __init__(
        self,
        kind: str,
        message: str = "",
        *,
        status: int | None = None,
        errors: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(kind)
        self.kind, self.message, self.status, self.errors = kind, message, status, errors

    def response(self) -> Response:
        """The whole answer."""
        code, status, message = _TYPES[self.kind]
        body = {"code": code, "type": self.kind, "message": self.message or message}
        errors = list(self.errors) if self.errors else None
        return JSONResponse({**body, "errors": errors}, self.status or status)


def bad_request(message: str) -> SmartHRError:
    """A parameter that cannot be used."""
    return SmartHRError("bad_request", message)


def no_such_host() -> Response:
    """The page behind every sub-domain that nobody owns."""
    return HTMLResponse("<html><head><title>404</title></head><body>Not Found</body></html>", 404)
