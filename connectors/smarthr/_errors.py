"""SmartHR's errors in the words of our taxonomy.

Bodies are ``{code, type, message, errors}``; the types are the table "エラー" of the vendor's page
``developer.smarthr.jp/api/about_api``, but ``ip_not_permitted`` [3rd].
"""

from __future__ import annotations

from typing import Any

from connectors.kit import Failure
from connectors.kit.error_table import ARRAY, NOTHING, PLACE, WORDS, ErrorTable, Rule, Said, text


def _said(body: dict[str, Any]) -> Said:
    """The type, which rules go by, and the vendor's words with those of the single attributes."""
    kind = text(body.get("type"))
    single = [each for each in body.get("errors") or [] if isinstance(each, dict)]
    words = [f"{each.get('field', '')}: {each.get('message', '')}" for each in single]
    all_words = " / ".join(filter(None, [text(body.get("message")), *words]))
    return Said(kind, all_words, shown=f"{text(body.get('code'))} {kind}".strip())


ERRORS = ErrorTable(
    good=(ARRAY,),
    read=_said,
    rules=(
        Rule("AC-502", Failure.UNAVAILABLE, said=("service_maintenance",)),
        Rule("AC-503", Failure.THROTTLED, said=("too_many_requests",)),
        Rule(
            "AC-203",
            said=("ip_not_permitted",),
            subject="接続元のIPアドレスが許可されていません",
        ),
        Rule("AC-203", status=(403,), subject="従業員情報"),
        # No page of the API: nobody has this sub-domain.
        Rule("AC-201", said=NOTHING, status=(404,), subject=PLACE),
        Rule("AC-205", status=(400, 422), subject=WORDS),
    ),
)
