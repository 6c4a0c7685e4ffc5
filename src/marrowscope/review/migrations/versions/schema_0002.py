"""The database itself refuses to change or remove an event: a mistake in a program is no way around the log.

Whoever owns the database can drop these triggers; what they then change is named by ``marrowscope review verify``.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

_SENTENCE = "events are only ever added"


def upgrade() -> None:
    """Add a trigger for each forbidden statement."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{_SENTENCE}'; END $$"
        )
        op.execute(
            "CREATE TRIGGER events_only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON events "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change()"
        )
        return
    for statement in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER events_no_{statement.lower()} BEFORE {statement} ON events "
            f"BEGIN SELECT RAISE(ABORT, '{_SENTENCE}'); END"
        )
