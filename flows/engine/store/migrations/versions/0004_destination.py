"""Which 法人 a connection writes to

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; the next run of each connection fills it."""
    op.add_column('connection', sa.Column('destination', sa.String(), nullable=True))


def downgrade() -> None:
    """Take it away again."""
    op.drop_column('connection', 'destination')
