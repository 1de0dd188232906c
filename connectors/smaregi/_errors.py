"""スマレジ's errors in the words of our taxonomy: problem-like bodies."""

from __future__ import annotations

from connectors.kit.error_table import PLACE, ErrorTable, Rule, Said, text

ERRORS = ErrorTable(
    read=lambda body: Said(
        text(body.get("error") or body.get("type")), text(body.get("detail") or body.get("title"))
    ),
    rules=(
        Rule("AC-203", status=(403,), subject=PLACE),
        Rule("AC-201", status=(404,), subject=PLACE),
    ),
)
