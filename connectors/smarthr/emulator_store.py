"""The crews of an emulated SmartHR: every attribute of the contract, filters, order, wire shape.

Many attributes are here only so that a test can show that nobody reads them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from connectors.smarthr.emulator_errors import bad_request

Crew = dict[str, Any]

_NULLS = (
    *("user_id", "emp_code", "birth_at", "gender", "tel_number", "email", "entered_at"),
    *("resigned_at", "resigned_reason", "business_last_name", "business_first_name"),
    *("business_last_name_yomi", "business_first_name_yomi", "preferred_last_name"),
    *("preferred_first_name", "address", "resident_card_address", "emergency_tel_number"),
    *("grade", "job_category", "employment_type", "contract_type", "contract_end_on"),
    *("emp_ins_insured_person_number", "emp_ins_qualified_at", "soc_ins_insured_person_number"),
    *("hel_ins_insured_person_number", "basic_pension_number", "health_insurance_qualified_at"),
    *("monthly_standard_income_hel", "monthly_standard_income_pns", "tax_cd", "payment_period"),
    *("commutation_1_expenses", "commutation_1_period", "commutation_1_single_fare"),
)
_LISTS = ("departments", "positions", "bank_accounts", "custom_fields")
_DEPRECATED = ("department", "position", "emp_type")
_TEXTS = ("last_name", "first_name", "last_name_yomi", "first_name_yomi")
_ADDRESS = ("country_number", "zip_code", "pref", "city", "street", "building", "literal_yomi")
ATTRIBUTES = (
    *("id", "emp_status", "recruitment_type", "biz_establishment_id"),
    *(*_TEXTS, *_NULLS, *_LISTS, *_DEPRECATED, "created_at", "updated_at"),
)
"""Every attribute, in the order in which it is sent."""

_SORTABLE = frozenset(
    {"updated_at", "created_at", "emp_code", "emp_status", "entered_at", "resigned_at"}
)
_LISTED = {
    "id": "id",
    "user_id": "user_id",
    "emp_status": "emp_status",
    "employment_type_id": "employment_type",
    "department_id": "departments",
}
"""Filters that take several values with commas."""


def stamp(moment: datetime) -> str:
    """A date-time as SmartHR writes it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Crews:
    """The crews of one customer.

    Args:
        clock: Aware time, for ``created_at`` and ``updated_at``.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self.rows: dict[str, Crew] = {}

    def add(self, values: Mapping[str, Any], at: datetime | None = None) -> Crew:
        """Add a crew from the attributes that are set; all others are empty.

        Raises:
            KeyError: there is no such attribute.
        """
        now = stamp(at or self._clock())
        crew: Crew = dict.fromkeys(_NULLS) | {name: [] for name in _LISTS}
        crew |= dict.fromkeys(_TEXTS, "") | {"id": str(uuid.uuid4()), "emp_status": "employed"}
        crew |= {"recruitment_type": "new_graduate", "biz_establishment_id": str(uuid.UUID(int=1))}
        self._set(crew, {"created_at": now, "updated_at": now, **values})
        self.rows[crew["id"]] = crew
        return crew

    def change(self, crew_id: str, values: Mapping[str, Any], at: datetime | None = None) -> Crew:
        """Change attributes as PATCH does: what is not named stays.

        Raises:
            KeyError: there is no such crew, or no such attribute.
        """
        crew = self.rows[crew_id]
        return self._set(crew, {**values, "updated_at": stamp(at or self._clock())})

    def _set(self, crew: Crew, values: Mapping[str, Any]) -> Crew:
        if unknown := set(values) - set(ATTRIBUTES):
            raise KeyError(*sorted(unknown))
        crew.update(values)
        if crew["address"] is not None:
            crew["address"] = dict.fromkeys(_ADDRESS) | crew["address"]
        return crew

    def select(self, asked: Mapping[str, str]) -> list[Crew]:
        """The crews that meet the filters, in the order asked for.

        There is no filter on ``updated_at``: like any parameter that SmartHR does not know, it is
        passed over.

        Raises:
            SmartHRError: a filter or a sort key that cannot be used.
        """
        found: Iterable[Crew] = self.rows.values()
        for parameter, attribute in _LISTED.items():
            if asked.get(parameter):
                wanted = frozenset(asked[parameter].split(","))
                found = [c for c in found if wanted & _identities(c[attribute])]
        for name in ("emp_code", "gender"):
            if name in asked:
                found = [c for c in found if c[name] == asked[name]]
        for name in ("entered_at", "resigned_at"):
            low, high = asked.get(f"{name}_from", ""), asked.get(f"{name}_to", "9999")
            if low or high != "9999":
                found = [c for c in found if c[name] and low <= c[name] <= high]
        rows = list(found)
        for key in reversed((asked.get("sort") or "created_at").split(",")):
            name = key.removeprefix("-")
            if name not in _SORTABLE:
                raise bad_request(f"sort に {name} は指定できません")
            # As in PostgreSQL: nothing comes after everything, and before it when descending.
            rows.sort(key=lambda c: (c[name] is None, c[name] or ""), reverse=key != name)
        return rows


def wire(crew: Crew, fields: Collection[str], hidden: Collection[str]) -> Crew:
    """What goes out: the attributes asked for (none = all), without those that a role hides."""
    shown = dict(crew)
    departments, kind = crew["departments"], crew["employment_type"]
    # Older clients read these; they stay.
    shown["department"] = departments[0].get("full_name") if departments else None
    shown["position"] = crew["positions"][0]["name"] if crew["positions"] else None
    shown["emp_type"] = kind.get("preset_type") if kind else None
    wanted = fields or ATTRIBUTES
    return {name: shown[name] for name in ATTRIBUTES if name in wanted and name not in hidden}


def _identities(value: Any) -> frozenset[str]:
    if isinstance(value, list):
        return frozenset(each["id"] for each in value)
    if isinstance(value, dict):
        return frozenset({value["id"]})
    return frozenset({value} - {None})
