"""お問い合わせ, and the mails that have to leave because of it

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        'inquiry',
        sa.Column('id', sa.Uuid(), primary_key=True),
        sa.Column('received_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('answer_by', sa.Date(), nullable=False),
        sa.Column('company', sa.String(), nullable=False),
        sa.Column('person', sa.String(), nullable=False),
        sa.Column('email', sa.String(), nullable=False),
        sa.Column('registration_number', sa.String(), nullable=False),
        sa.Column('connector', sa.String(), nullable=False),
        sa.Column('body', sa.String(), nullable=False),
        sa.Column('run_id', sa.Uuid(), nullable=True),
        sa.Column('run_facts', sa.String(), nullable=False),
    )
    op.create_table(
        'inquiry_mail',
        sa.Column('inquiry_id', sa.Uuid(), sa.ForeignKey('inquiry.id'), primary_key=True),
        sa.Column('kind', sa.String(), primary_key=True),
        sa.Column('attempts', sa.Integer(), server_default=sa.text('0'), nullable=False),
        sa.Column('next_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('claim', sa.Uuid(), nullable=True),
        sa.Column('claimed_until', sa.DateTime(timezone=True), nullable=True),
        sa.Column('sent_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('refused_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('problem', sa.String(), nullable=False),
    )
    op.create_index(
        'ix_inquiry_mail_due', 'inquiry_mail', ['next_at'],
        postgresql_where=sa.text('sent_at IS NULL AND refused_at IS NULL'),
    )


def downgrade() -> None:
    """Take them away again."""
    for table in ('inquiry_mail', 'inquiry'):
        op.drop_table(table)
