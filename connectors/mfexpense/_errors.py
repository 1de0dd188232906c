"""The service's errors in the words of our taxonomy: ``{"messages": […]}`` and a status."""

from __future__ import annotations

from typing import Any

from connectors.kit.error_table import OBJECT, WORDS, ErrorTable, Rule, Said, text


def _said(body: dict[str, Any]) -> Said:
    """Messages have no code; what is wrong with a token comes as of OAuth."""
    listed = body.get("messages")
    words = " ".join(map(str, listed)) if isinstance(listed, list) else ""
    return Said(text(body.get("error")), words or text(body.get("error_description")))


ERRORS = ErrorTable(
    good=(OBJECT,),
    read=_said,
    rules=(
        Rule("AC-101", status=(401,)),
        Rule("AC-203", status=(403,), subject=WORDS),
        Rule("AC-205", status=(400, 404, 422), subject=WORDS),
    ),
)
