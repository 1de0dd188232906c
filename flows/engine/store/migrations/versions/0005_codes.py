"""コード変換表, and the codes that it lacks

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the two tables."""
    op.create_table('code_mapping',
    sa.Column('connection', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('source', sa.String(), nullable=False),
    sa.Column('partner_code', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('bugyo_code', sa.String(), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('connection', 'kind', 'source', 'partner_code')
    )
    op.create_table('unmapped_code',
    sa.Column('connection', sa.String(), nullable=False),
    sa.Column('entity', sa.String(), nullable=False),
    sa.Column('source_key', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('source', sa.String(), nullable=False),
    sa.Column('partner_code', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('bugyo_code', sa.String(), nullable=False),
    sa.ForeignKeyConstraint(['connection', 'entity', 'source_key'], ['reject.connection', 'reject.entity', 'reject.source_key'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('connection', 'entity', 'source_key', 'kind', 'source', 'partner_code')
    )


def downgrade() -> None:
    """Take them away again."""
    op.drop_table('unmapped_code')
    op.drop_table('code_mapping')
