"""お問い合わせ: the form, kept in the store first and mailed then."""

from __future__ import annotations

from uuid import UUID, uuid4

from prefect import State, flow
from prefect.artifacts import acreate_markdown_artifact
from prefect.runtime import flow_run as runtime

from connectors.kit import SettingsError
from flows.engine import inquiries
from flows.engine.business_days import day_text
from flows.engine.clock import now
from flows.engine.inquiries import Inquiry, MailState, Taken
from flows.engine.model import Result
from flows.engine.store import Store
from flows.operations import Operation
from flows.operations.ending import as_state
from flows.operations.inquiry_sending import try_to_send


async def ask(
    store: Store, typed: Inquiry, *, inquiry_id: UUID | None = None, run_id: str = ""
) -> tuple[Taken, list[MailState], SettingsError | None]:
    """Take an inquiry in, and send what can be sent now.

    Returns:
        The inquiry, where its mails are, and ``AC-227`` when nobody has said where to.

    Raises:
        SettingsError: ``AC-226``, something that was typed.
    """
    taken = await store.do(
        inquiries.take_in, typed, now(), inquiry_id=inquiry_id or uuid4(), run_id=run_id
    )
    problem = await try_to_send(store)
    return taken, await store.do(inquiries.mails_of, taken.id), problem


@flow(name="inquiry", flow_run_name="お問い合わせ", persist_result=False)
async def inquire(
    company: str,
    person: str,
    email: str,
    registration_number: str,
    connector: str,
    body: str,
    run_id: str = "",
) -> State[None]:
    """Ask the support desk.

    Args:
        company: 100文字までです。
        person: 100文字までです。
        email: 受付のメールと回答をお送りする先です。100文字までです。
        registration_number: 契約の登録番号です（例: AC-0000-0001）。100文字までです。
        connector: お使いのコネクタの名前です（例: 得意先 kintone→商奉行）。100文字までです。
        body: お問い合わせの内容です。パスワードやトークンは書かないでください。
        run_id: うまくいかなかった処理があれば、その処理の画面の URL の最後の部分です（任意）。
            エラーコードと件数を添えます。データの中身は添えません。
    """
    typed = Inquiry(company, person, email, registration_number, connector, body)
    return await as_state(_work(typed, run_id))


async def _work(typed: Inquiry, run_id: str) -> tuple[Result, str]:
    # One flow run is one inquiry, also when Prefect runs it again.
    taken, mails, problem = await ask(
        Store(), typed, inquiry_id=UUID(runtime.id) if runtime.id else None, run_id=run_id
    )
    day = day_text(taken.answer_by)
    words = (
        f"お問い合わせを受け付けました（受付番号 {taken.number}、回答予定日 {day}）。"
        f"{inquiries.sentence(mails)}"
    )
    await acreate_markdown_artifact(
        f"## お問い合わせを受け付けました\n\n- 受付番号: **{taken.number}**\n"
        f"- 回答予定日: **{day}**\n- {inquiries.sentence(mails)}\n",
        key="inquiry",
        description=f"お問い合わせ {taken.number}",
    )
    if problem is not None:
        return Result.PARTIAL, f"{words}。{problem}"
    return Result.SUCCESS, words


OPERATION = Operation(
    flow=inquire,
    name="お問い合わせ",
    description="""\
サポート窓口にお問い合わせを送ります。受付のメールが自動で届きます。

- **使い方**: 「実行」→「条件を指定して実行」で、すべての項目を入れて実行します。
- **うまくいかなかった処理について聞くとき**: その処理の画面の URL の最後の部分を「処理番号」に\
貼り付けます。エラーコードと件数だけを添えます。
- **回答予定日**: 17時までの受付は当日、それより後と土日・祝日は翌営業日です。
- **メールが送れないとき**: 内容は保存してあり、自動で送り直します（「お問い合わせの送信」）。

入れた内容は処理の記録に残ります。パスワードなどの秘密の情報は入れないでください。
""",
    titles={
        **inquiries.LABELS,
        "run_id": "処理番号（任意）",
    },
)
