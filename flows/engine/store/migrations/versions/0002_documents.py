"""Documents (slips) in the ledger; corrections of rejected records

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what documents need; the rows of masters keep their values."""
    op.add_column('ledger', sa.Column('revision', sa.Integer(), server_default=sa.text('1'), nullable=False))
    op.add_column('ledger', sa.Column('amount', sa.BigInteger(), nullable=True))
    op.add_column('ledger', sa.Column('document_date', sa.Date(), nullable=True))
    op.add_column('ledger', sa.Column('accepted_key', sa.String(), nullable=True))
    op.add_column('ledger', sa.Column('observed_hash', sa.LargeBinary(), nullable=True))
    op.add_column('ledger', sa.Column('acknowledged_hash', sa.LargeBinary(), nullable=True))
    op.add_column('run', sa.Column('vanished', sa.Integer(), server_default=sa.text('0'), nullable=False))
    op.create_table('correction',
    sa.Column('connection', sa.String(), nullable=False),
    sa.Column('entity', sa.String(), nullable=False),
    sa.Column('source_key', sa.String(), nullable=False),
    sa.Column('source_hash', sa.LargeBinary(), nullable=False),
    sa.Column('changes', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('made_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('connection', 'entity', 'source_key')
    )


def downgrade() -> None:
    """Take them away again."""
    op.drop_table('correction')
    op.drop_column('run', 'vanished')
    for name in ('acknowledged_hash', 'observed_hash', 'accepted_key', 'document_date', 'amount', 'revision'):
        op.drop_column('ledger', name)
