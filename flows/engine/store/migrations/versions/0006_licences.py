"""Licences: registration numbers, and wrong tries

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables. Connections of before have 60 days: none stops at the next 05:00."""
    op.create_table(
        'licence',
        sa.Column('registration_number', sa.String(), primary_key=True),
        sa.Column('connector', sa.String(), nullable=False),
        sa.Column('phone', sa.String(), nullable=False),
        sa.Column('company', sa.String(), nullable=False),
        sa.Column('valid_from', sa.Date(), nullable=False),
        sa.Column('expires_on', sa.Date(), nullable=True),
        sa.Column('issued_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('revoked_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('note', sa.String(), nullable=False),
    )
    op.create_table(
        'licence_attempt',
        sa.Column('registration_number', sa.String(), primary_key=True),
        sa.Column('failures', sa.Integer(), nullable=False),
        sa.Column('last_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('locked_until', sa.DateTime(timezone=True), nullable=True),
    )
    op.add_column('connection', sa.Column('licence', sa.String(), nullable=True))
    op.add_column('connection', sa.Column('licence_grace', sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE connection SET licence_grace = now() + interval '60 days'")


def downgrade() -> None:
    """Take them away again."""
    op.drop_column('connection', 'licence_grace')
    op.drop_column('connection', 'licence')
    op.drop_table('licence_attempt')
    op.drop_table('licence')
