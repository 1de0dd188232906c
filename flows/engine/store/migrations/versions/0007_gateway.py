"""The gateway: consents under way, events that came in, keys of other systems

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        'consent',
        sa.Column('id', sa.Uuid(), primary_key=True),
        sa.Column('state_hash', sa.LargeBinary(), nullable=False, unique=True),
        sa.Column('state_returns', sa.Boolean(), nullable=False),
        sa.Column('block_type', sa.String(), nullable=False),
        sa.Column('block_name', sa.String(), nullable=False),
        sa.Column('redirect_uri', sa.String(), nullable=False),
        sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('used_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('outcome', sa.String(), nullable=True),
        sa.Column('subject', sa.String(), nullable=False),
    )
    op.create_table(
        'webhook_event',
        sa.Column('seq', sa.BigInteger(), primary_key=True, autoincrement=True),
        sa.Column('connection', sa.String(), nullable=False),
        sa.Column('event_id', sa.String(), nullable=False),
        sa.Column('event', sa.String(), nullable=False),
        sa.Column('received_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('batch', sa.Uuid(), nullable=True),
        sa.Column('run_id', sa.Uuid(), nullable=True),
        sa.UniqueConstraint('connection', 'event_id', name='uq_webhook_event'),
    )
    op.create_index(
        'ix_webhook_event_open', 'webhook_event', ['connection'],
        postgresql_where=sa.text('run_id IS NULL'),
    )
    op.create_table(
        'api_key',
        sa.Column('id', sa.String(), primary_key=True),
        sa.Column('name', sa.String(), nullable=False),
        sa.Column('hash', sa.LargeBinary(), nullable=False),
        sa.Column('scopes', postgresql.JSONB(), nullable=False),
        sa.Column('connections', postgresql.JSONB(), nullable=False),
        sa.Column('per_minute', sa.Integer(), nullable=False),
        sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('expires_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('revoked_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('last_used_at', sa.DateTime(timezone=True), nullable=True),
    )


def downgrade() -> None:
    """Take them away again."""
    for table in ('api_key', 'webhook_event', 'consent'):
        op.drop_table(table)
