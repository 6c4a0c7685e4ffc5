"""The schema of the review database, step by step: ``upgrade`` brings a database of any released version to the last.

Every step is tested from a database that its predecessor made. A step is never changed once it is released.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from marrowscope.errors import ReviewError
from marrowscope.review.database import alone, writing

if TYPE_CHECKING:
    import sqlalchemy as sa

_UPGRADE_LOCK = 7_360_482
"""Number of the lock that one upgrade holds at a time on PostgreSQL; SQLite's own lock does on SQLite."""


def upgrade(engine: sa.Engine, revision: str = "head") -> None:
    """Bring the schema to ``revision``, all steps or none; does nothing where it is there already.

    Raises ReviewError for a database that a later version of marrowscope made.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    with writing(engine) as connection:
        alone(connection, _UPGRADE_LOCK)
        found = MigrationContext.configure(connection).get_current_revision()
        if found is not None and found not in {step.revision for step in script.walk_revisions()}:
            message = (
                f"found a review database of schema {found}, expected {script.get_current_head()} or an earlier one: a "
                "later version of marrowscope made it; use that version"
            )
            raise ReviewError(message)
        if revision == "head" and found == script.get_current_head():
            return
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
