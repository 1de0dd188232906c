"""Alembic's entry: runs on the connection that `flows.engine.store.migrate` hands over."""

from alembic import context
from sqlmodel import SQLModel

import flows.engine.store.gateway_tables
import flows.engine.store.inquiry_tables
import flows.engine.store.tables  # noqa: F401  (fills the metadata, for autogenerate)

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=SQLModel.metadata)
with context.begin_transaction():
    context.run_migrations()
