"""The first schema: the log and its head, accounts, sessions, and attempts to enter."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None

_GENESIS = "0" * 64


def upgrade() -> None:
    """Make the tables, and the head of an empty chain."""
    op.create_table(
        "events",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("time_utc", sa.Text, nullable=False),
        sa.Column("reader", sa.Text, nullable=False),
        sa.Column("patient_id", sa.Text, nullable=False),
        sa.Column("cell_id", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("old", sa.Text, nullable=False),
        sa.Column("new", sa.Text, nullable=False),
        sa.Column("model_value", sa.Text, nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_index("events_by_patient", "events", ["patient_id", "sequence"])
    op.create_index("events_by_cell", "events", ["patient_id", "cell_id", "sequence"])
    head = op.create_table(
        "head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.bulk_insert(head, [{"id": 1, "sequence": 0, "hash": _GENESIS}])
    op.create_table(
        "accounts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("full_name", sa.Text, nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("password_hash", sa.Text),
        sa.Column("subject", sa.Text, unique=True),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("created_utc", sa.Text, nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.String(64), primary_key=True),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("csrf_token", sa.Text, nullable=False),
        sa.Column("created_utc", sa.Text, nullable=False),
        sa.Column("seen_utc", sa.Text, nullable=False),
    )
    op.create_table(
        "login_attempts",
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("time_utc", sa.Text, nullable=False),
    )
    op.create_index("attempts_by_source", "login_attempts", ["source", "time_utc"])
