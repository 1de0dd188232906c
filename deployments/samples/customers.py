"""The kintone app of the demonstration: seeded, realistic customers, a few of them bad on purpose.

Nobody is called by accident: a local exchange number never starts with 0 in Japan, so the phone
numbers exist nowhere, and mail goes to ``example.co.jp``, which JPRS keeps for examples.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

APP_ID: Final = "1"
APP_NAME: Final = "顧客管理"
SEED: Final = 20261122
COUNT: Final = 1200

Fate = Literal["kept", "repaired", "rejected"]


@dataclass(frozen=True, slots=True)
class Awkward:
    """One record that is bad on purpose.

    Attributes:
        position: Index among `COUNT` customers; see `awkward_positions` for other counts.
        kind: What is wrong with it.
        fate: ``kept`` arrives as typed, ``repaired`` arrives normalised, ``rejected`` becomes an
            エラー明細 while the others go on.
    """

    position: int
    kind: str
    fate: Fate


AWKWARD: Final[tuple[Awkward, ...]] = (
    Awkward(40, "コードが空", "rejected"),
    Awkward(120, "コードが長すぎる", "rejected"),
    Awkward(200, "コードが全角数字", "repaired"),
    Awkward(280, "コードが重複", "rejected"),
    Awkward(360, "名称が長すぎる", "rejected"),
    Awkward(440, "髙﨑①㈱", "kept"),
    Awkward(520, "名称に絵文字", "rejected"),
    Awkward(600, "請求先が未登録", "rejected"),
    Awkward(680, "半角カナ", "repaired"),
    Awkward(760, "コードの先頭がゼロ", "kept"),
    Awkward(840, "名称に制御文字", "repaired"),
    Awkward(920, "名称が数式", "kept"),
    Awkward(1000, "備考が長すぎる", "rejected"),
    Awkward(1080, "空のレコード", "rejected"),
    Awkward(1160, "名称が空白だけ", "rejected"),
)
"""Exactly one of each kind. A setting can turn the emoji's fate from ``rejected`` to 〓."""


def awkward_positions(count: int = COUNT) -> dict[int, Awkward]:
    """Where the awkward records are among ``count`` customers: spread out as among `COUNT`.

    Raises:
        ValueError: there is not room for one of each.
    """
    if count < len(AWKWARD) + 1:
        raise ValueError(f"awkward customers need a count of more than {len(AWKWARD)}, not {count}")
    return {one.position * count // COUNT: one for one in AWKWARD}


def code_of(position: int) -> str:
    """The 得意先コード of the clean customer at ``position``: six digits, ascending, with gaps."""
    return f"{101 + 3 * position:06d}"


@cache
def _words() -> dict[str, list[Any]]:
    text = resources.files("deployments.samples").joinpath("words.toml").read_text("utf-8")
    return tomllib.loads(text)


def customers(
    count: int = COUNT, *, seed: int = SEED, awkward: bool = True
) -> Iterator[dict[str, str]]:
    """Records of the app as plain texts by field code, in the order of their record numbers.

    One in twenty is billed to another customer, who may come earlier or later; of the others some
    name themselves and most leave 請求先コード empty.

    Args:
        count: How many.
        seed: The same seed gives the same customers.
        awkward: Whether the records of `AWKWARD` are among them.

    Raises:
        ValueError: ``awkward`` and ``count`` is too small for one of each kind.
    """
    bad = awkward_positions(count) if awkward else {}
    dice = random.Random(seed)  # noqa: S311 (sample data)
    for position in range(count):
        record = _customer(position, dice)
        record["請求先コード"] = _billing_code(position, count, bad, dice)
        if position in bad:
            _spoil(record, bad[position].kind, position)
        yield record


def _customer(position: int, dice: random.Random) -> dict[str, str]:
    words, pick = _words(), dice.choice
    (stem, stem_kana), (trade, trade_kana) = pick(words["stems"]), pick(words["trades"])
    name, kana = stem + trade, stem_kana + trade_kana
    if dice.random() < 0.7:
        form, form_kana = pick(words["forms_before"])
        full, full_kana = form + name, form_kana + kana
    else:
        form, form_kana = pick(words["forms_after"])
        full, full_kana = name + form, kana + form_kana
    prefecture, city, town, postal, area = pick(words["places"])
    block = f"{dice.randint(1, 6)}-{dice.randint(1, 24)}-{dice.randint(1, 18)}"
    exchange = 10 - 1 - len(area) - 4  # ten digits: area, 0 + exchange, four
    phone = f"{area}-0{dice.randrange(10**exchange):0{exchange}d}-"
    line = dice.randrange(9999)
    code = code_of(position)
    return {
        "得意先コード": code,
        "得意先名": full,
        "フリガナ": full_kana,
        "略称": name,
        "郵便番号": postal,
        "都道府県": prefecture,
        "住所1": f"{city}{town}{block}",
        "住所2": f"{pick(words['buildings'])}{dice.randint(2, 12)}階" if line % 3 == 0 else "",
        "電話番号": f"{phone}{line:04d}",
        "FAX番号": f"{phone}{line + 1:04d}" if line % 4 else "",
        "担当者名": f"{pick(words['departments'])} {pick(words['surnames'])}",
        "メールアドレス": f"info@c{code}.example.co.jp",
        "請求先コード": "",
        "備考": pick(words["memos"]) if line % 5 == 0 else "",
    }


def _billing_code(position: int, count: int, bad: dict[int, Awkward], dice: random.Random) -> str:
    if position % 20 != 7:
        return code_of(position) if position % 10 == 3 else ""
    # Somebody who is billed directly and who certainly arrives, up to two batches away.
    while True:
        other = position + dice.choice((1, -1)) * dice.randint(1, min(900, count))
        if other % 20 != 7 and 0 <= other < count and other not in bad:
            return code_of(other)
        if count < 20:
            return ""


def _spoil(record: dict[str, str], kind: str, position: int) -> None:
    """Make ``record`` the bad one that it has to be; everything else about it stays good."""
    code = record["得意先コード"]
    record["請求先コード"] = ""
    match kind:
        case "コードが空":
            record["得意先コード"] = ""
        case "コードが長すぎる":
            record["得意先コード"] = code * 4
        case "コードが全角数字":
            record["得意先コード"] = code.translate({0x30 + i: 0xFF10 + i for i in range(10)})
        case "コードが重複":
            record["得意先コード"] = code_of(position - 1)
        case "名称が長すぎる":
            record["得意先名"] = "株式会社" + "とても長い名前の" * 8 + "商会"
        case "髙﨑①㈱":
            record |= {"得意先名": "㈱髙﨑商店①", "フリガナ": "タカサキショウテン", "略称": "髙﨑①"}
        case "名称に絵文字":
            record |= {"得意先名": "スマイル😀商会株式会社", "略称": "スマイル商会"}
            record["フリガナ"] = "スマイルショウカイカブシキガイシャ"
        case "請求先が未登録":
            record["請求先コード"] = "999999"
        case "半角カナ":
            record |= {"得意先名": "ﾔﾏﾄｶﾞﾗｽ株式会社", "略称": "ﾔﾏﾄｶﾞﾗｽ"}
            record["フリガナ"] = "ﾔﾏﾄｶﾞﾗｽｶﾌﾞｼｷｶﾞｲｼｬ"
        case "コードの先頭がゼロ":
            record["得意先コード"] = "00000042"
        case "名称に制御文字":
            record["得意先名"] = "株式会社みどり\x07商\x1b会"
        case "名称が数式":
            record["得意先名"] = "=1+1"
        case "備考が長すぎる":
            record["備考"] = "長い備考です。" * 300
        case "空のレコード":
            record |= dict.fromkeys(record, "")
        case "名称が空白だけ":
            record["得意先名"] = "　 　"
        case _:
            raise ValueError(f"no recipe for {kind}")


def _field(code: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "code": code, "label": code, "noLabel": False, **more}


def _text(code: str, *, required: bool = False, unique: bool = False) -> dict[str, Any]:
    return _field(
        code,
        "SINGLE_LINE_TEXT",
        required=required,
        unique=unique,
        maxLength="",
        minLength="",
        defaultValue="",
        expression="",
        hideExpression=False,
    )


def _prefectures() -> dict[str, dict[str, str]]:
    names = dict.fromkeys(place[0] for place in _words()["places"])
    return {name: {"label": name, "index": str(index)} for index, name in enumerate(names)}


def fields() -> dict[str, dict[str, Any]]:
    """The form of the app: ``properties`` as kintone's ``app/form/fields.json`` answers them.

    得意先コード is neither required nor unique: that is how the bad records came to be.
    """
    texts = ["得意先コード", "得意先名", "フリガナ", "略称", "郵便番号", "住所1", "住所2"]
    texts += ["電話番号", "FAX番号", "担当者名", "請求先コード"]
    listed = [_text(code) for code in texts]
    listed += [
        _field(
            "都道府県",
            "DROP_DOWN",
            required=False,
            defaultValue="",
            options=_prefectures(),
        ),
        _field(
            "メールアドレス",
            "LINK",
            required=False,
            unique=False,
            protocol="MAIL",
            maxLength="",
            minLength="",
            defaultValue="",
        ),
        _field("備考", "MULTI_LINE_TEXT", required=False, defaultValue=""),
        _field("レコード番号", "RECORD_NUMBER"),
        _field("作成日時", "CREATED_TIME"),
        _field("更新日時", "UPDATED_TIME"),
    ]
    return {one["code"]: one for one in listed}


FIELDS: Final = fields()
