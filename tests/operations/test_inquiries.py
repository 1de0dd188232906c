"""お問い合わせ: what is taken in, when an answer may be expected, each mail once."""

from __future__ import annotations

import asyncio
import email.policy
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from aiosmtpd.controller import Controller
from sqlalchemy import text

from blocks import MailAlert
from connectors.kit import FaultError, SettingsError
from flows.engine import history, inquiries
from flows.engine.answer_day import answer_day
from flows.engine.business_days import day_text
from flows.engine.clock import JST
from flows.engine.inquiries import Inquiry
from flows.engine.model import Counts, Mode, Result, Trigger
from flows.engine.store import Store, migrate
from flows.operations.inquiry_sending import send_due

AT = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)  # Wednesday, 15:00 in Japan
TYPED = Inquiry(
    company="株式会社ためし",
    person="髙﨑 花子",
    email="hanako@example.co.jp",
    registration_number="AC-0000-0001",
    connector="得意先 kintone→商奉行",
    body="5:00 の処理が\n失敗しました。",
)


class Postbox:
    """A mail server; ``refuse`` is what it answers to a recipient, by address."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.refuse: dict[str, str] = {}
        self.slow = 0.0

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        del server, session, options
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        del server, session
        await asyncio.sleep(self.slow)
        parsed = BytesParser(policy=email.policy.default).parsebytes(envelope.content)
        self.mails.append(cast("EmailMessage", parsed))
        return "250 OK"

    def to(self, address: str) -> list[EmailMessage]:
        return [mail for mail in self.mails if str(mail["To"]) == address]


@pytest.fixture(scope="module")
def server() -> Iterator[Controller]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(Postbox(), hostname="127.0.0.1", port=port)
    controller.start()
    yield controller
    controller.stop()


@pytest.fixture
def box(server: Controller) -> Postbox:
    found: Postbox = server.handler
    found.__init__()  # type: ignore[misc]
    return found


@pytest.fixture
def desk(server: Controller) -> MailAlert:
    return desk_at(server.port)


def desk_at(port: int) -> MailAlert:
    return MailAlert(
        to=["support@example.co.jp"],
        sender="app@example.co.jp",
        host="127.0.0.1",
        port=port,
        security="なし",
    )


@pytest.fixture
def store(fresh_database: Callable[..., str]) -> Iterator[Store]:
    def prepare(url: str) -> None:
        migrate(url)
        Store(url).close()

    opened = Store(fresh_database("app-connect-store", prepare))
    yield opened
    opened.close()


def take(store: Store, typed: Inquiry = TYPED, **more: Any) -> inquiries.Taken:
    with store.begin() as db:
        return inquiries.take_in(db, typed, AT, **{"inquiry_id": uuid4(), **more})


def states(store: Store, taken: inquiries.Taken) -> dict[str, str]:
    with store.begin() as db:
        return {mail.kind: mail.state for mail in inquiries.mails_of(db, taken.id)}


# --- what is typed ------------------------------------------------------------------------------

FAMILY = "👨‍👩‍👧"  # five code points, one character


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        *((name, "", f"{label}が空です") for name, label in inquiries.LABELS.items()),
        ("company", " \u3000\n\u200b", "貴社名が空です"),
        *(
            (name, "あ" * 101, f"{label}が100文字を超えています（101文字）")
            for name, label in inquiries.LABELS.items()
            if name not in ("email", "body")
        ),
        ("person", FAMILY * 101, "ご担当者氏名が100文字を超えています（101文字）"),
        ("company", "a" + "\u0301" * 5000, "貴社名に使えない文字の組み合わせがあります"),
        ("email", "a" * 60 + "@" + "b" * 60 + ".jp", "100文字を超えています"),
        ("email", "hanako", "メールアドレスの形が正しくありません"),
        ("email", "a@b@example.co.jp", "メールアドレスの形が正しくありません"),
        ("email", "a@example.co.jp, b@example.co.jp", "メールアドレスの形が正しくありません"),
        ("email", "花子@example.co.jp", "メールアドレスの形が正しくありません"),
        ("body", "あ" * 10_001, "内容が10,000文字を超えています"),
    ],
)
def test_what_cannot_be_taken_in_is_said_by_its_label(name: str, value: str, problem: str) -> None:
    from dataclasses import replace

    with pytest.raises(SettingsError, match="AC-226") as caught:
        inquiries.checked(replace(TYPED, **{name: value}))
    assert problem in caught.value.happened


def test_a_hundred_characters_are_those_that_people_count() -> None:
    kept = inquiries.checked(
        Inquiry(
            company=FAMILY * 100,
            person="か\u3099" * 100,  # decomposed が: 200 code points
            email="  Hanako@日本語.jp ",
            registration_number="1" * 100,
            connector="得意先\r\nBcc: evil@example.com",
            body=" 1行目\r\n2行目\x00 ",
        )
    )
    assert kept.company == FAMILY * 100
    assert kept.person == "が" * 100
    assert kept.email == "Hanako@xn--wgv71a119e.jp"
    assert kept.connector == "得意先 Bcc: evil@example.com"  # one line: no header of its own
    assert kept.body == "1行目\n2行目"


# --- when an answer may be expected -------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "day"),
    [
        ("2026-11-25 16:59", date(2026, 11, 25)),
        ("2026-11-25 17:00", date(2026, 11, 26)),
        ("2026-11-27 17:30", date(2026, 11, 30)),  # Friday evening → Monday
        ("2026-11-28 10:00", date(2026, 11, 30)),  # Saturday
        ("2026-11-20 18:00", date(2026, 11, 24)),  # 11/23 is 勤労感謝の日
        ("2026-05-02 09:00", date(2026, 5, 7)),  # 連休, with 振替休日 on 5/6
        ("2026-12-28 17:00", date(2027, 1, 4)),  # 年末年始
        ("2026-09-21 12:00", date(2026, 9, 24)),  # 敬老の日, 国民の休日, 秋分の日
    ],
)
def test_the_day_of_the_answer(asked: str, day: date) -> None:
    moment = datetime.fromisoformat(asked).replace(tzinfo=JST)
    assert answer_day(moment.astimezone(UTC)) == day


# --- the mails ----------------------------------------------------------------------------------


async def test_both_mails_leave_with_the_facts_of_the_run_and_no_more(
    store: Store, box: Postbox, desk: MailAlert
) -> None:
    run = uuid4()
    _failed_run(store, run)
    taken = take(store, run_id=str(run))
    assert await send_due(store, desk) == 2
    (support,) = box.to("support@example.co.jp")
    (answer,) = box.to("hanako@example.co.jp")
    assert support["Reply-To"] == "hanako@example.co.jp"
    assert answer["Auto-Submitted"] == "auto-replied"
    assert taken.number in support["Subject"]
    assert taken.number in answer["Subject"]
    words, reply = support.get_content(), answer.get_content()
    for value in (TYPED.company, TYPED.person, TYPED.registration_number, TYPED.body):
        assert value in words.replace("\r\n", "\n")
    assert f"処理番号: {run}" in words
    assert "AC-301 データの取得に失敗" in words
    assert "取得 10 / 登録 7" in words
    assert "words of the vendor" not in words + reply
    assert day_text(date(2026, 11, 25)) == "2026年11月25日（水）"
    assert "2026年11月25日（水）までに" in reply
    assert "処理番号" not in reply
    assert states(store, taken) == {"support": "送信済み", "answer": "送信済み"}
    assert await send_due(store, desk) == 0  # once
    with pytest.raises(SettingsError, match="AC-226"):
        take(store, run_id=str(uuid4()))


def _failed_run(store: Store, run: UUID) -> None:
    error = FaultError("AC-301", "words of the vendor", service="kintone")
    with store.session() as session:
        history.open_run(
            session,
            run_id=run,
            connection="shop",
            connector="customers-from-kintone",
            service="得意先 kintone→商奉行",
            trigger=Trigger.SCHEDULE,
            mode=Mode.INCREMENTAL,
            dry_run=False,
            started_at=AT,
        )
    with store.begin() as db:
        history.close_run(
            db,
            run,
            result=Result.ERROR,
            counts=Counts(extracted=10, created=7, rejected=3),
            message="words of the vendor",
            error=error.as_dict(),
        )


async def test_an_inquiry_outlives_a_dead_mail_server_and_its_mails_are_sent_once_by_many(
    store: Store, box: Postbox, desk: MailAlert
) -> None:
    identity = uuid4()
    taken = take(store, inquiry_id=identity)
    assert take(store, inquiry_id=identity) == taken  # the same run once more: one inquiry
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, and nobody listens
        assert await send_due(store, desk_at(free.getsockname()[1])) == 0
    with store.begin() as db:
        mails = inquiries.mails_of(db, taken.id)
        assert [mail.state for mail in mails] == ["送信待ち"] * 2
        assert all(mail.problem.startswith("AC-506") for mail in mails)
        assert inquiries.waiting(db) == (2, AT)
    assert await send_due(store, desk) == 0  # not before its time
    with store.begin() as db:
        inquiries.due_now(db)
    box.slow = 0.2
    sent = await asyncio.gather(*(send_due(store, desk) for _ in range(4)))
    assert sum(sent) == 2
    assert len(box.mails) == 2
    assert states(store, taken) == {"support": "送信済み", "answer": "送信済み"}


async def test_a_sender_that_died_is_succeeded_when_its_claim_lapses(
    store: Store, box: Postbox, desk: MailAlert
) -> None:
    taken = take(store)
    with store.begin() as db:
        dead = inquiries.claim_next(db)
    assert dead is not None
    assert await send_due(store, desk) == 1  # the other mail only
    assert [str(mail["To"]) for mail in box.mails] == ["hanako@example.co.jp"]
    with store.begin() as db:
        db.execute(
            text("UPDATE inquiry_mail SET claimed_until = :past WHERE claim IS NOT NULL"),
            {"past": AT - timedelta(days=1)},
        )
    assert await send_due(store, desk) == 1
    (support,) = box.to("support@example.co.jp")
    assert support["Message-ID"] == dead.message_id
    with store.begin() as db:
        inquiries.mark_failed(db, dead, "too late")  # the dead one comes back: it has no say
    assert states(store, taken)["support"] == "送信済み"


async def test_an_address_that_does_not_exist_is_not_tried_for_ever(
    store: Store, box: Postbox, desk: MailAlert
) -> None:
    taken = take(store)
    box.refuse = {
        "hanako@example.co.jp": "550 no such user",
        "support@example.co.jp": "550 no such user",
    }
    assert await send_due(store, desk) == 0
    # The support desk's address is a setting that will be put right.
    assert states(store, taken) == {"support": "送信待ち", "answer": "届かない宛先"}
