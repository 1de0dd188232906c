"""First schema

Revision ID: 0001
Revises: nothing
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    op.create_table('connection',
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('connector', sa.String(), nullable=False),
    sa.Column('watermark', sa.DateTime(timezone=True), nullable=True),
    sa.Column('lease_owner', sa.Uuid(), nullable=True),
    sa.Column('lease_expires', sa.DateTime(timezone=True), nullable=True),
    sa.Column('fence', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('name')
    )
    op.create_table('ledger',
    sa.Column('connection', sa.String(), nullable=False),
    sa.Column('entity', sa.String(), nullable=False),
    sa.Column('source_key', sa.String(), nullable=False),
    sa.Column('external_key', sa.String(), nullable=False),
    sa.Column('content_hash', sa.LargeBinary(), nullable=False),
    sa.Column('state', sa.String(), nullable=False),
    sa.Column('action', sa.String(), nullable=False),
    sa.Column('batch_id', sa.Uuid(), nullable=False),
    sa.Column('run_id', sa.Uuid(), nullable=False),
    sa.Column('document_ref', sa.String(), nullable=True),
    sa.Column('error', sa.String(), nullable=True),
    sa.Column('updated_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('connection', 'entity', 'source_key')
    )
    # Every row is written twice, `pending` and `posted`. With no index on the state and room in
    # the page, the second write stays within the page (a HOT update).
    op.execute("ALTER TABLE ledger SET (fillfactor = 50)")
    op.create_index('ix_ledger_external_key', 'ledger', ['connection', 'entity', 'external_key'], unique=False)
    op.create_table('reject',
    sa.Column('connection', sa.String(), nullable=False),
    sa.Column('entity', sa.String(), nullable=False),
    sa.Column('source_key', sa.String(), nullable=False),
    sa.Column('run_id', sa.Uuid(), nullable=False),
    sa.Column('code', sa.String(), nullable=False),
    sa.Column('item', sa.String(), nullable=False),
    sa.Column('label', sa.String(), nullable=False),
    sa.Column('reason', sa.String(), nullable=False),
    sa.Column('remedy', sa.String(), nullable=False),
    sa.Column('holder', sa.String(), nullable=True),
    sa.Column('source', sa.LargeBinary(), nullable=False),
    sa.Column('first_seen', sa.DateTime(timezone=True), nullable=False),
    sa.Column('last_seen', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('connection', 'entity', 'source_key')
    )
    op.create_table('run',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('connection', sa.String(), nullable=False),
    sa.Column('connector', sa.String(), nullable=False),
    sa.Column('service', sa.String(), nullable=False),
    sa.Column('trigger', sa.String(), nullable=False),
    sa.Column('mode', sa.String(), nullable=False),
    sa.Column('dry_run', sa.Boolean(), nullable=False),
    sa.Column('business_date', sa.Date(), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('ended_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('result', sa.String(), nullable=True),
    sa.Column('stage', sa.String(), nullable=False),
    sa.Column('position', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('extracted', sa.Integer(), nullable=False),
    sa.Column('created', sa.Integer(), nullable=False),
    sa.Column('updated', sa.Integer(), nullable=False),
    sa.Column('unchanged', sa.Integer(), nullable=False),
    sa.Column('rejected', sa.Integer(), nullable=False),
    sa.Column('pending', sa.Integer(), nullable=False),
    sa.Column('message', sa.String(), nullable=False),
    sa.Column('error', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('ix_run_connection_started', 'run', ['connection', 'started_at'], unique=False)
    op.create_table('staged_page',
    sa.Column('run_id', sa.Uuid(), nullable=False),
    sa.Column('stage', sa.String(), nullable=False),
    sa.Column('seq', sa.Integer(), nullable=False),
    sa.Column('records', sa.Integer(), nullable=False),
    sa.Column('body', sa.LargeBinary(), nullable=False),
    sa.PrimaryKeyConstraint('run_id', 'stage', 'seq')
    )


def downgrade() -> None:
    """Drop every table."""
    op.drop_table('staged_page')
    op.drop_index('ix_run_connection_started', table_name='run')
    op.drop_table('run')
    op.drop_table('reject')
    op.drop_index('ix_ledger_external_key', table_name='ledger')
    op.drop_table('ledger')
    op.drop_table('connection')
