"""What alembic runs for each upgrade: the steps, on the connection that ``migrations.upgrade`` hands over."""

from __future__ import annotations

from alembic import context

from marrowscope.review.database import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
