"""Licences (契約): which registration numbers were issued, and whether one may be used.

A registration number (登録番号) is checked together with the telephone number that it was issued
to. Whoever operates an installation issues its numbers (``app-connect licence issue``).

What a person who guesses can learn is little: an unknown number and a wrong telephone number have
the same answer (``AC-107``) and the same count of tries; only who knows both is told more (wrong
connector, expired, revoked). After `Rules.tries` wrong ones the number is locked for a time, right
or wrong (``AC-112``), except for a connection that was opened with it before: nobody can stop the
05:00 runs of others by guessing.
"""

from __future__ import annotations

import hmac
import re
import secrets
import tomllib
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from importlib import resources
from typing import Any

from sqlalchemy import Connection, text

import blocks
from connectors.kit import AppConnectError, SettingsError, WaitError
from connectors.kit.text import clean_text, normalise_code, to_half_alnum
from flows.engine.clock import business_date, jst_text
from flows.engine.phone import e164
from flows.engine.pipeline import service_of
from flows.engine.store import LicenceRow, Store

EVERY = ""
"""In place of a connector: the number opens all of them."""

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:number, 76))")
_ONE = text("SELECT * FROM licence WHERE registration_number = :number")
_ALL = text("SELECT * FROM licence ORDER BY registration_number")
_ISSUE = text(
    "INSERT INTO licence (registration_number, connector, phone, company, valid_from, expires_on, "
    "issued_at, note) VALUES (:registration_number, :connector, :phone, :company, :valid_from, "
    ":expires_on, :issued_at, :note) ON CONFLICT (registration_number) DO UPDATE SET "
    "connector = :connector, phone = :phone, company = :company, valid_from = :valid_from, "
    "expires_on = :expires_on, issued_at = :issued_at, note = :note, revoked_at = NULL "
    "WHERE :replace RETURNING registration_number"
)
_REVOKE = text(
    "UPDATE licence SET revoked_at = coalesce(revoked_at, :at) WHERE registration_number = :number"
)
_TRIES = text("SELECT * FROM licence_attempt WHERE registration_number = :number")
_WRONG = text(
    "INSERT INTO licence_attempt VALUES (:number, :failures, :at, :until) "
    "ON CONFLICT (registration_number) DO UPDATE SET failures = :failures, last_at = :at, "
    "locked_until = :until"
)
_RIGHT = text("DELETE FROM licence_attempt WHERE registration_number = :number")
_LOCKED = text(
    "SELECT registration_number, locked_until FROM licence_attempt WHERE locked_until > :at"
)
_FORGET = text("DELETE FROM licence_attempt WHERE last_at < :before")
_CONNECTION = text("SELECT licence, licence_grace FROM connection WHERE name = :name")
_USED_BY = text("SELECT name FROM connection WHERE licence = :number ORDER BY name")
_ADMITTED = text("UPDATE connection SET licence = :number WHERE name = :name")


@dataclass(frozen=True, slots=True)
class Rules:
    """The format of a number and how many tries there are (``licences.toml``).

    Attributes:
        tries: The last of so many wrong tries locks the number …
        lock: … for so long.
        forget: A wrong try counts for so long.
    """

    pattern: str
    prefix: str
    example: str
    tries: int
    lock: timedelta
    forget: timedelta


@cache
def rules() -> Rules:
    """The rules of the data file."""
    raw = tomllib.loads(resources.files("flows.engine").joinpath("licences.toml").read_text())
    return Rules(
        pattern=raw["pattern"],
        prefix=raw["prefix"],
        example=raw["example"],
        tries=raw["tries"],
        lock=timedelta(minutes=raw["lock_minutes"]),
        forget=timedelta(hours=raw["forget_hours"]),
    )


def number_of(typed: str) -> str:
    """A registration number as it is stored: ``ＡＣ－００００－０００１`` is ``AC-0000-0001``."""
    return normalise_code(typed, width=None).replace(" ", "").upper()


def new_number() -> str:
    """A registration number that cannot be guessed from others."""
    digits = f"{secrets.randbelow(10**8):08}"
    return f"{rules().prefix}-{digits[:4]}-{digits[4:]}"


def is_well_formed(number: str) -> bool:
    """Whether a number, as `number_of` gives it, has the format of the data file."""
    return re.fullmatch(rules().pattern, number) is not None


def phone_of(typed: str) -> str:
    """What telephone numbers are compared by: E.164, or the text itself when it is no number."""
    return e164(typed) or to_half_alnum(clean_text(typed, multiline=False))


# --- the operator's side ------------------------------------------------------------------------


def issue(db: Connection, licence: LicenceRow, *, replace: bool = False) -> bool:
    """Write a licence down; a number and a telephone number in any notation.

    Putting it in the place of another one ends the count of wrong tries: they may have been right.

    Args:
        db: A transaction.
        licence: Whom the number belongs to.
        replace: Put it in the place of one with the same number, revoked or not.

    Returns:
        Whether it was written; ``False``: the number is there already.

    Raises:
        SettingsError: ``AC-108``, the number has another format; ``AC-205``, the telephone number
            is none, the company has no name, or the last day is before the first.
    """
    number, phone = number_of(licence.registration_number), e164(licence.phone)
    if not is_well_formed(number):
        raise SettingsError("AC-108", number)
    if phone is None:
        raise SettingsError("AC-205", "電話番号を読み取れません")
    if not licence.company.strip():
        raise SettingsError("AC-205", "会社名が空です")
    if licence.expires_on is not None and licence.expires_on < licence.valid_from:
        raise SettingsError("AC-205", "終了日が開始日より前です")
    return _write(db, licence, number, phone, replace=replace)


def _write(db: Connection, licence: LicenceRow, number: str, phone: str, *, replace: bool) -> bool:
    values = licence.model_dump() | {"registration_number": number, "phone": phone}
    if replace:
        db.execute(_RIGHT, {"number": number})
    return db.execute(_ISSUE, values | {"replace": replace}).first() is not None


def revoke(db: Connection, typed: str, at: datetime) -> LicenceRow:
    """End a licence now; the first time counts.

    Raises:
        SettingsError: ``AC-113``, there is no such number.
    """
    number = number_of(typed)
    if not db.execute(_REVOKE, {"number": number, "at": at}).rowcount:
        raise SettingsError("AC-113", number)
    found = find(db, number)
    if found is None:
        raise SettingsError("AC-113", number)
    return found


def find(db: Connection, typed: str) -> LicenceRow | None:
    """The licence of a number."""
    row = db.execute(_ONE, {"number": number_of(typed)}).mappings().first()
    return None if row is None else LicenceRow(**row)


def listed(db: Connection) -> list[LicenceRow]:
    """Every licence, by number."""
    return [LicenceRow(**row) for row in db.execute(_ALL).mappings()]


def locked(db: Connection, at: datetime) -> dict[str, datetime]:
    """Numbers that nobody can have checked at a moment, and until when."""
    return {row[0]: row[1] for row in db.execute(_LOCKED, {"at": at})}


def unlock(db: Connection, typed: str) -> LicenceRow:
    """Let a number be tried again at once.

    Raises:
        SettingsError: ``AC-113``, there is no such number.
    """
    found = find(db, typed)
    if found is None:
        raise SettingsError("AC-113", number_of(typed))
    db.execute(_RIGHT, {"number": found.registration_number})
    return found


def used_by(db: Connection, typed: str) -> list[str]:
    """Connections whose runs were opened with a number, by name; deleted ones among them."""
    return [row[0] for row in db.execute(_USED_BY, {"number": number_of(typed)})]


def standing(licence: LicenceRow, at: datetime) -> AppConnectError | None:
    """Why a licence may not be used at a moment, in the words of the person who has it."""
    today, number = business_date(at), licence.registration_number
    if licence.revoked_at is not None and licence.revoked_at <= at:
        return SettingsError("AC-111", f"登録番号 {number}、{jst_text(licence.revoked_at)}")
    if today < licence.valid_from:
        return SettingsError("AC-110", f"登録番号 {number}、{_day(licence.valid_from)} から")
    if licence.expires_on is not None and today > licence.expires_on:
        return SettingsError("AC-110", f"登録番号 {number}、{_day(licence.expires_on)} まで")
    return None


def _day(day: date) -> str:
    return f"{day:%Y/%m/%d}"


# --- the desk -----------------------------------------------------------------------------------


def check(store: Store, number: str, phone: str, connector: str, at: datetime) -> None:
    """Whether a connection of ``connector`` may be made with this number.

    Args:
        store: The books; the count of tries is written, whatever the outcome.
        number: As a person typed it.
        phone: As a person typed it.
        connector: Name of the connector; `EVERY` = whatever it is for.
        at: The moment.

    Raises:
        SettingsError: ``AC-107`` … ``AC-111``.
        WaitError: ``AC-112``, too many wrong tries.
    """
    with store.begin() as db:
        problem = _examine(db, number_of(number), phone_of(phone), connector, at)
    # Out here: an exception would take back the count.
    if problem is not None:
        raise problem


async def admit(
    store: Store, connection: str, connector: str, number: str, phone: str, at: datetime
) -> str | None:
    """`check` for a run that opens a connection.

    A connection that was at work before licences were kept has its time of grace: the first run
    issues its number, if nobody has; and if its number and telephone number do not belong
    together, it runs until the end of that time.

    Returns:
        What the operator should be told of a connection in its time of grace.

    Raises:
        SettingsError: as `check`.
        WaitError: as `check`.
    """
    word, problem = await store.do(_admit, connection, connector, number, phone, at)
    if problem is not None:
        raise problem
    return word


def _admit(
    db: Connection, connection: str, connector: str, number: str, phone: str, at: datetime
) -> tuple[str | None, AppConnectError | None]:
    row = db.execute(_CONNECTION, {"name": connection}).one()
    wanted, called = number_of(number), phone_of(phone)
    grace = row.licence_grace is not None and at < row.licence_grace
    if grace and row.licence is None and find(db, wanted) is None:
        _write(db, _adopted(connection, at), wanted, called, replace=False)
    known = row.licence == wanted
    problem = _examine(db, wanted, called, connector, at, known=known, counted=not grace)
    if problem is None:
        if not known:
            db.execute(_ADMITTED, {"name": connection, "number": wanted})
        return None, None
    if grace and problem.code not in ("AC-110", "AC-111"):
        until = jst_text(row.licence_grace)
        return f"接続「{connection}」は {until} から処理できなくなります。{problem}", None
    return None, problem


def _adopted(connection: str, at: datetime) -> LicenceRow:
    return LicenceRow(
        registration_number="",
        phone="",
        company="（以前からの接続）",
        valid_from=business_date(at),
        issued_at=at,
        note=f"接続「{connection}」の登録番号を自動的に発行しました",
    )


def _examine(
    db: Connection,
    number: str,
    phone: str,
    connector: str,
    at: datetime,
    *,
    known: bool = False,
    counted: bool = True,
) -> AppConnectError | None:
    """What is wrong with a pair; writes down what was tried, unless it is not to be counted."""
    # Tries of one number take turns: guesses sent side by side are counted like any others.
    db.execute(_LOCK, {"number": number})
    licence = find(db, number)
    if licence is None and not is_well_formed(number):
        return SettingsError("AC-108", number[:40])
    tries = db.execute(_TRIES, {"number": number}).mappings().first()
    locked = None if tries is None else tries["locked_until"]
    right = _same(licence.phone if licence else "-", phone) and licence is not None
    if locked is not None and at < locked and not (known and right):
        return _locked(locked)
    if licence is None or not right:
        return _count(db, number, tries, at) if counted else SettingsError("AC-107")
    if tries is not None and (locked is None or at >= locked):
        db.execute(_RIGHT, {"number": number})
    if licence.connector and connector and licence.connector != connector:
        return SettingsError("AC-109", f"登録番号 {number} は「{_service(licence.connector)}」用")
    return standing(licence, at)


def _service(connector: str) -> str:
    """As people call the connector, if this process knows it."""
    known = {kind.get_block_type_slug(): kind for kind in blocks.Connection.__subclasses__()}
    return service_of(known[connector]) if connector in known else connector


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _count(db: Connection, number: str, tries: Any, at: datetime) -> AppConnectError:
    """Write down a wrong try, and say what it means."""
    bounds = rules()
    failures = 1
    if (
        tries is not None
        and tries["locked_until"] is None
        and at - tries["last_at"] < bounds.forget
    ):
        failures = tries["failures"] + 1
    until = at + bounds.lock if failures >= bounds.tries else None
    # Numbers that nobody has are counted, too; they do not pile up.
    db.execute(_FORGET, {"before": at - bounds.forget - bounds.lock})
    db.execute(_WRONG, {"number": number, "failures": failures, "at": at, "until": until})
    return SettingsError("AC-107") if until is None else _locked(until)


def _locked(until: datetime) -> WaitError:
    return WaitError("AC-112", f"{jst_text(until)} まで")
