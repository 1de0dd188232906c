"""Which codes exist in 奉行クラウド, asked before anything is sent with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from connectors.bugyo import BugyoClient, resource
from connectors.kit import SettingsError

RESOURCES: Final[Mapping[str, str]] = {
    "勘定科目": "account_item",
    "補助科目": "sub_account_item",
    "部門": "department",
    "税区分": "tax_category",
    "取引先": "business_partner",
    "社員番号": "employee",
}
"""Kind of a code -> the resource that registers it."""

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {"employee": ("last_name", "first_name")}
_CANNOT_TELL: Final = (403, 404)


async def known_codes(client: BugyoClient, kind: str) -> dict[str, str] | None:
    """Every code of a kind, with its name.

    Args:
        client: Open client.
        kind: A key of `RESOURCES`.

    Returns:
        Code -> name; of 補助科目 the code is ``勘定科目コード/補助科目コード``. ``None`` when this
        奉行クラウド cannot tell: it has no such operation (404), or the contract does not include
        it (403).

    Raises:
        KeyError: there is no such kind.
        AppConnectError: it could not be asked.
    """
    registry = resource(RESOURCES[kind])
    names: Sequence[str] = _NAMES.get(registry.name, ("name",))
    keys = [item.field for item in registry.keys]
    try:
        rows = await client.export_rows(registry.name, fields=[*keys, *names])
    except SettingsError as error:
        if error.detail.status in _CANNOT_TELL:
            return None
        raise
    return {registry.key_of(row): " ".join(row[name] for name in names).strip() for row in rows}


def code_operations(kinds: Iterable[str]) -> tuple[str, ...]:
    """The operations that `known_codes` calls for these kinds, for ``bugyo check``."""
    return tuple(dict.fromkeys(resource(RESOURCES[kind]).export for kind in kinds))
