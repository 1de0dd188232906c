"""Every connector as it lies there: manual, logo, description, sample, nothing left blank."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import connectors as packages
from deployments.catalog import Connector, connectors, description, run_form
from deployments.samples import samples
from deployments.scaffold import blanks
from deployments.stack.pages import FOLDER, publish
from flows.engine.model import Result
from tests.acceptance.protocol import ROOT, Case, case_of, sample_of
from tests.acceptance.world import world

JAPANESE = re.compile("[ぁ-んァ-ヶ一-龠]")
FOLDERS = Path(next(iter(packages.__path__)))
PAGES = "http://127.0.0.1:1/v2/app-connect"
_TEXTS = (".py", ".md", ".toml", ".svg")
_ARROW = " ←"  # behind the titles of settings that name a field of the partner


def manual_of(connector: Connector) -> Path:
    """The manual that the connection's block leads to: ``kintone-slips`` → ``MANUAL.slips``."""
    block: Any = connector.pipeline.connection_type
    name = block._manual
    assert name, f"{block.__name__}._manual がありません / the block links to no manual"
    folder, _, variant = name.partition("-")
    return FOLDERS / folder / f"MANUAL{'.' if variant else ''}{variant}.ja.md"


def tables(text: str) -> Iterator[list[list[str]]]:
    """Every table of a manual that is about settings, with its heading."""
    for found in re.finditer(r"(?:^ *\|.*\n)+", text, re.MULTILINE):
        rows = [
            [cell.strip() for cell in line.strip().strip("|").split("|")]
            for line in found[0].splitlines()
        ]
        if "設定" in rows[0][0] and "初期値" in rows[0][1]:
            yield rows


def shown(field: Any) -> str:
    """A default as a manual writes it; a required setting has none."""
    if field.is_required():
        return ""
    if isinstance(field.default, bool):
        return "オン" if field.default else "オフ"
    return "（空欄）" if field.default in (None, "") else str(field.default)


def test_the_manual_is_there_and_its_settings_are_the_model(connector: Connector) -> None:
    manual = manual_of(connector)
    assert manual.is_file(), f"{manual.relative_to(ROOT)} がありません / there is no manual"
    text = manual.read_text("utf-8")
    assert re.match(r"# .*→", text), "the manual's heading says from where to where"
    stated: dict[str, str] = {}
    for heading, _, *rows in tables(text):
        for title, default, *_ in rows:
            assert title not in stated, f"{heading[0]}: {title} is there twice"
            stated[title] = re.sub("（空欄.*）", "（空欄）", re.sub("（.*必須）", "", default))
    model: Any = connector.pipeline.connection_type.model_fields["settings"].annotation
    wanted = {str(f.title).removesuffix(_ARROW): shown(f) for f in model.model_fields.values()}
    assert {k.removesuffix(_ARROW): v for k, v in stated.items()} == wanted
    for code in connector.pipeline.codes:
        assert code.source in text, f"コード変換表「{code.source}」 is not in the manual"


def test_blocks_have_a_logo_and_lead_to_the_manual(
    connector: Connector, monkeypatch: pytest.MonkeyPatch, pages: Path
) -> None:
    monkeypatch.setenv("APP_CONNECT_PAGES_URL", PAGES)
    kind: Any = connector.pipeline.connection_type
    partners = [type(b) for b in sample_of(connector).credentials.values()]
    for block in (kind, *partners):
        known = block._to_block_type()
        for url in (known.logo_url, known.documentation_url):
            if url is None and block.__name__ == "BugyoCredentials":
                continue  # every connector's manual describes it
            name = str(url).removeprefix(f"{PAGES}/")
            assert (pages / name).is_file(), f"{block.__name__}: {url} leads nowhere"
        assert str(known.description).endswith("。")
    service = case_of(connector.pipeline.connector).service
    assert any(block._logo == service for block in partners), "the partner has no logo"


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our pages as the Prefect server serves them."""
    folder = tmp_path_factory.mktemp("ui")
    publish(folder)
    return folder / FOLDER


def test_the_deployment_and_its_form_say_what_they_do(connector: Connector) -> None:
    pipeline = connector.pipeline
    text = description(pipeline, "sample")
    assert "None" not in text
    assert str(pipeline.connection_type.get_description()) in text
    assert JAPANESE.search(pipeline.service)
    assert "→" in pipeline.service
    assert str(connector.flow.description).splitlines()[0].endswith("。")
    for name, field in run_form(connector.flow, "sample").properties.items():
        assert JAPANESE.search(field["title"]), name
        assert field["description"].endswith("。"), name


def test_the_sample_runs(
    connector: Connector, case: Case, books: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first run, as a preview: how it ends for real is in tests/deployments."""
    case.partner = samples()[case.service].emulator()
    monkeypatch.setattr(case, "settings", lambda sample: sample)
    with world(connector, case, books) as sample:
        ending = sample.run(dry_run=True)
    assert ending.error is None, ending.message
    assert ending.result in (Result.SUCCESS, Result.PARTIAL), ending.message
    assert ending.counts is not None
    assert ending.counts.created >= 10, ending.message


def files_of(connector: Connector, service: str) -> list[Path]:
    """What makes a connector, and so may hold blanks."""
    name = connector.pipeline.connector.replace("-", "_")
    named = [
        f"{connector.module.replace('.', '/')}.py",
        f"blocks/{service}.py",
        f"flows/parts/{service}.py",
        f"deployments/samples/{service}.py",
        f"tests/acceptance/connectors/{name}.py",
    ]
    folders = (ROOT / "connectors" / service, ROOT / "tests" / "connectors" / service)
    found = [ROOT / each for each in named]
    for folder in folders:
        found += [p for p in sorted(folder.rglob("*")) if p.suffix in _TEXTS]
    return [path for path in found if path.is_file()]


def test_nothing_is_left_blank(connector: Connector) -> None:
    files = files_of(connector, case_of(connector.pipeline.connector).service)
    left = [f"{b.path}:{b.line}: {b.name}: {b.words}" for b in blanks(files)]
    assert not left, "まだ埋めていないところ / blanks to fill in:\n" + "\n".join(left)


def test_every_module_of_the_kit_is_about_a_connector() -> None:
    folder = Path(__file__).parent / "connectors"
    found = {p.stem.replace("_", "-") for p in folder.glob("[a-z]*.py")}
    assert found == set(connectors())
