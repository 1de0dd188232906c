"""Row 37 of the fault matrix: the program is older or newer than its books."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import text

from connectors.kit import SettingsError
from flows.engine.store import Store, database, migrate


@pytest.fixture
def url(fresh_database: Callable[..., str]) -> Iterator[str]:
    made = fresh_database()
    yield made
    Store(made).close()


def revision(url: str) -> str | None:
    with Store(url).begin() as db:
        return database.schema_revision(db)


def test_row_37_an_old_store_is_migrated_and_keeps_its_rows(url: str) -> None:
    scripts = ScriptDirectory.from_config(database._alembic())
    (first,) = scripts.get_bases()
    with database._engine(database.normalise_url(url)).begin() as connection:
        config = database._alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, first)
        connection.execute(
            text(
                "INSERT INTO ledger (connection, entity, source_key, external_key, content_hash, "
                "state, action, batch_id, run_id, updated_at) VALUES ('shop', 'customer', '1', "
                "'000001', '\\x00', 'pending', 'created', gen_random_uuid(), gen_random_uuid(), "
                "now())"
            )
        )
    migrate(url)
    assert revision(url) == scripts.get_current_head()
    with Store(url).begin() as db:
        assert db.execute(text("SELECT source_key, state FROM ledger")).all() == [("1", "pending")]


@pytest.mark.parametrize("act", [migrate, revision], ids=["migrate", "use"])
def test_row_37_a_newer_store_is_refused_untouched(
    url: str, act: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(url)
    monkeypatch.setattr(database, "_checked", set())
    with psycopg.connect(url) as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SettingsError) as raised:
        act(url)
    assert raised.value.code == "AC-708"
    assert "データベースの版 9999" in str(raised.value)
    with psycopg.connect(url) as db:
        assert db.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)


def test_row_37_a_store_without_tables_is_told_in_words(url: str) -> None:
    with pytest.raises(SettingsError) as raised, Store(url).begin() as db:
        db.execute(text("SELECT 1 FROM ledger"))
    assert raised.value.code == "AC-708"
    assert "app-connect migrate" in str(raised.value)
