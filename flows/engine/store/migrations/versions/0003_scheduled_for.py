"""The time that a scheduled run was meant for

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; runs of before do not know theirs."""
    op.add_column('run', sa.Column('scheduled_for', sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        'ix_run_connection_scheduled', 'run', ['connection', 'scheduled_for'],
        postgresql_where=sa.text('scheduled_for IS NOT NULL'),
    )
    # What the worker asks every few seconds: which runs have not ended.
    op.create_index('ix_run_open', 'run', ['connection'], postgresql_where=sa.text('result IS NULL'))


def downgrade() -> None:
    """Take it away again."""
    op.drop_index('ix_run_open', table_name='run')
    op.drop_index('ix_run_connection_scheduled', table_name='run')
    op.drop_column('run', 'scheduled_for')
