"""お問い合わせ: taking one in, and the outbox of the mails that have to leave because of it.

An inquiry is in the store before anybody talks to a mail server, so it is never lost. Each of its
two mails (to the support desk, and the answer to who asked) leaves by an outbox: whoever sends one
claims it first, so two processes send one mail. A process that dies between the mail server's yes
and its own note leaves a claim that lapses; the mail is sent again then, under the same
Message-ID, which is how mail programs recognise a copy.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any
from uuid import UUID, uuid4

import regex  # type: ignore[import-untyped]
from email_validator import EmailNotValidError, validate_email
from sqlalchemy import Connection, text

from connectors.kit import SettingsError
from connectors.kit.text import clean_text
from flows.engine.answer_day import answer_day, closing_hour
from flows.engine.business_days import day_text
from flows.engine.clock import JST, jst_text, span_text
from flows.engine.model import Counts

LABELS = {
    "company": "貴社名",
    "person": "ご担当者氏名",
    "email": "メールアドレス",
    "registration_number": "登録番号",
    "connector": "コネクタの名前",
    "body": "内容",
}
"""What each field is called on screens."""

LIMIT = 100
"""Characters of the short fields, as people count them."""

BODY_LIMIT = 10_000

KINDS = ("support", "answer")

HOLD_SECONDS = 600
"""How long a claim holds: a mail server that is asked once answers or fails long before."""

_MARKS = 20  # code points that one character may be made of, on average
_CHARACTER = regex.compile(r"\X")

_INSERT = text(
    "INSERT INTO inquiry (id, received_at, answer_by, company, person, email, "
    "registration_number, connector, body, run_id, run_facts) VALUES (:id, :at, :answer_by, "
    ":company, :person, :email, :registration_number, :connector, :body, :run_id, :run_facts) "
    "ON CONFLICT (id) DO NOTHING RETURNING id"
)
_OUTBOX = text(
    "INSERT INTO inquiry_mail (inquiry_id, kind, next_at, problem) "
    "VALUES (:id, :kind, clock_timestamp(), '')"
)
_ONE = text("SELECT * FROM inquiry WHERE id = :id")
_NEWEST = text("SELECT * FROM inquiry ORDER BY received_at DESC LIMIT :limit")
_MAILS = text("SELECT * FROM inquiry_mail WHERE inquiry_id = :id ORDER BY kind DESC")
_RUN = text("SELECT * FROM run WHERE id = :id")
_CLAIM = text(
    "UPDATE inquiry_mail SET claim = :claim, attempts = attempts + 1, "
    "claimed_until = clock_timestamp() + make_interval(secs => :hold) "
    "WHERE (inquiry_id, kind) = (SELECT inquiry_id, kind FROM inquiry_mail "
    "WHERE sent_at IS NULL AND refused_at IS NULL AND next_at <= clock_timestamp() "
    "AND (claimed_until IS NULL OR claimed_until <= clock_timestamp()) "
    "ORDER BY next_at, kind DESC LIMIT 1 FOR UPDATE SKIP LOCKED) "
    "RETURNING inquiry_id, kind, attempts"
)
_SENT = text(
    "UPDATE inquiry_mail SET sent_at = clock_timestamp(), claim = NULL, claimed_until = NULL, "
    "problem = '' WHERE claim = :claim"
)
_REFUSED = text(
    "UPDATE inquiry_mail SET refused_at = clock_timestamp(), claim = NULL, claimed_until = NULL, "
    "problem = :problem WHERE claim = :claim"
)
_AGAIN = text(
    "UPDATE inquiry_mail SET next_at = clock_timestamp() + make_interval(secs => :wait), "
    "claim = NULL, claimed_until = NULL, problem = :problem WHERE claim = :claim"
)
_NOW = text(
    "UPDATE inquiry_mail SET next_at = clock_timestamp() "
    "WHERE sent_at IS NULL AND refused_at IS NULL"
)
_WAITING = text(
    "SELECT count(*), min(i.received_at) FROM inquiry_mail m "
    "JOIN inquiry i ON i.id = m.inquiry_id WHERE sent_at IS NULL AND refused_at IS NULL"
)


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What a person fills in; every field is required."""

    company: str
    person: str
    email: str
    registration_number: str
    connector: str
    body: str


@dataclass(frozen=True, slots=True)
class Taken:
    """An inquiry that is in the store.

    Attributes:
        id: Its id.
        received_at: When it came in.
        answer_by: Business date on which an answer may be expected.
        asked: What was asked.
        run_facts: What is known of the run that it is about; empty = none.
    """

    id: UUID
    received_at: datetime
    answer_by: date
    asked: Inquiry
    run_facts: str

    @property
    def number(self) -> str:
        """受付番号, as a person reads it out: ``20261125-7F3A2C``."""
        return f"{self.received_at.astimezone(JST):%Y%m%d}-{self.id.hex[-6:].upper()}"


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that this process, and no other, sends now."""

    claim: UUID
    kind: str
    attempts: int
    inquiry: Taken

    @property
    def message_id(self) -> str:
        """The same at every try: a mail program shows a copy once."""
        return f"<{self.inquiry.id}.{self.kind}@app-connect.invalid>"


@dataclass(frozen=True, slots=True)
class MailState:
    """Where a mail is.

    Attributes:
        kind: One of `KINDS`.
        state: 送信済み, 送信待ち or 届かない宛先.
        problem: Why the last try did not work.
    """

    kind: str
    state: str
    problem: str


def length(typed: str) -> int:
    """Characters as people count them: 👨‍👩‍👧 and が (two code points) are one each."""
    return len(_CHARACTER.findall(typed))


def checked(typed: Inquiry) -> Inquiry:
    """What was typed, tidied.

    Raises:
        SettingsError: ``AC-226``, with everything that is wrong at once.
    """
    problems: list[str] = []
    values: dict[str, str] = {}
    for field in fields(Inquiry):
        name, label = field.name, LABELS[field.name]
        limit = BODY_LIMIT if name == "body" else LIMIT
        value = _tidy(getattr(typed, name), multiline=name == "body")
        count = length(value)
        if not clean_text(value, multiline=True):
            problems.append(f"{label}が空です")
        elif count > limit:
            problems.append(f"{label}が{limit:,}文字を超えています（{count:,}文字）")
        elif len(value) > limit * _MARKS:
            problems.append(f"{label}に使えない文字の組み合わせがあります")
        elif name == "email":
            address = _address(value)
            if address is None:
                problems.append(f"{label}の形が正しくありません")
            value = address or ""
        values[name] = value
    if problems:
        raise SettingsError("AC-226", "、".join(problems))
    return Inquiry(**values)


def _tidy(typed: str, *, multiline: bool) -> str:
    """Without control characters; joiners stay, because they make one character of several."""
    lines = typed.splitlines()
    words = ("\n" if multiline else " ").join(lines).replace("\t", " ")
    kept = (c for c in words if c == "\n" or unicodedata.category(c) not in ("Cc", "Cs"))
    return unicodedata.normalize("NFC", "".join(kept)).strip()


def _address(typed: str) -> str | None:
    """The address as mail servers take it; nobody is asked whether it exists."""
    try:
        found = validate_email(typed, check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError:
        return None
    return found.ascii_email


def take_in(
    db: Connection, typed: Inquiry, at: datetime, *, inquiry_id: UUID, run_id: str = ""
) -> Taken:
    """Keep an inquiry and put its mails into the outbox; the same id once more changes nothing.

    Args:
        db: A transaction on the store.
        typed: What was typed; it is checked here, whoever calls.
        at: The moment.
        inquiry_id: Chosen by who takes it in.
        run_id: 処理番号 of the run that it is about; empty = none.

    Raises:
        SettingsError: ``AC-226``.
    """
    asked = checked(typed)
    run, facts = _facts(db, run_id.strip())
    row = db.execute(
        _INSERT,
        {
            **{field.name: getattr(asked, field.name) for field in fields(Inquiry)},
            "id": inquiry_id,
            "at": at,
            "answer_by": answer_day(at),
            "run_id": run,
            "run_facts": facts,
        },
    ).first()
    if row is not None:
        for kind in KINDS:
            db.execute(_OUTBOX, {"id": inquiry_id, "kind": kind})
    return _taken(db.execute(_ONE, {"id": inquiry_id}).mappings().one())


def _facts(db: Connection, typed: str) -> tuple[UUID | None, str]:
    """What a run was and how it ended: codes and counts, none of its data, no words of others."""
    if not typed:
        return None, ""
    try:
        run_id = UUID(typed)
    except ValueError:
        raise SettingsError("AC-226", "処理番号の形が正しくありません") from None
    row = db.execute(_RUN, {"id": run_id}).mappings().first()
    if row is None:
        raise SettingsError("AC-226", f"処理番号 {run_id} の処理がありません")
    counts = Counts(
        *(row[name] for name in ("extracted", "created", "updated", "unchanged")),
        *(row[name] for name in ("rejected", "pending", "vanished")),
    )
    error = row["error"] or {}
    codes = _reject_codes(db, run_id)
    lines = [
        ("処理番号", str(run_id)),
        ("サービス名", row["service"]),
        ("コネクタ", row["connector"]),
        ("接続", row["connection"]),
        ("処理時間", span_text(row["started_at"], row["ended_at"])),
        ("実行種別", row["trigger"]),
        ("結果", row["result"] or "実行中"),
        ("件数", counts.sentence()),
        ("エラー", f"{error['code']} {error['title']}" if "code" in error else "なし"),
        ("エラー明細", codes or "なし"),
    ]
    return run_id, "\n".join(f"{label}: {value}" for label, value in lines)


def _reject_codes(db: Connection, run_id: UUID) -> str:
    rows = db.execute(
        text("SELECT code, count(*) FROM reject WHERE run_id = :id GROUP BY code ORDER BY code"),
        {"id": run_id},
    )
    return "、".join(f"{code} {count:,} 件" for code, count in rows)


def _taken(row: Any) -> Taken:
    asked = Inquiry(**{field.name: row[field.name] for field in fields(Inquiry)})
    return Taken(row["id"], row["received_at"], row["answer_by"], asked, row["run_facts"])


def newest(db: Connection, limit: int = 20) -> list[tuple[Taken, list[MailState]]]:
    """The newest inquiries and where their mails are."""
    taken = [_taken(row) for row in db.execute(_NEWEST, {"limit": limit}).mappings().all()]
    return [(each, mails_of(db, each.id)) for each in taken]


def mails_of(db: Connection, inquiry_id: UUID) -> list[MailState]:
    """Where the mails of an inquiry are: that to the support desk first."""

    def state(row: Any) -> str:
        if row["sent_at"]:
            return "送信済み"
        return "届かない宛先" if row["refused_at"] else "送信待ち"

    rows = db.execute(_MAILS, {"id": inquiry_id}).mappings().all()
    return [MailState(row["kind"], state(row), row["problem"]) for row in rows]


def claim_next(db: Connection) -> Mail | None:
    """A mail that is due, for this process alone; ``None`` = there is none."""
    claim = uuid4()
    row = db.execute(_CLAIM, {"claim": claim, "hold": HOLD_SECONDS}).first()
    if row is None:
        return None
    inquiry = _taken(db.execute(_ONE, {"id": row[0]}).mappings().one())
    return Mail(claim, row[1], row[2], inquiry)


def mark_sent(db: Connection, mail: Mail) -> None:
    """The mail server took it."""
    db.execute(_SENT, {"claim": mail.claim})


def mark_refused(db: Connection, mail: Mail, problem: str) -> None:
    """There is no such address."""
    db.execute(_REFUSED, {"claim": mail.claim, "problem": problem})


def mark_failed(db: Connection, mail: Mail, problem: str) -> None:
    """It is tried again after 1, 2, 4 … minutes, at most six hours later."""
    wait = min(60.0 * 2 ** min(mail.attempts - 1, 10), 6 * 3600.0)
    db.execute(_AGAIN, {"claim": mail.claim, "wait": wait, "problem": problem})


def due_now(db: Connection) -> None:
    """Try everything that waits at once; what another process is sending stays with it."""
    db.execute(_NOW)


def waiting(db: Connection) -> tuple[int, datetime | None]:
    """How many mails wait, and since when the oldest inquiry of theirs does."""
    count, oldest = db.execute(_WAITING).one()
    return count, oldest


def words_for(mail: Mail) -> tuple[str, str]:
    """Subject and body of a mail."""
    taken, asked = mail.inquiry, mail.inquiry.asked
    typed = [
        *(f"{LABELS[f.name]}: {getattr(asked, f.name)}" for f in fields(Inquiry)[:-1]),
        "",
        f"{LABELS['body']}:",
        asked.body,
    ]
    if mail.kind == "support":
        subject = f"[App Connect] お問い合わせ {taken.number}（{asked.connector}）"
        head = [
            f"受付番号: {taken.number}",
            f"受付日時: {jst_text(taken.received_at)}",
            f"回答予定日: {day_text(taken.answer_by)}",
            "",
        ]
        facts = ["", "―― 対象の処理 ――", taken.run_facts] if taken.run_facts else []
        return subject, "\n".join([*head, *typed, *facts]) + "\n"
    subject = f"[App Connect] お問い合わせを受け付けました {taken.number}"
    head = [
        f"{asked.company}",
        f"{asked.person} 様",
        "",
        "お問い合わせありがとうございます。次の内容で受け付けました。",
        f"{day_text(taken.answer_by)}までに、担当者からご回答します。",
        f"（{closing_hour()}時以降、土日・祝日・年末年始の受付は、翌営業日の受付になります。）",
        "",
        f"受付番号: {taken.number}",
        f"受付日時: {jst_text(taken.received_at)}",
        f"回答予定日: {day_text(taken.answer_by)}",
        "",
    ]
    return subject, "\n".join([*head, *typed, "", "このメールは自動でお送りしています。"]) + "\n"


def sentence(mails: Sequence[MailState]) -> str:
    """What is said about the mails of an inquiry that was just taken in."""
    support, answer = ({m.kind: m.state for m in mails}[kind] for kind in KINDS)
    if support == "送信済み" and answer == "送信済み":
        return "サポート窓口に送り、受付のメールをお送りしました"
    if support == "送信済み":
        return f"サポート窓口に送りました（受付のメール: {answer}）"
    return "メールはまだ送れていません。内容は保存してあり、自動で送り直します"
