"""お問い合わせの送信: what could not be mailed at once is mailed later, once."""

from __future__ import annotations

import contextlib
import logging
from datetime import timedelta

from prefect import State, flow

from blocks import MailAlert
from connectors.kit import AppConnectError, Failure, FaultError, SettingsError
from flows.engine import inquiries
from flows.engine.clock import now
from flows.engine.inquiries import Mail
from flows.engine.model import Result
from flows.engine.store import Store
from flows.operations import Operation
from flows.operations.ending import as_state

BLOCK = "app-connect-inquiry"
"""Name of the mail block whose address is the support desk's."""

_LONG = timedelta(hours=24)

_log = logging.getLogger(__name__)


async def mailer() -> MailAlert:
    """The block of the support desk.

    Raises:
        SettingsError: ``AC-227``, there is none, or it is not acceptable.
    """
    with contextlib.suppress(ValueError, RuntimeError):
        return await MailAlert.aload(BLOCK)
    # Out here: in a handler the original, which shows the block's values, would hang on to it.
    raise SettingsError("AC-227")


async def send_due(store: Store, block: MailAlert) -> int:
    """Send what is due, each mail once, however many processes do this; returns how many left."""
    sent = 0
    while (mail := await store.do(inquiries.claim_next)) is not None:
        try:
            await _send(block, mail)
        except AppConnectError as error:
            mark = inquiries.mark_failed
            # Only who asked may have mistyped the address; the support desk's will be put right.
            if error.failure is Failure.REFUSED and mail.kind == "answer":
                mark = inquiries.mark_refused
            await store.do(mark, mail, f"{error.code} {error.happened}")
        else:
            await store.do(inquiries.mark_sent, mail)
            sent += 1
    return sent


async def _send(block: MailAlert, mail: Mail) -> None:
    subject, body = inquiries.words_for(mail)
    asker = mail.inquiry.asked.email
    message = block.message(subject, body, to=asker if mail.kind == "answer" else None)
    message.replace_header("Message-ID", mail.message_id)
    if mail.kind == "support":
        message["Reply-To"] = asker
    else:
        message["Reply-To"] = ", ".join(block.to)
        message["Auto-Submitted"] = "auto-replied"  # RFC 3834: no other machine answers this
    await block.deliver(message)


async def try_to_send(store: Store) -> SettingsError | None:
    """`send_due` by the saved block; an inquiry that was taken in must not fail because of mail.

    Returns:
        ``AC-227`` when nobody has said where to.
    """
    try:
        await send_due(store, await mailer())
    except SettingsError as error:
        return error
    except Exception as error:  # noqa: BLE001 (Prefect's client raises many kinds)
        _log.warning("The inquiry waits in the outbox: %s", type(error).__name__)
    return None


@flow(name="send-inquiries", flow_run_name="お問い合わせの送信", persist_result=False)
async def send_inquiries() -> State[None]:
    """Send the mails of inquiries that could not be sent before."""
    return await as_state(_work())


async def _work() -> tuple[Result, str]:
    store = Store()
    count, oldest = await store.do(inquiries.waiting)
    if not count:
        return Result.SUCCESS, "送信を待っているお問い合わせはありません"
    sent = await send_due(store, await mailer())
    count, oldest = await store.do(inquiries.waiting)
    words = f"お問い合わせのメール: 送信 {sent:,} 通 / 送信待ち {count:,} 通"
    if oldest is not None and now() - oldest > _LONG:
        return Result.PARTIAL, f"{words}。{FaultError('AC-506', '1日以上送れていません')}"
    return Result.SUCCESS, words


OPERATION = Operation(
    flow=send_inquiries,
    name="お問い合わせの送信",
    description="""\
まだ送れていないお問い合わせのメールを送ります。

- **いつ**: 毎時20分に自動で送ります。送るものがなければ、何もしません。
- **今すぐ実行**: 「実行」→「今すぐ実行」で送ります。何度押しても、同じメールを2通送りません。
- **送り先**: `app-connect inquiry setup` で設定します。
""",
    cron="20 * * * *",
)
