"""The documentation page of every error, made from the catalogue.

``python -m connectors.kit.errors_page > docs/errors.ja.md`` writes it anew; a test compares.
"""

from __future__ import annotations

from itertools import groupby

from connectors.kit.errors import CatalogueEntry, Recovery, catalogue

_WHO: dict[Recovery, str] = {
    "reauthorize": "もう一度許可する",
    "settings": "設定を直す",
    "data": "元のデータを直す",
    "wait": "時間をおく（自動でやり直します）",
    "fault": "原因を調べる（時間をおくと直ることがあります）",
}
_GROUPS = {
    "1": "認証",
    "2": "設定",
    "3": "データの取得",
    "4": "データの登録",
    "5": "サービスの状態",
    "6": "処理の状態",
    "7": "データベース",
    "8": "1件ごとのエラー（エラー明細）",
    "9": "そのほか",
}
_HEAD = """# エラーの一覧

<!-- connectors/kit/catalogue.toml から作成します。直接編集しないでください: make docs -->

処理の結果が ERROR または一部エラーのとき、画面・処理履歴・`app-connect` には次の順で表示します。

1. **コードと名前**（例: AC-101 連携トークンの失効）。コードは変わりません。
2. **何が起きたか**
3. **データの状態**: 何が登録され、何が登録されていないか。その処理で登録した件数を前に添えます。
4. **対処**: 上から順に行います。
5. **詳細**: サービス名、API、HTTP の状態、連携先のエラーコードとメッセージ（秘密の値は伏せます）。

どのエラーでも、手動実行を何度繰り返しても二重に登録することはありません。
"""


def render() -> str:
    """The page, in Markdown."""
    parts = [_HEAD]
    for digit, entries in groupby(catalogue().values(), key=lambda entry: entry.code[3]):
        parts.append(f"## {_GROUPS[digit]}\n")
        parts += [_section(entry) for entry in entries]
    return "\n".join(parts)


def _section(entry: CatalogueEntry) -> str:
    steps = "\n".join(f"   {n}. {_shown(step)}" for n, step in enumerate(entry.next, 1))
    return (
        f"### {entry.code} {entry.title}\n\n"
        f"- **何が起きたか**: {_shown(entry.happened)}\n"
        f"- **データの状態**: {_shown(entry.safe)}\n"
        f"- **直し方**: {_WHO[entry.recovery]}\n"
        f"- **対処**:\n{steps}\n"
    )


def _shown(text: str) -> str:
    """The words with names in place of what is filled in when it happens."""
    return text.replace("{service}", "〈サービス〉").replace("{subject}", "〈対象〉")


if __name__ == "__main__":
    print(render(), end="")
