"""Upgrades from the schema of every released version; ``schemas/`` holds a database of each, as SQL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from marrowscope.errors import ReviewError
from marrowscope.review.database import METADATA, open_engine, writing
from marrowscope.review.events import Draft
from marrowscope.review.migrations import upgrade
from marrowscope.review.store import Store

if TYPE_CHECKING:
    import sqlalchemy as sa

RELEASED = sorted((Path(__file__).parent / "schemas").glob("*.sql"))


def load(engine: sa.Engine, path: Path) -> None:
    """Run the statements of a dump; each stands on lines of its own and ends with a semicolon."""
    with writing(engine) as connection:
        for statement in path.read_text(encoding="utf-8").split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement.replace("%", "%%"))


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
def test_a_database_of_a_released_version_is_upgraded_with_its_log(path: Path, database_url: str) -> None:
    engine = open_engine(database_url)
    load(engine, path)
    engine.dispose()
    store = Store(database_url)
    assert [event.new for event in store.read("P1")] == ["N1", None]
    assert store.verify() == []
    store.append([Draft("Ada", "P1", "relabel", "c2", None, "R")])
    assert store.verify() == []
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, METADATA) == [], "upgraded, it has the schema of a new one"
    with pytest.raises(ReviewError, match="only ever added"), writing(store.engine) as connection:
        connection.exec_driver_sql("DELETE FROM events")
    store.close()


def test_there_is_a_released_schema_to_upgrade_from() -> None:
    assert [path.stem for path in RELEASED] == ["schema_0001"]


def test_a_new_database_has_the_tables_that_the_code_names(database_url: str) -> None:
    store = Store(database_url)
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    store.close()


def test_a_database_of_a_later_version_is_refused(database_url: str) -> None:
    engine = open_engine(database_url)
    upgrade(engine)
    with writing(engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ReviewError, match="found a review database of schema 9999, expected 0002 or an earlier one"):
        upgrade(engine)
    engine.dispose()


def test_an_upgrade_is_done_whole_or_not_at_all(database_url: str) -> None:
    engine = open_engine(database_url)
    upgrade(engine, "0001")
    with writing(engine) as connection:  # what the second step would make is there: that step fails half way
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql(
                "CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'x'); END"
            )
        else:
            connection.exec_driver_sql(
                "CREATE FUNCTION x() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"
            )
            connection.exec_driver_sql(
                "CREATE TRIGGER events_only_added BEFORE DELETE ON events FOR EACH STATEMENT EXECUTE FUNCTION x()"
            )
    with pytest.raises(ReviewError, match="already exists"):
        upgrade(engine)
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == "0001"
        if engine.dialect.name == "sqlite":
            names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all()
            assert names == ["events_no_delete"]
    engine.dispose()
