"""Updates that take long are kept here, limited chats are answered later, and nonsense is not asked for at once again."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_instant = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "unfinished_updates",
        sa.Column(
            "update_id", sa.BigInteger(), nullable=False, autoincrement=False, comment="Telegram's number."
        ),
        sa.Column("reader_id", sa.BigInteger(), comment="NULL: the update names nobody."),
        sa.Column("body", sa.Text(), nullable=False, comment="The update as JSON, without names."),
        sa.Column("holder", sa.Uuid(), nullable=False, comment="The bot that handles it."),
        sa.Column("held_until", _instant, nullable=False, comment="After this, any bot may take it over."),
        sa.Column("kept_at", _instant, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("update_id", name=op.f("pk_unfinished_updates")),
        comment="Updates that take long: confirmed to Telegram, and deleted when their handlers have finished.",
    )
    op.create_index("ix_unfinished_updates_reader_id", "unfinished_updates", ["reader_id"])
    op.add_column(
        "waiters",
        sa.Column(
            "due_at", _instant, comment="Telegram takes no answer before this; NULL: it does at any time."
        ),
    )
    op.add_column(
        "generations",
        sa.Column(
            "again_at",
            _instant,
            comment="Until then readers cannot have it begun again: the model wrote only nonsense. NULL: they can.",
        ),
    )


def downgrade() -> None:
    op.drop_column("generations", "again_at")
    op.drop_column("waiters", "due_at")
    op.drop_index("ix_unfinished_updates_reader_id", table_name="unfinished_updates")
    op.drop_table("unfinished_updates")
