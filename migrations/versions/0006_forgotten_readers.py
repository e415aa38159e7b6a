"""How many readers were forgotten; the waiters of a chat are found without a scan."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "forgotten_readers",
        sa.Column("day", sa.Date(), nullable=False, comment="By UTC."),
        sa.Column("reason", sa.String(10), nullable=False, comment="asked, operator, blocked or unseen."),
        sa.Column("readers", sa.Integer(), nullable=False, comment="How many were forgotten."),
        sa.PrimaryKeyConstraint("day", "reason", name=op.f("pk_forgotten_readers")),
        comment="How many readers were forgotten, and why. Their sum tells a bot that its memory is out of date.",
    )
    op.create_index(op.f("ix_waiters_chat_id"), "waiters", ["chat_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_waiters_chat_id"), table_name="waiters")
    op.drop_table("forgotten_readers")
