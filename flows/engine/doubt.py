"""Whether a document that was looked up is the one that we sent."""

from __future__ import annotations

from flows.engine.model import Found


def verdict(found: Found | None, amount: int | None) -> str | None:
    """Why it cannot be taken for ours, in a person's words; ``None`` = it is there, once.

    Args:
        found: What 奉行クラウド holds under its key.
        amount: Yen that were sent; ``None`` = not known.
    """
    if found is None:
        return "見つかりません"
    if found.copies > 1:
        return f"同じ証憑番号の伝票が {found.copies} 枚あります"
    if amount is not None and found.amount != amount:
        return f"登録されている金額 {found.amount:,} 円が、送った金額 {amount:,} 円と違います"
    return None
